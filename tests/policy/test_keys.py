"""Which key the next attempt uses."""

from __future__ import annotations

import pytest

from support.samples import key
from valetkey.policy.keys import choose

FIRST, SECOND = key(name="1"), key(name="2")
SPARE = key(name="spare", priority=2)


def test_no_key_is_chosen_where_there_is_none() -> None:
    assert choose((), 7) is None


@pytest.mark.parametrize(("turn", "expected"), [(0, FIRST), (1, SECOND), (2, FIRST), (1_000_001, SECOND)])
def test_keys_of_one_tier_take_turns(turn: int, expected: object) -> None:
    assert choose((FIRST, SECOND), turn) == expected


@pytest.mark.parametrize("turn", range(4))
def test_a_lower_tier_is_never_chosen_while_a_better_one_exists(turn: int) -> None:
    assert choose((SPARE, FIRST, SECOND), turn) != SPARE


def test_the_best_tier_may_stand_anywhere_in_the_list() -> None:
    assert choose((SPARE, FIRST), 0) == FIRST
