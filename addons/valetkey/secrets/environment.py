"""The process's environment and `.env`: values of keys, taken out of sight, and known again at every reload."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping, MutableMapping
from pathlib import Path

from dotenv import dotenv_values

from ..errors import SecretError
from . import ownership
from .secret import Secret

LIMIT = 1024 * 1024
"""Bytes of a `.env`; a larger file is something else."""
TWIN = "GATEWAY_"
"""`GATEWAY_OPENAI_API_KEY` is `OPENAI_API_KEY` for the gateway, in a shell where that one holds the agent's dummy."""


class Environment:
    """What the process was started with and what `.env` says, without leaving a real key in `os.environ`.

    `notices` are remarks for people about `.env` itself.
    """

    def __init__(self, values: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        self._process = {name: Secret(value) for name, value in (values or {}).items()}
        self._file: dict[str, Secret] = {}
        self._folder = folder
        self._source: MutableMapping[str, str] | None = None
        self._hidden: frozenset[str] = frozenset()
        self.notices: tuple[str, ...] = ()
        self.refresh()

    @classmethod
    def from_process(cls, folder: Path, environ: MutableMapping[str, str] | None = None) -> Environment:
        """Read `environ` (the process's own by default) and `.env` in `folder`."""
        source = os.environ if environ is None else environ
        made = cls(dict(source), folder)
        made._source = source
        return made

    @property
    def dotenv(self) -> Path | None:
        """The `.env` that is read, whether it exists or not."""
        return self._folder / ".env" if self._folder else None

    def refresh(self) -> None:
        """Read `.env` again. One that cannot be read, or is another user's, costs its keys, with a notice, not the start."""
        path = self.dotenv
        self._file, self.notices = {}, ()
        if path is None or not path.exists():
            return
        try:
            text, mode = _read(path)
        except SecretError as error:
            self.notices = (f"{path} {error}; its keys are left out",)
            return
        if mode & 0o077:
            self.notices = (f"{path} may be read by others; chmod 600 it",)
        found = dotenv_values(stream=io.StringIO(text), interpolate=False)
        self._file = {name: Secret(value) for name, value in found.items() if value is not None}

    def get(self, name: str, usable: Callable[[str], bool] = bool) -> Secret | None:
        """The best value of a variable: its `GATEWAY_` twin before itself, the process before `.env`, a usable one before any."""
        found = [
            place[candidate]
            for place in (self._process, self._file)
            for candidate in (TWIN + name.removeprefix(TWIN), name)
            if candidate in place
        ]
        return next((secret for secret in found if usable(secret.reveal())), found[0] if found else None)

    def variants(self, name: str) -> tuple[str, ...]:
        """`OPENAI_API_KEY`, `OPENAI_API_KEY_1`, …: the names in use for a catalogue name, twins under their plain name."""
        pattern = re.compile(rf"(?:{TWIN})?({re.escape(name)}(?:_[A-Za-z0-9]+)?)")
        names = {m.group(1) for known in (*self._process, *self._file) if (m := pattern.fullmatch(known))}
        return tuple(sorted(names, key=_natural))

    def without(self, names: Collection[str]) -> dict[str, str]:
        """What the process was started with, for programs that it starts: without `names` and their twins."""
        hidden = _spellings(names) | self._hidden
        return {name: value.reveal() for name, value in self._process.items() if name not in hidden}

    def hide(self, names: Collection[str], is_dummy: Callable[[str], bool]) -> None:
        """Remove `names` and their twins from the process, so that children do not inherit them; dummies may stay.

        A variable that held a key holds one when the rules do not name it any more, too.
        """
        self._hidden |= _spellings(names)
        if self._source is None:
            return
        for name in _spellings(names):
            if name in self._source and not is_dummy(self._source[name]):
                del self._source[name]


def _spellings(names: Collection[str]) -> set[str]:
    return {spelling for plain in names for spelling in (plain, plain.removeprefix(TWIN), TWIN + plain.removeprefix(TWIN))}


def _read(path: Path) -> tuple[str, int]:
    """The text of `.env` and its mode. A link is followed, and what it leads to is judged. Raises SecretError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SecretError("is no regular file")
            if owner := ownership.foreign_owner(status):
                raise SecretError(owner)
            data = os.read(descriptor, LIMIT + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SecretError(f"cannot be read: {error.strerror}") from None
    if len(data) > LIMIT:
        raise SecretError(f"is larger than {LIMIT} bytes")
    try:
        return data.decode("utf-8-sig"), stat.S_IMODE(status.st_mode)
    except UnicodeDecodeError:
        raise SecretError("cannot be read: it is not UTF-8 text") from None


def _natural(name: str) -> tuple[str, int, str]:
    """`_2` before `_10`; the name without a suffix first, named suffixes last."""
    head, _, tail = name.rpartition("_")
    return (head, int(tail[:9]), tail) if tail.isascii() and tail.isdecimal() else (name, -1, "")
