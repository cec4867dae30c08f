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


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
def test_when_to_come_back_is_told_in_milliseconds(dialect):
    assert ("retry-after-ms", "150") in errors.error(dialect, "openai", "rate_limit", 150)[2]


@pytest.mark.parametrize(("dialect", "word"), [("openai", "6.2s"), ("gemini", "36.4s")])
def test_the_usual_wait_is_in_the_words(dialect, word):
    assert word in errors.error(dialect, "openai", "rate_limit")[1].decode()


@pytest.mark.parametrize("dialect", ["openai", "gemini"])
def test_a_wait_that_is_asked_for_is_in_the_words(dialect):
    assert "in 150ms." in errors.error(dialect, "openai", "rate_limit", 150)[1].decode()


@pytest.mark.parametrize(
    ("dialect", "kind", "word"),
    [
        ("openai", "rate_limit", "rate_limit_exceeded"),
        ("openai", "overloaded", "server_is_overloaded"),
        ("openai", None, "server_error"),
        ("anthropic", "rate_limit", "rate_limit_error"),
        ("anthropic", "server", "api_error"),
        ("anthropic", None, "overloaded_error"),
        ("gemini", "rate_limit", "RESOURCE_EXHAUSTED"),
        ("gemini", None, "UNAVAILABLE"),
    ],
)
def test_an_error_event_is_of_the_kind_that_was_asked_for(dialect, kind, word):
    assert f'"{word}"' in errors.event(dialect, kind).decode()


def test_the_responses_api_has_an_error_event_of_its_own():
    assert errors.event("openai", responses=True).startswith(b'event: error\ndata: {"type":"error"')


def test_ollamas_error_event_is_a_line():
    assert json.loads(errors.event("ollama")) == {"error": "simulated failure"}
