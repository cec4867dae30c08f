"""What calls come to whose answers are no chat."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from mitmproxy import http

from support import making
from support.assembling import assembled
from support.pricing import GPT, model, published
from valetkey.model import Outcome
from valetkey.policy import pricelist
from valetkey.proxy import measuring

OPEN = "version: 1\nproviders: {openai: {open: [files, batches]}}\n"
CONTENT = "/v1/files/file-1/content"
CHAT = {"model": "gpt-4o", "usage": {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}}
LINE = json.dumps({"response": {"body": CHAT}}).encode() + b"\n"
RESPONSE = {"id": "resp_1", "model": "gpt-4o", "background": True, "usage": {"input_tokens": 1000, "output_tokens": 0}}


def measured(
    runtime, path, body, asked=b'{"model":"gpt-4o","input":"hello"}', method="POST", kind="application/json", status=200
):
    """The metering of a call that is over, and its notes."""
    intake = assembled(runtime).intake
    flow = making.flow(path=path, body=asked)
    flow.request.method = method
    intake.requestheaders(flow)
    intake.request(flow)
    passage = making.attempt(runtime, flow)
    answer = http.Response.make(status, body, {"content-type": kind})
    tap = measuring.open_tap(runtime, answer, passage)
    if tap is not None:
        tap.feed(body)
        tap.end()
    passage.outcome = Outcome.OK
    return measuring.meter_of(runtime, passage, tap), passage.notes


def fetched(runtime, body, path=CONTENT, **options):
    return measured(runtime, path, body, b"", "GET", **options)


def test_results_are_added_up_at_the_price_of_batches():
    meter, _ = fetched(making.runtime(OPEN), LINE * 3)
    assert (meter.usage["input_tokens"], meter.cost_usd, meter.model) == (3000, Decimal("0.00375"), "gpt-4o")


DEAR = pricelist.parse(published(model(prices=GPT | {"input_mtok": 7})))


@pytest.mark.parametrize("is_batch", [False, True])
def test_newer_prices_hold_from_the_snapshot_on_that_brings_them(is_batch):
    runtime = making.runtime(OPEN)
    runtime.adopt(replace(runtime.snapshot, prices=DEAR))
    meter, _ = fetched(runtime, LINE) if is_batch else measured(runtime, "/v1/chat/completions", json.dumps(CHAT).encode())
    assert meter.cost_usd == (Decimal("0.0035") if is_batch else Decimal("0.007"))


def test_results_that_are_fetched_again_are_not_counted_again():
    runtime = making.runtime(OPEN)
    fetched(runtime, LINE * 2)
    meter, notes = fetched(runtime, LINE * 3)
    assert (meter.usage["input_tokens"], notes) == (1000, ["counted_before"])


def test_a_range_of_the_results_is_counted_and_not_remembered():
    runtime = making.runtime(OPEN)
    meters = [fetched(runtime, LINE, status=206)[0] for _ in range(2)]
    assert [meter.usage["input_tokens"] for meter in meters] == [1000, 1000]


def test_results_without_a_price_have_none():
    line = LINE.replace(b"gpt-4o", b"no-such-model")
    meter, _ = fetched(making.runtime(OPEN), LINE + line)
    assert (meter.usage["input_tokens"], meter.cost_usd, meter.model) == (2000, None, None)


def test_a_file_that_holds_no_results_has_no_usage():
    assert fetched(making.runtime(OPEN), b"\x89PNG" + LINE[:9])[0].usage == {}


def test_a_response_of_the_background_is_counted_when_it_is_fetched_and_only_once():
    runtime, body = making.runtime(), json.dumps(RESPONSE).encode()
    meters = [fetched(runtime, body, "/v1/responses/resp_1")[0] for _ in range(2)]
    assert [meter.cost_usd for meter in meters] == [Decimal("0.0025"), None]


def test_a_response_of_the_background_that_is_fetched_as_a_stream_is_counted():
    event = {"type": "response.completed", "response": RESPONSE}
    stream = b"event: response.completed\ndata: " + json.dumps(event).encode() + b"\n\n"
    assert fetched(making.runtime(), stream, "/v1/responses/resp_1", kind="text/event-stream")[0].usage["input_tokens"] == 1000


def test_a_response_that_is_fetched_before_it_is_ready_counts_nothing():
    runtime = making.runtime()
    meter, notes = fetched(runtime, json.dumps(RESPONSE | {"usage": None}).encode(), "/v1/responses/resp_1")
    assert (meter.usage, notes) == ({}, [])


def test_a_response_of_the_foreground_is_not_counted_when_it_is_fetched():
    body = json.dumps(RESPONSE | {"background": False}).encode()
    assert fetched(making.runtime(), body, "/v1/responses/resp_1") == (measuring.Metering(), ["counted_before"])


def test_a_response_that_is_deleted_counts_nothing():
    answer = b'{"id":"resp_1","object":"response","deleted":true}'
    assert measured(making.runtime(), "/v1/responses/resp_1", answer, b"", "DELETE") == (measuring.Metering(), [])


def test_a_response_that_goes_on_in_the_background_is_not_estimated():
    body = json.dumps(RESPONSE | {"usage": None}).encode()
    assert measured(making.runtime(), "/v1/responses", body) == (replace(measuring.Metering(), model="gpt-4o"), ["background"])


def test_a_response_of_the_background_that_reported_at_once_is_counted_once():
    runtime, body = making.runtime(), json.dumps(RESPONSE).encode()
    first, _ = measured(runtime, "/v1/responses", body)
    assert (first.cost_usd, fetched(runtime, body, "/v1/responses/resp_1")[0].usage) == (Decimal("0.0025"), {})


SPEECH = b'{"model":"tts-1","input":"hello"}'


@pytest.mark.parametrize("kind", ["audio/mpeg", "application/octet-stream"])
def test_sound_is_priced_by_what_was_asked_for(kind):
    meter, notes = measured(making.runtime(), "/v1/audio/speech", b"ID3\0\xff", SPEECH, kind=kind)
    assert (meter.usage, meter.cost_usd, notes) == ({"input_characters": 5}, Decimal("0.000075"), [])


def test_sound_whose_answer_never_came_is_estimated():
    runtime = making.runtime()
    intake = assembled(runtime).intake
    flow = making.flow(path="/v1/audio/speech", body=SPEECH)
    intake.requestheaders(flow)
    intake.request(flow)
    passage = making.attempt(runtime, flow)
    passage.asked, passage.outcome = True, Outcome.CLIENT
    passage.note("client_left")
    meter = measuring.meter_of(runtime, passage, None)
    assert (meter.usage_source, meter.cost_usd) == ("estimated", Decimal("0.000075"))


def test_an_error_has_no_tap():
    assert measured(making.runtime(), "/v1/audio/speech", b"{}", SPEECH, status=400)[0] == measuring.Metering()
