"""The audit log as a chain: how a line is sealed, and where its files are.

A line is JSON. Its last field seals the bytes before it: `hash` is their SHA-256, `hmac` their HMAC-SHA-256 with the key file.
`seq` counts from 1, `prev` is the seal of the line before. docs/audit.md tells what that proves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import LedgerError

ZERO = "0" * 64
"""What the first line names as the seal before it."""
LONGEST = 32_768
"""Bytes of a line; ours are shorter."""
REACH = 1 << 20
"""Bytes at the end of a file in which a last whole line is looked for. What a crash spoils is less."""
LEAST_KEY = 16
"""Bytes of a key file, at least."""
START = re.compile(rb'\{"seq":([1-9]\d{0,17}),"prev":"([0-9a-f]{64})","event":"([a-z]+)"')
_END = re.compile(rb',"(hash|hmac)":"([0-9a-f]{64})"\}\n')
_END_LENGTH = len(b',"hash":"') + 64 + len(b'"}\n')
_NAME = re.compile(r"(?P<stem>.+)\.audit(?:\.\d{12,})?\.jsonl", re.DOTALL)
_HEAD = re.compile(rb'\{"seq":(\d{1,18}),"hash":"([0-9a-f]{64})","(mac|sum)":"([0-9a-f]{64})"\} *\n')
_HEAD_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Link:
    """What a line is in the chain. `keyed` tells a seal that needs the key from one that everybody can make."""

    seq: int
    prev: str
    event: str
    seal: str
    keyed: bool


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of a log: its number and its seal. Kept elsewhere, it anchors everything before it."""

    seq: int = 0
    seal: str = ZERO
    keyed: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.seq}:{self.seal}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read `SEQ:HASH`. Raises ValueError."""
        found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text.strip())
        if found is None:
            raise ValueError(f"{text[:100]!r} is no head; write SEQ:HASH as `valetkey audit verify` prints it")
        return cls(int(found[1]), found[2])


# A line and the head.


def sealed(seq: int, prev: str, fields: str, key: bytes | None) -> tuple[bytes, str]:
    """The line for the fields of an entry (JSON without braces, `event` first), and its seal."""
    body = f'{{"seq":{seq},"prev":"{prev}",{fields}'.encode()
    seal = _seal(body, key)
    return b'%b,"%b":"%b"}\n' % (body, b"hmac" if key else b"hash", seal.encode()), seal


def link(raw: bytes, key: bytes | None) -> Link | None:
    """What a line is in the chain; None when its seal does not fit its bytes, or cannot be checked without the key."""
    start, end = START.match(raw), _END.fullmatch(raw, max(0, len(raw) - _END_LENGTH))
    if start is None or end is None:
        return None
    keyed, seal = end[1] == b"hmac", end[2].decode()
    if (keyed and key is None) or not hmac.compare_digest(_seal(raw[:-_END_LENGTH], key if keyed else None), seal):
        return None
    return Link(int(start[1]), start[2].decode(), start[3].decode(), seal, keyed)


def needs_key(raw: bytes) -> bool:
    """Whether a line or a head, by its own word, is sealed with the key."""
    end, head = _END.fullmatch(raw, max(0, len(raw) - _END_LENGTH)), _HEAD.fullmatch(raw)
    return (end is not None and end[1] == b"hmac") or (head is not None and head[3] == b"mac")


def write_head(head: Head, key: bytes | None) -> bytes:
    """The head file's content: always as long, so that it can be written in its place."""
    seal = _seal(b"head %d %b" % (head.seq, head.seal.encode()), key)
    document = json.dumps({"seq": head.seq, "hash": head.seal, "mac" if key else "sum": seal}, separators=(",", ":"))
    return document.ljust(_HEAD_LENGTH - 1).encode() + b"\n"


def read_head(raw: bytes, key: bytes | None) -> Head | None:
    """What a head file says; None when it is not ours, or cannot be checked without the key."""
    found = _HEAD.fullmatch(raw)
    if found is None:
        return None
    head = Head(int(found[1]), found[2].decode(), found[3] == b"mac")
    if head.keyed and key is None:
        return None
    return head if hmac.compare_digest(raw, write_head(head, key if head.keyed else None)) else None


def _seal(body: bytes, key: bytes | None) -> str:
    return hmac.digest(key, body, "sha256").hex() if key else hashlib.sha256(body).hexdigest()


# The files.


@dataclass(frozen=True)
class Place:
    """Where a log is: everything is in one folder and named after the ledger. The paths are made once, not with every batch."""

    folder: Path
    stem: str

    @classmethod
    def beside(cls, uri: str, folder: Path) -> Place:
        """That of the ledger at a resolved `sqlite:///` URI; else `.valetkey/ledger.audit.jsonl` in `folder`."""
        file = uri.removeprefix("sqlite:///")
        return cls(folder / ".valetkey", "ledger") if file in ("", uri) else cls(Path(file).parent, Path(file).stem)

    @classmethod
    def of(cls, file: Path) -> Place:
        """That which a file of a log belongs to, by its name."""
        found = _NAME.fullmatch(file.name)
        return cls(file.parent, found["stem"] if found else file.stem)

    @cached_property
    def current(self) -> Path:
        """The file that is written to."""
        return self.folder / f"{self.stem}.audit.jsonl"

    @cached_property
    def head(self) -> Path:
        """What the last entry was; also the lock of all who write."""
        return self.folder / f"{self.stem}.audit.head"

    @cached_property
    def key(self) -> Path:
        """The key of the seals. Without the file, they are plain hashes."""
        return self.folder / f"{self.stem}.audit.key"

    def closed(self, first: int) -> Path:
        """The name of a full file whose first entry has the number `first`."""
        return self.folder / f"{self.stem}.audit.{first:012d}.jsonl"

    def full(self) -> list[Path]:
        """The full files, the oldest first."""
        names = re.compile(rf"{re.escape(self.stem)}\.audit\.\d{{12,}}\.jsonl", re.DOTALL)
        found = [path for path in self.folder.iterdir() if names.fullmatch(path.name)] if self.folder.is_dir() else []
        return sorted(found, key=lambda path: (len(path.name), path.name))

    def files(self) -> list[Path]:
        """All files of the log, the oldest first."""
        return [*self.full(), *([self.current] if self.current.exists() else [])]


def read_key(path: Path) -> bytes | None:
    """The key; None when there is no such file. Raises LedgerError when it is unfit."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"the audit key {path} cannot be read: {error.strerror}; a symbolic link is not followed") from error
    with open(descriptor, "rb") as file:
        mode, key = os.fstat(descriptor).st_mode, file.read(LONGEST).strip()
    if mode & 0o077:
        raise LedgerError(f"the audit key {path} has mode {stat.S_IMODE(mode):o}: others can use it; chmod 600 {path}")
    if len(key) < LEAST_KEY:
        raise LedgerError(f"the audit key {path} has {len(key)} bytes; put at least {LEAST_KEY} random ones there")
    return key
