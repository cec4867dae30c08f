"""Kept answers: found again, bounded, never those of other facts."""

from __future__ import annotations

from valetkey.policy.kept import Kept


def test_an_answer_is_found_again():
    kept, facts = Kept[str](), object()
    kept.put((id(facts), "/a"), "here", facts, "/a")
    assert kept.get((id(facts), "/a")) == "here"


def test_another_question_has_no_answer():
    kept, facts = Kept[str](), object()
    kept.put((id(facts), "/a"), "here", facts, "/a")
    assert kept.get((id(facts), "/b")) is None


def test_facts_live_as_long_as_their_answers():
    kept, ids = Kept[str](), set()
    for _ in range(100):
        facts = object()
        kept.put((id(facts),), "here", facts, "")
        ids.add(id(facts))
        del facts
    assert len(ids) == 100


def test_a_long_text_is_not_kept():
    kept, text = Kept[str](), "x" * 257
    kept.put((text,), "here", None, text)
    assert kept.get((text,)) is None


def test_too_many_answers_are_forgotten():
    kept = Kept[str]()
    for number in range(1025):
        kept.put((number,), "here", None, "")
    assert [number for number in range(1025) if kept.get((number,))] == [1024]
