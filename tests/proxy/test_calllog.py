from __future__ import annotations

import json
import logging

import pytest
from mitmproxy import log as mitm_log

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


class Listener(logging.Handler):
    def __init__(self, level):
        super().__init__(level)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class Bridge(Listener, mitm_log.LegacyLogEvents):
    def __init__(self, level=0):
        Listener.__init__(self, level)


@pytest.fixture
def attached():
    """Give handlers to the calls' logger for a while."""
    handlers = []

    def attach(handler):
        calllog.logger.addHandler(handler)
        handlers.append(handler)
        return handler

    before = calllog.logger.level
    calllog.logger.setLevel(logging.INFO)
    yield attach
    calllog.logger.setLevel(before)
    for handler in handlers:
        calllog.logger.removeHandler(handler)


@pytest.mark.parametrize(("bridged", "count"), [(True, 1), (False, 0)])
def test_the_bridge_to_an_old_hook_is_left_out_where_nobody_listens(attached, bridged, count):
    bridge = attached(Bridge())
    calllog.log_call(receipt(), "text", bridged=bridged)
    assert len(bridge.lines) == count


@pytest.mark.parametrize(("level", "count"), [(logging.INFO, 1), (logging.WARNING, 0)])
def test_handlers_get_lines_of_their_level_also_without_the_bridge(attached, level, count):
    handler = attached(Listener(level))
    calllog.log_call(receipt(), "text", bridged=False)
    assert len(handler.lines) == count


def test_a_line_that_nobody_takes_is_not_written(attached, monkeypatch):
    attached(Listener(logging.ERROR))
    monkeypatch.setattr(calllog.logger, "propagate", False)
    monkeypatch.setattr(calllog, "line", lambda receipt: pytest.fail("a line was written"))
    calllog.log_call(receipt(), "text", bridged=False)
