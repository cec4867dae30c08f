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
