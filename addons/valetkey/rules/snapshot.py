"""Everything a call is decided by, frozen: a call keeps the snapshot it began with, whatever is loaded meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..model import Key, ProviderFacts, Rules
from ..secrets import Environment, Vault, resolve_keys
from .loader import load_rules


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rules with their usable keys.

    `files` are watched for changes; `states` says of each key why it is not usable (None: it is).
    """

    rules: Rules
    keys: Mapping[str, tuple[Key, ...]]
    vault: Vault
    notices: tuple[str, ...]
    revision: int
    files: tuple[Path, ...]
    states: Mapping[str, str | None] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)


def load_snapshot(
    path: Path | None, catalog: Mapping[str, ProviderFacts], environment: Environment, revision: int = 1
) -> Snapshot:
    """Load rules and keys. Raises RulesError; a key that cannot be used is a notice, not an error."""
    rules = load_rules(path, catalog)
    folder = path.parent if path else Path.cwd()
    resolved = resolve_keys(rules, environment, folder)
    watched = [file for file in (path, environment.dotenv, *resolved.files) if file is not None]
    return Snapshot(
        rules, resolved.keys, resolved.vault, (*rules.notices, *resolved.notices), revision, tuple(watched),
        resolved.states, resolved.references,
    )  # fmt: skip
