from __future__ import annotations

from decimal import Decimal

import pytest

from support.making import rules
from valetkey.model import KeySpec, PriceOverride, Target


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
