"""Real keys: where they come from, and the types that keep them from being seen."""

from .check import problem
from .environment import Environment
from .references import file_of, read_file, resolve
from .secret import Secret
from .vault import Resolved, Vault, key_name, resolve_keys

__all__ = [
    "Environment",
    "Resolved",
    "Secret",
    "Vault",
    "file_of",
    "key_name",
    "problem",
    "read_file",
    "resolve",
    "resolve_keys",
]
