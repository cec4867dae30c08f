"""Real keys: where they come from, and the types that keep them from being seen."""

from .check import problem
from .environment import Environment
from .fetching import Fetcher, is_slow
from .references import file_of, read_file, resolve
from .secret import Secret
from .vault import Resolved, Vault, fetch_keys, key_name, known_variables, resolve_keys

__all__ = [
    "Environment",
    "Fetcher",
    "Resolved",
    "Secret",
    "Vault",
    "fetch_keys",
    "file_of",
    "is_slow",
    "key_name",
    "known_variables",
    "problem",
    "read_file",
    "resolve",
    "resolve_keys",
]
