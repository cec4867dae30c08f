from __future__ import annotations

import json
from dataclasses import replace

import pytest
from mitmproxy import flow as mitm_flow
from mitmproxy import http

from support import making
from support.assembling import assembled
from support.playing import broken
from valetkey.model import Outcome
from valetkey.policy import metering
from valetkey.proxy import settlement

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
    _, intake, answers, _ = assembled(runtime)
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


class Later(list):
    """Steps that were put off: (seconds, step)."""

    def __call__(self, seconds, step):
        self.append((seconds, step))

    def run(self, until=1.0):
        """Run what is due by then, the earliest first."""
        due = sorted((each for each in self if each[0] <= until), key=lambda each: each[0])
        self[:] = [each for each in self if each[0] > until]
        for _, step in due:
            step()


def ended_later(finish=lambda flow, answers: answers.response(flow), body=ANSWER, status=200):
    """A call that ended where nobody looks at flows; gives what was put off, too."""
    runtime, later = making.runtime(), Later()
    runtime.writer, runtime.later = Ledger(), later
    _, intake, answers, _ = assembled(runtime)
    flow = making.flow()
    intake.requestheaders(flow)
    intake.request(flow)
    making.attempt(runtime, flow)
    flow.response = http.Response.make(status, json.dumps(body).encode(), {"content-type": "application/json"})
    answers.responseheaders(flow)
    finish(flow, answers)
    return flow, runtime, later, answers


def test_the_receipt_comes_when_the_answer_has_gone_out():
    _, runtime, later, _ = ended_later()
    before = list(runtime.writer.receipts)
    later.run()
    assert (before, [receipt.usage_source for receipt in runtime.writer.receipts]) == ([], ["reported"])


def test_a_receipt_that_was_put_off_is_as_one_that_was_not():
    _, runtime, later, _ = ended_later()
    later.run()
    now = settled()[0]
    ours = replace(runtime.writer.receipts[0], id=now.id, client=now.client, request_id=now.request_id)
    assert ours == now


def test_the_duration_does_not_count_what_was_put_off():
    _, runtime, later, _ = ended_later()
    runtime.monotonic = lambda: 5000.0
    later.run()
    assert runtime.writer.receipts[0].duration_ms == 0.0


def test_several_endings_are_put_off_once_and_keep_their_order():
    flow, runtime, later, answers = ended_later()
    others = [making.flow(host="api.openai.com") for _ in range(3)]
    intake = assembled(runtime).intake
    for other in others:
        intake.requestheaders(other)
        answers.error(other)
    count = sum(seconds > 0 for seconds, _ in later)
    later.run()
    ids = [runtime.passages.of(each).id for each in (flow, *others)]
    assert (count, [receipt.id for receipt in runtime.writer.receipts]) == (1, ids)


def test_a_call_is_over_for_the_pools_before_its_receipt_is_written():
    flow, runtime, later, _ = ended_later()
    later.run(until=0.0)
    passage = runtime.passages.of(flow)
    assert (passage.outcome, runtime.writer.receipts) == (Outcome.OK, [])


def test_many_calls_do_not_wait_for_their_receipts_and_no_call_for_many_receipts():
    _, runtime, later, answers = ended_later()
    intake = assembled(runtime).intake
    for _ in range(settlement.MANY - 1):
        other = making.flow(host="api.openai.com")
        intake.requestheaders(other)
        answers.error(other)
    counts = []
    while any(seconds == 0 for seconds, _ in later):
        later.run(until=0.0)
        counts.append(len(runtime.writer.receipts))
    assert (counts[0], counts[-1], sorted(counts)) == (settlement.MANY // 4, settlement.MANY, counts)


def several_ended(count):
    """Calls that are over and have no receipt yet; all that was put off is due."""
    _, runtime, later, answers = ended_later()
    intake = assembled(runtime).intake
    for _ in range(count - 1):
        other = making.flow(host="api.openai.com")
        intake.requestheaders(other)
        answers.error(other)
    return runtime, later


def test_while_calls_go_on_receipts_wait():
    runtime, later = several_ended(3)
    runtime.is_busy = lambda: True
    later.run()
    assert (runtime.writer.receipts, [seconds for seconds, _ in later]) == ([], [0.0])


def test_they_are_written_until_a_call_comes():
    runtime, later = several_ended(3)
    answers = iter([False, False, True])
    runtime.is_busy = lambda: next(answers)
    later.run()
    assert len(runtime.writer.receipts) == 2


def test_an_old_one_is_written_all_the_same():
    runtime, later = several_ended(3)
    runtime.is_busy, started = lambda: True, runtime.monotonic()
    runtime.monotonic = lambda: started + settlement.PATIENCE + 1
    later.run()
    assert len(runtime.writer.receipts) == 3


def test_turns_do_not_add_up():
    """Each would find the loop busy with the others, and none would come to an end."""
    runtime, later = several_ended(settlement.MANY)
    runtime.is_busy = lambda: True
    later.run()
    assert len(later) == 1


def test_among_several_calls_they_are_written_all_the_same():
    runtime, later = several_ended(3)
    runtime.is_busy, flows = lambda: True, [making.flow(host="api.openai.com") for _ in range(2)]
    for flow in flows:
        assembled(runtime).intake.requestheaders(flow)
    later.run()
    assert len(runtime.writer.receipts) == 3


def test_among_many_calls_more_are_written_in_a_row():
    runtime, later = several_ended(settlement.IN_A_CROWD)
    flows = [making.flow(host="api.openai.com") for _ in range(settlement.IN_A_CROWD)]
    for flow in flows:
        assembled(runtime).intake.requestheaders(flow)
    later.run()
    assert len(runtime.writer.receipts) == settlement.IN_A_CROWD


def test_calls_that_are_over_do_not_count_among_them():
    runtime, later = several_ended(5)
    runtime.is_busy = lambda: True
    later.run()
    assert runtime.writer.receipts == []


def test_many_are_written_all_the_same():
    runtime, later = several_ended(settlement.MANY)
    runtime.is_busy = lambda: True
    later.run(until=0.0)
    assert len(runtime.writer.receipts) == settlement.MANY // 4


def test_receipts_do_not_pile_up_when_many_calls_end_in_each_turn():
    _, runtime, later, answers = ended_later()
    intake, waiting = assembled(runtime).intake, []
    for turn in range(30):
        for _ in range(40):
            other = making.flow(host="api.openai.com")
            intake.requestheaders(other)
            answers.error(other)
        later.run(until=0.0)
        waiting.append(40 * (turn + 1) + 1 - len(runtime.writer.receipts))
    assert max(waiting) <= 4 * 40


def test_a_defect_does_not_end_the_writing_of_receipts(monkeypatch):
    _, runtime, later, answers = ended_later()
    intake = assembled(runtime).intake
    for _ in range(2 * settlement.AT_ONCE):
        other = making.flow(host="api.openai.com")
        intake.requestheaders(other)
        answers.error(other)
    submit, failing = runtime.writer.submit, [ZeroDivisionError()]

    def submit_or_fail(receipt):
        if failing:
            raise failing.pop()
        submit(receipt)

    monkeypatch.setattr(runtime.writer, "submit", submit_or_fail)
    with pytest.raises(ZeroDivisionError):
        later.run()
    while later:
        later.run()
    assert len(runtime.writer.receipts) == 2 * settlement.AT_ONCE


def test_a_call_that_was_put_off_is_settled_once():
    _, runtime, later, answers = ended_later(lambda flow, answers: (answers.response(flow), answers.error(flow)))
    later.run()
    answers.done()
    assert len(runtime.writer.receipts) == 1


def test_the_end_of_the_process_does_not_wait():
    _, runtime, _, answers = ended_later()
    answers.done()
    assert [receipt.outcome for receipt in runtime.writer.receipts] == ["ok"]


def test_after_the_end_nothing_is_put_off():
    _, runtime, later, _ = ended_later(lambda flow, answers: answers.done())
    assert (len(runtime.writer.receipts), later) == (1, [])


@pytest.mark.parametrize(("status", "closed"), [(200, False), (429, True)])
def test_only_a_good_answer_keeps_its_key_until_it_has_gone_out(status, closed):
    flow, runtime, _, _ = ended_later(status=status)
    assert (runtime.passages.of(flow).outcome is not None) is closed


def test_an_error_inside_a_good_answer_is_found_later():
    _, runtime, later, _ = ended_later(body={"error": {"message": "overloaded"}})
    later.run()
    assert runtime.writer.receipts[0].outcome == "server"


@pytest.mark.parametrize("body", [ANSWER, {}])
def test_where_nobody_looks_no_flow_is_decorated(body):
    flow, _, later, _ = ended_later(body=body)
    later.run()
    assert (flow.comment, flow.metadata) == ("", {})


def test_the_canary_leaves_no_trace_also_when_it_is_put_off():
    def finish(flow, answers):
        answers.runtime.proving = True
        answers.response(flow)
        answers.runtime.proving = False

    _, runtime, later, _ = ended_later(finish)
    later.run()
    assert runtime.writer.receipts == []


def test_a_defect_in_the_receipt_leaves_the_least_of_one():
    with broken(settlement, "_finished"):
        receipt = settled()[0]
    assert (receipt.outcome, receipt.agent, receipt.attempts) == ("gateway", "default", ())


def test_a_defect_in_one_receipt_does_not_cost_the_next():
    _, runtime, later, answers = ended_later()
    other = making.flow()
    assembled(runtime).intake.requestheaders(other)
    answers.error(other)
    with broken(settlement, "log_call"):
        later.run()
    assert len(runtime.writer.receipts) == 2
