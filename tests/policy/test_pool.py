"""Which key the next attempt uses: each rotation as documented, tiers, weights, soft limits and thresholds."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.model import Key, Rotation
from valetkey.policy.pool import Candidate, Choice, choose

NOW = 1_700_000_000.0
ROTATIONS = get_args(Rotation)


def key(name, priority=1, weight=1.0):
    return Key(f"openai/{name}", "openai", str(name), priority=priority, weight=weight)


def each(name, priority=1, weight=1.0, **figures):
    return Candidate(key(name, priority, weight), **figures)


def chosen(rotation, *candidates, chance=0.0, **how):
    """The name of the key that is chosen."""
    found = choose(candidates, Choice(rotation, chance, NOW, **how))
    return found.name if found else None


def shares(rotation, *candidates, **how):
    """The share of 1000 evenly spread draws that goes to each."""
    drawn = Counter(chosen(rotation, *candidates, chance=(at + 0.5) / 1000, **how) for at in range(1000))
    return {name: count / 1000 for name, count in drawn.items()}


# For every rotation.


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_without_keys_there_is_none(rotation):
    assert chosen(rotation) is None


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_of_one_key_it_is_that(rotation):
    assert chosen(rotation, each("a", remaining=0.0, active=9, score=0, tokens=0), soft=1, session="s") == "a"


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_a_better_tier_comes_first(rotation, chance):
    spare, team = each("spare", 2, weight=9), each("team", 1, used=99, last=NOW, active=9)
    assert chosen(rotation, spare, team, chance=chance, session="s") == "team"


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_worse_tier_is_used_when_it_is_all_there_is(rotation):
    assert chosen(rotation, each("spare", 3), each("last", 7), session="s") == "spare"


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_keys_below_the_soft_limit_are_preferred(rotation, chance):
    candidates = [each("a", active=2, used=5, last=1.0), each("b", active=1, used=9, last=NOW)]
    assert chosen(rotation, *candidates, chance=chance, soft=2, session="s") == "b"


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_the_soft_limit_is_passed_when_all_have_reached_it(rotation):
    assert chosen(rotation, each("a", active=2), each("b", active=2), soft=2, session="s") in ("a", "b")


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_the_soft_limit_does_not_open_a_worse_tier(rotation):
    assert chosen(rotation, each("team", active=9), each("spare", 2), soft=1, session="s") == "team"


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("chance", [0.0, 0.999])
def test_a_key_is_left_at_the_threshold(rotation, chance):
    candidates = [each("a", remaining=0.2, used=5, last=1.0), each("b", remaining=0.21, used=9, last=NOW)]
    assert chosen(rotation, *candidates, chance=chance, leave_at=0.2, session="s", current="openai/a") == "b"


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_key_with_nothing_left_is_left_without_a_threshold(rotation):
    assert chosen(rotation, each("a", remaining=0.0), each("b", remaining=0.01, last=NOW), session="s") == "b"


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_key_whose_limit_is_unknown_is_not_left(rotation):
    assert chosen(rotation, each("a", remaining=0.1), each("b", last=NOW), leave_at=0.2, session="s") == "b"


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_key_is_left_for_one_of_a_worse_tier(rotation):
    assert chosen(rotation, each("team", 1, remaining=0.1), each("spare", 2), leave_at=0.2, session="s") == "spare"


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_key_is_not_left_when_all_are_at_the_threshold(rotation):
    assert chosen(rotation, each("team", 1, remaining=0.1), each("spare", 2, remaining=0.1), leave_at=0.2, session="s") == "team"


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.builds(key, st.integers(0, 99), st.integers(1, 3), st.floats(0.01, 1000)),
        st.integers(0, 10**6),
        st.integers(0, 9),
        st.just(0.0) | st.floats(0, NOW),
        st.none() | st.floats(0, 1),
        st.floats(0, NOW),
        st.floats(0, 100),
        st.floats(0, 1),
    ),
    max_size=6,
)


@given(
    CANDIDATES,
    st.builds(
        Choice,
        st.sampled_from(ROTATIONS),
        st.floats(0, 1, exclude_max=True),
        st.just(NOW),
        current=st.none() | st.integers(0, 99).map("openai/{}".format),
        session=st.none() | st.text(),
        soft=st.none() | st.integers(1, 4),
        tolerance=st.floats(0, 1000),
        leave_at=st.floats(0, 1),
    ),
)
def test_a_key_is_chosen_whenever_there_is_one(candidates, how):
    found = choose(candidates, how)
    assert (found is None) is (not candidates) and (found is None or found in [one.key for one in candidates])


# balanced


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_balanced_without_tolerance_is_always_the_least_used(chance):
    assert chosen("balanced", each("a", used=3), each("b", used=2), each("c", used=4), chance=chance, tolerance=0) == "b"


def test_balanced_without_tolerance_takes_the_longest_unused_of_equals():
    assert chosen("balanced", each("a", used=2, last=2.0), each("b", used=2, last=1.0), tolerance=0) == "b"


def test_balanced_without_tolerance_counts_use_by_weight():
    assert chosen("balanced", each("a", used=3, weight=2.0), each("b", used=2), tolerance=0) == "a"


def test_balanced_draws_by_what_others_are_ahead():
    # The documented weights: (highest use - own use) + tolerance + 1, so 4 and 14.
    assert shares("balanced", each("a", used=10), each("b")) == pytest.approx({"a": 4 / 18, "b": 14 / 18}, abs=0.002)


def test_balanced_keys_used_alike_are_drawn_alike():
    assert shares("balanced", each("a", used=7), each("b", used=7)) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.002)


def test_balanced_with_more_tolerance_is_more_even():
    assert shares("balanced", each("a", used=10), each("b"), tolerance=89)["a"] == pytest.approx(90 / 190, abs=0.002)


def test_balanced_with_a_little_tolerance_draws():
    assert shares("balanced", each("a", used=1), each("b"), tolerance=0.5)["a"] == pytest.approx(1.5 / 4, abs=0.002)


def test_balanced_counts_the_tier_alone():
    candidates = [each("a", used=10), each("b"), each("c", 2, used=10**6)]
    assert shares("balanced", *candidates) == pytest.approx({"a": 4 / 18, "b": 14 / 18}, abs=0.002)


def test_balanced_draws_by_weight():
    assert shares("balanced", each("a", weight=3.0), each("b")) == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.002)


def test_balanced_keys_that_are_used_by_their_weights_are_drawn_by_them():
    found = shares("balanced", each("a", weight=3.0, used=300), each("b", used=100))
    assert found == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.002)


def test_balanced_prefers_keys_with_more_left():
    found = shares("balanced", each("a", remaining=0.2), each("b", remaining=0.6))
    assert found == pytest.approx({"a": 0.25, "b": 0.75}, abs=0.002)


def test_balanced_takes_what_is_unknown_for_full():
    assert shares("balanced", each("a"), each("b", remaining=0.25)) == pytest.approx({"a": 0.8, "b": 0.2}, abs=0.002)


def test_balanced_does_not_go_by_an_old_statement():
    assert shares("balanced", each("a"), each("b", remaining=0.25, age=301)) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.002)


def test_balanced_never_quite_excludes_a_key():
    assert shares("balanced", each("a"), each("b", remaining=0.001))["b"] == pytest.approx(0.05 / 1.05, abs=0.002)


def test_balanced_over_many_calls_follows_the_weights():
    counts = Counter({"a": 0, "b": 0})
    for at in range(2000):
        candidates = [each("a", weight=3.0, used=counts["a"]), each("b", used=counts["b"])]
        counts[chosen("balanced", *candidates, chance=(at * 0.6180339887) % 1)] += 1
    assert counts["a"] / 2000 == pytest.approx(0.75, abs=0.02)


# sequential


def test_sequential_stays_with_the_key_it_uses():
    assert chosen("sequential", each("a", used=9), each("b", used=1), current="openai/b") == "b"


def test_sequential_empties_the_one_that_was_begun():
    assert chosen("sequential", each("a", used=1, last=NOW), each("b", used=9), each("c")) == "b"


def test_sequential_takes_the_latest_of_equals():
    assert chosen("sequential", each("a", used=3, last=1.0), each("b", used=3, last=2.0)) == "b"


def test_sequential_begins_with_the_first():
    assert chosen("sequential", each("a"), each("b")) == "a"


def test_sequential_goes_on_when_its_key_is_gone():
    assert chosen("sequential", each("b"), each("c"), current="openai/a") == "b"


def test_sequential_leaves_a_worse_tier_when_a_better_one_is_back():
    assert chosen("sequential", each("team"), each("spare", 2, used=9), current="openai/spare") == "team"


# sticky


@pytest.mark.parametrize("session", ["a", "conversation-7", "ü"])
def test_sticky_begins_where_the_hash_of_the_session_says(session):
    at = int(sha256(session.encode()).hexdigest()[:8], 16) % 3
    assert chosen("sticky", each("a"), each("b"), each("c"), session=session) == "abc"[at]


def test_sticky_does_not_depend_on_the_order_of_the_keys():
    candidates = [each("a"), each("b"), each("c")]
    assert chosen("sticky", *candidates, session="s") == chosen("sticky", *candidates[::-1], session="s")


def test_sticky_begins_among_the_best_tier():
    candidates = [each("a", 2), each("b"), each("c")]
    assert chosen("sticky", *candidates, session="s") == chosen("sticky", *candidates[1:], session="s")


def test_sticky_spreads_conversations():
    found = {chosen("sticky", each("a"), each("b"), each("c"), session=f"conversation-{number}") for number in range(50)}
    assert found == {"a", "b", "c"}


def test_sticky_stays_with_its_key():
    found = {chosen("sticky", each("a"), each("b"), current="openai/b", session=f"s{number}") for number in range(20)}
    assert found == {"b"}


def test_sticky_without_a_conversation_is_balanced():
    assert shares("sticky", each("a", used=10), each("b")) == pytest.approx({"a": 4 / 18, "b": 14 / 18}, abs=0.002)


# round_robin, least_busy


def test_round_robin_takes_the_longest_unused():
    assert chosen("round_robin", each("a", last=3.0), each("b", last=1.0), each("c", last=2.0)) == "b"


def test_round_robin_takes_new_keys_in_their_order():
    assert chosen("round_robin", each("a", last=3.0), each("b"), each("c")) == "b"


def test_round_robin_goes_round():
    last, found = dict.fromkeys("abc", 0.0), []
    for now in range(1, 8):
        found.append(chosen("round_robin", *(each(name, last=time) for name, time in last.items())))
        last[found[-1]] = float(now)
    assert found == list("abcabca")


def test_least_busy_takes_the_one_with_the_fewest_calls():
    assert chosen("least_busy", each("a", active=2), each("b", active=1), each("c", active=3)) == "b"


def test_least_busy_takes_the_longest_unused_of_equals():
    assert chosen("least_busy", each("a", active=1, last=2.0), each("b", active=1, last=1.0)) == "b"


def test_least_busy_counts_calls_by_weight():
    assert chosen("least_busy", each("a", active=3, weight=2.0), each("b", active=2)) == "a"


@pytest.mark.parametrize("rotation", ["balanced", "sequential", "sticky", "round_robin", "hybrid"])
def test_only_least_busy_looks_at_the_calls_under_way(rotation):
    candidates = [each("a", used=1, last=1.0), each("b", used=1, last=1.0)]
    busy = [one._replace(active=9 if one.key.name == chosen(rotation, *candidates) else 0) for one in candidates]
    assert chosen(rotation, *busy) == chosen(rotation, *candidates)


# hybrid: score x 2 + fill x 100 x 5 + quota x 3 + idle seconds (at most 3600) x 0.1, best wins


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"score": 70}, {"score": 71}),
        ({"tokens": 0.5}, {"tokens": 0.52}),
        ({"remaining": 0.5}, {"remaining": 0.6}),
        ({"last": NOW - 10}, {"last": NOW - 20}),
        ({"remaining": 0.49}, {}),  # unknown counts as half
        ({}, {"remaining": 0.51}),
        ({"remaining": 0.6, "age": 301.0}, {"remaining": 0.55}),  # old: nine tenths of it
        ({"remaining": 0.6}, {"remaining": 0.67, "age": 301.0}),
        ({"last": NOW - 3599}, {"last": NOW - 3601}),
        ({"score": 70, "last": NOW - 100}, {"score": 76, "last": NOW}),  # 6 points weigh more than 100 s
        ({"score": 75, "tokens": 0.5}, {"score": 70, "tokens": 0.53}),  # 0.03 of the bucket more than 5 points
        ({"tokens": 0.5, "remaining": 0.6}, {"tokens": 0.6, "remaining": 0.5}),
        ({"score": 84, "remaining": 0.5}, {"score": 70, "remaining": 0.6}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("flip", [False, True])
def test_hybrid_takes_the_one_that_is_worth_more(worse, better, flip):
    names = ("b", "a") if flip else ("a", "b")
    base = {"last": NOW}
    assert chosen("hybrid", each(names[0], **base | worse), each(names[1], **base | better)) == names[1]


def test_hybrid_counts_idle_time_up_to_an_hour():
    # 5 points of score are worth 100 s, so an idle day would outweigh them without the limit.
    assert chosen("hybrid", each("a", last=NOW - 86400), each("b", last=NOW - 3590, score=75)) == "b"


def test_hybrid_takes_a_key_that_was_never_used_for_an_hour_idle():
    assert chosen("hybrid", each("a", score=71), each("b", last=NOW - 9999)) == "a"


def test_hybrid_does_not_hold_an_unknown_quota_against_a_known_key():
    assert chosen("hybrid", each("a", age=0.0), each("b", age=NOW, score=70.5)) == "b"


@pytest.mark.parametrize(
    ("out", "passing"),
    [
        ({"score": 49.9, "tokens": 1.0}, {"score": 50, "tokens": 0.02}),
        ({"score": 100, "tokens": 0.019}, {"score": 50, "tokens": 0.02}),
        ({"score": 100, "remaining": 0.05}, {"score": 50, "tokens": 0.02, "remaining": 0.051}),
        ({"score": 100, "remaining": 0.05}, {"score": 50, "tokens": 0.02, "remaining": 0.01, "age": 301.0}),
        # Nobody passes the quota: it is ignored, health is not.
        ({"score": 49, "remaining": 0.05}, {"score": 50, "tokens": 0.1, "remaining": 0.01}),
        ({"score": 100, "tokens": 0.0, "remaining": 0.05}, {"score": 50, "tokens": 0.02, "remaining": 0.01}),
        # Nobody is healthy: health is ignored, the bucket is not.
        ({"score": 49, "tokens": 0.0, "remaining": 1.0}, {"score": 0, "tokens": 0.02}),
        ({"score": 100, "tokens": 0.0, "remaining": 1.0}, {"score": 0, "tokens": 0.02}),
        # All buckets are empty: the best of them.
        ({"score": 20, "tokens": 0.0}, {"score": 30, "tokens": 0.0}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("flip", [False, True])
def test_hybrid_drops_its_filters_in_steps(out, passing, flip):
    names = ("b", "a") if flip else ("a", "b")
    base = {"last": NOW - 1}
    assert chosen("hybrid", each(names[0], **base | out), each(names[1], **base | passing)) == names[1]


def test_hybrid_leaves_a_key_at_the_threshold_of_the_rules():
    full, left = each("a", remaining=0.3), each("b", remaining=0.31, score=51)
    assert chosen("hybrid", full, left, leave_at=0.3) == "b"
