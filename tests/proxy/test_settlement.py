from __future__ import annotations

import json

import pytest
from mitmproxy import flow as mitm_flow
from mitmproxy import http

from support import making
from support.playing import broken
from valetkey.assembly import assemble_on
from valetkey.policy import metering

ANSWER = {"model": "gpt-4o-2024-08-06", "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}}


class Ledger:
    healthy = True

    def __init__(self):
        self.receipts = []

    def submit(self, receipt):
        self.receipts.append(receipt)


def settled(status=200, body=None, prepare=None, times=1, **options):
    runtime = making.runtime(**options)
    runtime.writer = Ledger()
    _, intake, answers, *_ = assemble_on(runtime)
    flow = making.flow(user_agent="OpenAI/Python 1.0")
    intake.requestheaders(flow)
    intake.request(flow)
    making.attempt(runtime, flow)
    if flow.response is None and status:
        content = json.dumps(ANSWER if body is None else body).encode()
        flow.response = http.Response.make(status, content, {"content-type": "application/json", "x-request-id": "req_1"})
        answers.responseheaders(flow)
    if prepare:
        prepare(flow, runtime)
    for _ in range(times):
        (answers.response if flow.response else answers.error)(flow)
    return runtime.writer.receipts


def test_an_answer_has_usage_and_cost():
    receipt = settled()[0]
    assert (receipt.usage["input_tokens"], receipt.usage_source, float(receipt.cost_usd) > 0) == (1000, "reported", True)


def test_the_model_is_the_one_that_the_provider_reports():
    assert (settled()[0].model, settled()[0].requested_model) == ("gpt-4o-2024-08-06", "gpt-4o")


def test_the_providers_request_id_is_kept():
    assert settled()[0].request_id == "req_1"


def test_a_call_is_settled_once():
    assert len(settled(times=3)) == 1


def test_an_error_is_classified():
    body = {"error": {"code": "rate_limit_exceeded", "message": "Rate limit reached"}}
    assert settled(429, body)[0].outcome == "throttled"


def test_an_error_has_no_usage():
    assert settled(500, {})[0].usage_source == "none"


def test_a_refusal_has_a_receipt():
    receipt = settled(keys={})[0]
    assert (receipt.outcome, receipt.refused, receipt.status) == ("refused", "no_key", 503)


def test_a_client_that_left_has_a_receipt():
    def leave(flow, runtime):
        flow.error = mitm_flow.Error("Client disconnected.")

    assert settled(status=None, prepare=leave)[0].outcome == "client"


@pytest.mark.parametrize("name", ["measure"])
def test_a_defect_in_metering_does_not_cost_the_receipt(caplog, name):
    with broken(metering, name):
        receipt = settled()[0]
    assert (receipt.outcome, receipt.usage_source) == ("ok", "none")


def test_an_answer_without_usage_is_estimated():
    receipt = settled(body={"model": "gpt-4o", "choices": [{"message": {"content": "hello"}}]})[0]
    assert receipt.usage_source == "estimated" and "usage_missing" in receipt.notes
