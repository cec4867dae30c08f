"""What an answer used and what that costs. The one file that knows `genai-prices`.

Usage is extracted and priced by that library; rules.yaml may set prices of its own, and a cost that the provider itself
reports wins. Money is exact (`Decimal`). Whatever a provider sends, nothing here raises: numbers that are no counts mean that
no usage was reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from typing import Any

from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import ModelInfo
from genai_prices.types import Provider as LibraryProvider

from ..model import Metering, PriceOverride, Provider

LIMIT = 10**12
"""No answer has a trillion tokens; larger numbers are nonsense or an attack on sums."""
LONGEST_MODEL = 200
"""Characters. A longer name is none, and must not fill caches and receipts."""
_DECIMALS = 40
"""Digits after the point that a reported cost may have. `1e-999999999` is a number too, of a gigabyte when written out."""
_MILLION = Decimal(1_000_000)
_USAGE_PLACES = ("usage", "usageMetadata")
_CONTEXT = {"service_tier": "service_tier", "serviceTier": "service_tier", "speed": "speed"}
"""What a price may depend on besides the model: the names in answers, and those of `genai-prices`."""


def measure(
    document: Mapping[str, Any] | None, provider: Provider, flavor: str | None, model: str | None, when: float
) -> Metering:
    """Usage and cost of an answer.

    `document` is the body, or what a stream folds to; `flavor` the endpoint's; `model` as asked for (the document's own wins);
    `when` Unix seconds, since prices change.
    """
    if document is None:
        return Metering()
    reported = _model_of(document)
    usage = _extract(document, provider, flavor)
    if usage is None:
        return Metering(model=reported)
    metering = Metering(usage=usage, usage_source="reported", model=reported)
    cost = _reported_cost(document, provider.facts.usage.cost_path)
    if cost is not None:
        return replace(metering, cost_usd=cost, cost_source="reported")
    return _priced(metering, provider, (reported, model), when, _context(document))


def estimated(usage: Mapping[str, int], provider: Provider, model: str | None, when: float) -> Metering:
    """The price of an estimate."""
    return _priced(Metering(usage=usage, usage_source="estimated"), provider, (model,), when, {})


def format_usd(cost: Decimal | None) -> str | None:
    """A plain decimal number without exponent or trailing zeros; None stays None."""
    if cost is None:
        return None
    text = format(cost, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def _extract(document: Mapping[str, Any], provider: Provider, flavor: str | None) -> dict[str, int] | None:
    facts = provider.facts.usage
    library = _library(facts.extractor)
    if library is None or flavor is None:
        return None
    own = facts.flavors.get(flavor) or facts.flavors.get("*") or flavor
    try:
        _, usage = library.extract_usage(document, api_flavor=own)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return None
    return _counts(vars(usage))


@cache
def _library(provider_id: str | None) -> LibraryProvider | None:
    """The provider as `genai-prices` has it.

    It is asked directly: the functions at the top of the library give up on models without a price, and remember every
    name that they were ever asked about.
    """
    return next((each for each in providers if each.id == provider_id), None)


@lru_cache(maxsize=1024)
def _library_model(provider_id: str, name: str) -> ModelInfo | None:
    library = _library(provider_id)
    return library.find_model(name, all_providers=providers) if library else None


def _counts(reported: Mapping[str, Any]) -> dict[str, int] | None:
    """The reported counts as whole numbers (parts of a second round up); None when one of them is no count."""
    if not reported or not all(0 <= value <= LIMIT for value in reported.values()):
        return None
    return {name: math.ceil(value) for name, value in reported.items()}


def _priced(
    metering: Metering, provider: Provider, models: tuple[str | None, ...], when: float, context: Mapping[str, str]
) -> Metering:
    """With the first price that is known for one of `models`: the rules' own, else the library's."""
    known = [model for model in models if model and len(model) <= LONGEST_MODEL]
    for model in known:
        for override in provider.prices:
            if fnmatchcase(model, override.pattern):
                return replace(metering, cost_usd=_by_override(metering.usage, override), cost_source="prices")
    for model in known:
        cost = _by_library(metering.usage, provider.facts.usage.prices, model, when, context)
        if cost is not None:
            return replace(metering, cost_usd=cost, cost_source="prices")
    return metering


def _by_library(
    usage: Mapping[str, int], prices: str | None, model: str, when: float, context: Mapping[str, str]
) -> Decimal | None:
    """The library's price; None for an unknown model, and for counts that contradict each other (more cached than sent)."""
    library, known = _library(prices), _library_model(prices, model) if prices else None
    if library is None or known is None:
        return None
    moment = datetime.fromtimestamp(when, UTC)
    try:
        found = known.calc_price(Usage(**usage), library, genai_request_timestamp=moment, price_context=context)
    except (ValueError, TypeError, ArithmeticError):
        return None
    return found.total_price


def _by_override(usage: Mapping[str, int], price: PriceOverride) -> Decimal:
    """Tokens by kind times US dollars per million; a kind without a price of its own costs as input or output.

    Such a price has no tiers, and what is not counted in tokens (web searches) is not in it.
    """
    read, written = usage.get("cache_read_tokens", 0), usage.get("cache_write_tokens", 0)
    hour = usage.get("cache_write_1h_tokens", 0)
    plain = max(0, usage.get("input_tokens", 0) - read - written)
    write_price = price.cache_write if price.cache_write is not None else price.input
    hour_price = price.cache_write_1h if price.cache_write_1h is not None else write_price
    read_price = price.cache_read if price.cache_read is not None else price.input
    total = plain * price.input + read * read_price + max(0, written - hour) * write_price + hour * hour_price
    return (total + usage.get("output_tokens", 0) * price.output) / _MILLION


def _model_of(document: Mapping[str, Any]) -> str | None:
    """The model as the answer names it; Gemini calls it `modelVersion`. People will see it: no control characters."""
    for field in ("model", "modelVersion"):
        name = document.get(field)
        if isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_MODEL:
            return name.removeprefix("models/")
    return None


def _context(document: Mapping[str, Any]) -> dict[str, str]:
    """What else the price depends on, as the answer tells it: service tier, batch processing, fast mode.

    OpenAI names the tier that was really used at the top, Anthropic (with `batch` as a tier) and Gemini in their usage.
    """
    inner = (document.get(name) for name in _USAGE_PLACES)
    places = (document, *(place for place in inner if isinstance(place, Mapping)))
    found = {ours: place[name] for place in places for name, ours in _CONTEXT.items() if isinstance(place.get(name), str)}
    return found | ({"processing": "batch"} if found.get("service_tier") == "batch" else {})


def _reported_cost(document: Mapping[str, Any], path: str | None) -> Decimal | None:
    """The provider's own figure in US dollars, if it gives a sensible one."""
    value: Any = document
    for part in path.split(".") if path else ():
        value = value.get(part) if isinstance(value, Mapping) else None
    if path is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        cost = Decimal(str(value))
    except (InvalidOperation, ValueError):  # ValueError: Python does not write out integers of over 4300 digits
        return None
    sensible = cost.is_finite() and 0 <= cost < LIMIT and -_DECIMALS <= int(cost.as_tuple().exponent) <= _DECIMALS
    return cost if sensible else None
