"""Everything a call is decided by, frozen: a call keeps the snapshot it began with, whatever is loaded meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..model import Key, ProviderFacts, Rules
from ..policy import routing
from ..secrets import Environment, Vault, file_of, resolve_keys
from .loader import load_rules
from .watcher import Mark, marks


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rules with their usable keys.

    `files` are watched for changes, and `seen` is what they were before they were read. `states` says of each key why it is
    not usable (None: it is), `references` where it comes from.
    """

    rules: Rules
    keys: Mapping[str, tuple[Key, ...]]
    vault: Vault
    notices: tuple[str, ...]
    revision: int
    files: tuple[Path, ...]
    states: Mapping[str, str | None] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[Path, Mark] = field(default_factory=dict)


def load_snapshot(
    path: Path | None, catalog: Mapping[str, ProviderFacts], environment: Environment, revision: int = 1
) -> Snapshot:
    """Load rules and keys. Raises RulesError; a key that cannot be used is a notice, not an error."""
    folder = path.parent if path else Path.cwd()
    seen = marks(file for file in (path, environment.dotenv) if file is not None)
    rules = load_rules(path, catalog)
    routing.prepare(rules)
    seen |= marks(_key_files(rules, folder))
    resolved = resolve_keys(rules, environment, folder)
    return Snapshot(
        rules, resolved.keys, resolved.vault, (*rules.notices, *resolved.notices), revision, tuple(seen),
        resolved.states, resolved.references, seen,
    )  # fmt: skip


def _key_files(rules: Rules, folder: Path) -> Iterator[Path]:
    specs = (spec for provider in rules.providers.values() for spec in provider.key_specs or ())
    return (path for spec in specs if (path := file_of(spec.ref, folder)) is not None)
