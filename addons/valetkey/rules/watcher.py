"""Notice that files changed. The caller polls; nothing here waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Mark = tuple[int, int, int, int, int] | None
"""Time, size, inode, mode and owner of a file; None: it does not exist. A key file may become usable by its mode alone."""


class Watcher:
    """Compares files with what they were at the start, or with `seen`, the marks taken before they were read."""

    def __init__(self, files: Sequence[Path], seen: Mapping[Path, Mark] | None = None) -> None:
        self._files = tuple(files)
        self._last = marks(self._files)
        self._loaded = {**self._last, **(seen or {})}

    def changed(self) -> bool:
        """True when the files differ from the start and have stood still since the last look, so that none is half written."""
        now, before = marks(self._files), self._last
        self._last = now
        return now == before and now != self._loaded


def marks(files: Iterable[Path]) -> dict[Path, Mark]:
    """What each file is at this moment."""
    return {path: _look(path) for path in files}


def _look(path: Path) -> Mark:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode, status.st_uid
