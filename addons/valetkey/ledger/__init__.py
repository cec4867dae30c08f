"""The ledger: one receipt per call, kept, asked and purged."""

from .archive import Archive, purge_archive
from .query import GROUPS, Query, Total
from .records import from_dict, to_dict
from .state import Order, StateStore, state_path
from .store import Store, open_store
from .writer import LedgerWriter

__all__ = [
    "GROUPS", "Archive", "LedgerWriter", "Order", "Query", "StateStore", "Store", "Total", "from_dict", "open_store",
    "purge_archive", "state_path", "to_dict",
]  # fmt: skip
