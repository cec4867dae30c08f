from __future__ import annotations

import pytest
from mitmproxy import http

from support import making
from support.assembling import assembled
from support.frames import KIND, RECORDED
from valetkey.formats import UsageTap
from valetkey.model import Format, Outcome, Refusal
from valetkey.proxy.pump import Pump
from valetkey.proxy.traffic import Traffic


def traffic(runtime, settled=None):
    return Traffic(
        runtime,
        lambda answer, passage: None,
        lambda flow: None,
        lambda flow: None,
        lambda flow: True,
        (settled if settled is not None else []).append,
    )


def planned(runtime):
    from support.assembling import assembled

    intake = assembled(runtime).intake
    flow = making.flow()
    intake.requestheaders(flow)
    intake.request(flow)
    return flow, runtime.passages.of(flow)


def test_a_flow_that_is_no_call_has_no_passage():
    assert traffic(making.runtime()).passage(making.flow()) is None


def test_an_ending_by_the_layer_is_settled():
    runtime, settled = making.runtime(), []
    flow, passage = planned(runtime)
    traffic(runtime, settled).ended(flow, Refusal(502, "x", "y"), Outcome.GATEWAY)
    assert settled == [flow] and passage.outcome is Outcome.GATEWAY


def test_an_ending_by_the_layer_changes_no_call_that_is_settled():
    runtime, settled = making.runtime(), []
    flow, passage = planned(runtime)
    passage.settled = True
    traffic(runtime, settled).ended(flow, Refusal(502, "x", "y"), Outcome.GATEWAY)
    assert (settled, passage.refusal, passage.outcome) == ([], None, None)


def broken(sent, **headers):
    """The last words of an event stream that broke after these bytes."""
    runtime = making.runtime(keys={"bedrock/main": making.REAL})
    intake = assembled(runtime).intake
    flow = making.flow("bedrock-runtime.us-east-1.amazonaws.com", "/model/amazon.nova-micro-v1%3A0/converse-stream", b"{}")
    intake.requestheaders(flow)
    passage = runtime.passages.of(flow)
    flow.response = http.Response.make(200, b"", {"content-type": KIND, **headers})
    passage.pump = Pump(UsageTap(Format.BEDROCK_CONVERSE, KIND), None, lambda: 7.0)
    passage.pump(sent)
    return traffic(runtime).last_words(flow, passage, "reset")


def test_an_event_stream_that_broke_between_frames_ends_with_an_exception():
    assert b"internalServerException" in broken(RECORDED)


@pytest.mark.parametrize(("sent", "headers"), [(RECORDED[:-1], {}), (RECORDED, {"content-encoding": "identity"})])
def test_where_no_frame_can_stand_there_is_none(sent, headers):
    assert broken(sent, **headers) == b""
