"""Receipts in SQLite: write-ahead log, readable by others while it is written, private to its owner."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import chain
from math import isfinite
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import LedgerError
from ..model import Attempt, Receipt
from .files import closed_on_error, make_private
from .migrations import check, migrate
from .query import GROUPS, Query, Total
from .records import ATTEMPT_FIELDS, FIELDS, from_dict
from .totals import Sum

_JSON = ("attempts", "usage", "notes")
_FIELDS = frozenset(FIELDS)
_NUMBERS = ("time", "status", "streamed", "ttft_ms", "duration_ms", "messages_in", "messages_out", "answers")
_SIMPLE = tuple(name for name in FIELDS if name not in _JSON)
_COLUMNS = (*_SIMPLE, *_JSON)
_values, _texts = attrgetter(*_SIMPLE), attrgetter(*(name for name in _SIMPLE if name not in _NUMBERS))
_attempt_values = attrgetter(*ATTEMPT_FIELDS[:-1])
_ROW = f"({', '.join('?' * len(_COLUMNS))})"
_INSERT = {
    count: f"INSERT INTO receipts ({', '.join(_COLUMNS)}) VALUES {', '.join([_ROW] * count)} ON CONFLICT (id) DO NOTHING"  # noqa: S608
    for count in (32, 16, 8, 4, 2, 1)
}
"""By the number of rows. SQLite works without Python's lock, which the calls need; each statement takes it once."""
_encode = json.JSONEncoder().encode
_LONGEST = 1000
"""Characters kept of a text. Agents choose model names; they must not fill the disk."""
_SHORT = 200
"""Characters of a model's name with which an attempt is remembered."""
_PLAIN_COUNTS = re.compile(r"\{(?:'[A-Za-z0-9_]+': [0-9]+(?:, (?=')|(?=\})))*\}")
_BUSY = 0.25
"""Seconds to wait for a lock. The writer tries again by itself; readers wait longer."""
_BUSY_READING = 5.0
_EQUAL = ("agent", "project", "model", "provider", "key", "route", "outcome")
_GROUP_SQL = {
    "day": "strftime('%Y-%m-%d', time, 'unixepoch')",
    "hour": "strftime('%Y-%m-%dT%H:00Z', time, 'unixepoch')",
}
_NO_CONNECTIONS = "NOT EXISTS (SELECT 1 FROM receipts AS answer WHERE answer.parent = receipts.id)"


class SqliteStore:
    """One connection to one file. Use it from one thread."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._path = path
        self._place = (0, 0)
        """Device and inode of the file that is written to."""
        self._snapshot: tuple[int, ...] = ()
        """What a file without a log looked like when it was opened to be read."""
        with self._errors("opened"):
            self._connection = self._open_readonly() if readonly else self._open()

    def add(self, receipts: Sequence[Receipt]) -> None:
        """Write receipts in one transaction."""
        with self._errors("written"):
            self._check_place()
            with self._connection as connection:
                at = 0
                for count, statement in _INSERT.items():
                    while len(receipts) - at >= count:
                        rows = map(_row, receipts[at : at + count])
                        connection.execute(statement, list(chain.from_iterable(rows)))
                        at += count

    def receipts(self, query: Query) -> Iterator[Receipt]:
        """Receipts by time, newest last; with a limit the newest ones."""
        conditions, values = _conditions(query)
        limit = f" LIMIT {int(query.limit)}" if query.limit is not None else ""
        inner = f"SELECT rowid AS number, * FROM receipts{_where(conditions)} ORDER BY time DESC, number DESC{limit}"  # noqa: S608
        with self._errors("read"), closing(self._reader().cursor()) as cursor:
            cursor.row_factory = sqlite3.Row
            rows = cursor.execute(f"SELECT * FROM ({inner}) ORDER BY time, number", values)  # noqa: S608
            # A file that is only read may be one of an older program, which has fewer columns.
            names = _FIELDS.intersection(column for column, *_ in rows.description)
            for row in rows:
                yield _receipt(row, names)

    def totals(self, by: Sequence[str], query: Query) -> list[Total]:
        """Sums per group. Costs are added as exact decimals, here rather than in SQL."""
        unknown = [name for name in by if name not in GROUPS]
        if unknown:
            raise ValueError(f"{unknown[0]} is no group; groups are {', '.join(GROUPS)}")
        conditions, values = _conditions(query)
        groups = "".join(f"{_GROUP_SQL.get(name, name)}, " for name in by)
        sql = f"SELECT {groups} outcome, refused, usage, cost_usd FROM receipts{_where([*conditions, _NO_CONNECTIONS])}"  # noqa: S608
        sums: dict[tuple[str | None, ...], Sum] = {}
        with self._errors("read"):
            for row in self._reader().execute(sql, values):
                sums.setdefault(row[: len(by)], Sum()).add(*row[len(by) :])
        found = [each.total(dict(zip(by, group, strict=True))) for group, each in sums.items()]
        return sorted(found, key=lambda total: (total.cost_usd.copy_negate(), -total.calls, str(total.group)))

    def last_row(self) -> int:
        """The number of the newest row, for `Query.after`."""
        with self._errors("read"):
            return int(self._reader().execute("SELECT coalesce(max(rowid), 0) FROM receipts").fetchone()[0])

    def purge(self, query: Query) -> int:
        """Delete receipts, overwrite them, and give the space back."""
        conditions, values = _conditions(query)
        with self._errors("purged"):
            with self._connection:
                count = self._connection.execute(f"DELETE FROM receipts{_where(conditions)}", values).rowcount  # noqa: S608
            # Not VACUUM, which copies the whole file while receipts wait.
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
        return int(count)

    def close(self) -> None:
        """Close the file."""
        with self._errors("closed"):
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        self._place = make_private(self._path)
        connection = sqlite3.connect(self._path, timeout=_BUSY)
        with closed_on_error(connection):
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has an effect on a new file only
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")
            migrate(connection)
        return connection

    def _open_readonly(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise LedgerError(f"{self._path}: there is no ledger yet; it is made when the gateway starts")
        # Without a log nobody writes. SQLite would make a log all the same, and leave it behind: it is told that nothing changes.
        self._snapshot = self._unwritten()
        options = "mode=ro&immutable=1" if self._snapshot else "mode=ro"
        connection = sqlite3.connect(f"file:{quote(str(self._path))}?{options}", uri=True, timeout=_BUSY_READING)
        with closed_on_error(connection):
            if check(connection) == 0:
                raise LedgerError(f"{self._path}: this is no ledger, or an empty one")
        return connection

    def _reader(self) -> sqlite3.Connection:
        """The connection for a query. If something has changed after all since it was opened, it is opened anew."""
        if self._snapshot and self._snapshot != self._unwritten():
            self._connection.close()
            self._connection = self._open_readonly()
        return self._connection

    def _unwritten(self) -> tuple[int, ...]:
        """Marks of the file's content; empty while somebody has it open for writing."""
        if self._path.with_name(self._path.name + "-wal").exists():
            return ()
        found = self._path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _check_place(self) -> None:
        """SQLite goes on writing into a file that was deleted, where nobody will ever read it."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise LedgerError(f"the ledger {self._path} was deleted or moved away") from None
        if (found.st_dev, found.st_ino) != self._place:
            raise LedgerError(f"the ledger {self._path} was replaced by another file")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """What goes wrong inside is a LedgerError; also values in a damaged file that cannot be read."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, ArithmeticError) as error:
            raise LedgerError(f"the ledger {self._path} cannot be {what}: {error}") from error


def _row(receipt: Receipt) -> tuple[Any, ...]:
    values = _values(receipt)
    # One look at all texts together: there is hardly ever one that cannot be stored as it is.
    if not _is_plain("".join(map(str, _texts(receipt)))):
        values = tuple([_storable(value) for value in values])
    attempts = ", ".join([_attempt(attempt) for attempt in receipt.attempts])
    notes = _encode(_storable(list(receipt.notes))) if receipt.notes else "[]"
    return (*values, f"[{attempts}]", _counts(receipt.usage), notes)


def _attempt(attempt: Attempt) -> str:
    """An attempt as JSON. All but its time is the same in many."""
    ms, is_short = attempt.ms, attempt.model is None or len(attempt.model) <= _SHORT  # agents choose model names
    most = (_remembered if is_short else _beginning)(*_attempt_values(attempt))
    return f"{most}{repr(ms) if type(ms) is float and isfinite(ms) else _encode(ms)}}}"


def _beginning(*values: object) -> str:
    texts = [f'"{name}": {_encode(_storable(value))}, ' for name, value in zip(ATTEMPT_FIELDS, values, strict=False)]
    return f'{{{"".join(texts)}"{ATTEMPT_FIELDS[-1]}": '


_remembered = lru_cache(256, typed=True)(_beginning)


def _counts(usage: Mapping[str, int]) -> str:
    """Counts as JSON: for whole numbers by plain names, Python writes the same with other quotes."""
    text = repr(usage)
    return text.replace("'", '"') if _PLAIN_COUNTS.fullmatch(text) else _encode(dict(usage))


def _is_plain(text: str) -> bool:
    return text.isascii() and len(text) <= _LONGEST


def _storable(value: Any) -> Any:
    """Texts, also those within, as SQLite can keep them: agents and providers may send half a surrogate pair, no UTF-8."""
    if isinstance(value, str):
        if value.isascii() and len(value) <= _LONGEST:
            return value
        return value[:_LONGEST].encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _storable(inner) for name, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list) else value


def _receipt(row: sqlite3.Row, names: Collection[str]) -> Receipt:
    document = {name: json.loads(row[name]) if name in _JSON else row[name] for name in names}
    return from_dict(document | {"streamed": bool(row["streamed"])})


def _conditions(query: Query) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    bounds = (("time >= ?", query.since), ("time < ?", query.until), ("rowid > ?", query.after))
    for condition, value in (*bounds, *((f"{name} = ?", getattr(query, name)) for name in _EQUAL)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if query.refused is not None:
        conditions.append("refused IS NOT NULL" if query.refused else "refused IS NULL")
    return conditions, values


def _where(conditions: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(conditions) if conditions else ""
