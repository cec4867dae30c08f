"""The health table, cell by cell, and what holds for any sequence of outcomes and times."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.model import Outcome
from valetkey.policy import health as module
from valetkey.policy.health import FOREVER, KEPT, LADDER, PROBE, TABLE, WELL, Condition, Failure, Health, Mark, Place, Scope

NOW = 1_700_000_000.0
HERE = Place("openai/1", "openai", "gpt-4o", "gpt-4o", "https://api.openai.com")
OTHER_KEY = replace(HERE, key="openai/2")
OTHER_MODEL = replace(HERE, model="gpt-5", group="gpt-5")
OTHER_UPSTREAM = replace(HERE, upstream="https://eu.api.openai.com")
NO_KEY = replace(HERE, key=None)

KEY, KEY_MODEL = Scope("key", "openai/1"), Scope("key_model", "openai/1", "gpt-4o")
MODEL, UPSTREAM = Scope("model", "openai", "gpt-4o"), Scope("upstream", "https://api.openai.com")
PROVIDERS_FAULT = (Outcome.SERVER, Outcome.NETWORK, Outcome.TIMEOUT)
NOTHING = (Outcome.CLIENT, Outcome.TOO_LONG, Outcome.POLICY, Outcome.OK, Outcome.GATEWAY, Outcome.SHUTDOWN, Outcome.REFUSED)


def fail(health, outcome, now=NOW, place=HERE, began=None, **more):
    """One failed attempt, which was sent just before (or at `began`)."""
    return health.failed(place, Failure(outcome, now - 0.5 if began is None else began, **more), now)


def failed(*outcomes, step=1.0, **more):
    """A book after these failures, `step` seconds apart; the last one is at NOW."""
    health = Health()
    for at, outcome in enumerate(outcomes, 1 - len(outcomes)):
        fail(health, outcome, NOW + at * step, **more)
    return health


def rests(health, place=HERE, now=NOW):
    """For how many seconds a place is excluded or the last choice."""
    condition = health.condition(place, now)
    return (condition.until or 0.0) - now if condition.excluded or condition.last_choice else 0.0


def ladder(outcome, count, **more):
    """How long each of `count` failures in a row makes a place rest; each comes right after the rest before it."""
    health, now, found = Health(), NOW, []
    for _ in range(count):
        fail(health, outcome, now, **more)
        found.append(rests(health, now=now))
        now += found[-1] + 1.0
    return found


# What is marked, cell by cell.


@pytest.mark.parametrize(
    ("outcome", "count", "scope"),
    [
        (Outcome.THROTTLED, 1, KEY_MODEL),
        (Outcome.QUOTA, 1, KEY_MODEL),
        (Outcome.BAD_KEY, 1, KEY),
        (Outcome.OVERLOADED, 3, MODEL),
        (Outcome.SERVER, 3, UPSTREAM),
        (Outcome.NETWORK, 3, UPSTREAM),
        (Outcome.TIMEOUT, 3, UPSTREAM),
    ],
)
def test_what_an_outcome_marks(outcome, count, scope):
    assert failed(*[outcome] * count).condition(HERE, NOW).scope == scope


@pytest.mark.parametrize("outcome", NOTHING)
def test_what_marks_nothing(outcome):
    assert failed(*[outcome] * 9, stated=60.0).marks() == []


@pytest.mark.parametrize("outcome", NOTHING)
def test_what_marks_nothing_leaves_a_mark_as_it_is(outcome):
    mark = Mark(Outcome.QUOTA, NOW, NOW + 60)
    assert module.after_failure(mark, Failure(outcome, NOW + 1), NOW + 2) is mark


def test_every_outcome_is_in_the_table_or_marks_nothing():
    assert set(Outcome) == TABLE.keys() | set(NOTHING)


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.QUOTA])
@pytest.mark.parametrize("place", [OTHER_KEY, OTHER_MODEL, NO_KEY], ids=["key", "model", "none"])
def test_a_limit_is_one_of_a_key_for_a_model(outcome, place):
    assert failed(outcome).condition(place, NOW) == WELL


def test_models_of_one_quota_group_rest_together():
    health = failed(Outcome.QUOTA, place=replace(HERE, group="group big"))
    assert health.condition(replace(OTHER_MODEL, group="group big"), NOW).excluded


def test_a_bad_key_rests_for_every_model():
    assert failed(Outcome.BAD_KEY).condition(OTHER_MODEL, NOW).excluded


def test_a_bad_key_is_not_the_fault_of_another():
    assert failed(Outcome.BAD_KEY).condition(OTHER_KEY, NOW) == WELL


def test_an_overloaded_model_is_so_for_every_key():
    assert failed(*[Outcome.OVERLOADED] * 3).condition(OTHER_KEY, NOW).last_choice


def test_an_overloaded_model_says_nothing_of_another():
    assert failed(*[Outcome.OVERLOADED] * 3).condition(OTHER_MODEL, NOW) == WELL


@pytest.mark.parametrize("outcome", PROVIDERS_FAULT)
@pytest.mark.parametrize("place", [OTHER_KEY, OTHER_MODEL, NO_KEY], ids=["key", "model", "none"])
def test_an_upstream_that_fails_does_so_for_all(outcome, place):
    assert failed(*[outcome] * 3).condition(place, NOW).last_choice


@pytest.mark.parametrize("outcome", PROVIDERS_FAULT)
def test_an_upstream_that_fails_says_nothing_of_another(outcome):
    assert failed(*[outcome] * 3).condition(OTHER_UPSTREAM, NOW) == WELL


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.QUOTA, Outcome.BAD_KEY])
def test_what_marks_a_key_marks_nothing_without_one(outcome):
    assert fail(Health(), outcome, place=NO_KEY) is None


# How long it rests, cell by cell.


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.QUOTA])
def test_a_stated_time_is_the_rest(outcome):
    assert rests(failed(outcome, stated=42.0)) == pytest.approx(42.0)


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.QUOTA])
def test_a_stated_time_counts_more_than_the_rules(outcome):
    assert rests(failed(outcome, stated=42.0, rest=7.0)) == pytest.approx(42.0)


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.QUOTA])
def test_the_rest_of_the_rule_counts_where_nothing_is_stated(outcome):
    assert rests(failed(outcome, rest=60.0)) == pytest.approx(60.0)


def test_throttled_without_a_time_climbs_the_ladder():
    assert ladder(Outcome.THROTTLED, 7) == pytest.approx([10, 30, 60, 120, 300, 300, 300])


def test_a_throttled_key_climbs_although_times_were_stated():
    health = failed(Outcome.THROTTLED, stated=5.0)
    fail(health, Outcome.THROTTLED, NOW + 6)
    assert rests(health, now=NOW + 6) == pytest.approx(30.0)


def test_a_quota_without_a_time_rests_an_hour_each_time():
    assert ladder(Outcome.QUOTA, 3) == pytest.approx([3600, 3600, 3600])


def test_a_bad_key_rests_five_minutes_whatever_is_stated():
    assert rests(failed(Outcome.BAD_KEY, stated=5.0)) == pytest.approx(300.0)


def test_a_bad_key_is_excluded_while_it_rests():
    assert failed(Outcome.BAD_KEY).condition(HERE, NOW + 299).excluded


def test_a_bad_key_may_be_probed_once_after_its_rest():
    assert failed(Outcome.BAD_KEY).condition(HERE, NOW + 301) == WELL


def test_a_bad_key_is_out_the_second_time():
    health = failed(Outcome.BAD_KEY, Outcome.BAD_KEY, step=301.0)
    assert health.condition(HERE, NOW + 1e9) == Condition(True, until=None, reason=Outcome.BAD_KEY, scope=KEY)


def test_the_page_where_a_person_must_act_is_kept():
    health = failed(Outcome.BAD_KEY, step=301.0, url="https://verify.example")
    assert fail(health, Outcome.BAD_KEY, NOW + 301).url == "https://verify.example"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("outcome", [Outcome.OVERLOADED, *PROVIDERS_FAULT])
def test_twice_in_a_row_means_nothing_yet(outcome, count):
    assert failed(*[outcome] * count, stated=60.0).condition(HERE, NOW) == WELL


def test_overloaded_three_times_rests_ten_seconds():
    assert ladder(Outcome.OVERLOADED, 5) == pytest.approx([0, 0, 10, 10, 10])


def test_overloaded_three_times_rests_as_stated():
    assert ladder(Outcome.OVERLOADED, 3, stated=25.0) == pytest.approx([0, 0, 25])


@pytest.mark.parametrize("outcome", PROVIDERS_FAULT)
def test_an_upstream_climbs_the_ladder_from_the_third_failure(outcome):
    assert ladder(outcome, 8) == pytest.approx([0, 0, 10, 30, 60, 120, 300, 300])


@pytest.mark.parametrize("outcome", PROVIDERS_FAULT)
def test_what_is_stated_for_an_upstream_does_not_count(outcome):
    assert ladder(outcome, 3, stated=999.0) == pytest.approx([0, 0, 10])


def test_the_faults_of_an_upstream_count_together():
    assert rests(failed(*PROVIDERS_FAULT)) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("times", "is_resting"),
    [
        ((0, 30, 60), True),
        ((0, 30, 61), False),
        ((0, 59, 118), False),  # each within 60 s of the one before it, but not three within 60 s
        ((0, 50, 70, 90), True),  # the last three
        ((0, 1, 100, 101), False),
    ],
)
def test_three_failures_within_a_minute_make_an_upstream_rest(times, is_resting):
    health = Health()
    for time in times:
        fail(health, Outcome.SERVER, NOW + time)
    assert (rests(health, now=NOW + times[-1]) > 0) is is_resting


def test_an_upstream_that_is_silent_for_a_minute_after_its_rest_begins_anew():
    health = failed(*[Outcome.SERVER] * 3)
    fail(health, Outcome.SERVER, NOW + 10 + 61)
    assert rests(health, now=NOW + 71) == 0.0


@pytest.mark.parametrize("outcome", [Outcome.OVERLOADED, *PROVIDERS_FAULT])
def test_the_providers_fault_never_excludes(outcome):
    condition = failed(*[outcome] * 9).condition(HERE, NOW)
    assert (condition.excluded, condition.last_choice) == (False, True)


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (Outcome.THROTTLED, False),
        (Outcome.QUOTA, False),
        (Outcome.BAD_KEY, False),
        (Outcome.OVERLOADED, True),
        (Outcome.SERVER, True),
        (Outcome.NETWORK, True),
        (Outcome.TIMEOUT, True),
    ],
)
def test_the_same_key_is_tried_again_only_for_the_providers_fault(outcome, again):
    assert TABLE[outcome].again is again


@pytest.mark.parametrize("stated", [1e12, 31 * 86400.0 + 1])
def test_a_wrong_date_does_not_retire_a_key(stated):
    assert rests(failed(Outcome.THROTTLED, stated=stated)) == pytest.approx(31 * 86400.0)


@pytest.mark.parametrize("stated", [-5.0, float("nan"), float("-inf")])
def test_a_time_that_is_none_is_no_rest(stated):
    assert rests(failed(Outcome.THROTTLED, stated=stated)) == 0.0


def test_what_the_provider_said_is_kept_as_it_was():
    assert fail(Health(), Outcome.THROTTLED, stated=7.0, raw="7s").raw == "7s"


# What changes a rest.


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.QUOTA])
def test_a_longer_rest_is_not_shortened_by_a_shorter(outcome):
    health = failed(outcome, stated=500.0)
    fail(health, outcome, NOW + 10, stated=5.0)
    assert rests(health, now=NOW + 10) == pytest.approx(490.0)


def test_a_throttle_does_not_take_the_place_of_a_longer_quota():
    health = failed(Outcome.QUOTA)
    fail(health, Outcome.THROTTLED, NOW + 10, stated=5.0)
    assert health.condition(HERE, NOW + 10).reason is Outcome.QUOTA


def test_a_shorter_rest_is_prolonged_by_a_longer():
    health = failed(Outcome.THROTTLED, stated=5.0)
    fail(health, Outcome.THROTTLED, NOW + 1, stated=500.0)
    assert rests(health, now=NOW + 1) == pytest.approx(500.0)


def test_what_is_out_stays_out():
    health = failed(Outcome.BAD_KEY, Outcome.BAD_KEY, step=301.0)
    fail(health, Outcome.BAD_KEY, NOW + 1e7)
    assert health.condition(HERE, NOW + 1e9).until is None


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.SERVER, Outcome.OVERLOADED])
def test_success_resets_the_ladder(outcome):
    health, count = Health(), TABLE[outcome].after
    for at in range(count + 2):
        fail(health, outcome, NOW + at)
    health.succeeded(HERE, NOW + 500, NOW + 501)
    for at in range(count):
        fail(health, outcome, NOW + 502 + at)
    assert rests(health, now=NOW + 501 + count) == pytest.approx(10.0)


def test_success_between_failures_breaks_the_row():
    health = failed(Outcome.SERVER, Outcome.SERVER)
    health.succeeded(HERE, NOW + 1, NOW + 2)
    fail(health, Outcome.SERVER, NOW + 3)
    assert health.condition(HERE, NOW + 3) == WELL


def test_success_with_another_key_tells_that_the_upstream_is_well():
    health = failed(*[Outcome.SERVER] * 3)
    health.succeeded(OTHER_KEY, NOW + 1, NOW + 2)
    assert health.condition(HERE, NOW + 3) == WELL


def test_success_with_another_key_says_nothing_of_a_limit():
    health = failed(Outcome.THROTTLED)
    health.succeeded(OTHER_KEY, NOW + 1, NOW + 2)
    assert health.condition(HERE, NOW + 3).excluded


def test_a_success_that_began_before_the_failure_ends_no_rest():
    health = failed(Outcome.THROTTLED, stated=60.0)
    health.succeeded(HERE, NOW - 5, NOW + 1)
    assert rests(health, now=NOW + 1) == pytest.approx(59.0)


def test_a_success_that_began_before_the_failure_does_not_reset_the_ladder():
    health = failed(Outcome.THROTTLED)
    health.succeeded(HERE, NOW - 5, NOW + 20)
    fail(health, Outcome.THROTTLED, NOW + 21)
    assert rests(health, now=NOW + 21) == pytest.approx(30.0)


def test_a_success_that_began_before_the_failure_does_not_break_the_row():
    health = failed(Outcome.SERVER, Outcome.SERVER)
    health.succeeded(HERE, NOW - 5, NOW + 1)
    fail(health, Outcome.SERVER, NOW + 2)
    assert rests(health, now=NOW + 2) == pytest.approx(10.0)


def test_success_ends_a_throttle():
    health = failed(Outcome.THROTTLED, stated=60.0)
    health.succeeded(HERE, NOW + 1, NOW + 2)
    assert health.condition(HERE, NOW + 2) == WELL


def test_success_does_not_clear_a_running_quota_rest():
    health = failed(Outcome.QUOTA)
    health.succeeded(HERE, NOW + 1, NOW + 2)
    assert rests(health, now=NOW + 2) == pytest.approx(3598.0)


def test_success_clears_a_quota_whose_rest_is_over():
    health = failed(Outcome.QUOTA)
    health.succeeded(HERE, NOW + 3601, NOW + 3602)
    assert health.marks() == []


def test_success_of_its_probe_makes_a_bad_key_good():
    health = failed(Outcome.BAD_KEY)
    health.succeeded(HERE, NOW + 301, NOW + 302)
    fail(health, Outcome.BAD_KEY, NOW + 303)
    assert rests(health, now=NOW + 303) == pytest.approx(300.0)


# Failures of one moment.


def test_parallel_failures_climb_the_ladder_once():
    health = failed(Outcome.THROTTLED)
    for at in range(9):
        fail(health, Outcome.THROTTLED, NOW + at / 10, began=NOW - 1)
    fail(health, Outcome.THROTTLED, NOW + 20)
    assert rests(health, now=NOW + 20) == pytest.approx(30.0)


def test_a_parallel_failure_that_comes_late_counts_once_too():
    health = failed(Outcome.THROTTLED)
    fail(health, Outcome.THROTTLED, NOW + 15, began=NOW - 1)
    assert rests(health, now=NOW + 15) == pytest.approx(10.0)


def test_a_call_sent_at_the_moment_of_the_failure_is_parallel():
    health = failed(Outcome.THROTTLED)
    fail(health, Outcome.THROTTLED, NOW + 1, began=NOW)
    assert rests(health, now=NOW + 1) == pytest.approx(10.0)


def test_parallel_failures_do_not_put_a_key_out():
    health = failed(Outcome.BAD_KEY)
    fail(health, Outcome.BAD_KEY, NOW + 1, began=NOW - 1)
    assert health.condition(HERE, NOW + 1).until == pytest.approx(NOW + 301)


def test_parallel_failures_of_an_upstream_are_one_whatever_they_look_like():
    health = failed(Outcome.SERVER)
    fail(health, Outcome.NETWORK, NOW + 1, began=NOW - 1)
    fail(health, Outcome.TIMEOUT, NOW + 2, began=NOW - 1)
    assert health.condition(HERE, NOW + 2) == WELL


def test_a_call_sent_after_a_late_parallel_failure_counts():
    health = failed(Outcome.THROTTLED)
    fail(health, Outcome.THROTTLED, NOW + 50, began=NOW - 1)
    fail(health, Outcome.THROTTLED, NOW + 51, began=NOW + 20)
    assert rests(health, now=NOW + 51) == pytest.approx(30.0)


def test_a_parallel_failure_with_a_longer_time_prolongs():
    health = failed(Outcome.THROTTLED, stated=5.0)
    fail(health, Outcome.THROTTLED, NOW + 1, began=NOW - 1, stated=50.0)
    assert rests(health, now=NOW + 1) == pytest.approx(50.0)


# The one probe.


def probing(outcome=Outcome.THROTTLED, count=1):
    """A place whose rest of 10 s (or 1 h, 5 min) is over and whose probe was sent; gives the moment it was sent."""
    health = failed(*[outcome] * count)
    now = NOW + rests(health) + 1
    health.begins(HERE, now)
    return health, now


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.QUOTA, Outcome.BAD_KEY])
def test_only_one_call_tries_when_a_rest_has_ended(outcome):
    health, now = probing(outcome)
    assert health.condition(HERE, now + 0.1).excluded


@pytest.mark.parametrize("outcome", [Outcome.OVERLOADED, *PROVIDERS_FAULT])
def test_while_a_probe_is_under_way_the_others_prefer_another_upstream(outcome):
    health, now = probing(outcome, 3)
    assert health.condition(HERE, now + 0.1).last_choice


def test_a_call_that_goes_well_needs_no_probe():
    health = failed(Outcome.SERVER)
    health.begins(HERE, NOW + 1)
    assert health.condition(HERE, NOW + 1) == WELL


def test_the_probe_of_a_scope_is_told_as_its_reason():
    health, now = probing()
    assert health.condition(HERE, now) == Condition(True, False, now + PROBE, Outcome.THROTTLED, KEY_MODEL)


def test_a_probe_that_goes_well_frees_the_key():
    health, now = probing()
    health.succeeded(HERE, now, now + 1)
    assert health.condition(HERE, now + 1) == WELL


def test_a_probe_that_fails_begins_the_next_rest():
    health, now = probing()
    fail(health, Outcome.THROTTLED, now + 1, began=now)
    assert rests(health, now=now + 1) == pytest.approx(30.0)


def test_a_probe_that_tells_nothing_lets_the_next_one_try():
    health, now = probing()
    health.abandoned(HERE, now)
    assert health.condition(HERE, now + 0.1) == WELL


def test_who_does_not_know_when_it_began_frees_the_probe_too():
    health, now = probing()
    health.abandoned(HERE)
    assert health.condition(HERE, now + 0.1) == WELL


def test_a_call_that_was_no_probe_does_not_free_it():
    health, now = probing()
    health.abandoned(HERE, NOW - 5)
    assert health.condition(HERE, now + 0.1).excluded


def test_after_a_probe_that_told_nothing_there_is_one_again():
    health, now = probing()
    health.abandoned(HERE, now)
    health.begins(HERE, now + 1)
    assert health.condition(HERE, now + 1.1).excluded


def test_a_probe_that_takes_too_long_lets_the_next_one_try():
    health, now = probing()
    assert health.condition(HERE, now + PROBE + 0.1) == WELL


def test_calls_that_come_all_the_same_do_not_prolong_the_probe():
    health, now = probing(Outcome.SERVER, 3)
    health.begins(HERE, now + 4)
    assert health.condition(HERE, now + PROBE + 0.1) == WELL


# Several scopes, and what a person says.


def test_the_worst_scope_decides():
    health = failed(Outcome.THROTTLED)
    for at in range(3):
        fail(health, Outcome.SERVER, NOW + at)
    assert health.condition(HERE, NOW + 2).reason is Outcome.THROTTLED


@pytest.mark.parametrize(("limit", "longer"), [(Outcome.THROTTLED, Outcome.BAD_KEY), (Outcome.QUOTA, Outcome.QUOTA)])
def test_of_two_rests_the_longer_decides(limit, longer):
    health = failed(limit)
    fail(health, Outcome.BAD_KEY)
    assert health.condition(HERE, NOW).reason is longer


def test_a_key_that_is_out_counts_more_than_any_rest():
    health = failed(Outcome.BAD_KEY, Outcome.BAD_KEY, step=301.0)
    fail(health, Outcome.QUOTA, stated=FOREVER)
    assert health.condition(HERE, NOW).until is None


def test_a_disabled_key_is_not_used():
    health = Health()
    health.disable("openai/1")
    assert health.condition(HERE, NOW) == Condition(True, until=None, scope=KEY)


def test_a_disabled_key_is_known():
    health = Health()
    health.disable("openai/1")
    assert [health.is_disabled(key) for key in ("openai/1", "openai/2")] == [True, False]


def test_success_does_not_enable_a_disabled_key():
    health = Health()
    health.disable("openai/1")
    health.succeeded(HERE, NOW, NOW)
    assert health.condition(HERE, NOW).excluded


@pytest.mark.parametrize("act", [Health.enable, Health.reset])
def test_a_person_lets_a_disabled_key_be_used(act):
    health = Health()
    health.disable("openai/1")
    act(health, "openai/1")
    assert health.condition(HERE, NOW) == WELL


@pytest.mark.parametrize("act", [Health.enable, Health.reset])
def test_a_person_brings_back_a_key_that_was_out(act):
    health = failed(Outcome.BAD_KEY, Outcome.BAD_KEY, step=301.0)
    act(health, "openai/1")
    assert health.condition(HERE, NOW) == WELL


def test_enabling_a_key_ends_no_rest():
    health = failed(Outcome.QUOTA)
    health.enable("openai/1")
    assert health.condition(HERE, NOW).excluded


def test_resetting_a_key_ends_its_rests():
    health = failed(Outcome.QUOTA)
    health.reset("openai/1")
    assert health.condition(HERE, NOW) == WELL


def test_resetting_a_key_leaves_others_and_the_upstream():
    health = failed(*[Outcome.SERVER] * 3)
    fail(health, Outcome.QUOTA, place=OTHER_KEY)
    health.reset("openai/1")
    assert {scope for scope, _ in health.marks()} == {UPSTREAM, replace(KEY_MODEL, name="openai/2")}


def test_the_marks_of_a_key_are_its_own_and_those_of_its_models():
    health = failed(Outcome.QUOTA)
    fail(health, Outcome.BAD_KEY)
    fail(health, Outcome.QUOTA, place=OTHER_KEY)
    fail(health, Outcome.SERVER)
    assert {scope for scope, _ in health.marks_of("openai/1")} == {KEY, KEY_MODEL}


def test_old_strikes_are_forgotten():
    health = failed(Outcome.THROTTLED)
    health.sweep(NOW + 11 + KEPT)
    assert health.marks() == []


def test_a_strike_counts_until_it_is_old():
    health = failed(Outcome.THROTTLED)
    health.sweep(NOW + KEPT)
    assert health.marks() != []


def test_a_key_that_is_out_is_never_forgotten():
    health = failed(Outcome.BAD_KEY, Outcome.BAD_KEY, step=301.0)
    health.sweep(NOW + 1e9)
    assert health.condition(HERE, NOW + 1e9).excluded


def crowd(monkeypatch, outcome, **more):
    """A book that is full of models, and one more that fails a minute later."""
    monkeypatch.setattr(module, "LIMIT", 5)
    health = Health()
    for number in range(5):
        fail(health, outcome, place=replace(HERE, group=f"made-up-{number}"), **more)
    fail(health, Outcome.BAD_KEY, NOW)
    fail(health, outcome, NOW + 60, place=OTHER_KEY)
    return health


def test_names_that_agents_make_up_do_not_fill_the_memory(monkeypatch):
    assert len(crowd(monkeypatch, Outcome.THROTTLED).marks()) == 2


def test_no_running_rest_is_forgotten_to_save_memory(monkeypatch):
    assert len(crowd(monkeypatch, Outcome.QUOTA).marks()) == 7


# Over a restart.


def kept(health):
    """What a store gives back of everything that changed."""
    return {name: document for name, document in json.loads(json.dumps(health.changes())).items() if document is not None}


def restarted(health, now=NOW):
    fresh = Health()
    fresh.load(kept(health), health.disabled(), now)
    return fresh


@pytest.mark.parametrize("outcome", list(TABLE))
def test_a_rest_survives_a_restart(outcome):
    health = failed(*[outcome] * 3, stated=50.0, raw="50s", url="https://a.example")
    assert restarted(health).condition(HERE, NOW) == health.condition(HERE, NOW)


@pytest.mark.parametrize("outcome", list(TABLE))
def test_a_mark_survives_a_restart_as_it_was(outcome):
    health = failed(*[outcome] * 2, stated=50.0, raw="50s", url="https://a.example")
    assert restarted(health).marks() == health.marks()


def test_failures_in_a_row_count_over_a_restart():
    health = restarted(failed(Outcome.SERVER, Outcome.SERVER))
    fail(health, Outcome.SERVER, NOW + 1)
    assert rests(health, now=NOW + 1) == pytest.approx(10.0)


def test_a_restart_does_not_make_old_failures_new():
    health = restarted(failed(*[Outcome.SERVER] * 3), NOW + 100)
    fail(health, Outcome.SERVER, NOW + 101)
    assert health.condition(HERE, NOW + 101) == WELL


def test_a_key_that_is_out_is_so_after_a_restart():
    assert restarted(failed(Outcome.BAD_KEY, Outcome.BAD_KEY, step=301.0)).condition(HERE, NOW).until is None


def test_a_disabled_key_is_so_after_a_restart():
    health = Health()
    health.disable("openai/1")
    assert restarted(health).condition(HERE, NOW).excluded


def test_a_model_name_with_a_tab_survives_a_restart():
    odd = replace(HERE, group="a\tb")
    assert restarted(failed(Outcome.QUOTA, place=odd)).condition(odd, NOW).excluded


def test_what_changed_is_told_once():
    health = failed(Outcome.THROTTLED)
    health.changes()
    assert health.changes() == {}


def test_what_is_gone_is_told():
    health = failed(Outcome.THROTTLED)
    health.changes()
    health.reset("openai/1")
    assert health.changes() == {str(KEY_MODEL): None}


def test_a_probe_does_not_survive_a_restart():
    health = failed(Outcome.THROTTLED)
    health.begins(HERE, NOW + 11)
    fresh = Health()
    fresh.load(kept(health), {}, NOW + 11)
    assert fresh.condition(HERE, NOW + 11) == WELL


@pytest.mark.parametrize("jump", [-1e9, -3600.0, -1.0])
def test_a_clock_that_went_back_does_not_lengthen_a_rest(jump):
    health = failed(Outcome.THROTTLED, stated=60.0)
    assert rests(restarted(health, NOW + jump), now=NOW + jump) == pytest.approx(60.0)


def test_a_clock_that_went_back_while_running_does_not_lengthen_a_rest():
    assert Mark(Outcome.QUOTA, NOW, NOW + 60).left(NOW - 1e6) == pytest.approx(60.0)


def test_a_clock_that_went_back_does_not_lengthen_the_rest_of_a_late_parallel_failure():
    health = failed(Outcome.THROTTLED)
    fail(health, Outcome.THROTTLED, NOW + 500, began=NOW - 1)
    assert rests(restarted(health, NOW - 1e6), now=NOW - 1e6) == pytest.approx(10.0)


def test_a_clock_that_went_forward_ends_a_rest():
    assert restarted(failed(Outcome.QUOTA), NOW + 1e6).condition(HERE, NOW + 1e6) == WELL


def test_a_rest_that_ran_on_during_the_restart_is_shorter():
    assert rests(restarted(failed(Outcome.QUOTA), NOW + 600), now=NOW + 600) == pytest.approx(3000.0)


GOOD = {"reason": "quota", "since": NOW, "until": NOW + 60, "strikes": 1}


def loaded(name, document):
    health = Health()
    health.load({name: document}, (), NOW)
    return health


def test_the_least_that_makes_a_mark():
    assert rests(loaded(str(KEY_MODEL), GOOD)) == pytest.approx(60.0)


@pytest.mark.parametrize("name", ["", "key", "key\topenai/1", "planet\topenai/1\t", "key_model openai/1 gpt-4o"])
def test_a_name_that_is_no_scope_is_left_out(name):
    assert loaded(name, GOOD).marks() == []


@pytest.mark.parametrize(
    "document",
    [
        None,
        5,
        "quota",
        [],
        [GOOD],
        {},
        {"reason": "quota"},
        *[GOOD | {"reason": reason} for reason in (None, [], "ok", "client", "tired")],
        *[GOOD | {field: value} for field in ("since", "until") for value in (None, "1", [], True, 10**400, float("nan"))],
        *[GOOD | {"until": value} for value in (float("inf"), float("-inf"))],
        *[GOOD | {"strikes": value} for value in (None, "3", -1, 0, 10**400, float("nan"))],
        *[GOOD | {"recent": value} for value in (5, "abc", {}, [None], [10**400])],
        GOOD | {"length": "long"},
    ],
    ids=repr,
)
def test_garbage_is_left_out(document):
    assert loaded(str(KEY_MODEL), document).marks() == []


def test_garbage_does_not_hide_what_is_well():
    health = Health()
    health.load({"x": 5, str(KEY): GOOD | {"reason": "bad_key"}}, (), NOW)
    assert health.condition(HERE, NOW).excluded


@given(
    st.dictionaries(st.text() | st.just(str(KEY_MODEL)), st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.sampled_from([str(one) for one in Outcome]),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["reason", "since", "until", "strikes", "out", "recent", "length", "raw", "url"]), inner
        ),
    ))
)  # fmt: skip
def test_no_garbage_breaks_the_book(documents):
    health = Health()
    health.load(documents, (), NOW)
    fail(health, Outcome.THROTTLED, NOW + 1)
    assert 0 <= rests(health, now=NOW + 1) <= FOREVER


# Whatever comes.

STEPS = st.lists(
    st.tuples(
        st.sampled_from(list(Outcome)),
        st.floats(0, 4000) | st.floats(0, 3 * KEPT),  # seconds since the step before
        st.none() | st.floats(0, 90) | st.floats(0, 1e10),  # stated
        st.floats(0, 900),  # how long the attempt took
        st.sampled_from([HERE, OTHER_KEY, OTHER_MODEL, NO_KEY]),
    ),
    max_size=25,
)


def step(health, now, move):
    outcome, _, stated, took, place = move
    if outcome is Outcome.OK:
        health.succeeded(place, now - took, now)
    else:
        health.begins(place, now - took)
        health.failed(place, Failure(outcome, now - took, stated), now)
        health.abandoned(place, now - took)


def played(moves):
    health, now = Health(), NOW
    for move in moves:
        now += move[1]
        step(health, now, move)
    return health, now


@given(STEPS)
def test_no_failure_shortens_a_rest(moves):
    health, now = Health(), NOW
    for move in moves:
        now += move[1]
        before = {scope: mark.left(now) for scope, mark in health.marks()}
        step(health, now, move)
        after = {scope: mark.left(now) for scope, mark in health.marks()}
        if move[0] is not Outcome.OK:
            assert all(after[scope] >= left - 1e-3 for scope, left in before.items())


@given(STEPS, st.floats(0, 4000), st.floats(0, 900))
def test_no_success_shortens_a_rest_that_began_after_it_or_is_a_quota(moves, later, took):
    health, now = played(moves)
    now += later
    kept = {
        scope for scope, mark in health.marks() if mark.left(now) and (mark.reason is Outcome.QUOTA or now - took <= mark.since)
    }
    health.succeeded(HERE, now - took, now)
    assert kept <= {scope for scope, _ in health.marks()}


@given(STEPS)
def test_no_failure_brings_back_what_is_out(moves):
    health, now = failed(Outcome.BAD_KEY, Outcome.BAD_KEY, step=301.0), NOW
    for move in moves:
        now += move[1]
        if move[0] is not Outcome.OK:
            step(health, now, move)
        assert health.condition(HERE, now).until is None


@given(STEPS)
def test_no_key_is_lost(moves):
    health, now = played(moves)
    end = now + FOREVER + PROBE + 1
    for place in (HERE, OTHER_KEY, OTHER_MODEL):
        assert health.condition(place, end) == WELL or any(mark.out for _, mark in health.marks_of(place.key or ""))


@given(STEPS)
def test_a_condition_changes_at_the_moment_it_names(moves):
    health, now = played(moves)
    until = now
    for _ in range(9):  # one scope after the other
        condition = health.condition(HERE, until)
        if condition.until is None or condition == WELL:
            return
        assert condition.until > until
        until = condition.until
    raise AssertionError(condition)


@given(STEPS, st.floats(-1e9, 1e9))
def test_what_is_left_is_never_negative_nor_longer_than_a_month(moves, jump):
    health, now = played(moves)
    assert all(0 <= mark.left(now + jump) <= 31 * 86400 for _, mark in health.marks())


@given(STEPS)
def test_a_key_that_rests_for_its_own_fault_is_excluded(moves):
    health, now = played(moves)
    resting = any(mark.left(now) or mark.out for scope, mark in health.marks() if scope in (KEY, KEY_MODEL))
    assert health.condition(HERE, now).excluded is resting


@given(STEPS, st.floats(-1e7, 1e7))
def test_a_restart_keeps_every_mark_and_prolongs_no_rest_beyond_its_length(moves, jump):
    health, now = played(moves)
    lengths = {scope: mark.length for scope, mark in health.marks()}
    after = {scope: mark.left(now + jump) for scope, mark in restarted(health, now + jump).marks()}
    assert after.keys() == lengths.keys() and all(left <= lengths[scope] + 1e-3 for scope, left in after.items())


@given(STEPS, st.floats(0, 1e7))
def test_a_restart_that_took_time_takes_it_off_every_rest(moves, jump):
    health, now = played(moves)
    before = {scope: mark.left(now + jump) for scope, mark in health.marks()}
    assert {scope: mark.left(now + jump) for scope, mark in restarted(health, now + jump).marks()} == pytest.approx(before)


@given(STEPS)
def test_a_restart_at_the_same_time_changes_nothing(moves):
    health, now = played(moves)
    again = restarted(health, now)
    assert {scope: mark.left(now) for scope, mark in again.marks()} == pytest.approx(
        {scope: mark.left(now) for scope, mark in health.marks()}
    )


def test_the_ladder_is_the_documented_one():
    assert LADDER == (10.0, 30.0, 60.0, 120.0, 300.0)


def test_where_nothing_is_known_all_is_calm():
    assert Health().is_calm


def test_a_mark_ends_the_calm():
    assert not failed(Outcome.QUOTA).is_calm


def test_a_disabled_key_ends_the_calm():
    health = Health()
    health.disable("openai/1")
    assert not health.is_calm
