from __future__ import annotations

import gc

import pytest
from mitmproxy import http

from support import making
from valetkey.proxy.passage import Arrival, Passage, Passages, Ready, new_id


def passage(**changes):
    return Passage(id="1", started=0.0, mark=0.0, door="proxy", snapshot=making.snapshot(), **changes)


def test_ids_sort_by_time():
    assert new_id(1000.0) < new_id(1000.001) < new_id(2000.0)


def test_ids_differ():
    assert new_id(1.0) != new_id(1.0)


def test_a_note_is_kept_once():
    one = passage()
    one.note("x")
    one.note("x")
    assert one.notes == ["x"]


def test_a_passage_belongs_to_its_flow():
    passages, flow = Passages(), making.flow()
    one = passages.open(flow, passage())
    assert passages.of(flow) is one


def test_a_closed_passage_is_forgotten():
    passages, flow = Passages(), making.flow()
    passages.open(flow, passage())
    passages.close(flow)
    assert passages.of(flow) is None


def test_an_arrival_is_read_once():
    passages, flow = Passages(), making.flow()
    passages.arrived(flow, Arrival("origin", "", True))
    assert (passages.arrival(flow), passages.arrival(flow)) == (Arrival("origin", "", True), None)


def test_unsettled_calls_are_listed():
    passages, flow, other = Passages(), making.flow(), making.flow()
    passages.open(flow, passage())
    passages.open(other, passage(settled=True))
    assert [each for each, _ in passages.unsettled()] == [flow]


def test_nothing_outlives_its_flow():
    passages, flow = Passages(), making.flow()
    passages.open(flow, passage())
    del flow
    gc.collect()
    assert len(passages._passages) == 0


def ready(**headers):
    """An answer, and what was made ready for it."""
    answer = http.Response.make(200, b"", {"content-type": "text/event-stream", **headers})
    told = answer.data
    return answer, Ready(answer, told.headers.fields, told.status_code, told.reason, True)


CHANGES = {
    "a header": lambda answer: answer.headers.update({"x": "y"}),
    "the status": lambda answer: setattr(answer, "status_code", 500),
    "the reason": lambda answer: setattr(answer, "reason", "Fine"),
    "all headers": lambda answer: setattr(answer, "headers", http.Headers()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_made_ready_is_not_for_a_changed_answer(change):
    answer, one = ready()
    before = one.is_for(answer)
    change(answer)
    assert (before, one.is_for(answer)) == (True, False)


def test_what_was_made_ready_is_not_for_another_answer():
    answer, one = ready()
    assert not one.is_for(answer.copy())


def test_without_a_pump_nothing_is_fed():
    _, one = ready()
    one.feed(b"x")
    assert (one.pieces, one.fed) == ([], 0)


def test_a_piece_that_passes_nothing_was_fed():
    _, one = ready()
    one.pump = lambda data: ()
    one.feed(b"x")
    assert (one.pieces, one.fed) == ([], 1)
