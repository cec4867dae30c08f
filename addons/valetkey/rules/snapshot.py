"""Everything a call is decided by, frozen: a call keeps the snapshot it began with, whatever is loaded meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import LedgerError
from ..ledger import prices_path, read_prices
from ..model import Key, ProviderFacts, Rules
from ..policy import routing
from ..policy.pricelist import BUILT_IN, PriceList
from ..secrets import Environment, Fetcher, Vault, fetch_keys, file_of, ownership, resolve_keys
from ..settings import resolve_ledger
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
    prices: PriceList = BUILT_IN
    """The prices that hold: those that were fetched, else the built-in ones."""


def load_snapshot(
    path: Path | None,
    catalog: Mapping[str, ProviderFacts],
    environment: Environment,
    revision: int = 1,
    fetcher: Fetcher | None = None,
) -> Snapshot:
    """Load rules and keys. Raises RulesError; a key that cannot be used is a notice, not an error.

    Blocks while slow keys are read; without a `fetcher` they are not, and are unusable.
    """
    folder = path.parent if path else Path.cwd()
    seen = marks(file for file in (path, environment.dotenv) if file is not None)
    rules = load_rules(path, catalog)
    routing.prepare(rules)
    kept = prices_path(resolve_ledger(rules.gateway.ledger, folder), folder)
    seen |= marks([*_key_files(rules, folder), kept])
    if fetcher is not None:
        fetch_keys(rules, environment, fetcher, _distrust(path))
    prices, notices = _prices(kept)
    found = _with_keys(rules, environment, folder, revision, seen, fetcher)
    return replace(found, prices=prices, notices=(*found.notices, *notices))


def renewed(snapshot: Snapshot, path: Path | None, environment: Environment, fetcher: Fetcher) -> Snapshot | None:
    """The same rules with slow keys read anew where they are due; None when nothing changed. Blocks while they are read."""
    if not fetch_keys(snapshot.rules, environment, fetcher, _distrust(path)):
        return None
    folder = path.parent if path else Path.cwd()
    found = _with_keys(snapshot.rules, environment, folder, snapshot.revision, snapshot.seen, fetcher)
    return replace(found, prices=snapshot.prices)


def _with_keys(
    rules: Rules, environment: Environment, folder: Path, revision: int, seen: Mapping[Path, Mark], fetcher: Fetcher | None
) -> Snapshot:
    resolved = resolve_keys(rules, environment, folder, fetcher)
    return Snapshot(
        rules, resolved.keys, resolved.vault, (*rules.notices, *resolved.notices), revision, tuple(seen),
        resolved.states, resolved.references, seen,
    )  # fmt: skip


def _prices(path: Path) -> tuple[PriceList, tuple[str, ...]]:
    """The prices that are kept, or why they are not used."""
    try:
        kept = read_prices(path)
    except LedgerError as error:
        return BUILT_IN, (str(error),)
    return kept.prices if kept else BUILT_IN, ()


def _distrust(path: Path | None) -> str | None:
    """Why programs that the rules name are not run: somebody else could have written them there."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    reason = (ownership.foreign_owner(status) or ownership.writable(status)) if status is not None else None
    return f"{path} {reason}; own it yourself and chmod 644 it" if reason else None


def _key_files(rules: Rules, folder: Path) -> Iterator[Path]:
    specs = (spec for provider in rules.providers.values() for spec in provider.key_specs or ())
    return (path for spec in specs if (path := file_of(spec.ref, folder)) is not None)
