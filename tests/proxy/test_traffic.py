from __future__ import annotations

from support import making
from valetkey.model import Outcome, Refusal
from valetkey.proxy.traffic import Traffic


def traffic(runtime, settled=None):
    return Traffic(runtime, lambda flow: None, lambda flow: True, (settled if settled is not None else []).append)


def planned(runtime):
    from valetkey.assembly import assemble_on

    intake = assemble_on(runtime)[1]
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
