"""Pages of programs and libraries that only the start has read leave the process.

Importing and linking read most of every library, calls run little of it: of 22 MB that leave, a thousand calls come back for 3
(for 10 with TLS on both sides). The rest stays in the system's cache of files, where it does not count as this process's, and
goes first when memory is short. A page that is needed again is mapped again, mostly without a read from the disk, in about a
microsecond for sixteen of them. Linux does it; elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LEAST = 128 << 10
"""Bytes of a mapping that is worth it. The many smaller ones hold little in all."""
_SMAPS = Path("/proc/self/smaps")
_DONTNEED = 4
"""MADV_DONTNEED, see madvise(2): pages that were changed are lost, so there must be none."""
_CHANGED = ("Anonymous:", "Swap:")
"""What counts pages that are no longer those of the file, in memory and swapped out (proc_pid_smaps(5))."""


@dataclass(slots=True)
class _Mapping:
    start: int
    end: int
    rights: str
    file: str
    changed: bool = True
    """Until the system says that no page was."""


def let_go() -> None:
    """Give back the pages of files that this process has mapped and not changed."""
    if sys.platform != "linux" or not _SMAPS.exists():
        return
    try:
        found = spans(_SMAPS.read_text(errors="replace").splitlines())
    except (OSError, ValueError):  # a system that does not let it be read, or writes it in another way
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in found:
        madvise(start, end - start, _DONTNEED)


def spans(smaps: Iterable[str]) -> list[tuple[int, int]]:
    """Start and end of what holds nothing but a file's own pages, by the lines of `/proc/self/smaps`.

    Only files with a writable part count: the linker maps that last, so another thread is not just loading them. What the linker
    has written, and then protected, holds changed pages, and stays. Counts that cannot be true are not believed: an emulator
    may write zero for all, and every process has changed some page. Raises ValueError for lines of another form.
    """
    lines = list(smaps)
    if not any(line.startswith(_CHANGED[0]) and line.split()[1:] != ["0", "kB"] for line in lines):
        return []
    mappings = list(_mappings(lines))
    loaded = {mapping.file for mapping in mappings if mapping.rights == "rw-p"}
    return [
        (mapping.start, mapping.end)
        for mapping in mappings
        if mapping.rights in ("r--p", "r-xp")
        and mapping.file in loaded
        and not mapping.changed
        and mapping.end - mapping.start >= LEAST
    ]


def _mappings(smaps: Iterable[str]) -> Iterator[_Mapping]:
    """Of files, each with whether the process has pages of its own in it."""
    mapping, counts = _Mapping(0, 0, "", ""), list[str]()
    for line in smaps:
        word, _, rest = line.partition(" ")
        if not word.endswith(":"):
            low, _, high = word.partition("-")
            rights, _, _, _, *file = rest.split(maxsplit=4)
            mapping, counts = _Mapping(int(low, 16), int(high, 16), rights, "".join(file)), []
            if mapping.file.startswith("/"):
                yield mapping
        elif word in _CHANGED:
            counts.append(rest.strip())
            mapping.changed = counts != ["0 kB", "0 kB"]
