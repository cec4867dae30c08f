"""`valetkey prices`: what calls cost, where the figures come from, and newer ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from ..errors import ConfigurationError, LedgerError, ValetkeyError
from ..ledger import KeptPrices, prices_path, read_prices, write_prices
from ..model import PriceOverride, Provider
from ..policy import pricelist
from ..policy.metering import format_usd
from ..policy.pricelist import BUILT_IN, Amount, Change, PriceList
from ..rules.explain import near
from ..rules.values import is_loopback
from ..secrets.probe import shell_client
from ..settings import resolve_ledger
from .app import JsonOption, Loaded, RulesOption, app, dump, harmless, load, say, table

LIMIT = 16 * 1024 * 1024
"""Bytes of a published list."""
DEADLINE = 60.0
"""Seconds in which a list has come as a whole."""
_MOST = 12
"""Changes that are shown after an update; `valetkey prices diff` shows all."""
_UNITS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
_COLUMNS = ("provider", "model", "input", "output", "cache read", "cache write", "further", "from")
_GLOB = frozenset("*?[")

ModelArgument = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="A name as in a call, or a glob; all without it.")
]  # fmt: skip
ProviderOption = Annotated[
    str | None, typer.Option(help="Only this provider; else those that rules.yaml names or that have a key.")
]  # fmt: skip
UrlOption = Annotated[str | None, typer.Option(help="Where to get them; by default where genai-prices publishes them.")]
commands = typer.Typer(no_args_is_help=True, help="What calls cost: show, update and compare prices.")
app.add_typer(commands, name="prices")


@dataclass(frozen=True, slots=True)
class Row:
    """The prices of a model in US dollars, by unit; `source` is `rules`, `kept` or `built in`."""

    provider: str
    model: str
    prices: Mapping[str, Amount]
    source: str


@commands.command()
def show(
    model: ModelArgument = None,
    provider: ProviderOption = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show prices, in US dollars per million tokens. Status 1: there is none.

    **Examples:** `valetkey prices show gpt-4o` · `valetkey prices show 'claude-*' --provider anthropic`
    """
    loaded = load(rules)
    kept = _kept(loaded)
    source = "built in" if kept is None else "kept"
    listing = BUILT_IN if kept is None else kept.prices
    chosen = _providers(loaded, provider, everywhere=model is not None)
    rows = [row for each in chosen for row in _rows(each, model, listing, source)]
    if as_json:
        for row in rows:
            dump({"provider": row.provider, "model": row.model, "prices": _plain(row.prices), "source": row.source})
    elif rows:
        table(_COLUMNS, [_cells(row) for row in rows], _COLUMNS[2:6])
    if not rows:
        what = "no model" if model is None else "no price for that model"
        raise LedgerError(f"{what}; calls without a price are counted as unpriced. Prices of your own: providers.*.prices")


@commands.command()
def update(
    url: UrlOption = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the newest prices and keep them beside the ledger; a running gateway computes with them within a second.

    Receipts that are written keep what they cost. When anything is wrong, nothing changes (status 1).

    **Examples:** `valetkey prices update` · `valetkey prices update --url https://example.com/data.json`
    """
    loaded = load(rules)
    place, source = _place(loaded), _checked(url or pricelist.update_url())
    before = _kept_or_none(place)
    with closing(shell_client(loaded.snapshot.rules.gateway.proxy)) as client:
        providers, prices = _usable(_fetched(client, source), source)
    now = time.time()
    write_prices(place, providers, source, now)
    found = list(pricelist.changes(before.prices if before else BUILT_IN, prices, now))
    count = sum(len(each.models) for each in prices.providers)
    if as_json:
        dump({"file": str(place), "source": source, "models": count, "changes": len(found)})
        return
    say(f"prices of {count} models from {urlsplit(source).hostname}, kept in {place}")
    for change in found[:_MOST]:
        say(harmless(f"  {_line(change)}"))
    if len(found) > _MOST:
        say(f"  and {len(found) - _MOST} more; valetkey prices diff")


@commands.command()
def diff(
    provider: Annotated[str | None, typer.Option(help="Only this provider of genai-prices, as in openai.")] = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the built-in prices with those that are kept, model by model. Status 1: none are kept.

    **Examples:** `valetkey prices diff` · `valetkey prices diff --provider anthropic`
    """
    kept = _kept(load(rules))
    if kept is None:
        raise LedgerError("no prices are kept; valetkey prices update fetches them")
    found = [each for each in pricelist.changes(BUILT_IN, kept.prices, time.time()) if provider in (None, each.provider)]
    for each in found:
        if as_json:
            dump({"provider": each.provider, "model": each.model, "unit": each.unit} | _plain({"old": each.old, "new": each.new}))
        else:
            say(harmless(_line(each)))
    if not as_json:
        day = time.strftime("%Y-%m-%d", time.gmtime(kept.fetched))
        say(f"{len(found)} prices differ; fetched {day} from {harmless(kept.source)}")


# Which prices there are.


def _place(loaded: Loaded) -> Path:
    folder = loaded.settings.folder
    return prices_path(resolve_ledger(loaded.snapshot.rules.gateway.ledger, folder), folder)


def _kept(loaded: Loaded) -> KeptPrices | None:
    """The kept prices. Raises LedgerError for a file that cannot be used."""
    return read_prices(_place(loaded))


def _kept_or_none(place: Path) -> KeptPrices | None:
    """The kept prices; a broken file is about to be replaced."""
    with suppress(LedgerError):
        return read_prices(place)
    return None


def _providers(loaded: Loaded, name: str | None, *, everywhere: bool) -> list[Provider]:
    """The provider that was named; else those in use, or all when a model is looked for and none is in use."""
    providers, keys = loaded.snapshot.rules.providers, loaded.snapshot.keys
    if name is not None:
        if name not in providers:
            raise ConfigurationError(f"there is no such provider; {near(name, providers) or 'valetkey providers lists them'}")
        return [providers[name]]
    used = [each for each in providers.values() if each.configured or each.name in keys]
    return used or (list(providers.values()) if everywhere else [])


def _rows(provider: Provider, wanted: str | None, listing: PriceList, source: str) -> Iterator[Row]:
    """The models of a provider that have a price: by name as a call would find it, or all that a glob matches."""
    library = provider.facts.usage.prices
    if wanted is not None and not _GLOB & set(wanted):
        own = next((price for price in provider.prices if fnmatchcase(wanted, price.pattern)), None)
        if own is not None:
            yield Row(provider.name, wanted, _of_rules(own), "rules")
        elif library is not None and (found := listing.find(library, wanted)) is not None:
            yield Row(provider.name, wanted, pricelist.amounts(found, time.time()), source)
        return
    for price in provider.prices:
        if wanted is None or fnmatchcase(price.pattern, wanted):
            yield Row(provider.name, price.pattern, _of_rules(price), "rules")
    known = listing.provider(library)
    for model in known.models if known else ():
        hidden = any(fnmatchcase(model.id, price.pattern) for price in provider.prices)
        if not hidden and (wanted is None or fnmatchcase(model.id, wanted)):
            yield Row(provider.name, model.id, pricelist.amounts(model, time.time()), source)


def _of_rules(price: PriceOverride) -> dict[str, Amount]:
    named = {
        "input_mtok": price.input, "output_mtok": price.output, "cache_read_mtok": price.cache_read,
        "cache_write_mtok": price.cache_write, "cache_write_1h_mtok": price.cache_write_1h, **price.per,
    }  # fmt: skip
    return {unit: amount for unit, amount in named.items() if amount is not None}


# In words.


def _cells(row: Row) -> list[str]:
    further = (f"{unit} {_said(amount)}" for unit, amount in row.prices.items() if unit not in _UNITS)
    return [row.provider, row.model, *(_said(row.prices.get(unit)) for unit in _UNITS), ", ".join(further), row.source]


def _said(amount: Amount | None) -> str:
    if amount is None:
        return "-"
    if isinstance(amount, Decimal):
        return format_usd(amount) or "0"
    tiers = (f"{_said(tier['price'])} over {tier['start']:,}" for tier in amount["tiers"])
    return ", ".join((_said(amount["base"]), *tiers))


def _line(change: Change) -> str:
    was, now = (_said(each) if each is not None else "none" for each in (change.old, change.new))
    return f"{change.provider}/{change.model}  {change.unit}  {was} -> {now}"


def _plain(prices: Mapping[str, Amount | None]) -> dict[str, Any]:
    """Prices for JSON: exact, as texts."""
    made: dict[str, Any] = {}
    for unit, amount in prices.items():
        if amount is None or isinstance(amount, Decimal):
            made[unit] = format_usd(amount)
        else:
            tiers = [{"start": tier["start"], "price": format_usd(tier["price"])} for tier in amount["tiers"]]
            made[unit] = {"base": format_usd(amount["base"]), "tiers": tiers}
    return made


# Fetching.


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ConfigurationError("--url holds a password, which would be kept with the prices and shown; write it without")
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return url
    raise ConfigurationError("--url is an https:// address: what comes over plain HTTP can be changed on the way")


def _fetched(client: httpx.Client, url: str) -> bytes:
    """The body. Raises ValetkeyError when it does not come whole and in time."""
    deadline = time.monotonic() + DEADLINE
    try:
        # Not compressed: a few bytes could become more than there is memory, before anything is counted.
        with client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
            if answer.status_code != 200:
                raise _unchanged(url, f"status {answer.status_code}")
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise _unchanged(url, "it comes compressed, which was not asked for")
            return _body(answer.iter_raw(), url, deadline)
    except httpx.TimeoutException:
        raise _unchanged(url, "no answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _unchanged(url, str(error) or type(error).__name__) from None


def _body(pieces: Iterable[bytes], url: str, deadline: float) -> bytes:
    data = b""
    for piece in pieces:
        data += piece
        if len(data) > LIMIT:
            raise _unchanged(url, f"more than {LIMIT} bytes")
        if time.monotonic() > deadline:
            raise _unchanged(url, f"not there within {DEADLINE:.0f} s")
    return data


def _usable(data: bytes, url: str) -> tuple[list[dict[str, Any]], PriceList]:
    """What is kept of a list, if this version can compute with all of it."""
    try:
        found = pricelist.slim(json.loads(data))
        return found, pricelist.parse(found)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise _unchanged(url, "it is no JSON") from None
    except ValueError as error:
        raise _unchanged(url, str(error)) from None


def _unchanged(url: str, why: str) -> ValetkeyError:
    return LedgerError(f"prices could not be fetched from {harmless(url)}: {harmless(why)}; nothing was changed")
