"""Which prices hold: those that came with `genai-prices`, or newer ones that a person fetched (`valetkey prices update`).

How usage is read from answers is never taken from a newer list: only prices are. Of the rules' own prices it knows nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from genai_prices import types
from genai_prices.data import providers as _built_in
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

DEAREST = Decimal(1_000_000)
"""US dollars for a unit of any kind; what costs more is a slip or an attack on sums."""
_FEWEST = 100
"""A list with fewer models is not the whole one."""
_LONGEST_PATTERN = 500
"""Characters of a regular expression by which a list knows a model."""
_LONGEST_NAME = 256
"""Characters of a model's name; agents choose it, and each of a list's expressions is tried on it."""
_MOST_REPEATS, _MOST_CHOICES = 2, 6
"""In an expression. Its time grows with the name's length to the power of the one, and with two to the power of the other."""
_SINGLE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
"""An escaped character or a class: one letter of a name, or none."""
_TAKEN = ("id", "name", "api_pattern", "model_match", "provider_match", "fallback_model_providers", "models")
"""What is taken of a provider; `extractors` are not."""

Amount = Decimal | Mapping[str, Any]
"""US dollars; or `base` and `tiers` (`start` in input tokens, `price`)."""


@dataclass(frozen=True, eq=False, slots=True)
class PriceList:
    """Prices of models by provider, as the library knows them. Compared by identity: it is part of the keys of caches."""

    providers: tuple[Provider, ...]

    def provider(self, id: str | None) -> Provider | None:
        """The provider with this id of the library."""
        return next((each for each in self.providers if each.id == id), None)

    def find(self, id: str, model: str) -> ModelInfo | None:
        """The model that a name means at a provider, also one that it resells; None without a price for it."""
        provider = self.provider(id) if len(model) <= _LONGEST_NAME else None
        return provider.find_model(model, all_providers=list(self.providers)) if provider else None


BUILT_IN = PriceList(tuple(_built_in))
"""The prices of the installed library."""


def update_url() -> str:
    """Where the library's makers publish the newest prices, in the form that this version reads."""
    from genai_prices.update_prices import DEFAULT_UPDATE_URL

    return DEFAULT_UPDATE_URL


def slim(document: object) -> list[dict[str, Any]]:
    """What of a published list is kept. Raises ValueError for what is no list of providers."""
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise ValueError("it is no list of providers")
    return [{name: provider[name] for name in _TAKEN if name in provider} for provider in document]


def parse(document: object) -> PriceList:
    """The prices of a published list. Raises ValueError when any of it cannot be used; one provider at a time, so that other
    threads get on meanwhile."""
    try:
        found = [provider for raw in slim(document) for provider in types._providers_from_raw([raw])]
    except (TypeError, LookupError, AttributeError, RecursionError, ArithmeticError) as error:
        raise ValueError(f"it is not in the form that this version reads ({type(error).__name__})") from None
    except ValueError as error:
        raise ValueError(f"it is not in the form that this version reads: {_first_line(error)}") from None
    if sum(len(provider.models) for provider in found) < _FEWEST:
        raise ValueError(f"it has prices of fewer than {_FEWEST} models; that is not the whole list")
    for provider in found:
        for model in provider.models:
            _check(provider, model)
    return PriceList(tuple(found))


def amounts(model: ModelInfo, when: float) -> dict[str, Amount]:
    """The prices of a model at a time (Unix seconds), by the library's names of units (`input_mtok`: per million tokens)."""
    found = model.get_prices(datetime.fromtimestamp(when, UTC), {})
    return {name: _amount(price) for name, price in sorted(vars(found).items()) if price is not None}


@dataclass(frozen=True, slots=True)
class Change:
    """A price that differs between two lists. `old` None: it is new; `new` None: it is gone."""

    provider: str
    model: str
    unit: str
    old: Amount | None
    new: Amount | None


def changes(old: PriceList, new: PriceList, when: float) -> Iterator[Change]:
    """Where two lists differ at a time (Unix seconds), provider by provider and model by model."""
    before, after = _by_model(old), _by_model(new)
    for place in sorted(before.keys() | after.keys()):
        was = amounts(before[place], when) if place in before else {}
        is_now = amounts(after[place], when) if place in after else {}
        for unit in sorted(was.keys() | is_now.keys()):
            if was.get(unit) != is_now.get(unit):
                yield Change(*place, unit, was.get(unit), is_now.get(unit))


def _by_model(prices: PriceList) -> dict[tuple[str, str], ModelInfo]:
    return {(provider.id, model.id): model for provider in prices.providers for model in provider.models}


def _amount(price: Decimal | TieredPrices) -> Amount:
    if isinstance(price, TieredPrices):
        tiers = tuple((tier.start, tier.price) for tier in price.tiers)
        return {"base": price.base, "tiers": [{"start": start, "price": amount} for start, amount in tiers]}
    return price


def _check(provider: Provider, model: ModelInfo) -> None:
    """Raise ValueError for prices that cannot be meant, or that this version cannot compute with."""
    name = f"{provider.id}/{model.id}"
    for price in _all_prices(model):
        for unit, value in vars(price).items():
            if unit not in _units():
                raise ValueError(f"{name} has a price for {unit}, which this version of genai-prices does not know; update it")
            if not all(_is_sensible(each) for each in _numbers(value)):
                raise ValueError(f"{name} has a price for {unit} that cannot be meant")
    for pattern in _patterns(model.match):
        try:
            re.compile(pattern if _is_quick(pattern) else "(")
        except re.error:
            raise ValueError(f"{name} is known by a pattern that cannot be used") from None


def _all_prices(model: ModelInfo) -> Iterator[ModelPrice]:
    if isinstance(model.prices, ModelPrice):
        yield model.prices
    else:
        if not model.prices:
            raise ValueError(f"{model.id} has no price")
        yield from (each.prices for each in model.prices)
    yield from (variant.prices for variant in model.price_variants or ())


def _numbers(price: Decimal | TieredPrices | None) -> Sequence[Decimal]:
    if isinstance(price, TieredPrices):
        return [price.base, *(tier.price for tier in price.tiers)]
    return [] if price is None else [price]


def _is_sensible(price: Decimal) -> bool:
    return price.is_finite() and 0 <= price <= DEAREST and not math.isnan(price)


def _patterns(match: object) -> Iterator[str]:
    for name in ("or_", "and_"):
        for clause in getattr(match, name, ()):
            yield from _patterns(clause)
    if isinstance(pattern := getattr(match, "regex", None), str):
        yield pattern


def _is_quick(pattern: str) -> bool:
    """Whether an expression comes to an end soon on any name: no group is repeated, and there is little to try."""
    if len(pattern) > _LONGEST_PATTERN:
        return False
    plain = re.sub(r"^\(\?i\)|(?<=\()\?[:=!]", "", _SINGLE.sub("a", pattern))
    repeats, choices = len(re.findall(r"[*+]|\{[^}]*,", plain)), len(re.findall(r"[?|]", plain))
    return "(?" not in plain and not re.search(r"\)[*+{]", plain) and repeats <= _MOST_REPEATS and choices <= _MOST_CHOICES


@cache
def _units() -> frozenset[str]:
    """The names of prices that the library can compute with."""
    from genai_prices.data_units import unit_data
    from genai_prices.units import UnitRegistry

    return frozenset(unit.price_key for unit in UnitRegistry(unit_data).units.values())


def _first_line(error: ValueError) -> str:
    """Which place is wrong, without what stands there."""
    places: Any = getattr(error, "errors", None)
    if places is None:
        return str(error).partition("\n")[0][:100]
    first = places(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]
