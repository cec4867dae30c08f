from __future__ import annotations

import json

import pytest

from bench.load import Tally, _contents
from bench.mock import stream
from bench.orders import Order

ORDER = {"via": "plain", "port": 1, "host": "h", "ca": "", "pids": {}}


@pytest.mark.parametrize("size", [500, 100_000])
def test_a_request_is_as_long_as_asked(size):
    assert size <= len(Order(**ORDER, request=size).body()) < size + 20


@pytest.mark.parametrize("events", [0, 50])
def test_a_stream_is_asked_for_where_events_are(events):
    assert json.loads(Order(**ORDER, events=events).body()).get("stream", False) is bool(events)


def test_an_order_survives_its_line():
    order = Order(**ORDER, events=3, pace=4)
    assert Order(**json.loads(order.to_json())) == order


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_stream_holds_as_many_content_events_as_asked(with_usage):
    _, _, body = b"".join(stream(7, with_usage)).partition(b"\r\n\r\n")
    assert _contents(body) == 7


def test_usage_comes_only_where_it_was_asked_for():
    assert [b"prompt_tokens" in b"".join(stream(1, asked)) for asked in (False, True)] == [False, True]


@pytest.mark.parametrize("cut", range(1, 24))
def test_events_count_wherever_a_proxy_cuts_them(cut):
    event = b'data: {"x":"valet"}\n\n\n\n\n\n'
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (event[:cut], event[cut:])) + b"0\r\n\r\n"
    assert _contents(body) == 1


def test_times_are_in_milliseconds():
    assert Tally(latency=[0.001, 0.003, 0.002]).figures()["p50"] == 2.0


def test_without_a_call_there_are_no_times():
    assert Tally().figures()["p99"] is None
