from __future__ import annotations

import pytest

from support.making import CATALOG
from valetkey.errors import RulesError
from valetkey.rules import parse_rules


def said(text):
    with pytest.raises(RulesError) as raised:
        parse_rules(text, "f", CATALOG)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("version: 1\nproviders:\n  openai:\n    keys:\n      - env:A\n      - {ref: env:B, nme: x}\n", 6),
        ("version: 1\nroutes:\n  - match:\n      modell: x\n    to: openai\n", 4),
        ("version: 1\nproviders:\n  openai:\n    prices:\n      x: {input: -1, output: 2}\n", 5),
    ],
)
def test_the_line_is_that_of_the_word(text, line):
    assert said(text).startswith(f"f:{line}: ")


def test_the_nearest_word_is_the_one_that_fits_there():
    assert "did you mean model?" in said("version: 1\nroutes:\n  - match: {modell: x}\n    to: openai\n")


def test_without_a_near_word_the_known_ones_are_listed():
    assert "known words here: agents, gateway" in said("version: 1\nqqqq: 1\n")


def test_a_wrong_value_is_shown():
    assert "'sometimes'" in said("version: 1\ngateway: {log: sometimes}\n")


def test_a_value_that_may_be_a_key_is_not_shown():
    assert "12345678" not in said("version: 1\nproviders: {openai: {keys: [12345678]}}\n")


def test_something_missing_is_said():
    assert "agents.0.name is missing" in said("version: 1\nagents: [{models: [x]}]\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("routes: 5", "routes: a list is meant here (it is 5)"),
        ("providers: [a]", "providers: a mapping (word: value) is meant here"),
        ("gateway: 5", "gateway: a mapping (word: value) is meant here (it is 5)"),
        ("routes: [{match: {model: x}, deny: yes}]", "routes.0.deny: text is meant here; put quotes around it (it is True)"),
        ("routes: [{match: {model: 4.1}, deny: x}]", "put quotes around it (it is 4.1)"),
        ("providers: {openai: {keys: 5}}", "f:2: providers.openai.keys: a list is meant here"),
    ],
)
def test_types_are_named_in_plain_words(text, words):
    assert words in said(f"version: 1\n{text}\n")


@pytest.mark.parametrize(
    "text",
    ["agents: [{name: a, key: tiny-pw}]", "providers: {lab: {like: openai, upstream: tiny-pw}}", "gateway: {ledger: tiny-pw}"],
)
def test_where_secrets_are_written_not_even_short_values_are_shown(text):
    assert "tiny-pw" not in said(f"version: 1\n{text}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway: {attempts: 0}", "gateway.attempts: Input should be greater than or equal to 1 (it is 0)"),
        ("gateway: {attempts: 1001}", "gateway.attempts: Input should be less than or equal to 1000 (it is 1001)"),
        ("gateway: {retry_empty: maybe}", "gateway.retry_empty: Input should be a valid boolean"),
        ("gateway: {timeouts: {whle: 5m}}", "unknown word 'whle' in gateway.timeouts - did you mean whole?"),
        ("gateway: {timeouts: {small_wait: -1}}", "gateway.timeouts.small_wait: a duration is a number with a unit"),
        ("gateway: {timeouts: {retry: soon}}", "gateway.timeouts.retry: a duration is a number with a unit"),
        ("providers: {openai: {rotation: round-robin}}", "(it is 'round-robin') - did you mean round_robin?"),
        ("providers: {openai: {quota_groups: [a]}}", "providers.openai.quota_groups: a mapping (word: value) is meant here"),
        ("providers: {openai: {quota_groups: {a: []}}}", "providers.openai.quota_groups.a: an empty list says nothing; leave"),
        ("providers: {openai: {quota_groups: {a: ['x[']}}}", "providers.openai.quota_groups.a.0: a [ without its ]"),
        ("providers: {openai: {concurrency: 0}}", "providers.openai.concurrency: Input should be greater than 0 (it is 0)"),
        (
            "providers: {openai: {concurrency: yes}}",
            "concurrency: a number of calls is meant here, or {soft: NUMBER, hard: NUMBER}",
        ),
        ("providers: {openai: {concurrency: }}", "providers.openai.concurrency: a number of calls is meant here"),
        (
            "providers: {openai: {concurrency: {sofd: 1}}}",
            "unknown word 'sofd' in providers.openai.concurrency - did you mean soft?",
        ),
        ("providers: {openai: {concurrency: {soft: 5, hard: 2}}}", "soft (5) is larger than hard (2)"),
        ("providers: {openai: {spacing: often}}", "providers.openai.spacing: a duration is a number with a unit"),
        (
            "providers: {openai: {leave_at: 10}}",
            "providers.openai.leave_at: a share is meant here, such as 10% or 0.1 (it is 10)",
        ),
        (
            "providers: {openai: {model_tiers: {a: 0}}}",
            "providers.openai.model_tiers.a: Input should be greater than or equal to 1",
        ),
        ("providers: {openai: {model_tiers: {'a[': 1}}}", "a [ without its ] in a pattern"),
        (
            "providers: {openai: {window: daily}}",
            "providers.openai.window: a mapping (word: value) is meant here (it is 'daily')",
        ),
        ("providers: {openai: {window: {kind: dayly}}}", "providers.openai.window.kind: Input should be 'rolling', 'daily'"),
        ("providers: {openai: {window: {kind: dayly}}}", "(it is 'dayly') - did you mean daily?"),
        (
            "providers: {openai: {window: {lenght: 5h}}}",
            "unknown word 'lenght' in providers.openai.window - did you mean length?",
        ),
        (
            "providers: {openai: {window: {tolerance: -1}}}",
            "providers.openai.window.tolerance: Input should be greater than or equal",
        ),
        (
            "providers: {openai: {keys: [{ref: 'env:A', weight: 0}]}}",
            "providers.openai.keys.0.weight: Input should be greater than 0",
        ),
        ("providers: {openai: {keys: [{ref: 'env:A', concurrency: 0}]}}", "keys.0.concurrency: Input should be greater than 0"),
        ("routes: [{to: openai, order: weigted}]", "routes.0.order: Input should be 'priority', 'random' or 'weighted'"),
        ("routes: [{to: openai, order: weigted}]", "did you mean weighted?"),
        (
            "routes: [{to: openai, order: weighted}]",
            "routes.0: order: weighted wants one weight for each target of to; there are 0 for 1",
        ),
        ("routes: [{to: [openai, groq], order: weighted, weights: [1]}]", "one weight for each target of to; there are 1 for 2"),
        (
            "routes: [{to: [openai, groq], weights: [1, 2]}]",
            "weights are for order: weighted (it is priority); add that, or remove",
        ),
        (
            "routes: [{to: [openai, groq], order: weighted, weights: [0, 0]}]",
            "all weights are 0; give at least one target a weight",
        ),
        ("routes: [{to: [openai, groq], order: weighted, weights: [-1, 1]}]", "routes.0.weights.0: Input should be greater than"),
        ("routes: [{to: [openai, groq], order: weighted, weights: [.inf, 1]}]", "routes.0.weights.0: Input should be less than"),
        ("routes: [{to: [openai, groq], order: weighted, weights: [.nan, 1]}]", "routes.0.weights.0: Input should be"),
        ("routes: [{to: openai, fallback: groq}]", "routes.0.fallback: a mapping (word: value) is meant here (it is 'groq')"),
        (
            "routes: [{to: openai, fallback: {to_long: groq}}]",
            "unknown word 'to_long' in routes.0.fallback - did you mean too_long?",
        ),
        ("routes: [{deny: x, fallback: {exhausted: groq}}]", "routes.0: a route denies, or it sends and edits; not both"),
    ],
)
def test_the_words_of_pools_name_place_value_and_fix(text, words):
    found = said(f"version: 1\n{text}\n")
    assert found.startswith("f:2: ") and words in found


@pytest.mark.parametrize("place", ["deadline", "connect", "first_byte", "whole", "between_events", "hold"])
@pytest.mark.parametrize("zero", ["0", "0s", "0 min"])
def test_a_limit_of_no_time_would_end_every_call(place, zero):
    text = f"{{deadline: {zero}}}" if place == "deadline" else f"{{timeouts: {{{place}: {zero}}}}}"
    assert "nothing can happen in no time; write a longer limit" in said(f"version: 1\ngateway: {text}\n")
