"""The plan of a call against a scripted world, in virtual time."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.planning import NOW, Running, ask, keys, last_choice, occupied, option, play, provider, rests, script
from valetkey.model import Outcome
from valetkey.policy import failover
from valetkey.policy.failover import Ending, Option, Pause, Try, arrange
from valetkey.policy.health import TABLE, Failure
from valetkey.policy.pools import Pools, place_of

THROTTLED, QUOTA, BAD_KEY, OVERLOADED = Outcome.THROTTLED, Outcome.QUOTA, Outcome.BAD_KEY, Outcome.OVERLOADED
SERVER, NETWORK, TIMEOUT = Outcome.SERVER, Outcome.NETWORK, Outcome.TIMEOUT
CLIENT, POLICY, TOO_LONG = Outcome.CLIENT, Outcome.POLICY, Outcome.TOO_LONG
FAULTS = [SERVER, NETWORK, TIMEOUT]


def bound(pools, name="resp_1", key="openai/2", *, soft=False, at="openai"):
    pools.affinity.bind(at, (name,), key, NOW, soft=soft)


def is_free(pools):
    """Whether no permit is held and nobody waits."""
    return pools.slots.waiting == 0 and all(
        not pools.slots.active(f"{name}/{n}") for name in ("openai", "b", "c") for n in range(9)
    )


class TestBest:
    def test_order(self):
        assert [failover.rank(each) for each in (CLIENT, OVERLOADED, THROTTLED, QUOTA, BAD_KEY)] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("outcome", [POLICY, TOO_LONG])
    def test_for_the_caller_comes_first(self, outcome):
        assert failover.rank(outcome) == 0


class TestOneKey:
    def test_works(self):
        assert play(ask(option()), script()).keys == "1"

    def test_no_pause(self):
        assert play(ask(option()), script()).pauses == []

    def test_waits_for_the_only_key(self):
        trace = play(ask(option()), script(k1=[(THROTTLED, 90.0)]))
        assert (trace.keys, trace.at) == ("1 1", [0, 90])

    def test_the_pauses_are_short(self):
        trace = play(ask(option()), script(k1=[(THROTTLED, 90.0)]))
        assert max(pause.seconds for pause in trace.pauses) <= failover.SLICE

    def test_waits_as_long_as_max_wait(self):
        """Sums of floats: a wait in slices must not miss its own end."""
        trace = play(ask(option(), max_wait=120.0), script(k1=[(THROTTLED, 120.0)]), now=NOW + 0.1)
        assert trace.at == [0, 120]

    @pytest.mark.parametrize("seconds", [33.3, 7.7, 0.3, 99.9, 61.7])
    def test_sums_of_floats(self, seconds):
        trace = play(ask(option(), max_wait=seconds), script(k1=[(THROTTLED, seconds)]), now=NOW + 0.1)
        assert trace.at == [0, seconds]

    def test_rest_beyond_max_wait(self):
        trace = play(ask(option(), max_wait=120.0), script(k1=(THROTTLED, 121.0)), took=0.5)
        assert trace.ending == Ending("resting", 121.0)

    def test_rest_beyond_the_deadline(self):
        trace = play(ask(option(), deadline=20), script(k1=(THROTTLED, 30.0)))
        assert trace.ending == Ending("resting", 30.0)

    def test_refusal_comes_at_once(self):
        assert play(ask(option(), deadline=20), script(k1=(THROTTLED, 30.0))).end == 0

    def test_rests_already(self):
        pools = Pools()
        rests(pools, option(), 1, 300)
        assert play(ask(option()), script(), pools).ending == Ending("resting", 300.0)

    def test_ladder(self):
        """10, 30 and 60 s, which is 100 s; the fourth rest, 120 s, is beyond `max_wait`."""
        trace = play(ask(option()), script(k1=THROTTLED))
        assert (trace.at, trace.ending) == ([0, 10, 40, 100], Ending("resting", 120.0))

    def test_an_end_that_comes_early_is_seen(self):
        run = Running(ask(option()), Pools())
        run.begin()
        run.attempt()
        run.fails(THROTTLED, 60.0)
        run.pools.health.reset("openai/1")
        assert isinstance(run.resumes(), Try)


class TestThrottled:
    def test_another_key(self):
        trace = play(ask(option(count=3)), script(k1=THROTTLED))
        assert (trace.keys, trace.end) == ("1 2", 0)

    def test_then_another_target(self):
        trace = play(ask(option(count=2), option(1, name="b")), script(t0=THROTTLED))
        assert (trace.keys, trace.end) == ("1 2 1@1", 0)

    def test_other_models_are_open(self):
        """What throttled a key for one model does not rest it for another."""
        trace = play(ask(option(count=1), option(1, model="small")), script(t0=THROTTLED))
        assert trace.keys == "1 1@1"

    def test_the_first_that_comes_back(self):
        trace = play(ask(option(count=2)), script(k1=(THROTTLED, 50.0), k2=[(THROTTLED, 20.0)]))
        assert (trace.keys, trace.at) == ("1 2 2", [0, 0, 20])

    def test_the_earliest_end_is_told(self):
        trace = play(ask(option(count=2)), script(k1=(THROTTLED, 500.0), k2=(THROTTLED, 400.0)))
        assert trace.ending == Ending("resting", 400.0)


class TestSmallRest:
    def test_affinity_waits(self):
        pools = Pools()
        bound(pools, "cache", "openai/1", soft=True)
        trace = play(ask(option(count=2), soft=("cache",)), script(k1=[(THROTTLED, 4.0)]), pools)
        assert (trace.keys, trace.at, trace.reasons) == ("1 1", [0, 4], ["affinity"])

    @pytest.mark.parametrize("seconds", [10.0, 3.3, 7.7, 9.9, 6.1])
    def test_exactly_small_wait(self, seconds):
        pools, asked = Pools(), ask(option(count=2), soft=("cache",), small_wait=seconds)
        bound(pools, "cache", "openai/1", soft=True)
        trace = play(asked, script(k1=[(THROTTLED, seconds)]), pools, now=NOW + 0.1)
        assert trace.at == [0, seconds]

    def test_without_affinity_rotates(self):
        trace = play(ask(option(count=2)), script(k1=[(THROTTLED, 4.0)]))
        assert (trace.keys, trace.end) == ("1 2", 0)

    def test_longer_rest_rotates(self):
        pools = Pools()
        bound(pools, "cache", "openai/1", soft=True)
        trace = play(ask(option(count=2), soft=("cache",)), script(k1=[(THROTTLED, 10.5)]), pools)
        assert (trace.keys, trace.end) == ("1 2", 0)

    def test_configurable(self):
        pools = Pools()
        bound(pools, "cache", "openai/1", soft=True)
        trace = play(ask(option(count=2), soft=("cache",), small_wait=0.0), script(k1=[(THROTTLED, 1.0)]), pools)
        assert (trace.keys, trace.end) == ("1 2", 0)

    def test_once(self):
        """A key that is throttled again and again must not use up the attempts that another key would have answered."""
        pools = Pools()
        bound(pools, "cache", "openai/1", soft=True)
        trace = play(ask(option(count=2), soft=("cache",)), script(k1=(THROTTLED, 0.5)), pools)
        assert trace.keys == "1 1 2"

    def test_rest_of_another_call(self):
        pools, target = Pools(), option(count=2)
        bound(pools, "cache", "openai/1", soft=True)
        rests(pools, target, 1, 6)
        assert play(ask(target, soft=("cache",)), script(), pools).at == [6]

    def test_not_beyond_the_deadline(self):
        pools = Pools()
        bound(pools, "cache", "openai/1", soft=True)
        trace = play(ask(option(count=2), deadline=3, soft=("cache",)), script(k1=[(THROTTLED, 4.0)]), pools)
        assert (trace.keys, trace.end) == ("1 2", 0)

    def test_at_the_second_target(self):
        pools, first, second = Pools(), option(), option(1, 2, "b")
        bound(pools, "cache", "b/1", soft=True, at="b")
        rests(pools, first, 1, 500)
        trace = play(ask(first, second, soft=("cache",)), script(k1=[(THROTTLED, 4.0)]), pools)
        assert (trace.keys, trace.end) == ("1@1 1@1", 4)

    def test_not_while_an_earlier_target_is_ready(self):
        pools, first, second = Pools(), option(), option(1, 2, "b")
        bound(pools, "cache", "b/1", soft=True, at="b")
        rests(pools, second, 1, 4)
        trace = play(ask(first, second, soft=("cache",)), script(), pools)
        assert (trace.keys, trace.end) == ("1", 0)


class TestForGood:
    @pytest.mark.parametrize("outcome", [QUOTA, BAD_KEY])
    def test_another_key(self, outcome):
        trace = play(ask(option(count=2)), script(k1=outcome))
        assert (trace.keys, trace.end) == ("1 2", 0)

    @pytest.mark.parametrize("outcome", [QUOTA, BAD_KEY])
    def test_then_another_target(self, outcome):
        trace = play(ask(option(), option(1, name="b")), script(t0=outcome))
        assert (trace.keys, trace.end) == ("1 1@1", 0)

    def test_a_short_rest_is_no_second_chance(self):
        trace = play(ask(option()), script(k1=[(QUOTA, 2.0)]))
        assert (trace.keys, trace.why) == ("1", "failed")

    def test_quota_not_at_a_target_of_the_same_group(self):
        """The quota of a group is used up at all its models, however short the rest."""
        groups = (("g", ("m", "small")),)
        targets = option(quota_groups=groups), option(1, model="small", quota_groups=groups)
        assert play(ask(*targets), script(all=(QUOTA, 2.0))).keys == "1"

    def test_quota_of_another_model_is_another(self):
        trace = play(ask(option(), option(1, model="small")), script(t0=QUOTA))
        assert trace.keys == "1 1@1"

    def test_bad_key_not_at_another_target(self):
        trace = play(ask(option(), option(1, model="small"), deadline=900, max_wait=900), script(all=BAD_KEY))
        assert trace.keys == "1"

    @pytest.mark.parametrize(("outcome", "seconds"), [((QUOTA, 60.0), 60.0), (BAD_KEY, 300.0)])
    def test_when_it_may_come_back(self, outcome, seconds):
        assert play(ask(option()), script(k1=outcome)).ending == Ending("failed", seconds)

    def test_out(self):
        pools = Pools()
        pools.health.disable("openai/1")
        assert play(ask(option()), script(), pools).ending == Ending("failed", None)

    def test_nobody_waits_for_what_is_out(self):
        pools, target = Pools(), option(count=2)
        pools.health.disable("openai/1")
        rests(pools, target, 2, 20)
        assert play(ask(target), script(), pools).at == [20]


class TestProvidersFault:
    @pytest.mark.parametrize("outcome", FAULTS)
    def test_same_key_once_after_a_second(self, outcome):
        trace = play(ask(option(count=2)), script(k1=[outcome]))
        assert (trace.keys, trace.at) == ("1 1", [0, 1])

    def test_the_pause_is_jittered(self):
        trace = play(ask(option()), script(k1=[SERVER]), chances=chain([0.0, 0.5], repeat(0.0)))
        assert [pause.seconds for pause in trace.pauses] == [1.25]

    def test_configurable(self):
        assert play(ask(option(), retry=0.2), script(k1=[SERVER])).at == [0, 0.2]

    @pytest.mark.parametrize("outcome", FAULTS)
    def test_then_another_key(self, outcome):
        assert play(ask(option(count=2)), script(k1=outcome)).keys == "1 1 2"

    def test_then_another_target(self):
        trace = play(ask(option(), option(1, name="b")), script(t0=SERVER))
        assert (trace.keys, trace.at) == ("1 1 1@1", [0, 1, 1])

    def test_the_third_in_a_row_makes_it_the_last_choice(self):
        """The fault is the upstream's by then: a healthy target comes before the third key of a failing one."""
        trace = play(ask(option(count=3), option(1, name="b")), script(t0=SERVER), took=0.1)
        assert trace.keys == "1 1 2 1@1"

    def test_rounds(self):
        """Every key twice a round, three rounds, with growing pauses between."""
        trace = play(ask(option()), script(k1=SERVER))
        assert (trace.at, trace.why) == ([0, 1, 2, 3, 5, 6], "failed")

    def test_a_later_round_may_work(self):
        trace = play(ask(option()), script(k1=[SERVER] * 5))
        assert (trace.keys, trace.ending) == ("1 1 1 1 1 1", None)

    def test_nothing_is_known_of_the_end(self):
        """A rest of another key says nothing about when the failing provider is well."""
        pools, target = Pools(), option(count=2)
        rests(pools, target, 2, 500)
        assert play(ask(target), script(k1=SERVER), pools).ending == Ending("failed", None)

    def test_a_rest_that_ends_before_the_next_round(self):
        pools, target = Pools(), option(count=2)
        rests(pools, target, 2, 1.5)
        assert play(ask(target), script(k1=SERVER), pools).at == [0, 1, 1.5]

    def test_no_pause_beyond_the_deadline(self):
        trace = play(ask(option(), deadline=1.0), script(k1=SERVER))
        assert (trace.keys, trace.end) == ("1", 0)

    def test_key_began_to_rest_in_the_pause(self):
        target = option(count=2)
        run = Running(ask(target), Pools())
        run.begin()
        run.attempt()
        run.fails(SERVER)
        rests(run.pools, target, 1, 60, now=NOW + 0.5)
        run.resumes()
        assert run.attempt().key.name == "2"

    def test_upstream_became_the_last_choice_in_the_pause(self):
        first, second = option(), option(1, name="b")
        run = Running(ask(first, second), Pools())
        run.begin()
        run.attempt()
        run.fails(SERVER)
        last_choice(run.pools, first, NOW + 2.5)
        run.resumes()
        assert run.attempt().option is second

    def test_pause_that_took_too_long(self):
        run = Running(ask(option(), deadline=5), Pools())
        run.begin()
        run.attempt()
        run.fails(SERVER)
        assert run.resumes(NOW + 5) == Ending("deadline", None)


class TestOverloaded:
    def test_same_key_once(self):
        trace = play(ask(option(count=2)), script(k1=[OVERLOADED]))
        assert (trace.keys, trace.at) == ("1 1", [0, 1])

    def test_another_target_before_another_key(self):
        assert play(ask(option(count=2), option(1, name="b")), script(t0=OVERLOADED)).keys == "1 1 1@1"

    def test_then_another_key(self):
        trace = play(ask(option(count=2), option(1, name="b")), script(k1=OVERLOADED))
        assert trace.keys == "1 1 1@1 1@1 2"

    def test_not_again_when_the_model_is_the_last_choice(self):
        pools, target = Pools(), option(count=2)
        for n in range(2):
            pools.health.failed(place_of(target.provider, "m", target.keys[0]), Failure(OVERLOADED, NOW - 5 + n), NOW - 5 + n)
        trace = play(ask(target, option(1, name="b")), script(t0=OVERLOADED), pools)
        assert (trace.keys, trace.end) == ("1 1@1", 0)


class TestPasses:
    @pytest.mark.parametrize("outcome", [CLIENT, TOO_LONG, POLICY])
    def test_exactly_once(self, outcome):
        asked = ask(option(count=3), option(1, name="b"), exhausted=(option(2, name="c"),))
        trace = play(asked, script(all=outcome))
        assert (trace.keys, trace.ending, trace.end) == ("1", Ending("passes"), 0)

    @pytest.mark.parametrize("outcome", [CLIENT, TOO_LONG, POLICY])
    def test_also_after_others(self, outcome):
        trace = play(ask(option(count=3)), script(k1=THROTTLED, k2=outcome))
        assert (trace.keys, trace.why) == ("1 2", "passes")


class TestTooLong:
    def test_fallback(self):
        trace = play(ask(option(count=2), too_long=(option(1, name="b"),)), script(t0=TOO_LONG))
        assert trace.keys == "1 1@1"

    def test_once(self):
        trace = play(ask(option(), too_long=(option(1, name="b"),)), script(all=TOO_LONG))
        assert (trace.keys, trace.why) == ("1 1@1", "passes")

    def test_once_also_when_its_order_has_changed(self):
        wide = option(1, name="b"), option(2, name="c")
        trace = play(ask(option(), too_long=wide), script(t0=TOO_LONG, t1=OVERLOADED, t2=TOO_LONG))
        assert (trace.keys, trace.why) == ("1 1@1 1@1 1@2", "passes")

    @pytest.mark.parametrize("outcome", [CLIENT, POLICY])
    def test_not_for_others(self, outcome):
        trace = play(ask(option(), too_long=(option(1, name="b"),)), script(t0=outcome))
        assert trace.keys == "1"

    def test_all_means_of_the_fallback(self):
        trace = play(ask(option(), too_long=(option(1, 2, "b"),)), script(t0=TOO_LONG, t1=[THROTTLED]))
        assert trace.keys == "1 1@1 2@1"


class TestExhausted:
    @pytest.mark.parametrize("outcome", [THROTTLED, QUOTA, BAD_KEY])
    def test_after_all_keys(self, outcome):
        asked = ask(option(count=2), option(1, name="b"), exhausted=(option(2, name="c"),))
        trace = play(asked, script(t0=outcome, t1=outcome))
        assert (trace.keys, trace.end) == ("1 2 1@1 1@2", 0)

    def test_before_waiting(self):
        pools, target = Pools(), option()
        rests(pools, target, 1, 20)
        trace = play(ask(target, exhausted=(option(1, name="c"),)), script(), pools)
        assert (trace.keys, trace.end) == ("1@1", 0)

    def test_before_another_round(self):
        trace = play(ask(option(), exhausted=(option(1, name="c"),)), script(t0=SERVER))
        assert (trace.keys, trace.end) == ("1 1 1@1", 1)

    def test_not_before(self):
        trace = play(ask(option(count=2), exhausted=(option(1, name="c"),)), script(k1=THROTTLED))
        assert trace.keys == "1 2"

    def test_when_all_are_busy_for_too_long(self):
        pools, target = Pools(), option(concurrency=1)
        occupied(pools, target, 1)
        trace = play(ask(target, exhausted=(option(1, name="c"),), max_wait=3), script(), pools)
        assert (trace.keys, trace.at) == ("1@1", [3])


class TestLastChoice:
    def test_others_first(self):
        pools, first, second = Pools(), option(count=2), option(1, name="b")
        last_choice(pools, first)
        assert play(ask(first, second), script(), pools).keys == "1@1"

    def test_never_excluded(self):
        pools, only = Pools(), option()
        last_choice(pools, only)
        assert play(ask(only), script(), pools).at == [0]

    def test_when_the_others_rest(self):
        pools, first, second = Pools(), option(), option(1, name="b")
        last_choice(pools, first)
        rests(pools, second, 1, 3)
        trace = play(ask(first, second), script(), pools)
        assert (trace.keys, trace.end) == ("1", 0)

    def test_no_second_try_while_another_is_ready(self):
        """It became the last choice by this failure: the pause would be for nothing."""
        pools, first, second = Pools(), option(), option(1, name="b")
        for n in range(2):
            pools.health.failed(place_of(first.provider, "m", first.keys[0]), Failure(SERVER, NOW - 5 + n), NOW - 5 + n)
        trace = play(ask(first, second), script(t0=SERVER), pools)
        assert (trace.keys, trace.end) == ("1 1@1", 0)


class TestHardAffinity:
    def test_owner(self):
        pools = Pools()
        bound(pools)
        assert play(ask(option(count=3), hard=("resp_1",)), script(), pools).keys == "2"

    def test_waits_for_the_owner(self):
        pools = Pools()
        bound(pools)
        trace = play(ask(option(count=3), hard=("resp_1",)), script(k2=[(THROTTLED, 60.0)]), pools)
        assert (trace.keys, trace.at) == ("2 2", [0, 60])

    def test_nobody_else(self):
        pools = Pools()
        bound(pools)
        asked = ask(option(count=3), option(1, name="b"), exhausted=(option(2, name="c"),), hard=("resp_1",))
        trace = play(asked, script(k2=(THROTTLED, 200.0)), pools)
        assert (trace.keys, trace.ending) == ("2", Ending("resting", 200.0))

    @pytest.mark.parametrize("outcome", FAULTS)
    def test_nobody_else_when_the_provider_fails(self, outcome):
        pools = Pools()
        bound(pools)
        trace = play(ask(option(count=3), option(1, name="b"), hard=("resp_1",)), script(k2=outcome), pools)
        assert set(trace.keys.split()) == {"2"}

    def test_nobody_else_while_a_quota_rests(self):
        """Another key would answer that it does not know the response, which tells the agent less."""
        pools = Pools()
        bound(pools)
        trace = play(ask(option(count=3), hard=("resp_1",)), script(k2=(QUOTA, 700.0)), pools)
        assert (trace.keys, trace.ending) == ("2", Ending("failed", 700.0))

    def test_owner_at_another_model(self):
        pools, small = Pools(), option(1, 3, model="small")
        bound(pools)
        trace = play(ask(option(count=3), small, hard=("resp_1",)), script(t0=(THROTTLED, 60.0)), pools)
        assert trace.keys == "2 2@1"

    def test_others_when_it_is_out(self):
        pools = Pools()
        bound(pools)
        pools.health.disable("openai/2")
        assert play(ask(option(count=3), hard=("resp_1",)), script(), pools).keys == "1"

    def test_others_when_it_is_put_out(self):
        pools, target = Pools(), option(count=3)
        bound(pools)
        pools.health.failed(place_of(target.provider, "m", target.keys[1]), Failure(BAD_KEY, NOW - 400), NOW - 400)
        assert play(ask(target, hard=("resp_1",)), script(k2=BAD_KEY), pools).keys == "2 1"

    def test_others_when_it_is_gone(self):
        pools = Pools()
        bound(pools, key="openai/9")
        assert play(ask(option(count=3), hard=("resp_1",)), script(), pools).keys == "1"

    def test_unknown_name(self):
        assert play(ask(option(count=3), hard=("resp_7",)), script()).keys == "1"

    def test_busy_owner(self):
        pools, target = Pools(), option(count=2, concurrency=1)
        bound(pools)
        occupied(pools, target, 2)
        run = Running(ask(target, hard=("resp_1",)), pools)
        assert run.begin() == Pause(10.0, "concurrency")


class TestSoftAffinity:
    def test_preferred(self):
        pools = Pools()
        bound(pools, "cache", "openai/3", soft=True)
        assert play(ask(option(count=3), soft=("cache",)), script(), pools).keys == "3"

    def test_not_while_it_rests(self):
        pools, target = Pools(), option(count=3)
        bound(pools, "cache", "openai/3", soft=True)
        rests(pools, target, 3, 60)
        assert play(ask(target, soft=("cache",)), script(), pools).keys == "1"

    def test_over_the_session(self):
        pools = Pools()
        bound(pools, "cache", "openai/3", soft=True)
        bound(pools, "talk", "openai/2", soft=True)
        assert play(ask(option(count=3), soft=("cache",), session="talk"), script(), pools).keys == "3"

    def test_busy_is_waited_for(self):
        pools, target = Pools(), option(count=2, concurrency=1)
        bound(pools, "cache", "openai/2", soft=True)
        occupied(pools, target, 2)
        assert Running(ask(target, soft=("cache",)), pools).begin() == Pause(10.0, "concurrency")

    def test_busy_that_becomes_free(self):
        pools, target = Pools(), option(count=2, concurrency=1)
        bound(pools, "cache", "openai/2", soft=True)
        (other,) = occupied(pools, target, 2)
        run = Running(ask(target, soft=("cache",)), pools)
        run.begin()
        other.close()
        run.resumes(NOW + 1)
        assert run.attempt().key.name == "2"

    def test_busy_for_too_long(self):
        pools, target = Pools(), option(count=2, concurrency=1)
        bound(pools, "cache", "openai/2", soft=True)
        occupied(pools, target, 2)
        trace = play(ask(target, soft=("cache",)), script(), pools)
        assert (trace.keys, trace.at) == ("1", [10])


class TestSessions:
    def test_stay(self):
        pools, target = Pools(), option(count=5, rotation="sticky")
        first = {n: play(ask(target, session=f"talk {n}"), script(), pools).keys for n in range(20)}
        later = {n: play(ask(target, session=f"talk {n}"), script(), pools).keys for n in reversed(range(20))}
        assert first == later

    def test_spread(self):
        target = option(count=5, rotation="sticky")
        assert len({play(ask(target, session=f"talk {n}"), script()).keys for n in range(40)}) == 5

    def test_move_on_failure(self):
        pools, target = Pools(), option(count=5, rotation="sticky")
        asked = ask(target, session="talk")
        before = play(asked, script(), pools).keys
        moved = play(asked, script(**{f"k{before}": (THROTTLED, 60.0)}), pools).keys.split()[-1]
        assert play(asked, script(), pools).keys == moved != before


class TestRotation:
    def test_round_robin(self):
        pools, target = Pools(), option(count=3)
        assert [play(ask(target), script(), pools, now=NOW + n).keys for n in range(4)] == ["1", "2", "3", "1"]

    def test_sequential_stays(self):
        pools, target = Pools(), option(count=3, rotation="sequential")
        assert {play(ask(target), script(), pools, now=NOW + n).keys for n in range(4)} == {"1"}

    def test_sequential_goes_on_with_the_next(self):
        pools, target = Pools(), option(count=3, rotation="sequential")
        play(ask(target), script(k1=QUOTA), pools)
        assert play(ask(target), script(), pools, now=NOW + 1).keys == "2"

    def test_sequential_does_not_come_back(self):
        """The key that was more used before, and may be used again, waits until the present one is empty."""
        pools, target = Pools(), option(count=2, rotation="sequential")
        for n in range(3):
            play(ask(target), script(), pools, now=NOW + n)
        play(ask(target), script(k1=[(THROTTLED, 60.0)]), pools, now=NOW + 3)
        assert play(ask(target, deadline=900), script(), pools, now=NOW + 100).keys == "2"

    def test_better_tier_first(self):
        good, spare = keys(1, priority=1), (replace(keys(2)[1], priority=2),)
        target = option()._replace(keys=spare + good)
        assert play(ask(target), script(k1=THROTTLED)).keys == "1 2"

    def test_uses_up_no_retries(self):
        assert play(ask(option(count=12), attempts=12), script(all=[THROTTLED] * 11)).ending is None

    def test_attempts_bound_it(self):
        trace = play(ask(option(count=12), attempts=5), script(all=THROTTLED))
        assert (len(trace.tried), trace.why) == (5, "attempts")

    def test_attempts_bound_second_tries(self):
        trace = play(ask(option(), attempts=1), script(all=SERVER))
        assert (trace.keys, trace.pauses, trace.why) == ("1", [], "attempts")

    def test_deadline_bounds_it(self):
        trace = play(ask(option(count=12), deadline=5), script(all=THROTTLED), took=2)
        assert (trace.at, trace.why) == ([0, 2, 4], "deadline")

    def test_deadline_before_the_first(self):
        assert play(ask(option(), deadline=0), script()).keys == ""

    def test_a_key_that_rests_is_left_out(self):
        pools, target = Pools(), option(count=3)
        rests(pools, target, 1, 60)
        rests(pools, target, 2, 60)
        assert play(ask(target), script(), pools).keys == "3"


class TestConcurrency:
    def test_next_key(self):
        pools, target = Pools(), option(count=2, concurrency=2)
        occupied(pools, target, 1, 2)
        assert play(ask(target), script(), pools).keys == "2"

    def test_next_target(self):
        pools, target = Pools(), option(concurrency=1)
        occupied(pools, target, 1)
        assert play(ask(target, option(1, name="b")), script(), pools).keys == "1@1"

    def test_limit_of_the_key(self):
        pools = Pools()
        target = Option(0, provider(concurrency=1), "m", keys(2, concurrency=2))
        occupied(pools, target, 1)
        assert Running(ask(target._replace(keys=target.keys[:1])), pools).begin().key.name == "1"

    def test_waits(self):
        pools, target = Pools(), option(concurrency=1)
        occupied(pools, target, 1)
        assert Running(ask(target, max_wait=50), pools).begin() == Pause(50.0, "concurrency")

    def test_waits_within_the_deadline(self):
        pools, target = Pools(), option(concurrency=1)
        occupied(pools, target, 1)
        assert Running(ask(target, deadline=20), pools).begin() == Pause(20.0, "concurrency")

    def test_waits_no_longer_than_max_wait(self):
        pools, target = Pools(), option(concurrency=1)
        occupied(pools, target, 1)
        trace = play(ask(target, max_wait=50), script(), pools)
        assert (trace.ending, trace.end) == (Ending("busy"), 50)

    def test_woken(self):
        pools, target, woken = Pools(), option(concurrency=1), []
        (other,) = occupied(pools, target, 1)
        run = Running(ask(target, wake=lambda: woken.append(1)), pools)
        run.begin()
        other.close()
        assert woken == [1]

    def test_first_come_first_served(self):
        pools, target, woken = Pools(), option(concurrency=1), []
        (other,) = occupied(pools, target, 1)
        queue = [Running(ask(target, wake=lambda n=n: woken.append(n)), pools) for n in range(3)]
        for run in queue:
            run.begin()
        other.close()
        for run in queue:
            run.resumes(NOW + 1)
            run.attempt()
            run.close()
        assert woken == [0, 1, 2]

    def test_looking_again_keeps_the_place(self):
        """One looks up because another key's rest ends; it must not lose its turn by that."""
        pools, target, woken = Pools(), option(count=2, concurrency=1), []
        (other,) = occupied(pools, target, 1)
        rests(pools, target, 2, 5)
        first = Running(ask(target, wake=lambda: woken.append("first")), pools)
        first.begin()
        rests(pools, target, 2, 60, now=NOW + 1)
        second = Running(ask(target._replace(keys=target.keys[:1]), wake=lambda: woken.append("second")), pools)
        second.begin()
        first.resumes(NOW + 5)
        other.close()
        assert woken == ["first"]

    def test_looks_again_when_a_rest_ends(self):
        pools, target = Pools(), option(count=2, concurrency=1)
        occupied(pools, target, 1)
        rests(pools, target, 2, 7)
        assert play(ask(target), script(), pools).at == [7]

    def test_a_failing_key_is_tried_before_a_busy_one(self):
        pools, target = Pools(), option(count=2, concurrency=1)
        occupied(pools, target, 1)
        assert play(ask(target), script(k2=[SERVER, SERVER]), pools).at == [0, 1, 2]

    def test_granted_key_that_rests_by_now(self):
        pools, target = Pools(), option(concurrency=1)
        (other,) = occupied(pools, target, 1)
        run = Running(ask(target), pools)
        run.begin()
        other.fails(THROTTLED, 200.0)
        assert (run.resumes(NOW + 1), is_free(pools)) == (Ending("resting", 199.0), True)

    def test_granted_for_another_target(self):
        """What failed at one target may be granted for another one of the same key."""
        pools, first, second = Pools(), option(concurrency=1), option(1, model="small", concurrency=1)
        run, others = Running(ask(first, second), pools), [Running(ask(first), pools) for _ in range(2)]
        run.begin()
        for other in others:
            run.attempt()
            other.begin()  # is in line for the key
            run.fails(SERVER)  # so that the other has it now
            if run.step.reason != "concurrency":
                run.resumes()
            other.close()
            run.resumes(run.now + 0.1)
        assert run.attempt().option == second

    def test_leaves_the_queue_for_a_key_that_rests(self):
        pools, target = Pools(), option(count=2, concurrency=1)
        occupied(pools, target, 1)
        rests(pools, target, 2, 5)
        run = Running(ask(target), pools)
        run.begin()
        rests(pools, target, 1, 60)
        rests(pools, target, 2, 60)
        assert (run.resumes(NOW + 5).reason, pools.slots.waiting) == ("cooldown", 0)

    def test_pause_right_before_the_deadline(self):
        pools, target = Pools(), option(concurrency=1)
        occupied(pools, target, 1)
        assert Running(ask(target, deadline=0.005), pools).begin().seconds == pytest.approx(0.005, abs=1e-6)

    def test_granted_at_the_deadline(self):
        pools, target = Pools(), option(concurrency=1)
        (other,) = occupied(pools, target, 1)
        run = Running(ask(target, deadline=9), pools)
        run.begin()
        other.close()
        assert (run.resumes(NOW + 9).reason, is_free(pools)) == ("deadline", True)

    def test_nobody_overtakes_in_the_pause_before_a_second_try(self):
        pools, target = Pools(), option(concurrency=1)
        run, other = Running(ask(target), pools), Running(ask(target), pools)
        run.begin()
        other.now = NOW
        run.attempt()
        other.begin()
        run.fails(SERVER)
        other.resumes(NOW + 0.5)
        assert run.resumes().reason == "concurrency"


class TestPermits:
    @pytest.mark.parametrize("outcome", [None, *Outcome])
    def test_given_back(self, outcome):
        pools = Pools()
        if outcome not in (Outcome.OK, Outcome.REFUSED):
            play(ask(option(count=3, concurrency=1), option(1, name="b", concurrency=1)), script(all=outcome), pools)
        assert is_free(pools)

    def test_held_while_the_answer_streams(self):
        pools = Pools()
        run = Running(ask(option()), pools)
        run.begin()
        run.attempt()
        run.answers()
        assert pools.slots.active("openai/1") == 1

    @pytest.mark.parametrize("steps", [[SERVER], [(THROTTLED, 5.0)]])
    def test_closed_in_a_pause(self, steps):
        run = Running(ask(option(concurrency=1)), Pools())
        run.begin()
        for step in steps:
            run.attempt()
            run.fails(*(step if isinstance(step, tuple) else (step,)))
        run.close()
        assert is_free(run.pools)

    def test_closed_in_the_queue(self):
        pools, target = Pools(), option(concurrency=1)
        (other,) = occupied(pools, target, 1)
        run = Running(ask(target), pools)
        run.begin()
        run.close()
        other.close()
        assert is_free(pools)

    def test_closed_when_its_turn_has_come(self):
        pools, target = Pools(), option(concurrency=1)
        (other,) = occupied(pools, target, 1)
        run = Running(ask(target), pools)
        run.begin()
        other.close()
        run.close()
        assert is_free(pools)

    def test_closed_before_the_attempt_was_made(self):
        run = Running(ask(option()), Pools())
        run.begin()
        run.close()
        assert is_free(run.pools)


class TestSpacing:
    def test_another_key(self):
        pools, target = Pools(), option(count=2, spacing=5.0)
        play(ask(target), script(), pools)
        assert play(ask(target), script(), pools, now=NOW + 1).keys == "2"

    def test_waits(self):
        pools, target = Pools(), option(spacing=5.0)
        play(ask(target), script(), pools)
        assert play(ask(target), script(), pools, now=NOW + 1).at == [pytest.approx(4, abs=0.02)]

    def test_second_try(self):
        assert play(ask(option(spacing=5.0)), script(k1=[SERVER])).at == [0, 5]

    def test_long_spacing_is_not_waited_for(self):
        trace = play(ask(option(count=2, spacing=30.0)), script(k1=[SERVER]))
        assert (trace.keys, trace.end) == ("1 2", 0)

    def test_affinity_waits(self):
        pools, target = Pools(), option(count=2, spacing=5.0)
        bound(pools, "cache", "openai/1", soft=True)
        play(ask(target, soft=("cache",)), script(), pools)
        trace = play(ask(target, soft=("cache",)), script(), pools, now=NOW + 1)
        assert (trace.keys, trace.at) == ("1", [pytest.approx(4, abs=0.02)])

    def test_granted(self):
        """A place in the queue is no way around the spacing."""
        pools, target = Pools(), option(concurrency=1, spacing=5.0)
        (other,) = occupied(pools, target, 1)
        run = Running(ask(target), pools)
        assert isinstance(run.begin(), Pause)
        other.close()
        assert (run.resumes(NOW + 1), run.step.reason) == (Pause(1.0, "cooldown"), "cooldown")


class TestModelTiers:
    TIERS = (("*-pro", 1),)

    @pytest.mark.parametrize(("model", "key"), [("x-pro", "1"), ("X-Pro", "1"), ("x-mini", "2")])
    def test_tier(self, model, key):
        """The first key rests; the spare one may be used only for models that its tier is open to."""
        pools, target = Pools(), Option(0, provider(model_tiers=self.TIERS), model, (keys(1)[0], replace(keys(2)[1], priority=2)))
        rests(pools, target, 1, 20)
        assert play(ask(target), script(), pools).keys == key

    def test_none_fits(self):
        target = Option(0, provider(model_tiers=self.TIERS), "x-pro", keys(2, priority=2))
        assert play(ask(target), script()).ending == Ending("failed")

    def test_affinity_is_no_way_around(self):
        pools, pair = Pools(), (keys(1)[0], replace(keys(2)[1], priority=2))
        bound(pools)
        target = Option(0, provider(model_tiers=self.TIERS), "x-pro", pair)
        assert play(ask(target, hard=("resp_1",)), script(), pools).keys == "1"


class TestKeyless:
    def test_works(self):
        assert play(ask(option(count=0)), script()).tried == [(None, 0)]

    def test_no_permit(self):
        assert Running(ask(option(count=0)), Pools()).begin().permit is None

    def test_second_try(self):
        assert play(ask(option(count=0)), script(all=[SERVER])).at == [0, 1]

    def test_another_target(self):
        assert play(ask(option(count=0), option(1, name="b")), script(t0=SERVER)).keys == "- - 1@1"

    def test_throttled_is_not_hammered(self):
        """There is no key that could rest: the plan remembers it for the call."""
        assert play(ask(option(count=0)), script(all=[(THROTTLED, 20.0)])).at == [0, 20]

    def test_throttled_without_a_time(self):
        assert play(ask(option(count=0)), script(all=[THROTTLED])).at == [0, 10]

    def test_throttled_for_long(self):
        assert play(ask(option(count=0)), script(all=(THROTTLED, 500.0))).ending == Ending("resting", 500.0)

    @pytest.mark.parametrize("outcome", [QUOTA, BAD_KEY])
    def test_no_second_chance(self, outcome):
        trace = play(ask(option(count=0)), script(all=outcome))
        assert (trace.keys, trace.why) == ("-", "failed")


class TestArrange:
    TARGETS = tuple(option(at, name=name) for at, name in enumerate("abc"))

    def shares(self, order, weights=(), place=0, draws=3000):
        """The share of each target at a place of the order, over evenly spread chances."""
        found = Counter(arrange(self.TARGETS, order, weights, n / draws)[place].at for n in range(draws))
        return [round(found[at] / draws, 2) for at in range(3)]

    @pytest.mark.parametrize("chance", [0.0, 0.5, 0.999999])
    def test_priority(self, chance):
        assert arrange(self.TARGETS, "priority", (1, 5, 9), chance) == self.TARGETS

    @pytest.mark.parametrize("order", ["random", "weighted"])
    @pytest.mark.parametrize("chance", [0.0, 0.1, 1 / 3, 0.5, 2 / 3, 0.99, 1 - 2**-53])
    def test_all_of_them_once(self, order, chance):
        assert sorted(each.at for each in arrange(self.TARGETS, order, (0.1, 0.2, 0.7), chance)) == [0, 1, 2]

    def test_random_first(self):
        assert self.shares("random") == [0.33, 0.33, 0.33]

    def test_random_second(self):
        assert self.shares("random", place=1) == [0.33, 0.33, 0.33]

    def test_random_ignores_weights(self):
        assert self.shares("random", (9, 1, 0)) == [0.33, 0.33, 0.33]

    def test_all_orders(self):
        found = Counter(tuple(each.at for each in arrange(self.TARGETS, "random", (), n / 600)) for n in range(600))
        assert set(found.values()) <= set(range(98, 103))

    def test_weighted_first(self):
        assert self.shares("weighted", (6, 3, 1)) == [0.6, 0.3, 0.1]

    def test_weighted_second(self):
        """After the first (6 of 10) come 3 to 1, and so on."""
        expected = [3 / 10 * 6 / 7 + 1 / 10 * 6 / 9, 6 / 10 * 3 / 4 + 1 / 10 * 3 / 9, 6 / 10 * 1 / 4 + 3 / 10 * 1 / 7]
        assert self.shares("weighted", (6, 3, 1), place=1) == [round(share, 2) for share in expected]

    def test_zero_weight_is_never_first(self):
        assert self.shares("weighted", (1, 0, 1)) == [0.5, 0, 0.5]

    def test_zero_weight_comes_last(self):
        assert self.shares("weighted", (1, 0, 1), place=2) == [0, 1, 0]

    @pytest.mark.parametrize("chance", [0.0, 0.4, 0.99])
    def test_zero_weights_keep_their_order(self, chance):
        assert [each.at for each in arrange(self.TARGETS, "weighted", (0, 0, 0), chance)] == [0, 1, 2]

    def test_none(self):
        assert arrange((), "random", (), 0.5) == ()


OUTCOMES = st.one_of(
    st.none(),
    st.sampled_from([*TABLE, *TABLE, CLIENT, TOO_LONG, POLICY]),
    st.tuples(st.sampled_from([THROTTLED, QUOTA, OVERLOADED]), st.floats(0.01, 300)),
)
TARGETS = st.builds(
    lambda count, name, model, limit, rotation, spacing: (count, name, model, limit, rotation, spacing),
    st.integers(0, 4),
    st.sampled_from(["openai", "b", "c"]),
    st.sampled_from(["m", "small", None]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(["balanced", "sequential", "sticky", "round_robin", "least_busy", "hybrid"]),
    st.sampled_from([0.0, 0.0, 2.0]),
)


def made(targets, first):
    return tuple(
        option(first + at, count, name, model, concurrency=limit, rotation=rotation, spacing=spacing)
        for at, (count, name, model, limit, rotation, spacing) in enumerate(targets)
    )


@st.composite
def asks(draw):
    """Any call: targets, fallbacks, bounds and affinities."""
    plain, long, spare = (made(draw(st.lists(TARGETS, min_size=n == 0, max_size=3)), n * 3) for n in range(3))
    return ask(
        *plain,
        too_long=long,
        exhausted=spare,
        deadline=draw(st.floats(0, 900)),
        attempts=draw(st.integers(1, 24)),
        max_wait=draw(st.sampled_from([0.0, 5.0, 120.0, 1000.0])),
        small_wait=draw(st.sampled_from([0.0, 10.0])),
        retry=draw(st.sampled_from([0.1, 1.0])),
        hard=draw(st.sampled_from([(), (), ("h",)])),
        soft=draw(st.sampled_from([(), ("s",)])),
        session=draw(st.sampled_from([None, "talk"])),
    )


def bindings(draw, pools):
    for name in ("h", "s", "talk"):
        key = draw(st.sampled_from([None, "openai/1", "openai/2", "b/1"]))
        if key:
            bound(pools, name, key, soft=name != "h", at=key.partition("/")[0])


def condition(run, target, key):
    return run.pools.health.condition(place_of(target.provider, target.model, key), run.now)


def check(run):
    """What holds for every step of every plan."""
    if isinstance(run.step, Pause):
        assert 0 < run.step.seconds <= run.ask.deadline - run.now + 1e-6
    elif isinstance(run.step, Try):
        assert run.now < run.ask.deadline
        assert not condition(run, run.step.option, run.step.key).excluded
        limit = run.step.option.provider.concurrency
        assert run.step.key is None or limit is None or run.pools.slots.active(run.step.key.id) <= limit


class TestAnyWorld:
    @given(st.data(), asks(), st.integers(0, 2**32), st.floats(0, 3))
    def test_it_ends_within_its_bounds(self, data, asked, seed, took):
        pools, chances = Pools(), random.Random(seed)
        bindings(data.draw, pools)
        steps = []

        def watch(run):
            check(run)
            steps.append(run.step)
            assert len(steps) < 5000

        trace = play(
            asked,
            lambda *_: data.draw(OUTCOMES),
            pools,
            chances=iter(chances.random, None),
            took=took,
            watch=watch,
        )
        assert len(trace.tried) <= asked.attempts

    @given(st.data(), asks(), st.integers(0, 2**32), st.integers(0, 12))
    def test_permits_are_conserved_wherever_it_is_closed(self, data, asked, seed, stop):
        pools, chances = Pools(), random.Random(seed)
        run = Running(asked, pools, chance=chances.random())
        step = run.begin()
        for _ in range(stop):
            if isinstance(step, Ending):
                break
            run.chance = chances.random()
            if isinstance(step, Pause):
                step = run.resumes()
                continue
            run.attempt()
            answer = data.draw(OUTCOMES)
            if answer is None:
                run.answers()
                break
            step = run.fails(*(answer if isinstance(answer, tuple) else (answer,)))
        run.close()
        assert is_free(pools)

    @given(st.data(), st.integers(1, 4), st.lists(OUTCOMES, min_size=1, max_size=40), st.integers(1, 2))
    def test_many_calls_at_once(self, data, count, answers, limit):
        """Calls that begin, wait, fail, answer and go away in any order hold no more than the limit, and nothing at the end."""
        pools, target = Pools(), option(count=count, concurrency=limit)
        runs = [Running(ask(target, deadline=300), pools) for _ in range(6)]
        for run in runs:
            run.begin()
        now, streaming = NOW, set()
        for answer in answers:
            at = data.draw(st.integers(0, 5))
            run = runs[at]
            now += 0.3
            run.now = now
            if data.draw(st.integers(0, 9)) == 0 or at in streaming:
                run.close()
                streaming.discard(at)
                run.step = Ending("failed")
            elif isinstance(run.step, Pause):
                run.resumes(now)
            elif isinstance(run.step, Try):
                run.attempt()
                if answer is None:
                    run.answers()
                    streaming.add(at)
                else:
                    run.fails(*(answer if isinstance(answer, tuple) else (answer,)))
            assert all(pools.slots.active(key.id) <= limit for key in target.keys)
        for run in runs:
            run.close()
        assert is_free(pools)

    @given(st.lists(OUTCOMES, max_size=30), st.integers(2, 5), st.integers(0, 2**32))
    def test_a_resting_key_never_while_a_healthy_one_is_there(self, answers, count, seed):
        left, chances, used_up = iter(answers), random.Random(seed), set()

        def world(key, *_):
            answer = next(left, None)
            if answer is not None and (answer if isinstance(answer, Outcome) else answer[0]) is not THROTTLED:
                used_up.add(key)  # may be well by now, but had its chance
            return answer

        def watch(run):
            check(run)
            if isinstance(run.step, Pause) and run.step.reason == "cooldown":
                assert all(condition(run, target, key).excluded for key in target.keys if key.id not in used_up)

        target = option(count=count, rotation="balanced")
        play(ask(target), world, chances=iter(chances.random, None), watch=watch)


@pytest.mark.parametrize("rotation", ["balanced", "sequential", "sticky", "round_robin", "least_busy", "hybrid"])
def test_transient_failures_are_spared(rotation):
    """30 % of all attempts fail in a transient way: with three keys every one of 2,000 calls is answered."""
    pools, target, dice = Pools(), option(count=3, rotation=rotation), random.Random(rotation)
    kinds = [(THROTTLED, 1.0), OVERLOADED, *FAULTS]
    endings, now = [], NOW
    for n in range(2000):
        asked = ask(target, session=f"talk {n % 20}")._replace(deadline=now + 600)
        world = lambda *_: dice.choice(kinds) if dice.random() < 0.3 else None  # noqa: E731
        trace = play(asked, world, pools, chances=iter(dice.random, None), took=0.1, now=now)
        now += trace.end + 0.5
        if trace.ending is not None:
            endings.append(trace.ending)
    assert (endings, is_free(pools)) == ([], True)


def looked(pools, asked, *, wholly):
    """What a look at the keys finds; `wholly`: at each key, whether or not anything is known against one."""
    plan = failover._Plan(asked, pools, failover.Report(NOW, 0.0))
    if wholly:
        plan._is_calm = lambda: False
    view = plan._look()
    return view.ready, view.last, view.busy, view.rests, view.spent


@given(
    st.integers(0, 3),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([0.0, 5.0]),
    st.sampled_from([None, 1]),
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([None, *TABLE])), max_size=4),
)
def test_a_look_in_calm_finds_what_a_look_at_each_key_finds(count, limit, spacing, own_limit, past):
    pools, target = Pools(), option(count=count, concurrency=limit, spacing=spacing)
    if count:
        target = target._replace(keys=(replace(target.keys[0], concurrency=own_limit), *target.keys[1:]))
    for number, outcome in past:
        place = place_of(target.provider, "m", replace(keys()[0], id=f"openai/{number}"))
        use = pools.began(target.provider, place, pools.slots.take(place.key, None), NOW - 1)
        if outcome is not None:
            pools.failed(use, Failure(outcome, NOW - 1), NOW)
    assert looked(pools, ask(target), wholly=False) == looked(pools, ask(target), wholly=True)


ROTATIONS = ("balanced", "sequential", "sticky", "round_robin", "least_busy", "hybrid")


def used_unequally():
    pools = Pools()
    for key, ago in ((keys(3)[1], 9), (keys(3)[1], 8), (keys(3)[2], 7)):
        pools.began(provider(), place_of(provider(), "m", key), pools.slots.take(key.id, None), NOW - ago)
    return pools


def begun(step, pools):
    """What a first attempt comes to, and which permits are held then."""
    return step[:3], [pools.slots.active(key.id) for key in keys(3)]


class TestFirst:
    @given(
        st.sampled_from(ROTATIONS), st.integers(0, 3), st.floats(0, 1, exclude_max=True), st.sampled_from([Pools, used_unequally])
    )
    def test_is_what_the_plan_begins_with(self, rotation, count, chance, made):
        call, pools, others = ask(option(count=count, rotation=rotation), option(1)), made(), made()
        step = next(running := failover.plan(call, others, NOW, chance))
        assert begun(failover.first(call, pools, NOW, chance), pools) == begun(step, others)
        running.close()

    @pytest.mark.parametrize(
        "call",
        [
            pytest.param(ask(option(count=2), hard=("response:1",)), id="what belongs to a key"),
            pytest.param(ask(option(count=2), soft=("session:1",)), id="a warm cache"),
            pytest.param(ask(option(count=2), session="conversation:1"), id="a conversation"),
            pytest.param(ask(option(count=2), attempts=0), id="no attempts"),
            pytest.param(ask(option(count=2), deadline=0.0), id="the deadline"),
            pytest.param(ask(), id="no options"),
            pytest.param(ask(Option(0, provider(), "m", ())), id="no keys"),
            pytest.param(ask(option(count=2, concurrency=1)), id="a limit"),
            pytest.param(ask(option(count=2, spacing=1.0)), id="spacing"),
            pytest.param(ask(Option(0, provider(), "m", keys(2, concurrency=1))), id="a limit of a key"),
            pytest.param(ask(option(count=2, model_tiers=(("m", 0),))), id="tiers"),
        ],
    )
    def test_is_left_to_the_plan(self, call):
        assert failover.first(call, Pools(), NOW, 0.0) is None

    def test_is_left_to_the_plan_while_a_key_rests(self):
        target, pools = option(count=2), Pools()
        rests(pools, target, 2, 9)
        assert failover.first(ask(target), pools, NOW, 0.0) is None

    def test_comes_once_more_from_the_plan_that_goes_on(self):
        call, pools = ask(option(count=2)), Pools()
        step = failover.first(call, pools, NOW, 0.0)
        running = failover.plan(call, pools, NOW, 0.0, step)
        assert next(running) is step
        running.close()

    def test_holds_one_permit_when_the_plan_goes_on(self):
        call, pools = ask(option(count=2)), Pools()
        running = failover.plan(call, pools, NOW, 0.0, failover.first(call, pools, NOW, 0.0))
        next(running)
        assert pools.slots.active("openai/1") + pools.slots.active("openai/2") == 1
        running.close()
