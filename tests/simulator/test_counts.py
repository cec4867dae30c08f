from __future__ import annotations

from valetkey.simulator.counts import Counts


def counted():
    counts = Counts()
    for key, what in [
        ("sk-real-AAAA", "200"),
        ("sk-real-AAAA", "429"),
        ("sk-real-BBBB", "200"),
        (None, "401"),
        ("sk-real-AAAA", "200"),
    ]:
        counts.add(key, what)
    counts.finished()
    return counts


def test_requests_are_counted_by_key_and_answer():
    assert counted().by == {("AAAA", "200"): 2, ("AAAA", "429"): 1, ("BBBB", "200"): 1, ("none", "401"): 1}


def test_no_more_of_a_credential_is_kept():
    assert "real" not in str(counted().shown())


def test_all_requests_are_counted():
    assert counted().total == 5


def test_requests_are_counted_by_answer():
    assert counted().what() == {"200": 3, "429": 1, "401": 1}


def test_complete_answers_are_counted():
    assert counted().complete == 1


def test_they_are_shown_by_key():
    assert counted().shown() == {
        "total": 5,
        "complete": 1,
        "keys": {"AAAA": {"200": 2, "429": 1}, "BBBB": {"200": 1}, "none": {"401": 1}},
    }


def test_they_begin_again():
    counts = counted()
    counts.clear()
    assert counts.shown() == {"total": 0, "complete": 0, "keys": {}}
