from __future__ import annotations

import json
import logging

import pytest

from support.proxy_receipts import receipt
from valetkey.proxy import calllog


def test_the_comment_is_the_gist_of_the_call():
    assert calllog.comment(receipt()) == "gpt-4o · alice · openai/1 · 1.2k in (800 cached) 312 out · $0.0041"


def test_the_line_has_status_and_duration():
    line = calllog.line(receipt())
    assert line.startswith("200 openai/gpt-4o · alice") and line.endswith("1.3 s")


def test_estimates_are_marked():
    assert calllog.usage(receipt(usage_source="estimated")) == "~1.2k in (800 cached) ~312 out"


def test_tokens_without_a_price_say_so():
    assert calllog.cost(receipt(cost_usd=None)) == "no price"


def test_nothing_is_said_of_money_where_there_are_no_tokens():
    assert calllog.cost(receipt(cost_usd=None, usage={})) is None


def test_a_refusal_is_named():
    assert calllog.trouble(receipt(refused="no_key", outcome="refused")) == "refused: no_key"


@pytest.mark.parametrize(("number", "text"), [(312, "312"), (1200, "1.2k"), (3_000, "3k"), (3_400_000, "3.4M")])
def test_counts_are_short(number, text):
    assert calllog.count(number) == text


@pytest.mark.parametrize(("outcome", "level"), [("ok", logging.INFO), ("server", logging.WARNING)])
def test_trouble_is_logged_louder(caplog, outcome, level):
    with caplog.at_level(logging.INFO, "valetkey.calls"):
        calllog.log_call(receipt(outcome=outcome), "text")
    assert caplog.records[0].levelno == level


def test_json_lines_hold_the_receipt(caplog):
    with caplog.at_level(logging.INFO, "valetkey.calls"):
        calllog.log_call(receipt(), "json")
    assert json.loads(caplog.records[0].getMessage())["cost_usd"] == "0.0041"
