"""What is known of the use of each key: windows, remaining, score and bucket."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.model import Key, Outcome, Window
from valetkey.policy.gauges import Gauges, window_end

KEY = Key("openai/1", "openai", "1")
ROLLING, PROVIDER = Window("rolling", 3600.0), Window("provider", 3600.0)
DAILY, WEEKLY, MONTHLY = Window("daily"), Window("weekly"), Window("monthly")
NOW = 1_700_000_000.0
NOT_THE_KEYS_FAULT = (Outcome.SERVER, Outcome.NETWORK, Outcome.TIMEOUT, Outcome.OVERLOADED)
ITS_USE = (Outcome.OK, Outcome.THROTTLED, Outcome.QUOTA, Outcome.BAD_KEY, Outcome.CLIENT, Outcome.TOO_LONG, Outcome.POLICY)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def figures(gauges, now=NOW, window=ROLLING, group="gpt-4o"):
    return gauges.candidate(KEY, group, window, 0, now)


def used(*times, window=ROLLING):
    """A key that was used at these times."""
    gauges = Gauges()
    for time in times:
        gauges.began("openai/1", "gpt-4o", window, time)
    return gauges


def ended(*outcomes, now=NOW):
    gauges = used(*[now] * len(outcomes))
    for outcome in outcomes:
        gauges.ended("openai/1", "gpt-4o", outcome, now)
    return gauges


# Windows.


@pytest.mark.parametrize(
    ("window", "begun", "end"),
    [
        (ROLLING, "2026-03-04T12:00:00", "2026-03-04T13:00:00"),
        (PROVIDER, "2026-03-04T12:00:00", "2026-03-04T13:00:00"),
        (DAILY, "2026-03-04T12:00:00", "2026-03-05T03:00:00"),
        (DAILY, "2026-03-04T02:59:59", "2026-03-04T03:00:00"),
        (DAILY, "2026-03-04T03:00:00", "2026-03-05T03:00:00"),
        (DAILY, "2026-12-31T23:00:00", "2027-01-01T03:00:00"),
        (WEEKLY, "2026-03-04T12:00:00", "2026-03-08T03:00:00"),  # a Wednesday
        (WEEKLY, "2026-03-07T23:59:59", "2026-03-08T03:00:00"),  # a Saturday
        (WEEKLY, "2026-03-08T02:59:59", "2026-03-08T03:00:00"),  # a Sunday
        (WEEKLY, "2026-03-08T03:00:00", "2026-03-15T03:00:00"),
        (MONTHLY, "2026-03-04T12:00:00", "2026-04-01T03:00:00"),
        (MONTHLY, "2026-03-01T02:59:59", "2026-03-01T03:00:00"),
        (MONTHLY, "2026-03-01T03:00:00", "2026-04-01T03:00:00"),
        (MONTHLY, "2026-01-31T12:00:00", "2026-02-01T03:00:00"),
        (MONTHLY, "2026-12-31T12:00:00", "2027-01-01T03:00:00"),
        (MONTHLY, "2028-02-29T12:00:00", "2028-03-01T03:00:00"),
    ],
)
def test_when_a_window_ends(window, begun, end):
    assert window_end(window, at(begun)) == at(end)


@given(st.sampled_from([ROLLING, PROVIDER, DAILY, WEEKLY, MONTHLY]), st.floats(0, 4e9))
def test_a_window_ends_after_it_begins_and_within_31_days(window, begun):
    assert 0 < window_end(window, begun) - begun <= 31 * 86400


@pytest.mark.parametrize("window", [ROLLING, PROVIDER, DAILY, WEEKLY, MONTHLY], ids=lambda window: window.kind)
def test_calls_count_until_the_window_ends(window):
    gauges = used(NOW, NOW + 1, window=window)
    assert figures(gauges, window_end(window, NOW) - 1, window).used == 2


@pytest.mark.parametrize("window", [ROLLING, PROVIDER, DAILY, WEEKLY, MONTHLY], ids=lambda window: window.kind)
def test_calls_do_not_count_in_the_next_window(window):
    gauges = used(NOW, NOW + 1, window=window)
    assert figures(gauges, window_end(window, NOW), window).used == 0


@pytest.mark.parametrize("window", [ROLLING, PROVIDER, DAILY, WEEKLY, MONTHLY], ids=lambda window: window.kind)
def test_the_next_window_counts_from_one(window):
    gauges = used(NOW, NOW + 1, window_end(window, NOW) + 5, window=window)
    assert figures(gauges, window_end(window, NOW) + 6, window).used == 1


def test_a_rolling_window_begins_with_its_first_call():
    gauges = used(NOW, NOW + 3000, NOW + 5000)
    assert figures(gauges, NOW + 5000 + 3599).used == 1


def test_the_window_of_the_provider_ends_when_it_says():
    gauges = used(NOW, window=PROVIDER)
    gauges.stated("openai/1", 0.5, "requests", 60.0, NOW)
    assert [figures(gauges, NOW + later, PROVIDER).used for later in (59, 60)] == [1, 0]


def test_a_reset_before_the_window_began_says_nothing_of_its_end():
    gauges = used(window=PROVIDER)
    gauges.stated("openai/1", 0.5, "requests", 60.0, NOW)
    gauges.began("openai/1", "gpt-4o", PROVIDER, NOW + 100)
    assert [figures(gauges, NOW + 100 + later, PROVIDER).used for later in (3599, 3600)] == [1, 0]


def test_what_the_provider_says_does_not_end_other_windows():
    gauges = used(NOW, window=DAILY)
    gauges.stated("openai/1", 0.5, "requests", 60.0, NOW)
    assert figures(gauges, NOW + 61, DAILY).used == 1


def test_a_shorter_window_holds_at_once_after_a_reload():
    assert figures(used(NOW, window=MONTHLY), NOW + 3601, ROLLING).used == 0


def test_each_group_is_counted_by_itself():
    gauges = used(NOW)
    gauges.began("openai/1", "group big", ROLLING, NOW)
    assert (figures(gauges).used, figures(gauges, group="group big").used, figures(gauges, group="gpt-5").used) == (1, 1, 0)


def test_the_highest_count_survives_the_window():
    gauges = used(NOW, NOW + 1, NOW + 2, NOW + 4000)
    assert gauges.of("openai/1").counts["gpt-4o"].most == 3


def test_names_that_agents_make_up_do_not_fill_the_memory():
    gauges = Gauges()
    for number in range(1000):
        gauges.began("openai/1", f"made-up-{number}", ROLLING, NOW)
    assert len(gauges.of("openai/1").counts) <= 256


def test_a_key_that_nobody_used_has_no_use():
    assert (figures(Gauges()).used, figures(Gauges()).last) == (0, 0.0)


def test_when_a_key_was_last_used():
    assert figures(used(NOW, NOW + 5), NOW + 9).last == NOW + 5


def test_every_call_counts_in_the_sum():
    assert used(NOW, NOW + 1, NOW + 1e7).of("openai/1").used == 3


# What counts as use.


@pytest.mark.parametrize("outcome", ITS_USE)
def test_a_call_that_the_provider_answered_is_use(outcome):
    assert figures(ended(outcome)).used == 1


@pytest.mark.parametrize("outcome", NOT_THE_KEYS_FAULT)
def test_server_and_connection_errors_are_no_use(outcome):
    assert figures(ended(outcome)).used == 0


def test_what_began_in_an_earlier_window_is_not_taken_off_this_one():
    gauges = used(NOW, NOW + 4000)
    gauges.ended("openai/1", "gpt-4o", Outcome.SERVER, NOW + 4001, NOW)
    assert figures(gauges, NOW + 4001).used == 1


def test_what_began_in_this_window_is_taken_off():
    gauges = used(NOW, NOW + 4000)
    gauges.ended("openai/1", "gpt-4o", Outcome.SERVER, NOW + 4001, NOW + 4000)
    assert figures(gauges, NOW + 4001).used == 0


def test_use_never_falls_below_nothing():
    gauges = used(NOW)
    for _ in range(3):
        gauges.ended("openai/1", "gpt-4o", Outcome.SERVER, NOW)
    assert figures(gauges).used == 0


@given(st.lists(st.tuples(st.sampled_from(ITS_USE + NOT_THE_KEYS_FAULT), st.floats(0, 30)), max_size=50))
def test_what_is_used_is_what_was_answered(calls):
    gauges, now = Gauges(), NOW
    for outcome, later in calls:
        gauges.began("openai/1", "gpt-4o", ROLLING, now)
        now += later
        gauges.ended("openai/1", "gpt-4o", outcome, now)
    assert figures(gauges, now).used == len([outcome for outcome, _ in calls if outcome in ITS_USE])


# What remains.


def stated(share=0.25, resets_in=60.0):
    gauges = Gauges()
    gauges.stated("openai/1", share, "requests", resets_in, NOW)
    return gauges


def test_what_nobody_stated_is_unknown():
    assert figures(used(NOW)).remaining is None


@pytest.mark.parametrize(("resets_in", "later", "remaining"), [(60.0, 59, 0.25), (60.0, 60, None), (9000.0, 8999, 0.25)])
def test_what_remains_is_believed_until_it_resets(resets_in, later, remaining):
    assert figures(stated(resets_in=resets_in), NOW + later).remaining == remaining


@pytest.mark.parametrize(("later", "remaining"), [(299, 0.0), (300, None)])
def test_what_remains_without_a_reset_is_believed_for_five_minutes(later, remaining):
    assert figures(stated(0.0, None), NOW + later).remaining == remaining


def test_how_old_a_statement_is():
    assert figures(stated(), NOW + 7).age == pytest.approx(7.0)


def test_the_latest_statement_counts():
    gauges = stated()
    gauges.stated("openai/1", 0.75, "tokens", None, NOW + 1)
    assert (figures(gauges, NOW + 100).remaining, gauges.of("openai/1").dimension) == (0.75, "tokens")


# Score and bucket, as the hybrid rotation has them.


@pytest.mark.parametrize(
    ("outcomes", "score"),
    [
        ((), 70),
        ((Outcome.OK,), 71),
        ((Outcome.THROTTLED,), 60),
        ((Outcome.QUOTA,), 60),
        ((Outcome.BAD_KEY,), 50),
        ((Outcome.CLIENT,), 70),
        ((Outcome.TOO_LONG,), 70),
        ((Outcome.POLICY,), 70),
        *[((outcome,), 70) for outcome in NOT_THE_KEYS_FAULT],
        ((Outcome.THROTTLED, Outcome.OK), 61),
        ((Outcome.OK,) * 40, 100),
        ((Outcome.BAD_KEY,) * 9, 0),
    ],
)
def test_the_score(outcomes, score):
    assert figures(ended(*outcomes)).score == pytest.approx(score)


@pytest.mark.parametrize(("hours", "score"), [(0, 50), (1, 60), (2.5, 75), (99, 100)])
def test_the_score_recovers_by_ten_an_hour(hours, score):
    assert figures(ended(Outcome.BAD_KEY), NOW + hours * 3600).score == pytest.approx(score)


def test_what_comes_after_a_recovery_counts_from_there():
    gauges = ended(Outcome.BAD_KEY)
    gauges.ended("openai/1", "gpt-4o", Outcome.THROTTLED, NOW + 3600)
    assert figures(gauges, NOW + 3600).score == pytest.approx(50)


def test_a_new_key_has_a_full_bucket_and_the_first_score():
    assert (figures(Gauges()).tokens, figures(Gauges()).score) == (1.0, 70.0)


@pytest.mark.parametrize(("calls", "fill"), [(0, 1.0), (1, 0.98), (25, 0.5), (50, 0.0), (60, 0.0)])
def test_the_bucket_holds_fifty_calls(calls, fill):
    assert figures(used(*[NOW] * calls)).tokens == pytest.approx(fill)


@pytest.mark.parametrize(("seconds", "tokens"), [(10, 1), (60, 6), (300, 30), (9999, 50)])
def test_the_bucket_fills_by_six_a_minute(seconds, tokens):
    assert figures(used(*[NOW] * 50), NOW + seconds).tokens == pytest.approx(tokens / 50)


def test_a_call_takes_from_what_has_been_filled():
    assert figures(used(*[NOW] * 50, NOW + 60), NOW + 60).tokens == pytest.approx(5 / 50)


@pytest.mark.parametrize("outcome", NOT_THE_KEYS_FAULT)
def test_a_failed_request_gives_its_token_back(outcome):
    assert figures(ended(outcome)).tokens == pytest.approx(1.0)


def test_a_failed_request_gives_one_token_back():
    gauges = used(*[NOW] * 25)
    gauges.ended("openai/1", "gpt-4o", Outcome.SERVER, NOW)
    assert figures(gauges).tokens == pytest.approx(26 / 50)


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.THROTTLED])
def test_an_answered_request_gives_no_token_back(outcome):
    assert figures(ended(outcome)).tokens == pytest.approx(0.98)


@given(st.lists(st.tuples(st.sampled_from(list(Outcome)), st.booleans(), st.floats(0, 1e5)), max_size=80))
def test_the_figures_stay_within_their_bounds(moves):
    gauges, now = Gauges(), NOW
    for outcome, begins, later in moves:
        now += later
        if begins:
            gauges.began("openai/1", "gpt-4o", ROLLING, now)
        else:
            gauges.ended("openai/1", "gpt-4o", outcome, now)
    found = figures(gauges, now)
    assert 0 <= found.score <= 100 and 0 <= found.tokens <= 1 and found.used >= 0 and found.last <= now


# Over a restart.


def kept(gauges):
    return json.loads(json.dumps(gauges.changes()))


def restarted(gauges, now=NOW):
    fresh = Gauges()
    fresh.load(kept(gauges), now)
    return fresh


def test_use_survives_a_restart():
    found = figures(restarted(used(NOW - 2, NOW - 1)))
    assert (found.used, found.last) == (2, NOW - 1)


def test_the_end_of_a_window_survives_a_restart():
    assert figures(restarted(used(NOW)), NOW + 3600).used == 0


def test_the_sum_and_the_highest_count_survive_a_restart():
    gauge = restarted(used(NOW - 1, NOW)).of("openai/1")
    assert (gauge.used, gauge.counts["gpt-4o"].most) == (2, 2)


@pytest.mark.parametrize("resets_in", [60.0, None])
def test_what_remains_survives_a_restart(resets_in):
    before, after = figures(stated(resets_in=resets_in), NOW + 9), figures(restarted(stated(resets_in=resets_in)), NOW + 9)
    assert (after.remaining, after.age) == (before.remaining, before.age)


def test_a_failure_that_is_taken_back_is_so_after_a_restart():
    gauges = used(NOW)
    gauges.changes()
    gauges.ended("openai/1", "gpt-4o", Outcome.SERVER, NOW)
    assert gauges.changes()["openai/1"]["counts"]["gpt-4o"][2] == 0


def test_what_changed_is_told_once():
    gauges = used(NOW)
    gauges.changes()
    assert gauges.changes() == {}


def test_a_forgotten_key_is_told():
    gauges = used(NOW)
    gauges.changes()
    gauges.forget("openai/1")
    assert (gauges.changes(), figures(gauges).used) == ({"openai/1": None}, 0)


def test_a_clock_that_went_back_does_not_put_the_last_use_in_the_future():
    assert figures(restarted(used(NOW), NOW - 1e6), NOW - 1e6).last == NOW - 1e6


def test_a_clock_that_went_back_begins_a_new_window():
    assert figures(restarted(used(NOW), NOW - 1e6), NOW - 1e6).used == 0


def test_what_was_stated_by_a_clock_that_went_back_is_unknown():
    assert figures(restarted(stated(), NOW - 1e6), NOW - 1e6).remaining is None


GOOD = {"last": NOW, "used": 3, "counts": {"gpt-4o": [NOW, NOW + 3600, 3, 3]}}


def loaded(document):
    gauges = Gauges()
    gauges.load({"openai/1": document}, NOW)
    return figures(gauges)


def test_the_least_that_makes_a_gauge():
    assert (loaded(GOOD).used, loaded(GOOD).remaining) == (3, None)


@pytest.mark.parametrize(
    "document",
    [
        None,
        5,
        [],
        {},
        *[GOOD | {"last": value} for value in (None, "1", [], float("nan"), float("inf"), 10**400, -1, 1e300)],
        *[GOOD | {"used": value} for value in (None, "1", -1, float("nan"), 10**400)],
        *[GOOD | {"counts": value} for value in (None, 5, [], {"gpt-4o": 5}, {"gpt-4o": [1, 2, 3]}, {"gpt-4o": "abcd"})],
        *[GOOD | {"counts": {"gpt-4o": [value, NOW, 1, 1]}} for value in (float("nan"), 1e300, 10**400, -1e300, None)],
        *[GOOD | {"counts": {"gpt-4o": [NOW, NOW, value, 1]}} for value in (-5, float("inf"), "1")],
        *[GOOD | {"stated": value} for value in (5, [1], [2, "x", "y", "z"], [0.5, "x", float("nan"), 0], "abcd")],
    ],
    ids=repr,
)
def test_garbage_is_left_out(document):
    assert loaded(document) == figures(Gauges())


@given(
    st.dictionaries(st.sampled_from(["last", "used", "counts", "stated"]), st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner, min_size=4, max_size=4) | st.dictionaries(st.just("gpt-4o"), inner),
    ))
)  # fmt: skip
def test_no_garbage_breaks_the_gauges(document):
    gauges = Gauges()
    gauges.load({"openai/1": document}, NOW)
    gauges.began("openai/1", "gpt-4o", MONTHLY, NOW + 1)
    assert figures(gauges, NOW + 1, MONTHLY).used >= 1
