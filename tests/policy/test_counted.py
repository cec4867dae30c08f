"""What was counted is not counted again, also after a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.policy.counted import Counted

NOW = 1_700_000_000.0


def after_restart(counted, now=NOW):
    made = Counted()
    made.load({name: entry for name, entry in counted.changes().items() if entry is not None}, now)
    return made


def test_a_result_is_new_once():
    counted = Counted()
    assert [counted.take("a", number, NOW) for number in (0, 1, 0, 1, 2)] == [True, True, False, False, True]


def test_names_are_counted_apart():
    counted = Counted()
    assert (counted.take("a", 0, NOW), counted.take("b", 0, NOW)) == (True, True)


def test_it_survives_a_restart():
    counted = Counted()
    counted.take("a", 3, NOW)
    again = after_restart(counted)
    assert (again.take("a", 3, NOW), again.take("a", 4, NOW)) == (False, True)


def test_what_was_counted_since_the_start_comes_on_top():
    counted, again = Counted(), Counted()
    counted.take("a", 3, NOW)
    again.take("a", 0, NOW)
    again.load(counted.changes(), NOW)
    assert again.take("a", 3, NOW) is False


@pytest.mark.parametrize("later", [61 * 86400])
def test_it_ends_when_providers_keep_no_results_that_long(later):
    counted = Counted()
    counted.take("a", 0, NOW)
    assert (after_restart(counted, NOW + later).take("a", 0, NOW + later), counted.take("a", 0, NOW + later)) == (True, True)


def test_the_least_used_name_goes_first_and_its_end_is_told():
    counted = Counted(limit=2)
    for name in ("a", "b", "a", "c"):
        counted.take(name, 0, NOW)
    assert {name: entry is None for name, entry in counted.changes().items()} == {"a": False, "b": True, "c": False}


def test_changes_are_told_once():
    counted = Counted()
    counted.take("a", 0, NOW)
    assert (len(counted.changes()), counted.changes()) == (1, {})


def test_what_is_no_entry_goes_from_the_store():
    counted = Counted()
    counted.load(
        {"a": {"count": "x", "used": 1.0}, "b": None, "c": {"count": 1, "used": 10**400}, "d": {"count": 1, "used": NOW}}, NOW
    )
    assert counted.changes() == {"a": None, "b": None, "c": None}


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.recursive(
            st.none() | st.floats() | st.integers() | st.text(max_size=2),
            lambda i: st.dictionaries(st.sampled_from(["count", "used"]), i),
        ),
    )
)
def test_a_damaged_store_raises_nothing(stored):
    counted = Counted()
    counted.load(stored, NOW)
    counted.take("a", 0, NOW)
