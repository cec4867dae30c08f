"""What an answer used and what that costs. The one file that knows `genai-prices`.

Usage is extracted and priced by that library; rules.yaml may set prices of its own, and a cost that the provider itself
reports wins. Money is exact (`Decimal`). Whatever a provider sends, nothing here raises: numbers that are no counts mean that
no usage was reported.

The library checks its own data anew with every answer, which takes longer than all else that is done here for one. So its rules
are compiled once, into the same arithmetic in the same order, and each is compared with the library when it is first used: only
what agrees is trusted, whatever its version. All that is odd (no whole numbers, contradictions, prices by the minute) stays with
the library.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache, lru_cache
from math import sumprod
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import ArrayMatch, ModelInfo, ModelPrice, TieredPrices
from genai_prices.types import Provider as LibraryProvider

from ..model import CostSource, Metering, PriceOverride, Provider, UnitPrice
from .pricelist import BUILT_IN, PriceList

LIMIT = 10**12
"""No answer has a trillion tokens; larger numbers are nonsense or an attack on sums."""
LONGEST_MODEL = 200
"""Characters. A longer name is none, and must not fill caches and receipts."""
_DECIMALS = 40
"""Digits after the point that a reported cost may have. `1e-999999999` is a number too, of a gigabyte when written out."""
_FRACTION = 12
"""Digits after the point of a price by the second."""
_MILLION = Decimal(1_000_000)
_CONTEXT = {"service_tier": "service_tier", "serviceTier": "service_tier", "speed": "speed"}
"""What a price may depend on besides the model: the names in answers, and those of `genai-prices`."""
_CONTEXT_NAMES = frozenset(_CONTEXT)
_LINEAR = frozenset({"tokens", "tool_calls"})
"""The families of units that are compiled: their price is a count times a price. Others have minima, or are rare."""
_FORMS = 64
"""Most compiled prices per model, and most kinds of usage per endpoint. Real ones have a handful."""
_SHAPE = 1000
"""Characters of all names in usage whose shape is remembered; the provider chooses them."""
_PLACES, _HEAVIEST = 16, 10**15
"""Compiled prices are whole numbers of 10^-16 dollars. So heavy at most, no sum needs more digits than `Decimal` keeps."""
_ONE = Decimal(1)
_WITHIN = b""
"""Between the names of an object and those of one within; no name is bytes."""


def measure(
    document: Mapping[str, Any] | None,
    provider: Provider,
    flavor: str | None,
    model: str | None,
    when: float,
    asked: Mapping[str, int | str] = MappingProxyType({}),
    *,
    batch: bool = False,
    listing: PriceList = BUILT_IN,
) -> Metering:
    """Usage and cost of an answer.

    `document` is the body, or what a stream folds to; `flavor` the endpoint's; `model` as asked for (the document's own wins);
    `when` Unix seconds, since prices change; `asked` what of the request a price may depend on; `batch`: at the price of batches;
    `listing`: the prices that hold.
    """
    reported = _model_of(document) if document is not None else None
    usage = _extract(document, provider, flavor) if document is not None else None
    if usage is None and asked and flavor is not None and flavor in provider.facts.usage.counts:
        return _measure_by_places(document or {}, provider, flavor, (reported, model), when, asked, listing)
    if document is None or usage is None:
        return Metering(model=reported)
    cost = _reported_cost(document, provider.facts.usage.cost_path)
    if cost is not None:
        return Metering(usage, "reported", cost, "reported", reported)
    if not _adds_up(usage):
        return Metering(model=reported)
    context = _context(document)
    if batch:
        context = {"processing": "batch"}
    cost, source = _price(usage, provider, (reported, model), when, context, asked, listing=listing)
    return Metering(usage, "reported", cost, source, reported)


def measure_result(
    document: Mapping[str, Any],
    provider: Provider,
    flavors: Sequence[str],
    when: float,
    *,
    batch: bool,
    listing: PriceList = BUILT_IN,
) -> Metering:
    """Usage and cost of an answer that another call has made, of the first flavor that it reports usage in."""
    found = Metering()
    for flavor in flavors:
        found = measure(document, provider, flavor, None, when, batch=batch, listing=listing)
        if found.usage_source != "none":
            break
    return found


def estimated(
    usage: Mapping[str, int], provider: Provider, model: str | None, when: float, *, listing: PriceList = BUILT_IN
) -> Metering:
    """The price of an estimate."""
    cost, source = _price(usage, provider, (model,), when, {}, listing=listing)
    return Metering(usage, "estimated", cost, source)


def total(meters: Iterable[Metering]) -> Metering:
    """The sum of what several answers report. Without the price of one there is none; a model is named if all have the same."""
    usage: dict[str, int] = {}
    cost: Decimal | None = None
    models: set[str | None] = set()
    is_priced = True
    for meter in meters:
        for name, count in meter.usage.items():
            usage[name] = usage.get(name, 0) + count
        models.add(meter.model)
        is_priced = is_priced and meter.cost_usd is not None
        cost = (cost or Decimal(0)) + (meter.cost_usd or 0)
    if not models:
        return Metering()
    source: CostSource = "prices" if is_priced else "none"
    return Metering(usage, "reported", cost if is_priced else None, source, models.pop() if len(models) == 1 else None)


def format_usd(cost: Decimal | None) -> str | None:
    """A plain decimal number without exponent or trailing zeros; None stays None."""
    if cost is None:
        return None
    text = format(cost, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


# Usage.


def _measure_by_places(
    document: Mapping[str, Any],
    provider: Provider,
    flavor: str,
    models: tuple[str | None, ...],
    when: float,
    asked: Mapping[str, int | str],
    listing: PriceList,
) -> Metering:
    """Usage of sound and images: where the catalogue says that it stands; guessed where none of that has a price."""
    facts, both = provider.facts.usage, {**document, "request": asked}
    usage = {name: count for name, places in facts.counts[flavor].items() if (count := _count_at(both, places)) is not None}
    cost, source = _price(usage, provider, models, when, {}, asked, listing=listing) if usage else (None, "none")
    if cost is not None:
        return Metering(usage, "reported", _rounded(cost), source, models[0])
    for guesses in facts.guesses.get(flavor, ()):
        numbers = {name: (_number_at(both, each.place) or 0) / each.per for name, each in guesses.items()}
        guessed = {name: math.ceil(number) for name, number in numbers.items() if number}
        cost, source = _price(guessed, provider, models, when, {}, asked, listing=listing) if guessed else (None, "none")
        if cost is not None:
            return Metering(usage | guessed, "estimated", _rounded(cost), source, models[0])
    return Metering(usage, "reported" if usage else "none", None, "none", models[0])


def _rounded(cost: Decimal) -> Decimal:
    """Prices by the hour, for seconds, have endless fractions."""
    return round(cost, _FRACTION) if -int(cost.as_tuple().exponent) > _FRACTION else cost


def _count_at(document: Mapping[str, Any], places: Sequence[str]) -> int | None:
    """The first count among some dotted paths; parts of a second round up."""
    return next((math.ceil(number) for place in places if (number := _number_at(document, place)) is not None), None)


def _number_at(document: Mapping[str, Any], path: str) -> Decimal | None:
    value = at(document, path)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LIMIT:
        return None
    return Decimal(str(value))


def at(document: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _extract(document: Mapping[str, Any], provider: Provider, flavor: str | None) -> dict[str, int] | None:
    facts = provider.facts.usage
    if flavor is None:
        return None
    library, reader, own = _source(facts.extractor, facts.flavors.get(flavor) or facts.flavors.get("*") or flavor)
    if library is None:
        return None
    found = reader.read(document) if reader else None
    if reader is None or found is None:
        return _extract_by_library(document, library, own)
    if (names := tuple(found)) not in reader.trusted:
        return reader.compared(names, found, _extract_by_library(document, library, own))
    return found if max(found.values()) <= LIMIT else None


@lru_cache(maxsize=256)
def _source(extractor: str | None, flavor: str) -> tuple[LibraryProvider | None, _Reader | None, str]:
    """Who extracts usage of a flavor, which may be lent by another provider (`openai/chat`), and the flavor's own name."""
    lender, _, own = flavor.rpartition("/")
    library = _library(lender or extractor)
    return library, _reader(lender or extractor, own) if library else None, own


def _adds_up(usage: Mapping[str, int]) -> bool:
    """Whether there are no more tokens in the caches than in the whole input: what contradicts itself has no price."""
    cached = usage.get("cache_read_tokens", 0) + usage.get("cache_write_tokens", 0)
    return cached <= usage.get("input_tokens", cached)


def _extract_by_library(document: Mapping[str, Any], library: LibraryProvider, flavor: str) -> dict[str, int] | None:
    try:
        _, usage = library.extract_usage(document, api_flavor=flavor)
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
def _library_model(listing: PriceList, provider_id: str, name: str) -> ModelInfo | None:
    return listing.find(provider_id, name)


def _counts(reported: Mapping[str, Any]) -> dict[str, int] | None:
    """The reported counts as whole numbers (parts of a second round up); None when one of them is no count."""
    if not reported or not all(0 <= value <= LIMIT for value in reported.values()):
        return None
    return {name: math.ceil(value) for name, value in reported.items()}


@dataclass(eq=False, slots=True)
class _Reader:
    """One extractor of the library, compiled: where in a document each count stands."""

    root: tuple[str, ...]
    places: tuple[tuple[str, str, tuple[str | ArrayMatch, ...], bool], ...]
    """For each place: the name of the count, the first step and the other steps to it, and whether it must be there."""
    trusted: set[tuple[str, ...]] = field(default_factory=set)
    """The combinations of names that were found to be as the library has them."""
    wrong: bool = False
    plans: dict[tuple[object, ...], _Plan | None] = field(default_factory=dict)
    """By the shape of usage (all names and types in it), how it is read; None: place by place."""
    nested: tuple[str, ...] | None = field(init=False)
    """Members of usage that hold some of the places; None where places lie deeper, or in lists."""

    def __post_init__(self) -> None:
        is_flat = all(len(steps) < 2 and all(isinstance(step, str) for step in steps) for _, _, steps, _ in self.places)
        self.nested = tuple(dict.fromkeys(first for _, first, steps, _ in self.places if steps)) if is_flat else None

    def read(self, document: Mapping[str, Any]) -> dict[str, int] | None:
        """The counts; None where the library must be asked: something is missing, or is not of the usual type."""
        usage: Any = None if self.wrong else document
        for outer in self.root:
            usage = usage.get(outer) if type(usage) is dict else None
        if type(usage) is not dict:
            return None
        if self.nested is None:
            return self._read_slowly(usage)
        names, values = [*usage], [*usage.values()]
        for name in self.nested:
            if type(part := usage.get(name)) is dict:
                names += (_WITHIN, *part)
                values += (None, *part.values())
        shape = (*names, *map(type, values))
        try:
            plan = self.plans[shape]
        except KeyError:
            plan = self._planned(usage, names, values, shape)
        return plan.read(values) if plan is not None else self._read_slowly(usage)

    def _planned(self, usage: dict[str, Any], names: list[Any], values: list[Any], shape: tuple[object, ...]) -> _Plan | None:
        if len(names) > _FORMS or sum(map(len, names)) > _SHAPE:
            return None
        if len(self.plans) >= _FORMS:
            self.plans.clear()
        plan = self.plans[shape] = _plan(self, usage, values)
        return plan

    def _read_slowly(self, usage: dict[str, Any]) -> dict[str, int] | None:
        found: dict[str, int] = {}
        for name, first, steps, required in self.places:
            value = usage.get(first)
            for step in steps:
                if value is None:
                    break
                if isinstance(step, str) and type(value) is dict:
                    value = value.get(step)
                elif isinstance(step, ArrayMatch) and type(value) is list:
                    value = _item(value, step)
                else:
                    return None
            if type(value) is int and value >= 0:
                found[name] = found[name] + value if name in found else value
            elif value is not None or required:
                return None
        return found or None

    def compared(self, names: tuple[str, ...], found: dict[str, int], right: dict[str, int] | None) -> dict[str, int] | None:
        """What the library says; where that is the same, it is not asked again about counts with these names."""
        self.wrong = right != (found if max(found.values()) <= LIMIT else None)
        if not self.wrong and right is not None and len(self.trusted) < _FORMS:
            self.trusted.add(names)
        return right


@dataclass(eq=False, slots=True)
class _Plan:
    """How usage of one shape is read."""

    names: tuple[str, ...]
    take: Callable[[list[Any]], tuple[int, ...]]
    """The counts of `names`, then those in `more`, out of all values."""
    more: tuple[tuple[str, int], ...]
    """What is added to a count of that name: the position among all values."""

    def read(self, values: list[Any]) -> dict[str, int] | None:
        """The counts; None with a negative one."""
        taken = self.take(values)
        if min(taken) < 0:
            return None
        found = dict(zip(self.names, taken, strict=False))
        for name, position in self.more:
            found[name] += values[position]
        return found


def _plan(reader: _Reader, usage: dict[str, Any], values: list[Any]) -> _Plan | None:
    """The plan for all usage that has these names and types; None where the library must be asked."""
    positions = _positions(reader.nested or (), usage)
    found: dict[str, int] = {}
    more: list[tuple[str, int]] = []
    for name, first, steps, required in reader.places:
        outer, position = usage.get(first), positions.get((first, *steps))
        if steps and outer is not None and type(outer) is not dict:
            return None
        value = None if position is None else values[position]
        if position is not None and type(value) is int:
            more += [(name, position)] if name in found else []
            found.setdefault(name, position)
        elif value is not None or required:
            return None
    if not found:
        return None
    used = [*found.values(), *(position for _, position in more)]
    return _Plan(tuple(found), itemgetter(*used, used[0]), tuple(more))  # of one position alone it would give no tuple


def _positions(nested: Sequence[str], usage: dict[str, Any]) -> dict[tuple[object, ...], int]:
    """Where among all values those of each path stand, in the order in which `_Reader.read` collects them."""
    found: dict[tuple[object, ...], int] = {(name,): at for at, name in enumerate(usage)}
    at = len(usage)
    for outer in nested:
        if type(part := usage.get(outer)) is dict:
            found |= {(outer, inner): place for place, inner in enumerate(part, at + 1)}
            at += 1 + len(part)
    return found


def _item(items: list[Any], wanted: ArrayMatch) -> Any:
    """The item of a list that the library would choose; what it cannot judge is given as no object, for it to refuse."""
    try:
        return wanted.extract(items)
    except (TypeError, AttributeError):
        return items


@lru_cache(maxsize=256)
def _reader(provider_id: str | None, flavor: str) -> _Reader | None:
    library = _library(provider_id)
    for each in (library.extractors or ()) if library else ():
        if each.api_flavor == flavor:
            root, paths = _steps(each.root), [_steps(mapping.path) for mapping in each.mappings]
            if not all(isinstance(step, str) for step in (*root, *(path[0] for path in paths))):
                return None
            places = zip(each.mappings, paths, strict=True)
            return _Reader(root, tuple((to.dest, path[0], path[1:], to.required) for to, path in places))
    return None


def _steps(path: str | Sequence[str | ArrayMatch]) -> tuple[Any, ...]:
    return (path,) if isinstance(path, str) else tuple(path)


# Prices.


def _price(
    usage: Mapping[str, int],
    provider: Provider,
    models: tuple[str | None, ...],
    when: float,
    context: Mapping[str, str],
    asked: Mapping[str, int | str] = MappingProxyType({}),
    *,
    listing: PriceList,
) -> tuple[Decimal | None, CostSource]:
    """The first price that is known for one of `models`: the rules' own, the listed, else the catalogue's."""
    facts = provider.facts.usage
    known = [model for model in models if model and len(model) <= LONGEST_MODEL]
    # Most models have a batch price of their own in the library.
    factor = facts.batch_factor if facts.batch_factor and context.get("processing") == "batch" else _ONE
    for model in known if provider.prices else ():
        for override in provider.prices:
            if fnmatchcase(model, override.pattern):
                cost = _by_override(usage, override)
                return (None, "none") if cost is None else (cost * factor, "prices")
    for model in known:
        tariff = _tariff(listing, facts.prices, model)
        cost = _by_tariff(usage, tariff, when, context) if tariff else None
        if tariff is not None and cost is not None:
            has_own = factor != 1 and cost != _by_tariff(usage, tariff, when, {})
            return cost if has_own else cost * factor, "prices"
    cost = _by_unit(usage, facts.unit_prices, known, asked) if facts.unit_prices else None
    return (None, "none") if cost is None else (cost * factor, "prices")


def _by_unit(
    usage: Mapping[str, int], prices: Sequence[UnitPrice], models: Sequence[str], asked: Mapping[str, int | str]
) -> Decimal | None:
    """The first price that has a unit for one of the counts."""
    for model in models:
        for price in prices:
            fits = fnmatchcase(model, price.pattern) and all(asked.get(name) == value for name, value in price.when.items())
            if fits and not price.per.keys().isdisjoint(usage):
                return sum((each * usage.get(name, 0) for name, each in price.per.items()), Decimal(0))
    return None


@dataclass(eq=False, slots=True)
class _Tariff:
    """The prices of one model, compiled as they are needed."""

    library: LibraryProvider
    model: ModelInfo
    constraints: tuple[Any, ...]
    """All that makes prices depend on the time."""
    contexts: frozenset[tuple[str, str]]
    """All that can change a price besides: pairs of name and value."""
    forms: dict[tuple[object, ...], _Form | None] = field(default_factory=dict)
    is_by_minute: bool = False
    """Whether prices change with the minute at most, so that what holds can be remembered as long."""
    minute: float = -1.0
    active: tuple[bool, ...] = ()
    """Which constraints held in the minute that was asked for last."""

    def holding(self, when: float) -> tuple[bool, ...]:
        """Which constraints hold at a time."""
        if not self.constraints:
            return ()
        minute = when // 60
        if minute != self.minute or not self.is_by_minute:
            moment = datetime.fromtimestamp(when, UTC)
            self.active = tuple([each.active(moment) for each in self.constraints])
            self.minute = minute
        return self.active


@dataclass(eq=False, slots=True)
class _Form:
    """The price of usage of one shape at one time, as the library computes it.

    A count that is part of another is paid once, at its own price: what remains of each count when its parts are taken off, times
    its price, is the cost. That is linear in the counts, and prices are decimal fractions; so whole numbers do, and each count
    has one weight.
    """

    rests: tuple[tuple[int, ...], ...]
    """What remains of the counts that have parts, each as weights of all counts: it is not negative."""
    starts: tuple[int, ...]
    """Where tiers start, in input tokens."""
    input: int | None
    """The position of the input tokens among the counts."""
    weights: tuple[tuple[int, ...], ...]
    """For each tier, from the lowest: what one of each count costs, in units of 10^-`_PLACES` US dollars."""
    trusted: list[bool]
    """For each tier, whether its price was compared with the library's."""
    wrong: bool = False

    def cost(self, counts: tuple[int, ...]) -> tuple[int, Decimal] | None:
        """The tier and the cost in US dollars; None where counts contradict each other."""
        for rest in self.rests:
            if sumprod(rest, counts) < 0:
                return None
        tier = bisect_left(self.starts, 0 if self.input is None else counts[self.input]) if self.starts else 0
        return tier, Decimal(sumprod(self.weights[tier], counts)).scaleb(-_PLACES)


_OF_OTHER_UNITS = _Form((), (), None, (), [], wrong=True)
"""Stands for a price in other units than those that were counted: characters, where tokens have a price."""


@lru_cache(maxsize=1024)
def _tariff(listing: PriceList, prices: str | None, name: str) -> _Tariff | None:
    library, known = listing.provider(prices), _library_model(listing, prices, name) if prices else None
    if library is None or known is None:
        return None
    variants = known.price_variants or ()
    conditional = () if isinstance(known.prices, ModelPrice) else known.prices
    constraints = [each.constraint for each in (*conditional, *variants) if each.constraint is not None]
    is_own = any(known is model for model in library.models)  # what another provider's model costs here knows no variants
    contexts = frozenset(pair for variant in variants for pair in variant.when.items()) if is_own else frozenset()
    return _Tariff(library, known, tuple(constraints), contexts, is_by_minute=all(map(_is_by_minute, constraints)))


def _is_by_minute(constraint: object) -> bool:
    """Whether what a constraint names are days, and times of day in UTC without seconds."""
    for value in vars(constraint).values():
        is_day = isinstance(value, date) and not isinstance(value, datetime)
        is_minute = isinstance(value, time) and not (value.second or value.microsecond or value.utcoffset())
        if not is_day and not is_minute:
            return False
    return True


def _by_tariff(usage: Mapping[str, int], tariff: _Tariff, when: float, context: Mapping[str, str]) -> Decimal | None:
    """The library's price; None without one, and for counts that contradict each other (more cached than sent)."""
    forms, active = tariff.forms, tariff.holding(when)
    if context and tariff.contexts:
        context = {name: value for name, value in context.items() if (name, value) in tariff.contexts}
        named = tuple(sorted(context.items()))
    else:
        context, named = {}, ()
    counts = tuple(usage.values())
    key = (active, named, tuple(usage), tuple(map(bool, counts)))
    try:
        form = forms[key]
    except KeyError:
        if len(forms) >= _FORMS:
            forms.clear()
        form = forms[key] = _compiled(tariff, usage, datetime.fromtimestamp(when, UTC), context)
    found = form.cost(counts) if form is not None and not form.wrong else None
    if form is _OF_OTHER_UNITS:
        return None
    if form is None or found is None:
        return _by_library(usage, tariff, when, context)
    tier, cost = found
    if form.trusted[tier]:
        return cost
    right = _by_library(usage, tariff, when, context)
    form.trusted[tier], form.wrong = right == cost, right != cost
    return right


def _by_library(usage: Mapping[str, int], tariff: _Tariff, when: float, context: Mapping[str, str]) -> Decimal | None:
    moment = datetime.fromtimestamp(when, UTC)
    try:
        found = tariff.model.calc_price(Usage(**usage), tariff.library, genai_request_timestamp=moment, price_context=context)
    except (ValueError, TypeError, ArithmeticError):
        return None
    return found.total_price


@cache
def _units() -> Mapping[str, Any]:
    """The library's units by the names of their prices; none in a version that keeps them elsewhere."""
    try:
        from genai_prices.data_units import unit_data
        from genai_prices.units import UnitRegistry

        return {unit.price_key: unit for unit in UnitRegistry(unit_data).units.values()}
    except (ImportError, AttributeError, TypeError, LookupError):
        return {}


def _compiled(tariff: _Tariff, usage: Mapping[str, int], moment: datetime, context: Mapping[str, str]) -> _Form | None:
    """The form for usage with these names and these zeros; None for what is left to the library."""
    try:
        prices = tariff.model.get_prices(moment, context)
        priced = [(_units()[name], price) for name, price in vars(prices).items() if price is not None]
        if priced and not any(unit.usage_key in usage for unit, _ in priced):
            return _OF_OTHER_UNITS
        # What is not reported is nothing, or an error where a part of it is: the library's own rule is asked for that.
        counts = Usage(**usage)
        is_plain = type(prices) is ModelPrice and all(unit.dimensions["family"] in _LINEAR for unit, _ in priced)
        tiers = [tier.start for _, price in priced if isinstance(price, TieredPrices) for tier in price.tiers]
        needed = {unit.usage_key for unit, _ in priced} | ({"input_tokens"} if tiers else set())
        if not is_plain or any(getattr(counts, name) for name in needed - usage.keys()):
            return None
        return _form(priced, sorted(set(tiers)), tuple(usage))
    except (ValueError, TypeError, AttributeError, LookupError):
        return None


def _form(priced: Sequence[tuple[Any, Any]], starts: list[int], names: tuple[str, ...]) -> _Form | None:
    """The form for counts with these names; None where a price is no such decimal fraction."""
    units = sorted((unit for unit, _ in priced), key=lambda unit: (-len(unit.dimensions), unit.usage_key))
    rests: dict[str, tuple[int, ...]] = {}
    wholes = []
    for unit in units:  # parts before wholes
        parts = [rests[part.usage_key] for part in units if _contains(unit, part)]
        own = tuple(int(name == unit.usage_key) for name in names)
        rests[unit.usage_key] = tuple(count - sum(taken) for count, *taken in zip(own, *parts, strict=True))
        wholes += [rests[unit.usage_key]] if any(weight < 0 for weight in rests[unit.usage_key]) else []
    weights = []
    for level in (0, *(start + 1 for start in starts)):
        prices = [(Fraction(_price_at(price, level)) * 10**_PLACES / unit.per, rests[unit.usage_key]) for unit, price in priced]
        weights.append([sum((price * rest[at] for price, rest in prices), Fraction(0)) for at in range(len(names))])
        if any(price.denominator != 1 or price > _HEAVIEST for price, _ in prices):
            return None
    position = names.index("input_tokens") if "input_tokens" in names else None
    exact = tuple(tuple(map(int, each)) for each in weights)
    return _Form(tuple(wholes), tuple(starts), position, exact, [False] * len(exact))


def _contains(whole: Any, part: Any) -> bool:
    return part is not whole and whole.dimensions.items() <= part.dimensions.items()


def _price_at(price: Decimal | TieredPrices, input_tokens: int) -> Decimal:
    if isinstance(price, TieredPrices):
        return next((tier.price for tier in reversed(price.tiers) if input_tokens > tier.start), price.base)
    return price


def _by_override(usage: Mapping[str, int], price: PriceOverride) -> Decimal | None:
    """Tokens by kind times US dollars per million; a kind without a price of its own costs as input or output.

    Such a price has no tiers, and of what is not counted in tokens (sound, images, web searches) only what `per` names. None
    where nothing that was counted has a price.
    """
    other = [each * usage[name] for name, each in price.per.items() if name in usage]
    if price.input is None or price.output is None:
        return sum(other, Decimal(0)) if other else None
    return sum(other, _by_tokens(usage, price, price.input, price.output))


def _by_tokens(usage: Mapping[str, int], price: PriceOverride, input: Decimal, output: Decimal) -> Decimal:
    read, written = usage.get("cache_read_tokens", 0), usage.get("cache_write_tokens", 0)
    hour = usage.get("cache_write_1h_tokens", 0)
    plain = max(0, usage.get("input_tokens", 0) - read - written)
    write_price = price.cache_write if price.cache_write is not None else input
    hour_price = price.cache_write_1h if price.cache_write_1h is not None else write_price
    read_price = price.cache_read if price.cache_read is not None else input
    total = plain * input + read * read_price + max(0, written - hour) * write_price + hour * hour_price
    return (total + usage.get("output_tokens", 0) * output) / _MILLION


def _model_of(document: Mapping[str, Any]) -> str | None:
    """The model as the answer names it; Gemini calls it `modelVersion`. People will see it: no control characters."""
    for place in ("model", "modelVersion"):
        name = document.get(place)
        if isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_MODEL:
            return name.removeprefix("models/")
    return None


def _context(document: Mapping[str, Any]) -> dict[str, str]:
    """What else the price depends on, as the answer tells it: service tier, batch processing, fast mode.

    OpenAI names the tier that was really used at the top, Anthropic (with `batch` as a tier) and Gemini in their usage.
    """
    found: dict[str, str] = {}
    for place in (document, document.get("usage"), document.get("usageMetadata")):
        if (type(place) is dict or isinstance(place, Mapping)) and not _CONTEXT_NAMES.isdisjoint(place):
            for name, ours in _CONTEXT.items():
                if isinstance(value := place.get(name), str):
                    found[ours] = value
    if found.get("service_tier") == "batch":
        found["processing"] = "batch"
    return found


def _reported_cost(document: Mapping[str, Any], path: str | None) -> Decimal | None:
    """The provider's own figure in US dollars, if it gives a sensible one."""
    value = at(document, path) if path else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        cost = Decimal(str(value))
    except (InvalidOperation, ValueError):  # ValueError: Python does not write out integers of over 4300 digits
        return None
    sensible = cost.is_finite() and 0 <= cost < LIMIT and -_DECIMALS <= int(cost.as_tuple().exponent) <= _DECIMALS
    return cost if sensible else None
