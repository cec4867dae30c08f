"""Which key made what: kept while it is used, bounded, and the same after a restart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.policy.affinity import Affinity, start

DAY = 86400.0


def bound(*names, soft=False, key="openai/1", **options):
    affinity = Affinity(**options)
    affinity.bind("openai", names, key, 0.0, soft=soft)
    return affinity


def test_what_a_key_made_goes_to_it():
    assert bound("response:a").key_for("openai", ["response:a"], 1.0) == "openai/1"


def test_what_nobody_made_goes_anywhere():
    assert bound("response:a").key_for("openai", ["response:b"], 1.0) is None


def test_the_first_name_that_is_bound_decides():
    affinity = bound("file:a")
    affinity.bind("openai", ["file:b"], "openai/2", 0.0)
    assert affinity.key_for("openai", ["file:x", "file:b", "file:a"], 1.0) == "openai/2"


def test_a_name_belongs_to_its_provider():
    assert bound("file:a").key_for("azure", ["file:a"], 1.0) is None


def test_the_latest_binding_counts():
    affinity = bound("session:a", soft=True)
    affinity.bind("openai", ["session:a"], "openai/2", 1.0, soft=True)
    assert affinity.key_for("openai", ["session:a"], 2.0) == "openai/2"


@pytest.mark.parametrize("soft, age, found", [
    (False, 30 * DAY, "openai/1"), (False, 30 * DAY + 1, None), (True, 3600.0, "openai/1"), (True, 3601.0, None),
])  # fmt: skip
def test_a_binding_ends(soft, age, found):
    assert bound("n", soft=soft).key_for("openai", ["n"], age) == found


def test_use_keeps_a_binding():
    affinity = bound("n", soft=True)
    affinity.key_for("openai", ["n"], 3000.0)
    assert affinity.key_for("openai", ["n"], 6000.0) == "openai/1"


def test_a_clock_set_back_ends_nothing():
    assert bound("n").key_for("openai", ["n"], -DAY) == "openai/1"


def test_the_least_recently_used_goes_first():
    affinity = bound("a", "b", limit=2)
    affinity.key_for("openai", ["a"], 1.0)
    affinity.bind("openai", ["c"], "openai/1", 2.0)
    assert [affinity.key_for("openai", [name], 3.0) for name in "abc"] == ["openai/1", None, "openai/1"]


def test_made_up_sessions_do_not_push_out_files():
    affinity = bound(*"abcde", limit=10)
    for number in range(1000):
        affinity.bind("openai", [f"session:{number}"], "openai/2", 1.0, soft=True)
    assert all(affinity.key_for("openai", [name], 2.0) for name in "abcde")


def test_files_do_not_push_out_every_session():
    affinity = bound(*"abcde", soft=True, limit=10)
    for number in range(1000):
        affinity.bind("openai", [f"file:{number}"], "openai/2", 1.0)
    assert all(affinity.key_for("openai", [name], 2.0) for name in "abcde")


def test_a_name_of_any_length_is_not_kept():
    assert len(bound("x" * 100_000)) == 0


def test_one_call_binds_a_bounded_number():
    assert len(bound(*map(str, range(10_000)))) <= 64


def test_a_forgotten_key_owns_nothing():
    affinity = bound("a")
    affinity.bind("openai", ["b"], "openai/2", 0.0, soft=True)
    affinity.forget_key("openai/1")
    assert [affinity.key_for("openai", [name], 1.0) for name in "ab"] == [None, "openai/2"]


# Persistence.


def test_changes_are_told_once():
    affinity = bound("a")
    assert [affinity.changes(), affinity.changes()] == [{"openai/a": {"key": "openai/1", "used": 0.0, "soft": False}}, {}]


def test_a_use_is_a_change():
    affinity = bound("a")
    affinity.changes()
    affinity.key_for("openai", ["a"], 5.0)
    assert affinity.changes() == {"openai/a": {"key": "openai/1", "used": 5.0, "soft": False}}


def test_the_end_of_a_stored_entry_is_told():
    affinity = bound("a")
    affinity.changes()
    affinity.forget_key("openai/1")
    assert affinity.changes() == {"openai/a": None}


def test_the_end_of_an_entry_that_was_never_stored_is_not_told():
    affinity = bound("a")
    affinity.forget_key("openai/1")
    assert affinity.changes() == {}


def test_an_entry_that_comes_back_before_its_end_is_told_is_still_stored():
    affinity = bound("a")
    affinity.changes()
    affinity.forget_key("openai/1")
    affinity.bind("openai", ["a"], "openai/2", 1.0)
    affinity.forget_key("openai/2")
    assert affinity.changes() == {"openai/a": None}


def test_what_ended_is_not_loaded_and_goes_from_the_store():
    affinity = Affinity()
    affinity.load({"openai/a": {"key": "k", "used": 0.0, "soft": True}}, 4000.0)
    assert affinity.changes() == {"openai/a": None}


def test_a_time_to_come_counts_as_now():
    affinity = Affinity()
    affinity.load({"openai/a": {"key": "k", "used": 9e9, "soft": True}}, 0.0)
    assert affinity.key_for("openai", ["a"], 3601.0) is None


def test_what_is_known_already_is_newer_than_what_is_loaded():
    affinity = bound("a")
    affinity.load({"openai/a": {"key": "old", "used": 0.0, "soft": False}}, 0.0)
    assert affinity.key_for("openai", ["a"], 1.0) == "openai/1"


@pytest.mark.parametrize("garbage", [
    None, 1, "x", [], {}, {"key": 1, "used": 0, "soft": False}, {"key": "k", "used": "0", "soft": False},
    {"key": "k", "used": True, "soft": False}, {"key": "k", "used": float("nan"), "soft": False},
    {"key": "k", "used": float("inf"), "soft": False}, {"key": "k", "used": 10**400, "soft": False},
    {"key": "k", "used": 0}, {"key": "k", "used": 0, "soft": 1},
])  # fmt: skip
def test_garbage_is_not_loaded(garbage):
    affinity = Affinity()
    affinity.load({"openai/a": garbage, "openai/b": {"key": "k", "used": 0, "soft": False}}, 0.0)
    assert [affinity.key_for("openai", [name], 1.0) for name in "ab"] == [None, "k"]


# Whatever happens.

NAMES = [f"n{i}" for i in range(8)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["bind", "soft", "use", "forget", "changes"]),
        st.sampled_from(NAMES),
        st.sampled_from(["k1", "k2"]),
        st.integers(0, 40).map(float),
    ),
    max_size=60,
)


class Played:
    """A machine, a store that follows it, and when each name was used last."""

    def __init__(self, steps, limit):
        self.affinity = Affinity(100.0, 50.0, limit)
        self.store, self.now, self.last, self.sizes = {}, 0.0, {}, []
        for what, name, key, pause in steps:
            self.now += pause
            getattr(self, what)(name, key)
            self.sizes.append(len(self.affinity))

    def bind(self, name, key, soft=False):
        self.affinity.bind("p", [name], key, self.now, soft=soft)
        self.last[name] = (self.now, 50.0 if soft else 100.0)

    def soft(self, name, key):
        self.bind(name, key, soft=True)

    def use(self, name, _key):
        found = self.affinity.key_for("p", [name], self.now)
        if found is not None:
            used, ttl = self.last[name]
            assert self.now - used <= ttl
            self.last[name] = (self.now, ttl)

    def forget(self, _name, key):
        self.affinity.forget_key(key)

    def changes(self, *_):
        for name, entry in json.loads(json.dumps(self.affinity.changes())).items():
            self.store.pop(name, None)
            if entry is not None:
                self.store[name] = entry


@given(STEPS, st.integers(0, 5))
def test_there_are_never_more_than_the_limit(steps, limit):
    assert max(Played(steps, limit).sizes, default=0) <= limit


@given(STEPS, st.integers(1, 9))
def test_what_was_not_used_in_time_is_never_given(steps, limit):
    Played(steps, limit)  # checks at every use


@given(STEPS, st.integers(1, 9), st.integers(0, 120).map(float))
def test_a_restart_changes_no_answer(steps, limit, pause):
    played = Played(steps, limit)
    played.changes()
    after = Affinity(100.0, 50.0, limit)
    after.load(played.store, played.now)
    now = played.now + pause
    assert [after.key_for("p", [n], now) for n in NAMES] == [played.affinity.key_for("p", [n], now) for n in NAMES]


@given(STEPS, st.integers(1, 9))
def test_the_store_holds_what_lives_and_no_more_than_the_limit(steps, limit):
    played = Played(steps, limit)
    played.changes()
    assert len(played.store) == len(played.affinity) <= limit


def test_forged_names_do_not_fill_the_memory():
    affinity = Affinity(limit=50)
    for number in range(5000):
        affinity.bind("p", [f"file:{number}"], "k", 0.0, soft=number % 3 == 0)
        if number == 2500:
            affinity.changes()
    assert len(affinity.changes()) <= 100


# Positions.


def test_a_session_begins_where_its_digest_says():
    assert start("abc", 7) == 0xBA7816BF % 7


@given(st.text(), st.integers(1, 100))
def test_a_position_is_one_of_the_keys(identity, count):
    assert 0 <= start(identity, count) < count
