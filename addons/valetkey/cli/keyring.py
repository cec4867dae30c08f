"""`valetkey keys`: which keys there are and how they are, whether a provider takes them, and orders for a running gateway."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigurationError, LedgerError
from ..ledger import Order, Query, StateStore, open_store, state_path
from ..policy.metering import format_usd
from ..rules import Snapshot
from ..rules.explain import near
from ..secrets.probe import probe_id, shell_client
from ..settings import resolve_ledger
from .app import JsonOption, Loaded, RulesOption, app, dump, harmless, load, say, table
from .completing import key_ids

_DAY = 86_400
_SQLITE = "sqlite:///"
_COLUMNS = ("key", "state", "in flight", "used", "remaining", "cost today", "last used")
_NO_KEYS = "no keys were found; set e.g. GATEWAY_OPENAI_API_KEY, or name keys in rules.yaml"

commands = typer.Typer(no_args_is_help=False)
app.add_typer(commands, name="keys")
KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as in openai/1.", autocompletion=key_ids)]


@commands.callback(invoke_without_command=True)
def keys(context: typer.Context, rules: RulesOption = None, as_json: JsonOption = False) -> None:
    """List the keys by id: how each is and what it did, or why it cannot be used. Never shows a value.

    **Examples:** `valetkey keys` · `valetkey keys --json` · `valetkey keys test openai/1` · `valetkey keys disable openai/1`
    """
    if context.invoked_subcommand is not None:
        return
    loaded = load(rules, slow=True)
    kept = _kept(loaded)
    now = time.time()
    costs = None if kept is None else _costs_today(loaded, now)
    rows = [_row(loaded.snapshot, id, kept, costs) for id in loaded.snapshot.states]
    if as_json:
        for row in rows:
            dump(row)
    elif not rows:
        say(_NO_KEYS)
    elif kept is None:
        table(
            ("key", "reference", "state"), [[str(row["id"]), str(row["reference"]), row["problem"] or "usable"] for row in rows]
        )
    else:
        table(_COLUMNS, [_cells(row, now) for row in rows], ("in flight", "used", "cost today"))


# What the gateway wrote, and what the ledger knows.


@dataclass(frozen=True, slots=True)
class _Kept:
    """The state store's content: what a gateway last wrote of each key, and the orders that none has taken yet."""

    documents: Mapping[str, Any]
    orders: Sequence[Order]


def _kept(loaded: Loaded) -> _Kept | None:
    """What is in the state store; None when there is none, or none that can be read."""
    path = _state_path(loaded)
    if not path.exists():
        return None
    try:
        with closing(StateStore(path, readonly=True)) as store:
            return _Kept(store.load("keys"), store.orders())
    except LedgerError as error:
        _remark(str(error))
        return None


def _costs_today(loaded: Loaded, now: float) -> dict[str | None, str] | None:
    """US dollars by key since midnight UTC; None when there is no ledger that can be read."""
    uri = _ledger(loaded)
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        return None
    try:
        with closing(open_store(uri, readonly=True)) as store:
            totals = store.totals(["key"], Query(since=now - now % _DAY))
    except LedgerError as error:
        _remark(str(error))
        return None
    return {total.group["key"]: format_usd(total.cost_usd) or "0" for total in totals}


def _row(snapshot: Snapshot, id: str, kept: _Kept | None, costs: Mapping[str | None, str] | None) -> dict[str, Any]:
    """What is known of a key: what the rules say; with a state store also what it holds, and what the key cost."""
    problem = snapshot.states[id]
    row = {"id": id, "reference": snapshot.references[id], "usable": problem is None, "problem": problem}
    if kept is None:
        return row
    document, cost = kept.documents.get(id), None if costs is None else costs.get(id, "0")
    orders = [{"verb": order.verb, "time": order.time} for order in kept.orders if order.name == id]
    # Ours before and after: first in order, and not to be overwritten.
    return row | (document if isinstance(document, dict) else {}) | row | {"orders": orders, "cost_usd_today": cost}


def _cells(row: Mapping[str, Any], now: float) -> list[str]:
    share, used, last = _number(row, "remaining"), _number(row, "used"), _number(row, "last_used")
    remaining = "-" if share is None else f"{share:.0%} {row.get('remaining_dimension') or ''}".replace("%", " %").strip()
    return [
        row["id"],
        _said(row, now),
        _in_flight(row, now),
        "-" if used is None else f"{used:.0f}",
        remaining,
        "-" if row["cost_usd_today"] is None else f"${row['cost_usd_today']}",
        "-" if last is None else f"{_span(now - last)} ago",
    ]


def _said(row: Mapping[str, Any], now: float) -> str:
    """Why a key cannot be used, else how it is; and what was ordered."""
    words = (row["problem"],) if row["problem"] else (_state(row, now), _page(row))
    return " ".join(filter(None, (*words, _ordered(row))))


def _state(row: Mapping[str, Any], now: float) -> str:
    """How a key is, in words. A rest that has ended since the gateway wrote is over."""
    state, until = str(row.get("state") or "ready"), _number(row, "until")
    if state == "disabled":
        return state
    rests = row.get("rests")
    listed = [rest for rest in rests if isinstance(rest, dict)] if isinstance(rests, list) else []
    running = [rest for rest in listed if (_number(rest, "until") or 0) > now]
    if state in ("resting", "ready") and running:
        return "; ".join(f"resting {_phrase(rest, now, rest.get('model'))}" for rest in running)
    over = until is not None and until <= now
    if state == "ready" or (state in ("resting", "out") and over) or (state == "resting" and until is None and listed):
        return "ready"
    return _phrase(row, now, state)


def _phrase(rest: Mapping[str, Any], now: float, subject: object) -> str:
    """`gpt-4o: throttled, 7 s left`, as far as it is known."""
    until = _number(rest, "until")
    left = f"{_span(until - now)} left" if until is not None and until > now else ""
    why = ", ".join(filter(None, (str(rest.get("reason") or ""), left)))
    return f"{subject or ''}{': ' if why else ''}{why}".removeprefix(": ")


def _page(row: Mapping[str, Any]) -> str:
    """The page where a person can put the key in order."""
    return f"(see {row['url']})" if row.get("url") else ""


def _ordered(row: Mapping[str, Any]) -> str:
    """What a person ordered and no gateway has taken yet."""
    verbs = [order["verb"] for order in row["orders"]]
    return f"(ordered: {', '.join(verbs)})" if verbs else ""


def _in_flight(row: Mapping[str, Any], now: float) -> str:
    """Calls that a gateway serves. What was written long ago is a gateway's that has ended: it says nothing of now."""
    written = _number(row, "time")
    if written is not None and now - written > _DAY:
        return "-"
    return f"{_number(row, 'in_flight') or 0:.0f}"


def _number(document: Mapping[str, Any], name: str) -> float | None:
    """A number of a document; None for whatever else stands there."""
    value = document.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _span(seconds: float) -> str:
    """A length of time, in the unit that a person would choose."""
    for unit, length, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds <= most * length:
            return f"{max(0, math.ceil(seconds / length))} {unit}"
    return f"{math.ceil(seconds / _DAY)} days"


def _ledger(loaded: Loaded) -> str:
    return resolve_ledger(loaded.snapshot.rules.gateway.ledger, loaded.settings.folder)


def _state_path(loaded: Loaded) -> Path:
    return state_path(_ledger(loaded), loaded.settings.folder)


def _remark(text: str) -> None:
    """Something that is not well besides what was asked; not on stdout, which a program may read."""
    typer.echo(f"valetkey: {text}", err=True)


# Orders.


@commands.command()
def disable(context: typer.Context, id: KeyArgument, rules: RulesOption = None) -> None:
    """Use a key no more, until it is enabled again.

    **Example:** `valetkey keys disable openai/1`
    """
    _order(context, rules, "disable", id)


@commands.command()
def enable(context: typer.Context, id: KeyArgument, rules: RulesOption = None) -> None:
    """Use a key again that was disabled.

    **Example:** `valetkey keys enable openai/1`
    """
    _order(context, rules, "enable", id)


@commands.command()
def reset(context: typer.Context, id: KeyArgument, rules: RulesOption = None) -> None:
    """Forget why a key rests or is out: it is tried again.

    **Example:** `valetkey keys reset openai/1`
    """
    _order(context, rules, "reset", id)


def _order(context: typer.Context, rules: str | None, verb: str, id: str) -> None:
    loaded = load(rules_of(context, rules))
    _known(loaded.snapshot, id)
    with closing(StateStore(_state_path(loaded))) as store:
        store.order(verb, id, time.time())
    say(f"{verb} {id}: ordered; a running gateway takes it within a second, a later start at once")


def rules_of(context: typer.Context, rules: str | None) -> str | None:
    """`--rules` after the command's name, or before it."""
    return rules or (context.parent.params.get("rules") if context.parent else None)


def _known(snapshot: Snapshot, id: str) -> None:
    if id not in snapshot.states:
        hint = near(id, snapshot.states) or f"keys are {', '.join(snapshot.states) or 'not configured'}"
        raise ConfigurationError(f"there is no key {harmless(id)}; {hint}")


# Asking the provider.


@commands.command("test")
def trial(
    context: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="The keys to test; all when none is named.", autocompletion=key_ids),
    ] = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the providers, at no cost, whether they take the keys. Status 1: one is not well.

    **Examples:** `valetkey keys test` · `valetkey keys test openai/1 openai/2`
    """
    snapshot = load(rules_of(context, rules), slow=True).snapshot
    for id in ids or ():
        _known(snapshot, id)
    chosen = list(dict.fromkeys(ids or snapshot.states))
    if not (ids or as_json):
        _tell_of_keyless(snapshot, chosen)
    well = True
    with closing(shell_client(snapshot.rules.gateway.proxy)) as client:
        for id in chosen:
            found = probe_id(client, id, snapshot.rules.providers, snapshot)
            well &= found.well
            dump(asdict(found)) if as_json else say(str(found))
    if not well:
        raise typer.Exit(1)


def _tell_of_keyless(snapshot: Snapshot, chosen: Sequence[str]) -> None:
    keyless = [name for name, provider in snapshot.rules.providers.items() if provider.configured and not provider.keys_needed]
    for name in keyless:
        say(f"{name}  needs no key")
    if not (keyless or chosen):
        say(_NO_KEYS)
