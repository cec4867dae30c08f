"""The ledger: one receipt per call, kept, asked and purged."""

from .archive import Archive, purge_archive
from .audit import Head, Place, read_key
from .auditcheck import Break, Verdict, entries, verify
from .auditlog import AuditedStore, AuditLog
from .pricefile import KeptPrices, prices_path, read_prices, write_prices
from .query import GROUPS, Query, Total
from .records import from_dict, to_dict
from .state import Order, StateStore, state_path
from .store import Store, open_store
from .writer import LedgerWriter

__all__ = [
    "GROUPS", "Archive", "AuditLog", "AuditedStore", "Break", "Head", "KeptPrices", "LedgerWriter", "Order", "Place", "Query",
    "StateStore", "Store", "Total", "Verdict", "entries", "from_dict", "open_store", "prices_path", "purge_archive", "read_key",
    "read_prices", "state_path", "to_dict", "verify", "write_prices",
]  # fmt: skip
