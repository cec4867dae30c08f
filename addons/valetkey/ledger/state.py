"""What survives a restart and is no receipt: cooldowns, affinity and the like, as documents; and orders from the command line."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import LedgerError
from .files import closed_on_error, make_private

NAME = "ledger.state.db"
VERBS = ("disable", "enable", "reset")
"""What a person may order for a key."""
_BUSY = 0.25
"""Seconds to wait for a lock. Every write here is short, and the gateway tries again by itself."""
_TRIES = 5
"""How often opening is tried before a locked file is given up."""
_STEPS = (
    """
    CREATE TABLE documents (kind TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (kind, name));
    CREATE TABLE orders (number INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, name TEXT NOT NULL, time REAL NOT NULL)
    """,
)
"""The schema, step by step. A step is never changed once released; a new one is added."""
_PUT = "INSERT INTO documents (kind, name, document) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET document = excluded.document"
_ORDERS = "SELECT verb, name, time FROM orders ORDER BY number"
_DAMAGED: Any = object()


@dataclass(frozen=True, slots=True)
class Order:
    """What a person wants done with the key `name`: one of `VERBS`, given at `time` (Unix seconds)."""

    verb: str
    name: str
    time: float


def state_path(uri: str, folder: Path = Path()) -> Path:
    """Where state is kept: beside the ledger file of a resolved `sqlite:///` URI and named after it, so that two gateways with
    ledgers of their own share nothing; else `.valetkey/ledger.state.db` in `folder`."""
    file = uri.removeprefix("sqlite:///")
    if file in ("", uri):
        return folder / ".valetkey" / NAME
    ledger = Path(file)
    return ledger.with_name(f"{ledger.stem}.state.db")


class StateStore:
    """One SQLite file, shared by the gateway and the command line. Every method raises LedgerError when it cannot do its work.

    Any thread may use it, one at a time: the caller sees to that. A `readonly` store creates nothing; it opens the file for
    each reading, so that it can stay around while a gateway comes and goes.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._path = path
        self._place = (0, 0)
        """Device and inode of the file that is written to."""
        self._connection: sqlite3.Connection | None = None
        with self._errors("opened"):
            if readonly:
                self._open_readonly().close()
            else:
                self._connection = self._open_patiently()

    def load(self, kind: str) -> dict[str, Any]:
        """Every document of a kind, by name. One that cannot be read is left out."""
        with self._errors("read"), self._reading() as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                return {}
            rows = connection.execute("SELECT name, document FROM documents WHERE kind = ?", (kind,)).fetchall()
        found = ((name, _parsed(text)) for name, text in rows)
        return {name: document for name, document in found if isinstance(name, str) and document is not _DAMAGED}

    def save(self, changes: Mapping[str, Mapping[str, Any | None]]) -> None:
        """Write documents by kind and name, all or none; None deletes."""
        rows = [(kind, _storable(name), value) for kind, named in changes.items() for name, value in named.items()]
        gone = [(kind, name) for kind, name, value in rows if value is None]
        kept = [(kind, name, json.dumps(value)) for kind, name, value in rows if value is not None]
        if not rows:
            return
        with self._errors("written"), self._writing() as connection:
            connection.executemany("DELETE FROM documents WHERE kind = ? AND name = ?", gone)
            connection.executemany(_PUT, kept)

    def order(self, verb: str, name: str, time: float) -> None:
        """Leave an order for the gateway. Raises ValueError for a verb that is none."""
        if verb not in VERBS:
            raise ValueError(f"{verb} is no order; orders are {', '.join(VERBS)}")
        with self._errors("written"), self._writing() as connection:
            connection.execute("INSERT INTO orders (verb, name, time) VALUES (?, ?, ?)", (verb, _storable(name), time))

    def orders(self) -> list[Order]:
        """The orders that no gateway has taken yet, the oldest first; they stay."""
        with self._errors("read"), self._reading() as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                return []
            return list(_orders(connection.execute(_ORDERS).fetchall()))

    def take_orders(self) -> list[Order]:
        """The orders that were left, the oldest first. They are deleted: each is given once."""
        with self._errors("read"):
            # Asked every second, mostly in vain: that must not write.
            if not self._writer().execute("SELECT EXISTS (SELECT 1 FROM orders)").fetchone()[0]:
                return []
            with self._writing() as connection:
                rows = connection.execute(_ORDERS).fetchall()
                connection.execute("DELETE FROM orders")
        return list(_orders(rows))

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            with self._errors("closed"):
                self._connection.close()

    def _open_patiently(self) -> sqlite3.Connection:
        """Turning the log on needs the file alone, and SQLite does not wait for that: two that make the file would collide."""
        for _ in range(_TRIES - 1):
            with suppress(sqlite3.OperationalError):
                return self._open()
            time.sleep(_BUSY / _TRIES)
        return self._open()

    def _open(self) -> sqlite3.Connection:
        self._place = make_private(self._path)
        connection = sqlite3.connect(self._path, timeout=_BUSY, check_same_thread=False)
        connection.text_factory = _text
        with closed_on_error(connection):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")
            self._migrate(connection)
        return connection

    def _open_readonly(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise LedgerError(f"{self._path}: no state is kept yet; the file is made when the gateway starts")
        # Without a log nobody writes. SQLite would make a log all the same, and leave it behind: it is told that nothing changes.
        written = self._path.with_name(self._path.name + "-wal").exists()
        options = "mode=ro" if written else "mode=ro&immutable=1"
        connection = sqlite3.connect(f"file:{quote(str(self._path))}?{options}", uri=True, timeout=_BUSY, check_same_thread=False)
        connection.text_factory = _text
        with closed_on_error(connection):
            self._version(connection)
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(_STEPS):
            text = f"it has schema version {version}, this program knows {len(_STEPS)}; use a newer valetkey"
            raise LedgerError(f"the state file {self._path} cannot be opened: {text}")
        return version

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == len(_STEPS):
            return
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            # Asked again now that nobody else can migrate: the other process may have been first.
            for step in _STEPS[self._version(connection) :]:
                for statement in step.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(_STEPS)}")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._connection is not None:
            yield self._connection
            return
        with closing(self._open_readonly()) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the lock from its beginning: one that takes it later may fail although nobody is slow."""
        connection = self._writer()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _writer(self) -> sqlite3.Connection:
        """The connection, if its file is still the one at the path: SQLite goes on in a deleted file, where nobody looks."""
        if self._connection is None:
            raise LedgerError(f"the state file {self._path} was opened to be read only")
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise LedgerError(f"the state file {self._path} was deleted or moved away") from None
        if (found.st_dev, found.st_ino) != self._place:
            raise LedgerError(f"the state file {self._path} was replaced by another file")
        return self._connection

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """What goes wrong inside is a LedgerError that names the file."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"the state file {self._path} cannot be {what}: {error}") from error


def _storable(name: str) -> str:
    """A name as SQLite can keep it: it may come from an agent, who may send half a surrogate pair, which is no UTF-8."""
    return name.encode("utf-8", "replace").decode()


def _text(raw: bytes) -> str:
    """Texts of a damaged file may be no UTF-8; that costs the document, not the reading."""
    return raw.decode("utf-8", "replace")


def _parsed(text: object) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else _DAMAGED
    except (ValueError, RecursionError):
        return _DAMAGED


def _orders(rows: Iterable[tuple[object, ...]]) -> Iterator[Order]:
    """The rows that are orders; others were not written by this program."""
    for verb, name, given in rows:
        if verb in VERBS and isinstance(name, str) and isinstance(given, float) and math.isfinite(given):
            yield Order(str(verb), name, given)
