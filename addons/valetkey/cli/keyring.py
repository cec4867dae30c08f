"""`valetkey keys`: which keys there are and how they are, whether a provider takes them, and orders for a running gateway."""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
import typer

from ..errors import ConfigurationError, LedgerError
from ..ledger import Query, StateStore, open_store, state_path
from ..model import Address, Endpoint, Key, Outcome, Provider, Surface
from ..policy import credentials, outcome, paths
from ..policy.metering import format_usd
from ..rules import Snapshot
from ..rules.explain import near
from ..settings import resolve_ledger
from .app import JsonOption, Loaded, RulesOption, app, dump, harmless, load, say, table

PATIENCE = 10.0
"""Seconds that a provider has for each step of a test."""
_DAY = 86_400
_SQLITE = "sqlite:///"
_MOST = 64 * 1024
"""Bytes that are read of an error."""
_SHOWN = 160
"""Characters of a provider's message that are shown."""
_ELSEWHERE = (404, 405)
"""This server does not have the endpoint; that says nothing of the key."""
_ASKING = ((b"accept", b"application/json"), (b"user-agent", b"valetkey"))
_COLUMNS = ("key", "state", "in flight", "used", "remaining", "cost today", "last used")
_NO_KEYS = "no keys were found; set e.g. GATEWAY_OPENAI_API_KEY, or name keys in rules.yaml"

commands = typer.Typer(no_args_is_help=False)
app.add_typer(commands, name="keys")
KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as in openai/1.")]


@commands.callback(invoke_without_command=True)
def keys(context: typer.Context, rules: RulesOption = None, as_json: JsonOption = False) -> None:
    """List the keys by id: how each is and what it did, or why it cannot be used. Never shows a value.

    **Examples:** `valetkey keys` · `valetkey keys --json` · `valetkey keys test openai/1` · `valetkey keys disable openai/1`
    """
    if context.invoked_subcommand is not None:
        return
    loaded = load(rules)
    documents = _documents(loaded)
    now = time.time()
    costs = None if documents is None else _costs_today(loaded, now)
    rows = [_row(loaded.snapshot, id, documents, costs) for id in loaded.snapshot.states]
    if as_json:
        for row in rows:
            dump(row)
    elif not rows:
        say(_NO_KEYS)
    elif documents is None:
        table(
            ("key", "reference", "state"), [[str(row["id"]), str(row["reference"]), row["problem"] or "usable"] for row in rows]
        )
    else:
        table(_COLUMNS, [_cells(row, now) for row in rows], ("in flight", "used", "cost today"))


# What the gateway wrote, and what the ledger knows.


def _documents(loaded: Loaded) -> dict[str, Any] | None:
    """What a gateway last wrote of each key; None when none has written anything that can be read."""
    path = _state_path(loaded)
    if not path.exists():
        return None
    try:
        with closing(StateStore(path, readonly=True)) as store:
            return store.load("keys")
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


def _row(
    snapshot: Snapshot, id: str, documents: Mapping[str, Any] | None, costs: Mapping[str | None, str] | None
) -> dict[str, Any]:
    """What is known of a key: what the rules say; with a gateway's state also that, and what the key cost."""
    problem = snapshot.states[id]
    row = {"id": id, "reference": snapshot.references[id], "usable": problem is None, "problem": problem}
    if documents is None:
        return row
    document, cost = documents.get(id), None if costs is None else costs.get(id, "0")
    # Ours before and after: first in order, and not to be overwritten.
    return row | (document if isinstance(document, dict) else {}) | row | {"cost_usd_today": cost}


def _cells(row: Mapping[str, Any], now: float) -> list[str]:
    share, used, last = _number(row, "remaining"), _number(row, "used"), _number(row, "last_used")
    remaining = "-" if share is None else f"{share:.0%} {row.get('remaining_dimension') or ''}".replace("%", " %").strip()
    return [
        row["id"],
        row["problem"] or " ".join(filter(None, (_state(row, now), _page(row)))),
        f"{_number(row, 'in_flight') or 0:.0f}",
        "-" if used is None else f"{used:.0f}",
        remaining,
        "-" if row["cost_usd_today"] is None else f"${row['cost_usd_today']}",
        "-" if last is None else f"{_span(now - last)} ago",
    ]


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
    if state == "ready" or (state in ("resting", "out") and (over or (until is None and listed))):
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
    loaded = load(_rules(context, rules))
    _known(loaded.snapshot, id)
    with closing(StateStore(_state_path(loaded))) as store:
        store.order(verb, id, time.time())
    say(f"{verb} {id}: ordered; a running gateway takes it within a second, a later start at once")


def _rules(context: typer.Context, rules: str | None) -> str | None:
    """`--rules` after the command's name, or before it."""
    return rules or (context.parent.params.get("rules") if context.parent else None)


def _known(snapshot: Snapshot, id: str) -> None:
    if id not in snapshot.states:
        hint = near(id, snapshot.states) or f"keys are {', '.join(snapshot.states) or 'not configured'}"
        raise ConfigurationError(f"there is no key {harmless(id)}; {hint}")


# Asking the provider.


@dataclass(frozen=True, slots=True)
class Trial:
    """What a provider says of a key. `seconds` are those until the answer began.

    `outcome` is `unusable` for a key that cannot be sent, None when there was nothing to ask.
    """

    id: str
    outcome: Outcome | Literal["unusable"] | None
    status: int | None = None
    seconds: float | None = None
    message: str = ""

    def __str__(self) -> str:
        status = f" ({self.status})" if self.status is not None else ""
        if self.outcome is Outcome.OK:
            return f"{self.id}  ok  {self.seconds or 0:.2f} s"
        return f"{self.id}  {self.outcome or 'not tested'}{status}  {self.message}".rstrip()


@commands.command("test")
def trial(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="The keys to test; all when none is named.")] = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the providers, at no cost, whether they take the keys. Status 1: one is not well.

    **Examples:** `valetkey keys test` · `valetkey keys test openai/1 openai/2`
    """
    snapshot = load(_rules(context, rules)).snapshot
    for id in ids or ():
        _known(snapshot, id)
    chosen = list(dict.fromkeys(ids or snapshot.states))
    if not (ids or as_json):
        _tell_of_keyless(snapshot, chosen)
    well = True
    with closing(_client(snapshot.rules.gateway.proxy)) as client:
        for id in chosen:
            found = _try(client, snapshot, id)
            well &= found.outcome in (Outcome.OK, None)
            dump(asdict(found)) if as_json else say(str(found))
    if not well:
        raise typer.Exit(1)


def _tell_of_keyless(snapshot: Snapshot, chosen: Sequence[str]) -> None:
    keyless = [name for name, provider in snapshot.rules.providers.items() if provider.configured and not provider.keys_needed]
    for name in keyless:
        say(f"{name}  needs no key")
    if not (keyless or chosen):
        say(_NO_KEYS)


def _client(gateway: Address) -> httpx.Client:
    """A client that verifies TLS and takes the shell's proxy and CA variables. Raises ConfigurationError when those are wrong.

    A proxy that is this very gateway is gone around: it would put another key in place of the one that is tested.
    """
    ourselves = any(_is(url, gateway) for url in getproxies().values())
    direct = dict.fromkeys(("all://", "http://", "https://")) if ourselves else None
    try:
        return httpx.Client(timeout=PATIENCE, follow_redirects=False, mounts=direct)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(f"the proxy or CA variables of this shell cannot be used: {error}") from error


def _is(url: str, gateway: Address) -> bool:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return parts.port == gateway.port and parts.hostname in (gateway.host, "localhost", "127.0.0.1", "::1")
    except ValueError:
        return False


def _try(client: httpx.Client, snapshot: Snapshot, id: str) -> Trial:
    """Ask the free endpoints in turn until one is there."""
    key = next((key for pool in snapshot.keys.values() for key in pool if key.id == id), None)
    if key is None:
        return Trial(id, "unusable", message=snapshot.states[id] or "")
    provider = snapshot.rules.providers[key.provider]
    found = Trial(id, None, message=f"the catalogue has no free endpoint of {provider.name}")
    for place in _free_places(provider):
        found = _ask(client, snapshot, provider, key, place)
        if found.status not in _ELSEWHERE:
            break
    return found


def _free_places(provider: Provider) -> Iterator[tuple[Surface, str]]:
    """Endpoints that cost nothing and need no argument, with their paths: of the account, then listings of models.

    Those of the account come first: a provider may list its models for everybody, whatever key is sent.
    """
    found = [(surface, each) for surface in provider.facts.surfaces for each in surface.endpoints if _is_free(each)]
    opened = replace(provider, open=tuple({each.group for _, each in found}))
    for surface, endpoint in sorted(found, key=lambda pair: pair[1].group != "account"):
        mapped = paths.wire_path(opened, paths.Place(surface, endpoint, None, endpoint.path), None)
        if mapped is not None:
            yield surface, mapped.path


def _is_free(endpoint: Endpoint) -> bool:
    asked = endpoint.group == "account" or endpoint.format.endswith("_models")
    return asked and endpoint.free and "GET" in endpoint.methods and "{" not in endpoint.path


def _ask(client: httpx.Client, snapshot: Snapshot, provider: Provider, key: Key, place: tuple[Surface, str]) -> Trial:
    surface, path = place
    begun = time.monotonic()
    try:
        headers = credentials.wire_headers(_ASKING, surface.auth, key, snapshot.vault.reveal(key.id))
        with client.stream("GET", provider.upstream.origin + path, headers=list(headers)) as answer:
            seconds = round(time.monotonic() - begun, 3)
            if answer.is_success:
                return Trial(key.id, Outcome.OK, answer.status_code, seconds)
            body = _beginning(answer, begun + 2 * PATIENCE)
    except httpx.TimeoutException:
        return Trial(key.id, Outcome.TIMEOUT, message=f"no answer within {PATIENCE:.0f} s")
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, ValueError) as error:
        return Trial(key.id, Outcome.NETWORK, message=_line(str(error) or type(error).__name__, snapshot))
    status, names = answer.status_code, {name.lower(): value for name, value in answer.headers.items()}
    if status < 400:
        return Trial(key.id, Outcome.SERVER, status, seconds, "it sends elsewhere; keys do not follow")
    kind = outcome.classify(provider.facts, status, names, body)
    return Trial(key.id, kind, status, seconds, _line(_message(body), snapshot))


def _beginning(answer: httpx.Response, deadline: float) -> bytes:
    """As much of a body as an error needs. A server that trickles is not waited for, and one that breaks off has said enough."""
    body = b""
    with suppress(httpx.HTTPError):
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) >= _MOST or time.monotonic() > deadline:
                break
    return body[:_MOST]


def _message(body: bytes) -> str:
    """What a provider says in words: `error.message` at most, `message`, or the whole body."""
    with suppress(ValueError, RecursionError):
        found = json.loads(body)
        found = found[0] if isinstance(found, list) and found else found
        error = found.get("error") if isinstance(found, dict) else None
        candidates = (
            error.get("message") if isinstance(error, dict) else error,
            found.get("message") if isinstance(found, dict) else None,
        )
        for text in candidates:
            if isinstance(text, str) and text:
                return text
    return body.decode("utf-8", "replace")


def _line(text: str, snapshot: Snapshot) -> str:
    """A text as one short line without a secret: redacted while it is whole, since half a key is a secret as well."""
    line = harmless(" ".join(snapshot.vault.redact(text).split()))
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
