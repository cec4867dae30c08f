"""Where receipts are kept: the contract of a store, and how one is found by its URI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..errors import LedgerError
from ..model import Receipt
from .query import Query, Total
from .sqlite import SqliteStore


class Store(Protocol):
    """A place for receipts. Every method raises LedgerError when it cannot do its work."""

    def add(self, receipts: Sequence[Receipt]) -> None:
        """Keep receipts, all or none; one whose id is known already is left as it was."""
        ...

    def receipts(self, query: Query) -> Iterator[Receipt]:
        """Receipts, newest last."""
        ...

    def totals(self, by: Sequence[str], query: Query) -> list[Total]:
        """Sums per group, the dearest first. Raises ValueError for a group that is not in `GROUPS`."""
        ...

    def last_row(self) -> int:
        """The number of the newest row, for `Query.after`."""
        ...

    def purge(self, query: Query) -> int:
        """Delete receipts; how many."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


def open_store(uri: str, *, readonly: bool = False) -> Store:
    """Open `sqlite:///PATH` (three slashes and a relative path, four an absolute one). Raises LedgerError.

    A `readonly` store creates nothing, and can be read while the gateway writes.
    """
    scheme, _, rest = uri.partition("://")
    if scheme != "sqlite" or not rest.startswith("/") or rest == "/":
        # Not the whole URI: those of other stores hold passwords.
        raise LedgerError(f"gateway.ledger: {scheme[:20]!r} names no store that is known; write sqlite:///PATH")
    return SqliteStore(Path(rest[1:]), readonly=readonly)
