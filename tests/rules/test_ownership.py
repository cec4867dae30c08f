from __future__ import annotations

import pytest

from support import making
from valetkey.errors import RulesError

ELSEWHERE = "https://evil.test"


def said(providers):
    """The problems of these providers, as one text."""
    try:
        making.rules(f"version: 1\nproviders: {{{providers}}}\n")
    except RulesError as error:
        return "\n".join(f"{problem.text} - {problem.fix}" for problem in error.problems)
    return ""


def lab(keys, upstream=ELSEWHERE, name="lab"):
    return f"{name}: {{like: openai, upstream: '{upstream}', keys: [{keys}]}}"


@pytest.mark.parametrize(
    "reference", ["env:OPENAI_API_KEY", "env:OPENAI_API_KEY_2", "env:GATEWAY_OPENAI_API_KEY", "env:GATEWAY_OPENAI_API_KEY_WORK"]
)
def test_threat_18_a_providers_variable_goes_to_no_other_place(reference):
    assert said(lab(reference)).startswith(f"{reference} is a key of openai, and would be sent to {ELSEWHERE} - give lab a key")


def test_threat_18_a_provider_of_the_catalogue_gets_no_key_of_another():
    assert "a key of openai, and would be sent to https://api.groq.com" in said("groq: {keys: [env:OPENAI_API_KEY]}")


@pytest.mark.parametrize("reference", ["env:MINE", "file:/run/secrets/mine"])
def test_threat_18_a_listed_key_goes_to_no_other_place(reference):
    assert "is a key of openai" in said(f"{lab(reference)}, openai: {{keys: ['{reference}']}}")


def test_threat_18_a_file_in_another_spelling_is_the_same_key():
    assert "is a key of openai" in said(f"openai: {{keys: ['file:keys/mine']}}, {lab('file:./keys//mine')}")


def test_threat_18_of_two_providers_of_ones_own_the_first_has_the_key():
    assert "env:MINE is a key of lab" in said(f"{lab('env:MINE')}, {lab('env:MINE', 'https://other.test', 'other')}")


def test_a_key_that_is_shared_goes_there():
    assert said(lab("{ref: env:OPENAI_API_KEY, share: true}")) == ""


@pytest.mark.parametrize("upstream", ["http://127.0.0.1:8000", "https://api.openai.com/v2", "https://eu.api.openai.com"])
def test_a_key_goes_to_this_machine_and_to_its_own_hosts(upstream):
    assert said(lab("env:OPENAI_API_KEY", upstream)) == ""


@pytest.mark.parametrize(
    "upstream", ["https://xapi.openai.com", "https://api.openai.com.evil.test", "https://api.openai.com:8443"]
)
def test_threat_6_a_place_that_looks_like_its_own_is_another(upstream):
    assert "is a key of openai" in said(lab("env:OPENAI_API_KEY", upstream))


def test_a_key_goes_where_the_rules_call_its_provider():
    there = "https://llm.example.com"
    assert said(f"openai: {{upstream: '{there}'}}, {lab('env:OPENAI_API_KEY', there)}") == ""


@pytest.mark.parametrize("reference", ["env:LAB_API_KEY", "env:MINE", "env:OPENAI_KEY", "env:MY_OPENAI_API_KEY", "file:/openai"])
def test_a_key_of_its_own_needs_no_word(reference):
    assert said(lab(reference)) == ""
