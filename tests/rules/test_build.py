from __future__ import annotations

from decimal import Decimal

import pytest

from support.making import rules
from valetkey.errors import RulesError
from valetkey.model import KeySpec, PriceOverride, Target, Timeouts, Window


def provider(text, name="openai"):
    return rules(f"version: 1\nproviders: {{{name}: {{{text}}}}}\n").providers[name]


def route(text):
    return rules(f"version: 1\nroutes: [{{{text}}}]\n").routes[0]


def test_keys_are_specs():
    assert provider("keys: [env:A, {ref: env:B, name: b, priority: 2}]").key_specs == (
        KeySpec("env:A", line=2),
        KeySpec("env:B", "b", 2, line=2),
    )


def test_without_keys_the_environment_is_looked_through():
    assert provider("rotation: round_robin").key_specs is None


def test_white_and_black_lists():
    made = provider("models: {allow: [a, b], deny: c}")
    assert (made.allow, made.deny) == (("a", "b"), ("c",))


def test_prices_are_exact():
    made = provider("prices: {'gpt*': {input: 0.1, output: 0.3}}").prices
    assert made == (PriceOverride("gpt*", Decimal("0.1"), Decimal("0.3")),)


def test_a_price_may_be_by_another_unit():
    made = provider("prices: {'tts*': {per: {input_characters: 0.000015}}}").prices
    assert made == (PriceOverride("tts*", None, None, per={"input_characters": Decimal("0.000015")}),)


@pytest.mark.parametrize("price", ["{}", "{input: 1}", "{output: 1, per: {x: 1}}", "{per: {}}"])
def test_half_a_price_is_an_error(price):
    with pytest.raises(RulesError, match="has input and output, or per"):
        provider(f"prices: {{x: {price}}}")


def test_an_upstream_takes_the_catalogues_place():
    assert provider("upstream: 'http://127.0.0.1:8000/v2'").upstream.prefix == "/v2"


def test_a_likeness_is_made():
    assert provider("like: groq, upstream: 'https://x.test'", "lab").facts.surfaces[0].base == "/openai/v1"


def test_catalogue_providers_are_there_without_being_named():
    assert not rules().providers["anthropic"].configured


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("match: {model: x}, to: openai/gpt-4o", (Target("openai", "gpt-4o"),)),
        ("match: {model: x}, to: [openai, openrouter/a/b]", (Target("openai"), Target("openrouter", "a/b"))),
    ],
)
def test_targets(text, targets):
    assert route(text).to == targets


def test_routes_are_named_by_their_place():
    assert route("match: {model: x}, to: openai").name == "route-1"


def test_headers_match_by_lower_case_names():
    assert route("match: {header: {X-Team: blue}}, deny: x").match.header == (("x-team", "blue"),)


def test_hosts_match_in_lower_case():
    assert route("match: {host: API.OpenAI.com}, deny: x").match.host == ("api.openai.com",)


def test_one_reference_is_a_list_of_one():
    assert provider("keys: env:A").key_specs == (KeySpec("env:A", line=2),)


def test_a_key_brings_its_weight_and_its_limit():
    assert provider("keys: [{ref: env:A, weight: 2.5, concurrency: 4}]").key_specs == (
        KeySpec("env:A", weight=2.5, concurrency=4, line=2),
    )


@pytest.mark.parametrize(
    ("text", "hard", "soft"),
    [
        ("concurrency: 3", 3, None),
        ("concurrency: {hard: 3}", 3, None),
        ("concurrency: {soft: 2}", None, 2),
        ("concurrency: {soft: 2, hard: 3}", 3, 2),
        ("concurrency: {soft: 3, hard: 3}", 3, 3),
        ("rotation: sticky", None, None),
    ],
)
def test_a_limit_is_hard_unless_it_is_called_soft(text, hard, soft):
    made = provider(text)
    assert (made.concurrency, made.soft_concurrency) == (hard, soft)


@pytest.mark.parametrize(
    ("text", "word", "value"),
    [
        ("rotation: hybrid", "rotation", "hybrid"),
        ("spacing: 500ms", "spacing", 0.5),
        ("leave_at: 10%", "leave_at", 0.1),
        ("model_tiers: {'gpt-5*': 1, '*': 2}", "model_tiers", (("gpt-5*", 1), ("*", 2))),
        ("quota_groups: {pro: [a, b], flash: c}", "quota_groups", (("pro", ("a", "b")), ("flash", ("c",)))),
        ("window: {kind: rolling, length: 5h, tolerance: 0}", "window", Window("rolling", 18_000, 0)),
        ("window: {kind: provider}", "window", Window("provider")),
    ],
)
def test_a_pools_words(text, word, value):
    assert getattr(provider(text), word) == value


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_without_words_a_pool_is_the_models_default(name):
    configured = rules(f"version: 1\nproviders: {{{name}: {{}}}}\n").providers[name]
    words = ("rotation", "quota_groups", "concurrency", "soft_concurrency", "spacing", "leave_at", "model_tiers", "window")
    assert [getattr(configured, word) for word in words] == [getattr(rules().providers[name], word) for word in words]


def test_the_words_for_attempts():
    gateway = rules(
        "version: 1\ngateway: {attempts: 3, retry_empty: on, deadline: 2m, timeouts: {whole: 5m, retry: 0}}\n"
    ).gateway
    assert (gateway.attempts, gateway.retry_empty, gateway.deadline) == (3, True, 120)
    assert gateway.timeouts == Timeouts(whole=300, retry=0)


def test_targets_with_weights():
    made = route("to: [openai, groq], order: weighted, weights: [3, 0.5]")
    assert (made.order, made.weights) == ("weighted", (3, 0.5))


def test_fallbacks_are_targets():
    made = route("to: openai, fallback: {too_long: gemini/gemini-2.5-pro, exhausted: [groq, openrouter/a/b]}")
    assert made.too_long == (Target("gemini", "gemini-2.5-pro"),)
    assert made.exhausted == (Target("groq"), Target("openrouter", "a/b"))


def test_a_route_may_be_nothing_but_a_fallback():
    assert route("match: {model: x}, fallback: {exhausted: groq}").to == ()


KEY = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "callers"),
    [
        ("", "any"),
        ("agents: [{name: a}]", "any"),
        (f"agents: [{{name: a, key: '{KEY}'}}]", "known"),
        (f"gateway: {{callers: any}}\nagents: [{{name: a, key: '{KEY}'}}]", "any"),
        (f"gateway: {{callers: any}}\nagents: [{{name: a, key: '{KEY}'}}, {{name: b}}]", "any"),
    ],
)
def test_callers_must_be_known_once_an_agent_has_a_key(text, callers):
    assert rules(f"version: 1\n{text}\n").gateway.callers == callers


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gateway: {callers: known}", "no agent has a key"),
        ("gateway: {callers: known}\nagents: [{name: a}]", "no agent has a key"),
        (f"agents: [{{name: a, key: '{KEY}'}}, {{name: b}}]", "agent b has no key"),
        ("gateway: {proxy: '0.0.0.0:8080'}", "valetkey agents add"),
        ("gateway: {api: '[::]:8045'}", "do not authenticate yet"),
        ("gateway: {api: 'gateway.lan:8045'}", "ssh -L"),
        (f"gateway: {{callers: any, proxy: '0.0.0.0:80'}}\nagents: [{{name: a, key: '{KEY}'}}]", "do not authenticate yet"),
    ],
)
def test_rules_under_which_nobody_or_everybody_would_be_heard_do_not_load(text, complaint):
    with pytest.raises(RulesError, match=complaint):
        rules(f"version: 1\n{text}\n")


def test_with_known_callers_the_doors_may_be_wider():
    made = rules(f"version: 1\ngateway: {{proxy: '0.0.0.0:8080'}}\nagents: [{{name: a, key: '{KEY}'}}]\n")
    assert str(made.gateway.proxy) == "0.0.0.0:8080"


def test_names_of_the_gateway_are_one_or_many():
    assert rules("version: 1\ngateway: {hosts: Gateway.lan}\n").gateway.hosts == ("gateway.lan",)
