"""Whether an audit log still is as it was written, and what it says. Both read line by line; no file is held in memory."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import LedgerError
from .audit import LONGEST, REACH, Head, Link, Place, link, needs_key, read_head


@dataclass(frozen=True, slots=True)
class Break:
    """A place where the chain does not hold. `kind`: changed, deleted, inserted, reordered, truncated, torn or keyed."""

    file: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}: {self.text}"


@dataclass(slots=True)
class Verdict:
    """What was found. `losses` are those that a gateway saw and wrote down; `notes` are no reason for alarm."""

    files: int = 0
    entries: int = 0
    first: int = 0
    head: Head = field(default_factory=Head)
    broken: Break | None = None
    losses: list[Break] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether the chain holds and nothing is missing."""
        return self.broken is None and not self.losses


def verify(files: Sequence[Path], place: Place, key: bytes | None, anchor: Head | None = None, *, whole: bool) -> Verdict:
    """Read files of one log, the oldest first, up to the first line that is not as it was written.

    A `whole` log begins with entry 1 and ends where its head file says. Of single files, the first may continue one that is
    not there. `anchor` is a head that was kept elsewhere. Raises LedgerError for a file that cannot be read.
    """
    with ExitStack() as stack:
        opened, raw = _open(files, place, stack)
        head = read_head(raw, key) if raw else None
        walk = _Walk(place, key, whole, [each.seq for each in (head, anchor) if each])
        walk.run(_lines(opened))
    verdict = walk.verdict
    verdict.files = len(files)
    if verdict.broken is None:
        ours = whole or (bool(files) and files[-1].name == place.current.name)
        verdict.broken = walk.end() or _end(walk, place, ours, raw, head)
    if verdict.broken is None and anchor is not None:
        verdict.broken = _against(walk, anchor, "the head that was given")
    return verdict


def entries(files: Sequence[Path], place: Place) -> Generator[dict[str, Any] | None, None, None]:
    """What stands in files of one log, the oldest first and unverified; None for a line that is no entry. Raises LedgerError."""
    with ExitStack() as stack:
        opened, _ = _open(files, place, stack)
        for line in _lines(opened):
            yield _document(line.raw)


# Reading.


@dataclass(frozen=True, slots=True)
class _Line:
    file: str
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Source:
    """A file; that which is written to is opened at once, and read as far as it went then."""

    path: Path
    file: BinaryIO | None
    size: int | None


def _open(files: Sequence[Path], place: Place, stack: ExitStack) -> tuple[list[_Source], bytes]:
    """The files, and what the head file says of them: no batch is half there, and no file changes its name meanwhile."""
    with _errors(place.head), _still(place.head) as head:
        return [_source(path, stack) for path in files], head


def _source(path: Path, stack: ExitStack) -> _Source:
    if Place.of(path).current != path:
        return _Source(path, None, None)
    with _errors(path):
        file = stack.enter_context(path.open("rb"))
        return _Source(path, file, os.fstat(file.fileno()).st_size)


@contextmanager
def _still(path: Path) -> Iterator[bytes]:
    """The head file's content, empty without one; nobody writes the log while this lasts."""
    if not path.exists():
        yield b""
        return
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file.read(LONGEST)


def _lines(sources: Sequence[_Source]) -> Iterator[_Line]:
    for source in sources:
        with _errors(source.path), closing(source.file or source.path.open("rb")) as file:
            left = os.fstat(file.fileno()).st_size if source.size is None else source.size
            name, number = str(source.path), 0
            while raw := file.readline(min(LONGEST, left)):
                left -= len(raw)
                number += 1
                yield _Line(name, number, raw)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerError(f"the audit log {error.filename or path} cannot be read: {error.strerror}") from error


def _document(raw: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):  # deeply nested brackets
        return None
    return document if isinstance(document, dict) else None


# Walking along the chain.


class _Damage:
    """Lines that are no entries, as long as nothing explains them."""

    def __init__(self, first: _Line) -> None:
        self.first, self.bytes, self.lines = first, 0, 0
        self._sum = hashlib.sha256()

    def add(self, line: _Line) -> None:
        self.bytes += len(line.raw)
        self.lines += 1
        self._sum.update(line.raw)

    def explained(self, note: dict[str, Any]) -> bool:
        """Whether the entry behind them says that a gateway found exactly these bytes."""
        return (note.get("bytes"), note.get("sha256")) == (self.bytes, self._sum.hexdigest())


class _Walk:
    """Goes from line to line and remembers where the chain is."""

    def __init__(self, place: Place, key: bytes | None, whole: bool, wanted: Sequence[int]) -> None:
        self.place, self.key, self.whole = place, key, whole
        self.verdict = Verdict()
        self.named: dict[int, tuple[Link, _Line]] = {}
        """The entries that a head names, as they are here."""
        self.line: _Line | None = None
        """The line that was read last."""
        self.keyed = False
        self._wanted = frozenset(wanted)
        self._damage: _Damage | None = None

    def run(self, lines: Iterator[_Line]) -> None:
        """Read on until a line does not fit."""
        for line in lines:
            found, before, self.line = link(line.raw, self.key), self.line, line
            broken = self._spoilt(line) if found is None else self._found(found, line, before, lines)
            if broken is not None:
                self.verdict.broken = broken
                return

    def end(self) -> Break | None:
        """What is wrong when nothing follows."""
        if self._damage is None or self.line is None:
            return None
        first = self._damage.first
        if self.line.raw.endswith(b"\n") or any(seq > self.verdict.head.seq for seq in self._wanted):
            return _break(first, "changed", "this is not an entry as it was written")
        text = (
            "the last line is not whole, as after a crash or with a full disk; the gateway goes on behind it with its next entry"
        )
        return _break(first, "torn", text)

    def _spoilt(self, line: _Line) -> Break | None:
        if self.key is None and needs_key(line.raw):
            return _break(line, "keyed", "this entry is sealed with a key; name its file with --key-file")
        self._damage = self._damage or _Damage(line)
        self._damage.add(line)
        if self._damage.bytes > REACH or self._damage.first.file != line.file:
            return _break(self._damage.first, "changed", "this is not an entry as it was written")
        return None

    def _found(self, found: Link, line: _Line, before: _Line | None, lines: Iterator[_Line]) -> Break | None:
        if self.keyed and not found.keyed:
            return _break(line, "changed", "this entry is not sealed with the key, but entries before it are")
        if self._begins(found):
            self.verdict.notes.append(f"{line.file} begins with entry {found.seq}; what is before it was not given")
            self.verdict.head = Head(found.seq - 1, found.prev)
        damage, self._damage = self._damage, None
        fits = found.prev == self.verdict.head.seal and found.seq == self.verdict.head.seq + 1
        if damage is not None:
            broken = self._behind(damage, found, line, fits)
        else:
            broken = None if fits else self._misfit(found, line, before, lines)
        if broken is None:
            self._advance(found, line)
        return broken

    def _begins(self, found: Link) -> bool:
        first = self.verdict.entries == 0 and self._damage is None
        return first and not self.whole and found.event == "continued" and found.seq > 1

    def _behind(self, damage: _Damage, found: Link, line: _Line, fits: bool) -> Break | None:
        """Judge lines that are no entries by the entry behind them."""
        if fits and found.event == "recovered" and damage.explained(_document(line.raw) or {}):
            text = "were not whole, as after a crash or with a full disk; the gateway went on behind them"
            self.verdict.notes.append(f"{damage.first.file}:{damage.first.number}: {damage.bytes} bytes {text}")
            return None
        if fits:
            return _break(damage.first, "inserted", "this is no entry, and none is missing here")
        return _break(damage.first, "changed", "this is not an entry as it was written")

    def _misfit(self, found: Link, line: _Line, before: _Line | None, lines: Iterator[_Line]) -> Break:
        due = self.verdict.head.seq + 1
        if found.seq < due:
            what = "repeats the line before" if found.seal == self.verdict.head.seal else f"comes after entry {due - 1}"
            return _break(line, "inserted", f"entry {found.seq} {what}")
        following = (other for other in (link(each.raw, self.key) for each in lines) if other is not None)
        if found.seq > due:
            return _missing(due, found, line, following)
        # Both lines have seals of their own that fit. What follows tells which of them is the one that was written.
        genuine = next((other.prev == found.seal for other in following), True)
        blamed = before if genuine and before is not None else line
        return _break(blamed, "changed", "this entry was replaced by another with a seal of its own")

    def _advance(self, found: Link, line: _Line) -> None:
        verdict = self.verdict
        verdict.head, self.keyed = Head(found.seq, found.seal), found.keyed
        verdict.first = verdict.first or found.seq
        verdict.entries += 1
        if found.seq in self._wanted:
            self.named[found.seq] = (found, line)
        if found.event == "lost":
            verdict.losses.append(_break(line, "truncated", _loss(_document(line.raw) or {})))


def _missing(due: int, found: Link, line: _Line, following: Iterator[Link]) -> Break:
    """Entries that are due do not stand here. Where else they stand tells what was done."""
    again, late = False, False
    for other in following:
        late |= other.seq == due
        again |= other.seq == found.seq
    if late and again:
        return _break(line, "inserted", f"entry {found.seq} stands here as well as in its place")
    if late:
        return _break(line, "reordered", f"entry {found.seq} stands where {due} belongs; {due} comes later")
    gone = f"entry {due} is" if found.seq == due + 1 else f"entries {due} to {found.seq - 1} are"
    return _break(line, "deleted", f"{gone} missing before entry {found.seq}")


def _loss(note: dict[str, Any]) -> str:
    known, expected = note.get("known"), note.get("expected")
    if expected is None:
        return f"the gateway found {known} entries and no head that could say how many there had been"
    return f"the gateway found the log ending with entry {known}, where it had written entry {expected}"


def _break(line: _Line, kind: str, text: str) -> Break:
    return Break(line.file, line.number, kind, text)


# The end of the log.


def _end(walk: _Walk, place: Place, ours: bool, raw: bytes, head: Head | None) -> Break | None:
    """Whether the log goes as far as its head file says. `ours`: the file that belongs to the head was read."""
    verdict, top = walk.verdict, _Line(str(place.head), 1, raw)
    if not ours or not raw:
        return _endless(walk, place, ours)
    if head is None or (walk.keyed and not head.keyed):
        kind = "keyed" if walk.key is None and needs_key(raw) else "changed"
        text = "the head is sealed with a key; name its file with --key-file" if kind == "keyed" else "this is not a head of ours"
        return _break(top, kind, text)
    if walk.key is not None and not walk.keyed and verdict.entries:
        text = "there is a key, but the last entry is not sealed with it; the gateway seals with it from its next entry"
        return _break(walk.line or top, "changed", text)
    return _against(walk, head, "the head file")


def _endless(walk: _Walk, place: Place, ours: bool) -> Break | None:
    if ours and walk.whole and walk.line is not None:
        return _break(walk.line, "truncated", f"whether more came after this is unknown; its head file {place.head} is gone")
    if walk.line is not None:
        walk.verdict.notes.append(f"{walk.line.file}: whether more came after its last line was not checked")
    return None


def _against(walk: _Walk, head: Head, what: str) -> Break | None:
    """Whether the entry that a head names is there."""
    verdict, last = walk.verdict, walk.line or _Line(str(walk.place.current), 0, b"")
    if head.seq > verdict.head.seq:
        return _break(last, "truncated", f"the log ends with entry {verdict.head.seq}; {what} says {head.seq}")
    found = walk.named.get(head.seq)
    if found is None:
        if head.seq:
            verdict.notes.append(f"entry {head.seq}, which {what} names, is not in what was given")
        return None
    link, line = found
    if link.seal != head.seal:
        return _break(line, "changed", f"entry {head.seq} is not the one that {what} names; the log was chained anew")
    return None
