from __future__ import annotations

import pytest

from support.making import rules


def noted(text):
    return rules(f"version: 1\n{text}\n").notices


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("providers: {openai: {keys: [{ref: 'env:A', budget: 20 USD/month}]}}", "providers.openai.keys.0.budget"),
        ("providers: {openai: {keys: [env:A, {ref: 'env:B', budget: 1 USD/day}]}}", "providers.openai.keys.1.budget"),
        ("agents: [{name: a, rate: 60/minute}]", "agents.0.rate"),
        ("agents: [{name: a, budget: 5 USD/day}]", "agents.0.budget"),
    ],
)
def test_what_is_not_enforced_yet_is_said_with_its_line(text, place):
    assert noted(text) == (f"rules.yaml:2: {place} is accepted but not enforced yet",)


@pytest.mark.parametrize(
    "text",
    [
        "gateway: {deadline: 5s, attempts: 3, retry_empty: on, timeouts: {connect: 5s, whole: 5m, small_wait: 0, retry: 0}}",
        "providers: {openai: {rotation: sticky}}",
        "providers: {openai: {rotation: sequential, keys: [env:A]}}",
        "providers: {openai: {rotation: hybrid, keys: none}}",
        "providers: {openai: {concurrency: {soft: 1, hard: 3}, spacing: 1s, leave_at: 10%, window: {kind: daily}}}",
        "providers: {openai: {keys: [{ref: 'env:A', weight: 2, concurrency: 3}], model_tiers: {'o1-*': 1}}}",
        "routes: [{match: {model: x}, to: [openai/a, openai/b], order: random, fallback: {exhausted: groq/c}}]",
        "routes: [{match: {model: x}, to: [openai/a, openai/b], order: weighted, weights: [2, 1]}]",
        "providers: {openai: {rotation: round_robin, models: {allow: [x]}}}",
        "routes: [{match: {model: x}, to: openai, order: priority}]",
        "providers: {openai: {keys: [env:OPENAI_API_KEY, env:GATEWAY_OPENAI_API_KEY_2, env:MINE]}}",
        "providers: {openai: {upstream: 'https://eu.api.openai.com/v1'}}",
        "providers: {openai: {upstream: 'http://127.0.0.1:8000'}}",
        "providers: {lab: {like: openai, upstream: 'https://llm.example.com', keys: [env:LAB_API_KEY]}}",
        "providers: {openai: {upstream: 'https://llm.example.com', keys: none}}",
    ],
)
def test_what_is_as_it_should_be_needs_no_notice(text):
    assert noted(text) == ()


@pytest.mark.parametrize("host", ["llm.example.com", "xapi.openai.com", "api.openai.com.example.com", "127.example.com"])
def test_keys_that_go_elsewhere_are_said(host):
    assert noted(f"providers: {{openai: {{upstream: 'https://{host}/v1'}}}}") == (
        f"rules.yaml:2: keys of openai are sent to https://{host}",
    )


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_API_KEY_2", "GATEWAY_OPENAI_API_KEY"])
def test_a_key_of_one_provider_that_is_used_for_another_is_said(variable):
    keys = f"[{{ref: env:{variable}, share: true}}]"
    (notice,) = noted(f"providers: {{lab: {{like: groq, upstream: 'https://llm.example.com', keys: {keys}}}}}")
    assert f"env:{variable} is a key of openai, and is sent to lab as well" in notice


@pytest.mark.parametrize(
    ("groups", "globs"),
    [
        ("{a: 'gpt-*', b: 'gpt-4*'}", "gpt-* and gpt-4*"),
        ("{a: 'gpt-4*', b: '*-mini'}", "gpt-4* and *-mini"),
        ("{a: x, b: [y, X]}", "x and X"),
    ],
)
def test_a_model_of_two_quota_groups_belongs_to_the_first(groups, globs):
    assert noted(f"providers: {{openai: {{quota_groups: {groups}}}}}") == (
        f"rules.yaml:2: models of openai that match both {globs} are of the quota group a, which is first",
    )


@pytest.mark.parametrize(
    "text",
    [
        "{openai: {quota_groups: {mini: 'gpt-4o-mini*', gpt: 'gpt-*'}}}",
        "{openai: {quota_groups: {a: ['gpt-*', 'gpt-4*'], b: 'o1*'}}}",
        "{openai: {quota_groups: {a: 'x*'}}, groq: {quota_groups: {b: 'x*'}}}",
    ],
    ids=["an exception before its rule", "within one group", "of two providers"],
)
def test_quota_groups_that_are_clear_need_no_notice(text):
    assert noted(f"providers: {text}") == ()
