"""Receipts in SQLite: write-ahead log, readable by others while it is written, private to its owner."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import LedgerError
from ..model import Receipt
from .migrations import check, migrate
from .query import GROUPS, Query, Total
from .records import FIELDS, from_dict, to_dict

_JSON = ("attempts", "usage", "notes")
_BUSY = 250
"""Milliseconds to wait for a lock. The writer tries again by itself; readers wait their own time-out."""
_EQUAL = ("agent", "project", "model", "provider", "key", "route", "outcome")
_GROUP_SQL = {
    "day": "strftime('%Y-%m-%d', time, 'unixepoch')",
    "hour": "strftime('%Y-%m-%dT%H:00Z', time, 'unixepoch')",
}


class SqliteStore:
    """One connection to one file. Use it from one thread."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._path = path
        with self._errors("opened"):
            self._connection = self._open_readonly() if readonly else self._open()

    def add(self, receipts: Sequence[Receipt]) -> None:
        """Write receipts in one transaction."""
        marks = ", ".join("?" * len(FIELDS))
        sql = f"INSERT INTO receipts ({', '.join(FIELDS)}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - our own names
        with self._errors("written"), self._connection:
            self._connection.executemany(sql, [_row(receipt) for receipt in receipts])

    def receipts(self, query: Query) -> Iterator[Receipt]:
        """Receipts by time, newest last; with a limit the newest ones."""
        where, values = _where(query)
        limit = f" LIMIT {int(query.limit)}" if query.limit is not None else ""
        inner = f"SELECT rowid AS row, * FROM receipts{where} ORDER BY time DESC, row DESC{limit}"  # noqa: S608
        with self._errors("read"), closing(self._connection.cursor()) as cursor:
            cursor.row_factory = sqlite3.Row
            for row in cursor.execute(f"SELECT * FROM ({inner}) ORDER BY time, row", values):  # noqa: S608
                yield _receipt(row)

    def totals(self, by: Sequence[str], query: Query) -> list[Total]:
        """Sums per group. Costs are added as exact decimals, here rather than in SQL."""
        unknown = [name for name in by if name not in GROUPS]
        if unknown:
            raise ValueError(f"{unknown[0]} is no group; groups are {', '.join(GROUPS)}")
        where, values = _where(query)
        groups = "".join(f"{_GROUP_SQL.get(name, name)}, " for name in by)
        sql = f"SELECT {groups} outcome, refused, usage, cost_usd FROM receipts{where}"  # noqa: S608 - our own names
        sums: dict[tuple[str | None, ...], _Sum] = {}
        with self._errors("read"):
            for row in self._connection.execute(sql, values):
                sums.setdefault(row[: len(by)], _Sum()).add(*row[len(by) :])
        found = [each.total(dict(zip(by, group, strict=True))) for group, each in sums.items()]
        return sorted(found, key=lambda total: (-total.cost_usd, -total.calls, str(total.group)))

    def last_row(self) -> int:
        """The number of the newest row, for `Query.after`."""
        with self._errors("read"):
            return int(self._connection.execute("SELECT coalesce(max(rowid), 0) FROM receipts").fetchone()[0])

    def purge(self, query: Query) -> int:
        """Delete receipts and give the space back."""
        where, values = _where(query)
        with self._errors("purged"):
            with self._connection:
                count = self._connection.execute(f"DELETE FROM receipts{where}", values).rowcount  # noqa: S608
            if count:
                self._connection.execute("VACUUM")
        return int(count)

    def close(self) -> None:
        """Close the file."""
        with self._errors("closed"):
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        _prepare(self._path)
        connection = sqlite3.connect(self._path, timeout=_BUSY / 1000, isolation_level="DEFERRED")
        with _closed_on_error(connection):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            migrate(connection)
        return connection

    def _open_readonly(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise LedgerError(f"{self._path}: there is no ledger yet; it is made when the gateway starts")
        connection = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=5)
        with _closed_on_error(connection):
            check(connection.execute("PRAGMA user_version").fetchone()[0])
        return connection

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"the ledger {self._path} cannot be {what}: {error}") from error


class _Sum:
    """Adds rows up."""

    def __init__(self) -> None:
        self.calls = self.refused = self.failed = self.unpriced = 0
        self.usage: dict[str, int] = {}
        self.cost = Decimal(0)

    def add(self, outcome: str, refused: str | None, usage: str, cost: str | None) -> None:
        tokens = json.loads(usage)
        self.calls += 1
        self.refused += refused is not None
        self.failed += refused is None and outcome != "ok"
        self.unpriced += bool(tokens) and cost is None
        self.cost += Decimal(cost) if cost is not None else 0
        for name, count in tokens.items():
            self.usage[name] = self.usage.get(name, 0) + count

    def total(self, group: dict[str, str | None]) -> Total:
        return Total(group, self.calls, self.refused, self.failed, self.unpriced, self.usage, self.cost)


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, LedgerError):
        connection.close()
        raise


def _prepare(path: Path) -> None:
    """Make folder and file with modes that let nobody else in, before SQLite could make them with others."""
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
    if path.is_symlink():
        raise LedgerError(f"{path} is a symbolic link; name the file itself")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(path, flags, 0o600))
    path.chmod(0o600)  # SQLite gives -wal and -shm the mode of the database


def _row(receipt: Receipt) -> tuple[Any, ...]:
    document = to_dict(receipt)
    return tuple(json.dumps(document[name]) if name in _JSON else document[name] for name in FIELDS)


def _receipt(row: sqlite3.Row) -> Receipt:
    document = {name: json.loads(row[name]) if name in _JSON else row[name] for name in FIELDS}
    return from_dict(document | {"streamed": bool(row["streamed"])})


def _where(query: Query) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    bounds = (("time >= ?", query.since), ("time < ?", query.until), ("rowid > ?", query.after))
    for condition, value in (*bounds, *((f"{name} = ?", getattr(query, name)) for name in _EQUAL)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if query.refused is not None:
        conditions.append("refused IS NOT NULL" if query.refused else "refused IS NULL")
    return (" WHERE " + " AND ".join(conditions) if conditions else ""), values
