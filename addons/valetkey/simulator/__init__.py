"""A provider that speaks all formats and fails on command; for demo, tests and benchmarks. It holds no real key."""

from .certificates import AuthorityFiles, make_authority
from .counts import Counts
from .faults import Fault, parse_fault
from .server import Simulator, TlsFiles, run_in_thread
from .wire_types import Seen

__all__ = [
    "AuthorityFiles",
    "Counts",
    "Fault",
    "Seen",
    "Simulator",
    "TlsFiles",
    "make_authority",
    "parse_fault",
    "run_in_thread",
]
