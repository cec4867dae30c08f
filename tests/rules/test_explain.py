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
