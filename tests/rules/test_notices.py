from __future__ import annotations

import pytest

from support.making import rules


def noted(text):
    return rules(f"version: 1\n{text}\n").notices


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("gateway: {deadline: 5s}", "gateway.deadline"),
        ("gateway: {timeouts: {connect: 5s}}", "gateway.timeouts"),
        ("providers: {openai: {rotation: sticky}}", "providers.openai.rotation"),
        ("providers: {openai: {quota_groups: {a: ['x*']}}}", "providers.openai.quota_groups"),
        ("providers: {openai: {concurrency: 3}}", "providers.openai.concurrency"),
        ("providers: {openai: {keys: [{ref: 'env:A', budget: 20 USD/month}]}}", "providers.openai.keys.0.budget"),
        ("providers: {openai: {keys: [{ref: 'env:A', weight: 2}]}}", "providers.openai.keys.0.weight"),
        ("agents: [{name: a, rate: 60/minute}]", "agents.0.rate"),
        ("agents: [{name: a, budget: 5 USD/day}]", "agents.0.budget"),
        ("routes: [{match: {model: x}, to: [openai/a, openai/b], order: random}]", "routes.0.order"),
    ],
)
def test_what_is_not_enforced_yet_is_said_with_its_line(text, place):
    assert noted(text) == (f"rules.yaml:2: {place} is accepted but not enforced yet",)


@pytest.mark.parametrize(
    "text",
    [
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
    (notice,) = noted(f"providers: {{lab: {{like: groq, upstream: 'https://llm.example.com', keys: [env:{variable}]}}}}")
    assert f"env:{variable} is a key of openai by its name, and is sent to lab" in notice
