from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import rules
from valetkey.policy.metering import LIMIT, estimated, format_usd, measure

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
