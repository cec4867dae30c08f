from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from genai_prices.types import TimeOfDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from support.making import rules
from valetkey.model import PriceOverride
from valetkey.policy import metering
from valetkey.policy.metering import LIMIT, estimated, format_usd, measure
from valetkey.policy.pricelist import BUILT_IN

WHEN = 1_795_000_000.0  # November 2026
PROVIDERS = rules().providers


def metered(provider, flavor, document, model=None, text="version: 1\n"):
    return measure(document, rules(text).providers[provider], flavor, model, WHEN)


def anthropic(model="claude-sonnet-4-5", **usage):
    return {"model": model, "usage": {"input_tokens": 100, "output_tokens": 10, **usage}}


def openai(model="gpt-4o", **usage):
    return {"model": model, "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, **usage}}


def test_chat_usage():
    assert dict(metered("openai", "chat", openai()).usage) == {"input_tokens": 1000, "output_tokens": 100}


def test_chat_cost_is_exact():
    assert metered("openai", "chat", openai()).cost_usd == Decimal("0.0035")


def test_cached_input_costs_less():
    cached = openai(prompt_tokens_details={"cached_tokens": 800})
    assert metered("openai", "chat", cached).cost_usd == Decimal("0.0025")


def test_more_cached_than_sent_is_no_usage():
    assert metered("openai", "chat", openai(prompt_tokens_details={"cached_tokens": 1001})).usage_source == "none"


def test_reasoning_is_part_of_the_output():
    usage = metered("openai", "chat", openai("o3", completion_tokens_details={"reasoning_tokens": 60})).usage
    assert (usage["output_tokens"], usage["output_reasoning_tokens"]) == (100, 60)


def test_audio_is_counted():
    usage = metered("openai", "chat", openai("gpt-4o-audio-preview", prompt_tokens_details={"audio_tokens": 40})).usage
    assert usage["input_audio_tokens"] == 40


def test_anthropics_input_includes_its_caches():
    usage = metered("anthropic", "messages", anthropic(cache_read_input_tokens=50, cache_creation_input_tokens=30)).usage
    assert (usage["input_tokens"], usage["cache_read_tokens"], usage["cache_write_tokens"]) == (180, 50, 30)


def test_an_hour_of_cache_costs_more_than_five_minutes():
    def cost(**split):
        written = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0} | split
        return metered("anthropic", "messages", anthropic(cache_creation_input_tokens=1000, cache_creation=written)).cost_usd

    difference = cost(ephemeral_1h_input_tokens=1000) - cost(ephemeral_5m_input_tokens=1000)
    assert difference == Decimal("0.00225")  # 6 - 3.75 US dollars per million


def test_web_searches_are_paid():
    searched = metered("anthropic", "messages", anthropic(server_tool_use={"web_search_requests": 2}))
    assert (searched.usage["web_searches"], searched.cost_usd - metered("anthropic", "messages", anthropic()).cost_usd) == (
        2,
        Decimal("0.02"),
    )


def test_a_long_context_costs_more_per_token():
    def per_token(count):
        document = {"modelVersion": "gemini-2.5-pro", "usageMetadata": {"promptTokenCount": count, "candidatesTokenCount": 0}}
        return metered("gemini", "generate", document).cost_usd / count

    assert per_token(300_000) > per_token(100_000)


def test_the_service_tier_changes_the_price():
    flex = metered("openai", "chat", openai("gpt-5") | {"service_tier": "flex"}).cost_usd
    assert flex < metered("openai", "chat", openai("gpt-5")).cost_usd


def test_a_batch_costs_half():
    batch = metered("anthropic", "messages", anthropic(service_tier="batch")).cost_usd
    assert batch * 2 == metered("anthropic", "messages", anthropic(service_tier="standard")).cost_usd


def test_geminis_thoughts_are_output():
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 7, "thoughtsTokenCount": 20, "totalTokenCount": 32}
    measured = metered("gemini", "generate", {"modelVersion": "gemini-2.5-flash", "usageMetadata": usage})
    assert (measured.usage["output_tokens"], measured.usage["output_reasoning_tokens"]) == (27, 20)


def test_a_reported_cost_wins():
    measured = metered("openrouter", "chat", openai("anthropic/claude-sonnet-4.5", cost=0.0123))
    assert (measured.cost_usd, measured.cost_source) == (Decimal("0.0123"), "reported")


@pytest.mark.parametrize("cost", [-1, float("nan"), float("inf"), "much", True, None, {}, 10**15])
def test_a_cost_that_is_none_is_not_taken(cost):
    assert metered("openrouter", "chat", openai("nobody/knows-this", cost=cost)).cost_source == "none"


def test_an_unknown_model_has_no_cost_never_zero():
    measured = metered("openai", "chat", openai("nobody-knows-this"))
    assert (measured.cost_usd, measured.cost_source, measured.usage_source) == (None, "none", "reported")


def test_a_provider_without_prices_has_usage():
    measured = metered("ollama", "chat", openai("llama3:8b"))
    assert (measured.usage["input_tokens"], measured.cost_usd) == (1000, None)


def test_the_requested_model_has_the_price_where_the_reported_one_has_none():
    assert metered("openai", "chat", openai("nobody-knows-this"), "gpt-4o").cost_usd == Decimal("0.0035")


def test_an_explicit_zero_is_kept():
    usage = metered("openai", "chat", openai(prompt_tokens_details={"cached_tokens": 0})).usage
    assert usage["cache_read_tokens"] == 0 and "cache_read_tokens" not in metered("openai", "chat", openai()).usage


PRICED = "version: 1\nproviders:\n  openai:\n    prices:\n      'gpt-4o*': {input: 1, output: 2, cache_read: 0.5}\n"


def test_prices_of_the_rules_win():
    assert metered("openai", "chat", openai(), text=PRICED).cost_usd == Decimal("0.0012")


def test_prices_of_the_rules_know_caches():
    cached = openai(prompt_tokens_details={"cached_tokens": 1000})
    assert metered("openai", "chat", cached, text=PRICED).cost_usd == Decimal("0.0007")


def test_an_estimate_is_marked():
    measured = estimated({"input_tokens": 1000, "output_tokens": 100}, PROVIDERS["openai"], "gpt-4o", WHEN)
    assert (measured.usage_source, measured.cost_usd) == ("estimated", Decimal("0.0035"))


def test_nothing_is_measured_without_a_document():
    assert metered("openai", "chat", None).usage_source == "none"


@pytest.mark.parametrize("count", [-5, float("nan"), float("inf"), "many", [], {}, LIMIT + 1])
def test_what_is_no_count_is_no_usage(count):
    assert metered("openai", "chat", openai(prompt_tokens=count)).usage_source == "none"


NAMES = ["model", "usage", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "usageMetadata",
         "promptTokenCount", "input_tokens", "cost", "service_tier", "x"]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)


@given(document=st.dictionaries(st.sampled_from(NAMES), JSON), name=st.sampled_from(sorted(PROVIDERS)))
def test_nothing_that_a_provider_sends_raises(document, name):
    for flavor in ("chat", "messages", "generate", "responses"):
        measured = measure(document, PROVIDERS[name], flavor, "gpt-4o", WHEN)
        json.dumps(dict(measured.usage))


@pytest.mark.parametrize(
    ("cost", "text"),
    [(None, None), (Decimal("0"), "0"), (Decimal("0.00410"), "0.0041"), (Decimal("1E-7"), "0.0000001"), (Decimal("10"), "10")],
)
def test_costs_are_plain_decimals(cost, text):
    assert format_usd(cost) == text


# Every provider of the catalogue is known to the library.

FLAVORS = sorted(
    {
        (name, endpoint.flavor)
        for name, provider in PROVIDERS.items()
        for surface in provider.facts.surfaces
        for endpoint in surface.endpoints
        if endpoint.flavor and endpoint.flavor not in provider.facts.usage.counts
    }
)


@pytest.mark.parametrize(("name", "flavor"), FLAVORS)
def test_every_flavor_of_the_catalogue_has_an_extractor(name, flavor):
    facts = PROVIDERS[name].facts.usage
    lender, _, own = (facts.flavors.get(flavor) or facts.flavors.get("*") or flavor).rpartition("/")
    assert own in [extractor.api_flavor for extractor in metering._library(lender or facts.extractor).extractors]


@pytest.mark.parametrize("name", [name for name, each in PROVIDERS.items() if each.facts.usage.prices])
def test_every_price_list_of_the_catalogue_exists(name):
    assert metering._library(PROVIDERS[name].facts.usage.prices) is not None


def test_an_extractor_that_the_library_does_not_have_is_no_usage():
    facts = PROVIDERS["openai"].facts
    odd = replace(PROVIDERS["openai"], facts=replace(facts, usage=replace(facts.usage, extractor="nobody")))
    assert measure(openai(), odd, "chat", None, WHEN).usage_source == "none"


# Prices.

MILLION = 1_000_000


@pytest.mark.parametrize("model", ["claude-opus-4-1", "claude-opus-4-5", "claude-haiku-4-5", "claude-sonnet-4-5"])
@pytest.mark.parametrize(
    ("read", "five", "hour", "factor"),
    [(1, 0, 0, "0.1"), (0, 1, 0, "1.25"), (0, 0, 1, "2"), (0, 1, 1, "3.25")],
    ids=["read", "written for five minutes", "written for an hour", "both"],
)
def test_anthropics_caches_cost_their_share_of_the_input_price(model, read, five, hour, factor):
    parts = {"ephemeral_5m_input_tokens": five * 1000, "ephemeral_1h_input_tokens": hour * 1000}
    cached = {"cache_read_input_tokens": read * 1000, "cache_creation_input_tokens": (five + hour) * 1000}
    nothing = {"input_tokens": 0, "output_tokens": 0}
    found = metered("anthropic", "messages", anthropic(model, **nothing | cached, cache_creation=parts)).cost_usd
    assert found == metered("anthropic", "messages", anthropic(model, **nothing | {"input_tokens": 1000})).cost_usd * Decimal(
        factor
    )


def test_audio_has_its_own_price():
    audio = openai("gpt-realtime", prompt_tokens_details={"audio_tokens": 1000})
    assert metered("openai", "chat", audio).cost_usd == Decimal(1000 * 32 + 100 * 16) / MILLION


def test_reasoning_is_paid_once():
    reasoning = openai("o3", completion_tokens_details={"reasoning_tokens": 60})
    assert metered("openai", "chat", reasoning).cost_usd == metered("openai", "chat", openai("o3")).cost_usd


def test_anthropics_fast_mode_costs_more():
    fast = metered("anthropic", "messages", anthropic("claude-opus-4-8", speed="fast")).cost_usd
    assert fast > metered("anthropic", "messages", anthropic("claude-opus-4-8")).cost_usd


def test_geminis_tier_is_in_its_usage():
    def cost(**usage):
        counts = {"promptTokenCount": 1000, "candidatesTokenCount": 10}
        return metered("gemini", "generate", {"modelVersion": "gemini-3.8-flash-tts", "usageMetadata": counts | usage}).cost_usd

    assert cost(serviceTier="flex") < cost(serviceTier="standard") == cost()


def test_prices_are_those_of_the_day():
    may, november = (measure(openai("o3"), PROVIDERS["openai"], "chat", None, when).cost_usd for when in (1_747_000_000.0, WHEN))
    assert may > november  # o3 became cheaper in June 2025


def test_counts_that_contradict_each_other_have_no_cost():
    assert metered("openai", "chat", openai(prompt_tokens_details={"cached_tokens": 5000})).cost_usd is None


def own_prices(*prices):
    return replace(PROVIDERS["anthropic"], prices=prices)


OWN = PriceOverride("claude-sonnet-*", Decimal(1), Decimal(5), Decimal("0.5"), Decimal(2), Decimal(4))
FLAT = PriceOverride("*", Decimal(1), Decimal(5))


@pytest.mark.parametrize(
    ("price", "five", "hour", "cost"),
    [(OWN, 1, 0, 2), (OWN, 0, 1, 4), (OWN, 1, 1, 6), (FLAT, 0, 1, 1), (replace(FLAT, cache_write=Decimal(3)), 0, 1, 3)],
    ids=["five minutes", "an hour", "both", "as input", "an hour as five minutes"],
)
def test_prices_of_the_rules_know_cache_writes(price, five, hour, cost):
    parts = {"ephemeral_5m_input_tokens": five * MILLION, "ephemeral_1h_input_tokens": hour * MILLION}
    document = anthropic(
        input_tokens=0, output_tokens=0, cache_creation_input_tokens=(five + hour) * MILLION, cache_creation=parts
    )
    assert measure(document, own_prices(price), "messages", None, WHEN).cost_usd == Decimal(cost)


def test_a_price_of_the_rules_for_another_model_is_not_taken():
    document = anthropic(input_tokens=0, output_tokens=MILLION)
    other = own_prices(replace(FLAT, pattern="claude-opus-*"))
    assert measure(document, other, "messages", None, WHEN).cost_usd == Decimal(15)


def test_the_first_price_of_the_rules_that_matches_wins():
    dear = replace(FLAT, output=Decimal(9))
    document = anthropic(input_tokens=0, output_tokens=MILLION)
    assert [measure(document, own_prices(*order), "messages", None, WHEN).cost_usd for order in ((dear, OWN), (OWN, dear))] == [
        9,
        5,
    ]


def test_a_price_of_the_rules_for_the_requested_name_goes_before_the_librarys():
    document = anthropic(input_tokens=0, output_tokens=MILLION)
    assert measure(document, own_prices(replace(FLAT, pattern="our-*")), "messages", "our-best", WHEN).cost_usd == Decimal(5)


# Attacks and accidents.


@pytest.mark.parametrize("cost", ["1e-999999999", "0e-999999999", "0e999999999", pytest.param(10**5000, id="5000 digits")])
def test_a_cost_that_would_fill_the_memory_is_not_taken(cost):
    assert metered("openrouter", "chat", openai("nobody/knows-this", cost=cost)).cost_source == "none"


@pytest.mark.parametrize("count", [10**400, True], ids=["more than a float can be", "a truth"])
def test_what_only_looks_like_a_count_is_no_usage(count):
    assert metered("openai", "chat", openai(prompt_tokens=count)).usage_source == "none"


@pytest.mark.parametrize("model", ["", "gpt\x1b[2J", "g" * 201, 4], ids=["empty", "control characters", "endless", "a number"])
def test_what_is_no_name_of_a_model_is_none(model):
    assert metered("openai", "chat", openai(model)).model is None


def test_an_endless_requested_name_has_no_price():
    assert metered("anthropic", "messages", anthropic(""), "claude-sonnet-4-5-" + "x" * 200).cost_usd is None


def test_made_up_model_names_do_not_fill_the_memory():
    for number in range(2000):
        metered("openai", "chat", openai(f"gpt-4o-{number}"))
    assert metering._library_model.cache_info().currsize <= 1024


@given(cost=st.one_of(st.floats(), st.integers(), st.text(), st.decimals().map(str), st.sampled_from([10**400, "1e-99"])))
def test_every_cost_that_is_taken_can_be_written_out_exactly(cost):
    taken = metered("openrouter", "chat", openai("nobody/knows-this", cost=cost)).cost_usd
    assert taken is None or (Decimal(format_usd(taken)) == taken and len(format_usd(taken)) < 100)


# The compiled prices and extractors are those of the library.

LIBRARIES = [each for each in metering.providers if each.models]
UNITS = sorted({unit.usage_key for unit in metering._units().values()} - {"requests"})
CONTEXTS = [
    {},
    {"service_tier": "flex"},
    {"service_tier": "priority"},
    {"service_tier": "batch", "processing": "batch"},
    {"speed": "fast"},
    {"search_type": "web", "service_tier": "unheard of"},
]
COUNTS = st.sampled_from([0, 1, 128_000, 200_000, 200_001, 272_001]) | st.integers(0, LIMIT)
USAGES = st.dictionaries(st.sampled_from(UNITS), COUNTS, max_size=6)
ROUNDS = st.lists(st.tuples(st.integers(1, LIMIT), st.integers(1, LIMIT)), min_size=1, max_size=3)
MOMENTS = st.floats(1.6e9, 2.0e9)


def has_other_units(tariff, counts, when):
    """Whether a model has prices, but for none of these counts. One without any price is free, says the library."""
    prices = vars(tariff.model.get_prices(datetime.fromtimestamp(when, UTC), {}))
    units = {metering._units()[name].usage_key for name, price in prices.items() if price is not None}
    return bool(units) and units.isdisjoint(counts)


@settings(max_examples=400)
@given(data=st.data(), usage=USAGES, rounds=ROUNDS, context=st.sampled_from(CONTEXTS), when=MOMENTS)
def test_every_price_is_the_librarys_to_the_last_digit(data, usage, rounds, context, when):
    library = data.draw(st.sampled_from(LIBRARIES))
    tariff = metering._tariff(BUILT_IN, library.id, data.draw(st.sampled_from(library.models)).id)
    if tariff is None:
        return
    for sent, received in ((0, 0), *rounds):  # what was compared once is trusted for other counts
        counts = {name: count and 1 + sent % count for name, count in usage.items()}
        counts |= {"input_tokens": sent, "output_tokens": received}
        right = metering._by_library(counts, tariff, when, context)
        if right == 0 and has_other_units(tariff, counts, when):
            right = None  # by the library, what has another price than these units costs nothing
        found = [metering._by_tariff(counts, tariff, when, context) for _ in range(2)]
        assert list(map(format_usd, found)) == [format_usd(right)] * 2


@pytest.mark.parametrize(
    ("prices", "model"),
    [("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"), ("deepseek", "deepseek-chat")],
)
def test_the_prices_that_are_asked_for_most_are_compiled(prices, model):
    tariff = metering._tariff(BUILT_IN, prices, model)
    metering._by_tariff({"input_tokens": 7, "output_tokens": 5, "cache_read_tokens": 0}, tariff, WHEN, {})
    assert any(form and form.trusted[0] and not form.wrong for form in tariff.forms.values())


def test_a_compiled_price_that_is_not_the_librarys_is_not_used(monkeypatch):
    metering._tariff.cache_clear()
    monkeypatch.setattr(metering, "_price_at", lambda *_: Decimal(999))
    costs = [metered("openai", "chat", openai()).cost_usd for _ in range(3)]
    metering._tariff.cache_clear()
    assert costs == [Decimal("0.0035")] * 3


def test_without_the_librarys_units_nothing_is_compiled(monkeypatch):
    metering._tariff.cache_clear()
    monkeypatch.setattr(metering, "_units", dict)
    costs = [metered("openai", "chat", openai()).cost_usd for _ in range(2)]
    metering._tariff.cache_clear()
    assert costs == [Decimal("0.0035")] * 2


def test_a_price_that_was_compared_is_not_asked_for_again(monkeypatch):
    metered("openai", "chat", openai())
    monkeypatch.setattr(metering, "_by_library", None)
    assert metered("openai", "chat", openai(prompt_tokens=2000)).cost_usd == Decimal("0.006")


def test_usage_that_was_compared_is_not_asked_for_again(monkeypatch):
    metered("openai", "chat", openai())
    monkeypatch.setattr(metering, "_extract_by_library", None)
    assert metered("openai", "chat", openai(prompt_tokens=2000)).usage["input_tokens"] == 2000


def test_a_compiled_extractor_that_is_not_the_librarys_is_not_used(monkeypatch):
    wrong = metering._Reader(("usage",), (("input_tokens", "completion_tokens", (), True),))
    monkeypatch.setattr(metering, "_reader", lambda *_: wrong)
    assert [metered("openai", "chat", openai()).usage["input_tokens"] for _ in range(3)] == [1000] * 3


def test_kinds_of_usage_do_not_fill_the_memory():
    tariff = metering._tariff(BUILT_IN, "openai", "gpt-4o")
    for number in range(200):
        usage = {name: 1 for at, name in enumerate(UNITS[:10]) if number >> at & 1}
        metering._by_tariff(usage, tariff, WHEN, {})
    assert len(tariff.forms) <= 64


def test_a_price_too_fine_to_be_compiled_is_the_librarys(monkeypatch):
    metering._tariff.cache_clear()
    monkeypatch.setattr(metering, "_HEAVIEST", 0)
    costs = [metered("openai", "chat", openai()).cost_usd for _ in range(2)]
    metering._tariff.cache_clear()
    assert costs == [Decimal("0.0035")] * 2


def test_a_price_that_begins_at_noon_holds_from_noon_on():
    tariff = metering._tariff(BUILT_IN, "deepseek", "deepseek-chat")
    noon = TimeOfDateConstraint(time(12, tzinfo=UTC), time(18, tzinfo=UTC))
    timed = metering._Tariff(tariff.library, tariff.model, (noon,), frozenset(), is_by_minute=metering._is_by_minute(noon))
    assert [timed.holding(86_400 * 20_000 + second) for second in (43_199.9, 43_200, 43_230)] == [(False,), (True,), (True,)]


@pytest.mark.parametrize("begin", [time(12, 0, 1), time(12, tzinfo=timezone(timedelta(hours=1)))])
def test_what_may_begin_within_a_minute_is_asked_for_with_every_answer(begin):
    assert not metering._is_by_minute(TimeOfDateConstraint(begin, time(18)))


def test_usage_of_many_shapes_does_not_fill_the_memory():
    for number in range(200):
        metered("openai", "chat", openai(**{f"x{number}": 1}))
    assert len(metering._reader("openai", "chat").plans) <= 64


def test_usage_with_long_names_is_not_remembered():
    metered("openai", "chat", openai(**{"x" * 1001: 1}))
    assert not any("x" * 1001 in shape for shape in metering._reader("openai", "chat").plans)


def test_a_member_named_like_another_within_is_not_taken_for_it():
    inner = openai(prompt_tokens_details={"cached_tokens": 7})
    outer = openai(prompt_tokens_details={}, cached_tokens=7)
    found = [metered("openai", "chat", document).usage.get("cache_read_tokens") for document in (inner, outer)]
    assert found == [7, None]


EXTRACTORS = [(library, each) for library in metering.providers for each in library.extractors or ()]
VALUES = st.sampled_from([0, 1, 7, 1000, LIMIT + 1, -1, 1.5, True, None, "x", [], {}]) | st.integers(0, LIMIT)


def placed(draw, document, steps):
    """Put a value where the library looks for one; lists get an item that matches."""
    *outer, last = steps
    for step in outer:
        if isinstance(step, str):
            document = document.setdefault(step, draw(st.just({}) | VALUES) if draw(st.integers(0, 9)) == 0 else {})
        else:
            document.update({step.field: getattr(step.match, "equals", "x")})
        if not isinstance(document, dict):
            return
    document[last] = draw(VALUES) if draw(st.integers(0, 4)) == 0 else draw(st.integers(0, LIMIT))


def listed(document, extractor):
    """The same with lists where the library expects them."""
    for mapping in extractor.mappings:
        steps = metering._steps(mapping.path)
        if len(steps) > 1 and not isinstance(steps[1], str) and isinstance(document.get(steps[0]), dict):
            document[steps[0]] = [document[steps[0]], {"modality": "AUDIO", "tokenCount": 3}]
    return document


@settings(max_examples=400)
@given(data=st.data())
def test_every_usage_is_the_librarys(data):
    library, extractor = data.draw(st.sampled_from(EXTRACTORS))
    usage = {}
    for mapping in extractor.mappings:
        if mapping.required or data.draw(st.booleans()):
            placed(data.draw, usage, metering._steps(mapping.path))
    document = listed(usage, extractor)
    for step in reversed(metering._steps(extractor.root)):
        document = {step: document}
    own = replace(PROVIDERS["openai"].facts.usage, extractor=library.id, flavors={})
    provider = replace(PROVIDERS["openai"], facts=replace(PROVIDERS["openai"].facts, usage=own))
    right = metering._extract_by_library(document, library, extractor.api_flavor)
    found = [metering._extract(document, provider, extractor.api_flavor) for _ in range(2)]
    assert found == [right] * 2 and not metering._reader(library.id, extractor.api_flavor).wrong


# Sound, images and batches.

SECONDS = {"usage": {"type": "duration", "seconds": 60}}
SOUND_TOKENS = {
    "usage": {"input_tokens": 100, "output_tokens": 10, "input_token_details": {"text_tokens": 0, "audio_tokens": 100}},
}
MEDIA = [
    ("openai", "speech", "tts-1", {}, {"characters": 1000}, "reported", "0.015"),
    ("openai", "speech", "tts-1-hd", {}, {"characters": 1000}, "reported", "0.03"),
    ("openai", "speech", "gpt-4o-mini-tts", {}, {"characters": 1000}, "estimated", "0.016818"),
    ("openai", "speech", "nobody-knows", {}, {"characters": 1000}, "reported", None),
    ("openai", "transcription", "whisper-1", SECONDS, {"bytes": 9}, "reported", "0.006"),
    ("openai", "transcription", "whisper-1", {"duration": 59.2}, {"bytes": 9}, "reported", "0.006"),
    ("openai", "transcription", "whisper-1", {}, {"bytes": 160_000}, "estimated", "0.001"),
    ("openai", "transcription", "whisper-1", {"usage": {"seconds": "60"}}, {"bytes": 160_000}, "estimated", "0.001"),
    ("openai", "transcription", "whisper-1", {"usage": {"seconds": -1}}, {"bytes": 160_000}, "estimated", "0.001"),
    ("openai", "transcription", "gpt-4o-transcribe", SOUND_TOKENS, {"bytes": 9}, "reported", "0.0007"),
    ("openai", "transcription", "gpt-4o-transcribe", {}, {"bytes": 160_000}, "estimated", "0.0006"),
    ("openai", "images", "dall-e-2", {}, {"n": 2, "size": "512x512"}, "reported", "0.036"),
    ("openai", "images", "dall-e-2", {}, {"n": 1}, "reported", "0.02"),
    ("openai", "images", "dall-e-3", {}, {"n": 1, "quality": "hd", "size": "1024x1792"}, "reported", "0.12"),
    ("openai", "images", "gpt-image-1", {}, {"n": 1}, "reported", None),
    ("groq", "transcription", "whisper-large-v3", {}, {"bytes": 160_000}, "estimated", "0.000308333333"),
    ("mistral", "transcription", "voxtral-mini-2507", {"usage": {"prompt_audio_seconds": 60}}, {"bytes": 9}, "reported", None),
    ("mistral", "ocr", "mistral-ocr-latest", {"usage_info": {"pages_processed": 3}}, {}, "reported", "0.012"),
]


@pytest.mark.parametrize(("name", "flavor", "model", "document", "asked", "source", "cost"), MEDIA)
def test_sound_and_images_are_priced_by_their_own_units(name, flavor, model, document, asked, source, cost):
    found = measure(document, PROVIDERS[name], flavor, model, WHEN, asked)
    assert (found.usage_source, format_usd(found.cost_usd)) == (source, cost)


def test_what_reports_nothing_and_says_nothing_has_no_usage():
    assert measure({}, PROVIDERS["openai"], "transcription", "whisper-1", WHEN, {"n": 1}).usage_source == "none"


PER = """
version: 1
providers:
  openai:
    prices:
      "tts-*": {per: {input_characters: 0.00001}}
      "gpt-4o*": {input: 1, output: 2, per: {audio_seconds: 0.5}}
"""


@pytest.mark.parametrize(
    ("model", "flavor", "document", "asked", "cost"),
    [
        ("tts-1", "speech", {}, {"characters": 1000}, "0.01"),
        ("tts-1", "transcription", SECONDS, {"bytes": 9}, None),
        ("gpt-4o-transcribe", "transcription", SECONDS, {"bytes": 9}, "30"),
        ("gpt-4o-transcribe", "transcription", SOUND_TOKENS, {"bytes": 9}, "0.00012"),
    ],
)
def test_the_rules_have_prices_by_other_units(model, flavor, document, asked, cost):
    assert format_usd(measure(document, rules(PER).providers["openai"], flavor, model, WHEN, asked).cost_usd) == cost


BATCHES = [
    ("openai", ("chat",), {"model": "gpt-4o", "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0}}, "1.25"),
    ("openai", ("chat", "responses"), {"model": "gpt-4o", "usage": {"input_tokens": 1_000_000, "output_tokens": 0}}, "1.25"),
    ("openai", ("chat", "embeddings"), {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 1_000_000}}, "0.01"),
    ("anthropic", ("messages",), {"model": "claude-haiku-4-5", "usage": {"input_tokens": 1_000_000, "output_tokens": 0}}, "0.5"),
    ("gemini", ("generate",), {"modelVersion": "gemini-2.5-flash", "usageMetadata": {"promptTokenCount": 1_000_000}}, "0.15"),
    ("openai", ("chat",), {"model": "nobody-knows", "usage": {"prompt_tokens": 1, "completion_tokens": 0}}, None),
]


@pytest.mark.parametrize(("name", "flavors", "document", "cost"), BATCHES)
def test_a_batch_has_its_own_price_or_half_of_the_usual_one(name, flavors, document, cost):
    assert format_usd(metering.measure_result(document, PROVIDERS[name], flavors, WHEN, batch=True).cost_usd) == cost


def test_a_result_in_the_background_has_the_usual_price():
    found = metering.measure_result(BATCHES[0][2], PROVIDERS["openai"], ("chat",), WHEN, batch=False)
    assert format_usd(found.cost_usd) == "2.5"


def test_a_sum_of_nothing_is_nothing():
    assert metering.total([]) == metering.Metering()


def test_a_sum_names_the_model_only_if_it_is_one():
    meters = [
        metering.measure_result(each[2], PROVIDERS[each[0]], each[1], WHEN, batch=True) for each in (BATCHES[0], BATCHES[2])
    ]
    assert (metering.total(meters).model, format_usd(metering.total(meters).cost_usd)) == (None, "1.26")


def test_claude_behind_bedrock_costs_what_its_region_costs():
    written = [{"ttl": "5m", "inputTokens": 3}, {"ttl": "1h", "inputTokens": 2}]
    usage = {"inputTokens": 12, "outputTokens": 9, "cacheReadInputTokens": 7, "cacheWriteInputTokens": 5, "cacheDetails": written}
    meter = metered("bedrock", "invoke", {"usage": usage}, "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert meter.cost_usd == Decimal("0.000215985")  # 12 * 3.3 + 7 * 0.33 + 3 * 4.125 + 2 * 6.6 + 9 * 16.5 per million
