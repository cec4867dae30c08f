"""The state of all pools: what beginning, failing, answering and ending an attempt change, and what is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import rules
from valetkey.model import Key, Outcome
from valetkey.policy.health import PROBE, TABLE, WELL, Failure, Place
from valetkey.policy.pools import Pools, group_of, place_of

NOW = 1_700_000_000.0
OPENAI = rules().providers["openai"]
KEY = Key("openai/1", "openai", "1")
PLACE = place_of(OPENAI, "gpt-4o", KEY)


def begun(pools=None, now=NOW, place=PLACE, limit=None):
    """An attempt under way."""
    pools = pools or Pools()
    return pools, pools.began(OPENAI, place, pools.slots.take(place.key, limit) if place.key else None, now)


def failed(outcome, now=NOW, pools=None, **more):
    pools, use = begun(pools, now)
    pools.failed(use, Failure(outcome, now, **more), now + 0.5)
    return pools


def gauge(pools, now=NOW + 1):
    return pools.gauges.candidate(KEY, "gpt-4o", OPENAI.window, 0, now)


# Places.


@pytest.mark.parametrize(
    ("model", "group"),
    [
        ("claude-opus-4", "group claude"),
        ("Claude-Sonnet-4", "group claude"),
        ("claude-haiku", "claude-haiku"),
        ("GPT-4o", "gpt-4o"),
        (None, "*"),
        ("x" * 999, "x" * 200),
    ],
)
def test_the_quota_group_of_a_model(model, group):
    groups = (("claude", ("claude-opus-*", "claude-Sonnet-*")), ("other", ("claude-opus-*",)))
    assert group_of(replace(OPENAI, quota_groups=groups), model) == group


def test_where_an_attempt_goes():
    provider = replace(OPENAI, quota_groups=(("big", ("gpt-*",)),))
    assert place_of(provider, "GPT-4o", KEY) == Place("openai/1", "openai", "gpt-4o", "group big", "https://api.openai.com")


def test_where_an_attempt_without_a_key_goes():
    assert place_of(OPENAI, None, None) == Place(None, "openai", "*", "*", "https://api.openai.com")


# What an attempt changes.


def test_an_attempt_counts_as_use():
    pools, _ = begun()
    assert (gauge(pools).used, gauge(pools).last) == (1, NOW)


def test_an_attempt_makes_its_key_the_one_that_the_pool_uses():
    pools, _ = begun()
    assert pools.current == {("openai", "gpt-4o"): "openai/1"}


def test_the_key_in_use_is_known_for_each_model():
    pools, _ = begun()
    begun(pools, place=replace(PLACE, group="gpt-5"))
    assert pools.current == {("openai", "gpt-4o"): "openai/1", ("openai", "gpt-5"): "openai/1"}


def test_an_attempt_without_a_key_counts_for_no_key():
    pools, _ = begun(place=place_of(OPENAI, "gpt-4o", None))
    assert (pools.current, pools.changes()) == ({}, {})


def test_names_that_agents_make_up_do_not_fill_the_memory():
    pools = Pools()
    for number in range(5000):
        pools.began(OPENAI, replace(PLACE, group=f"made-up-{number}"), None, NOW)
    assert len(pools.current) <= 4097


@pytest.mark.parametrize("end", [Pools.failed, Pools.ended])
def test_the_permit_is_given_back(end):
    pools, use = begun(limit=1)
    end(pools, use, Failure(Outcome.SERVER, NOW) if end is Pools.failed else Outcome.OK, NOW + 1)
    assert pools.slots.active("openai/1") == 0


def test_the_permit_is_held_while_the_answer_runs():
    pools, use = begun(limit=1)
    pools.answered(use, NOW + 1)
    assert pools.slots.active("openai/1") == 1


def test_only_the_first_ending_counts():
    pools, use = begun()
    pools.ended(use, Outcome.OK, NOW + 1)
    pools.ended(use, Outcome.BAD_KEY, NOW + 2)
    assert gauge(pools).score == pytest.approx(71, abs=0.01)


def test_a_failure_after_the_ending_is_no_second_use():
    pools, use = begun()
    pools.ended(use, Outcome.OK, NOW + 1)
    pools.failed(use, Failure(Outcome.SERVER, NOW), NOW + 2)
    assert gauge(pools, NOW + 2).used == 1


def test_an_ending_after_a_failure_does_not_count():
    pools, use = begun()
    pools.failed(use, Failure(Outcome.THROTTLED, NOW), NOW + 1)
    pools.ended(use, Outcome.OK, NOW + 2)
    assert pools.health.condition(PLACE, NOW + 2).excluded


@pytest.mark.parametrize("outcome", list(TABLE))
def test_a_failure_leaves_its_mark(outcome):
    pools, use = begun()
    assert pools.failed(use, Failure(outcome, NOW), NOW + 1).reason is outcome


@pytest.mark.parametrize("outcome", [Outcome.CLIENT, Outcome.TOO_LONG, Outcome.POLICY])
def test_the_callers_own_error_leaves_none(outcome):
    pools, use = begun()
    assert (pools.failed(use, Failure(outcome, NOW), NOW + 1), pools.health.marks()) == (None, [])


def test_the_same_providers_fault_is_no_use_of_the_key():
    assert gauge(failed(Outcome.SERVER)).used == 0


def test_a_good_answer_ends_what_rests():
    pools = failed(Outcome.THROTTLED)
    _, use = begun(pools, NOW + 20)
    pools.answered(use, NOW + 21)
    assert pools.health.marks() == []


def test_a_good_ending_without_an_answer_before_does_too():
    pools = failed(Outcome.THROTTLED)
    _, use = begun(pools, NOW + 20)
    pools.ended(use, Outcome.OK, NOW + 21)
    assert pools.health.marks() == []


def test_an_answer_that_began_before_the_failure_ends_nothing():
    pools, early = begun()
    failed(Outcome.THROTTLED, NOW + 1, pools)
    pools.answered(early, NOW + 2)
    assert pools.health.condition(PLACE, NOW + 2).excluded


# The probe.


def probing():
    """A key whose rest is over and whose probe is under way since NOW + 20; a call from before runs as well."""
    pools, early = begun()
    failed(Outcome.THROTTLED, NOW + 1, pools)
    _, probe = begun(pools, NOW + 20)
    return pools, early, probe


def test_while_the_probe_is_under_way_nobody_else_tries():
    pools, _, _ = probing()
    assert pools.health.condition(PLACE, NOW + 21).excluded


@pytest.mark.parametrize("outcome", [Outcome.CLIENT, Outcome.POLICY, Outcome.TOO_LONG])
def test_a_probe_that_ends_by_the_callers_fault_lets_the_next_one_try(outcome):
    pools, _, probe = probing()
    pools.ended(probe, outcome, NOW + 21)
    assert pools.health.condition(PLACE, NOW + 21) == WELL


@pytest.mark.parametrize("outcome", [Outcome.CLIENT, Outcome.SERVER, Outcome.NETWORK, Outcome.TIMEOUT, Outcome.OVERLOADED])
def test_a_probe_whose_failure_tells_nothing_of_the_key_lets_the_next_one_try(outcome):
    pools, _, probe = probing()
    pools.failed(probe, Failure(outcome, probe.began), NOW + 21)
    assert pools.health.condition(PLACE, NOW + 21) == WELL


def test_a_probe_that_fails_begins_the_next_rest():
    pools, _, probe = probing()
    pools.failed(probe, Failure(Outcome.THROTTLED, probe.began), NOW + 21)
    assert pools.health.condition(PLACE, NOW + 21).until == pytest.approx(NOW + 51)


@pytest.mark.parametrize("outcome", [Outcome.CLIENT, Outcome.OK])
def test_the_end_of_an_older_call_does_not_free_the_probe(outcome):
    pools, early, _ = probing()
    pools.ended(early, outcome, NOW + 21)
    assert pools.health.condition(PLACE, NOW + 21).excluded


def test_a_probe_that_never_ends_lets_the_next_one_try():
    pools, _, _ = probing()
    assert pools.health.condition(PLACE, NOW + 20 + PROBE) == WELL


# What is kept.


def restarted(pools, now=NOW + 1):
    kept = json.loads(json.dumps({**pools.changes(), "disabled": pools.health.disabled()}))
    fresh = Pools()
    fresh.load(kept, now)
    return fresh


def test_health_survives_a_restart():
    pools = failed(Outcome.QUOTA)
    assert restarted(pools).health.condition(PLACE, NOW + 1) == pools.health.condition(PLACE, NOW + 1)


def test_use_survives_a_restart():
    pools, _ = begun()
    assert gauge(restarted(pools)).used == 1


def test_affinity_survives_a_restart():
    pools = Pools()
    pools.affinity.bind("openai", ["file:a"], "openai/1", NOW)
    assert restarted(pools).affinity.key_for("openai", ["file:a"], NOW + 1) == "openai/1"


def test_a_disabled_key_is_so_after_a_restart():
    pools = Pools()
    pools.health.disable("openai/1")
    assert restarted(pools).health.is_disabled("openai/1")


def test_a_clock_that_went_back_does_not_put_the_last_use_in_the_future():
    pools, _ = begun()
    assert restarted(pools, NOW - 1e6).gauges.of("openai/1").last <= NOW - 1e6


def test_nothing_is_kept_where_nothing_changed():
    assert Pools().changes() == {}


def test_what_changed_is_told_once():
    pools = failed(Outcome.QUOTA)
    pools.changes()
    assert pools.changes() == {}


def test_a_first_start_has_nothing_to_load():
    pools = Pools()
    pools.load({}, NOW)
    assert pools.health.condition(PLACE, NOW) == WELL


def test_a_key_with_a_new_value_is_a_new_key():
    pools = failed(Outcome.BAD_KEY)
    pools.affinity.bind("openai", ["file:a"], "openai/1", NOW)
    pools.forget("openai/1")
    assert (pools.health.condition(PLACE, NOW + 1), gauge(pools).used, len(pools.affinity)) == (WELL, 0, 0)


# Whatever comes.


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "answered", "failed", "ended"]),
            st.integers(0, 9),
            st.sampled_from(list(Outcome)),
            st.floats(0, 100),
        ),
        max_size=40,
    )
)
def test_permits_are_those_of_the_attempts_under_way(moves):
    pools, uses, now = Pools(), [], NOW
    for move, which, outcome, later in moves:
        now += later
        use = uses[which % len(uses)] if uses else None
        if move == "begin" and (permit := pools.slots.take("openai/1", 3)) is not None:
            uses.append(pools.began(OPENAI, PLACE, permit, now))
        elif move == "answered" and use:
            pools.answered(use, now)
        elif move == "failed" and use:
            pools.failed(use, Failure(outcome, use.began), now)
        elif move == "ended" and use:
            pools.ended(use, outcome, now)
    assert pools.slots.active("openai/1") == len([use for use in uses if not use.over]) <= 3
