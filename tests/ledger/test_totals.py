"""Sums are exact."""

from __future__ import annotations

import json
from decimal import Decimal, Inexact
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.ledger.totals import Sum

COSTS = st.decimals(min_value=0, max_value=10**12, allow_nan=False, allow_infinity=False, places=40)


def summed(*rows: tuple[str, str | None, dict[str, int], str | None]):
    total = Sum()
    for outcome, refused, usage, cost in rows:
        total.add(outcome, refused, json.dumps(usage), cost)
    return total.total({})


@given(st.lists(COSTS, max_size=30))
def test_costs_add_up_to_the_last_digit(costs: list[Decimal]) -> None:
    total = summed(*(("ok", None, {}, str(cost)) for cost in costs))
    assert Fraction(total.cost_usd) == sum(map(Fraction, costs))


def test_a_sum_is_never_rounded_in_silence() -> None:
    with pytest.raises(Inexact):
        summed(("ok", None, {}, "1e300"), ("ok", None, {}, "1e-300"))


def test_small_change_does_not_vanish_in_large_sums() -> None:
    assert summed(("ok", None, {}, "100000000000"), ("ok", None, {}, "1e-25")).cost_usd == Decimal(
        "100000000000." + "0" * 24 + "1"
    )


@given(st.lists(st.dictionaries(st.sampled_from(["input_tokens", "output_tokens"]), st.integers(0, 10**30)), max_size=20))
def test_usage_adds_up_by_field(usages: list[dict[str, int]]) -> None:
    found = summed(*(("ok", None, usage, None) for usage in usages)).usage
    assert all(found[name] == sum(usage.get(name, 0) for usage in usages) for name in found)


def test_a_zero_is_a_field_and_nothing_is_none() -> None:
    assert summed(("ok", None, {"web_searches": 0}, "0")).usage == {"web_searches": 0}


ROWS = (
    ("ok", None, {"input_tokens": 1}, "0"),
    ("refused", "no_key", {}, None),
    ("server", None, {}, None),
    ("ok", None, {"input_tokens": 1}, None),
)


@pytest.mark.parametrize(("count", "expected"), [("calls", 4), ("refused", 1), ("failed", 1), ("unpriced", 1)])
def test_calls_are_counted_by_how_they_ended(count: str, expected: int) -> None:
    assert getattr(summed(*ROWS), count) == expected
