from __future__ import annotations

import json

import pytest

from valetkey.model import Dialect, Refusal
from valetkey.proxy import refusals

REFUSAL = Refusal(429, "throttled", "slow down", retry_after=2.4)


@pytest.mark.parametrize("dialect", Dialect)
def test_every_dialect_carries_the_message(dialect):
    assert "valetkey: slow down" in json.dumps(json.loads(refusals.response(REFUSAL, dialect).content))


def test_the_status_is_the_refusals():
    assert refusals.response(REFUSAL, Dialect.OPENAI).status_code == 429


def test_the_reason_is_a_header():
    assert refusals.response(REFUSAL, Dialect.OPENAI).headers["x-valetkey-refusal"] == "throttled"


def test_waiting_is_said_in_whole_seconds():
    assert refusals.response(REFUSAL, Dialect.OPENAI).headers["retry-after"] == "3"


def test_an_sdk_does_not_repeat_what_cannot_help():
    assert refusals.response(Refusal(503, "no_key", "x"), Dialect.OPENAI).headers["x-should-retry"] == "false"


def test_something_that_is_no_call_gets_plain_text():
    assert refusals.plain(Refusal(403, "egress", "not there")).text == "valetkey: not there\n"
