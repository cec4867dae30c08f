from __future__ import annotations

import json

import pytest

from valetkey.simulator import errors


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", "ollama"])
@pytest.mark.parametrize("kind", ["bad_key", "rate_limit", "quota", "overloaded", "too_long", "policy", "server"])
def test_every_error_is_json_with_an_error_status(dialect, kind):
    status, body, _ = errors.error(dialect, "openai", kind)
    assert status >= 400 and "error" in json.loads(body)


def test_deepseek_has_a_402_of_its_own():
    assert errors.error("openai", "deepseek", "quota")[0] == 402


def test_mistral_has_words_of_its_own():
    assert json.loads(errors.error("openai", "mistral", "rate_limit")[1])["code"] == "1300"


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
def test_an_error_event_is_an_event(dialect):
    assert b"data: {" in errors.event(dialect)
