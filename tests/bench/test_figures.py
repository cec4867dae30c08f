from __future__ import annotations

import pytest

from bench.figures import Results, goals, own_share, warnings
from bench.plan import BARE, DIRECT, GATEWAY, STREAM, STREAMING, WHOLE, Load, Plan

LOAD = Load(WHOLE, 16)


def results(load: Load = LOAD, **rounds: list[dict]) -> Results:
    """`bare`, `gateway` and others by name, each a list of measurements at the base URL."""
    found = Results()
    names = {"bare": BARE, "gateway": GATEWAY, "direct": DIRECT, "streaming": STREAMING}
    for name, measurements in rounds.items():
        for each in measurements:
            found.add("base", load, names.get(name, name), each)
    return found


def rates(*values: float) -> list[dict]:
    return [{"rate": value} for value in values]


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    # The medians alone would give 200 / 100.
    assert results(bare=rates(100, 50, 200), gateway=rates(150, 200, 220)).ratio("base", LOAD, "rate") == 1.5


def test_a_stream_is_compared_with_a_mitmdump_that_streams():
    load = Load(STREAM, 16, events=50)
    found = results(load, bare=rates(1), streaming=rates(10), gateway=rates(20))
    assert found.ratio("base", load, "rate") == 2.0


def test_a_round_without_the_figure_does_not_count():
    found = results(bare=[{"rate": 10}, {"rate": None}], gateway=rates(20, 90))
    assert found.ratio("base", LOAD, "rate") == 2.0


def test_a_difference_is_taken_round_by_round():
    assert results(bare=rates(1, 10, 3), gateway=rates(2, 12, 9)).difference("base", LOAD, "rate") == 2


def test_what_was_not_measured_has_no_ratio():
    assert results(gateway=rates(1)).ratio("base", LOAD, "rate") is None


@pytest.mark.parametrize(("receipts", "lost"), [({"ok": 5}, 0), ({"ok": 3, "server": 2}, 2), ({}, 5), ({"ok": 6}, -1)])
def test_only_receipts_that_say_ok_count(receipts, lost):
    found = Results(made={"base": 5}, receipts={"base": receipts})
    assert found.lost("base") == lost


@pytest.mark.parametrize(("gateway", "reached"), [(131, True), (129, False)])
def test_the_goal_at_the_base_url(gateway, reached):
    (goal,) = goals(results(bare=rates(100), gateway=rates(gateway)))
    assert goal.is_reached is reached


def test_too_many_receipts_miss_the_goal():
    found = results(bare=rates(1), gateway=rates(2))
    found.made, found.receipts = {"base": 5}, {"base": {"ok": 6}}
    assert goals(found)[-1].is_reached is False


def test_a_goal_against_a_peer_is_there_when_the_peer_was():
    found = results(bare=rates(1), gateway=rates(80), LiteLLM=rates(10))
    assert [goal.is_reached for goal in goals(found) if "LiteLLM" in goal.text] == [True]


def test_memory_grows_from_the_first_milestone_to_the_last():
    found = results(bare=rates(1), gateway=rates(2))
    found.memory["base", GATEWAY] = {"start": 90.0, "after 1,000 calls": 100.0, "after 10,000 calls": 103.0}
    assert [goal.value for goal in goals(found) if "growth" in goal.text] == [3.0]


@pytest.mark.parametrize(
    ("shares", "word"),
    [
        ({"load": 0.95, "mock": 0.3, "proxy": 0.9}, "load"),
        ({"load": 0.4, "mock": 0.97, "proxy": 0.9}, "mock"),
        ({"load": 0.3, "mock": 0.2, "proxy": 0.5}, "busy"),
    ],
)
def test_a_bottleneck_elsewhere_is_said(shares, word):
    assert [word in text for text in warnings(results(gateway=[{"shares": shares}]))] == [True]


def test_a_busy_proxy_is_as_it_should_be():
    assert warnings(results(gateway=[{"shares": {"load": 0.3, "mock": 0.2, "proxy": 0.99}}])) == []


def test_direct_is_not_warned_about():
    assert warnings(results(direct=[{"shares": {"load": 0.99, "mock": 0.6}}])) == []


def test_whose_time_it_is():
    found = results(direct=[{"p50": 1.0}], bare=[{"p50": 4.0}], gateway=[{"p50": 3.5}])
    assert own_share(found, "base", LOAD) == (1.0, 3.0, -0.5)


@pytest.mark.parametrize(
    ("calls", "milestones"),
    [(0, ()), (20, (20,)), (10_000, (1000, 10_000)), (100_000, (1000, 10_000, 100_000)), (15_000, (1000, 10_000, 15_000))],
)
def test_memory_is_read_after_powers_of_ten(calls, milestones):
    assert Plan(calls=calls).milestones == milestones
