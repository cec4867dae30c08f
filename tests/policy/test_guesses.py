"""How many failures are heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.policy import guesses
from valetkey.policy.guesses import BURST, REFILL, Guesses, network


def failing(times: int, address: str = "10.0.0.5", claim: str = "alice") -> Guesses:
    made = Guesses()
    for _ in range(times):
        made.failed(address, claim, 100.0)
    return made


@pytest.mark.parametrize(("times", "wait"), [(0, 0.0), (1, 0.0), (BURST - 1, 0.0), (BURST, REFILL), (BURST + 1, 2 * REFILL)])
def test_so_many_failures_are_heard_in_one_go(times: int, wait: float) -> None:
    assert failing(times).wait("10.0.0.5", "alice", 100.0) == pytest.approx(wait)


def test_one_more_is_heard_after_a_while() -> None:
    assert failing(BURST).wait("10.0.0.5", "alice", 100.0 + REFILL) == 0.0


def test_after_a_minute_all_is_forgiven() -> None:
    made = failing(BURST)
    for _ in range(BURST - 1):
        made.failed("10.0.0.5", "alice", 160.0)
    assert made.wait("10.0.0.5", "alice", 160.0) == 0.0


@pytest.mark.parametrize(("address", "claim"), [("10.0.0.6", "alice"), ("10.0.0.5", "bob"), ("10.0.0.5", "")])
def test_others_are_not_kept_out(address: str, claim: str) -> None:
    assert failing(50).wait(address, claim, 100.0) == 0.0


def test_the_network_of_one_machine_is_one_address() -> None:
    made = failing(BURST, "2001:db8::1")
    assert made.wait("2001:db8::2", "alice", 100.0) > 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("odd", "odd"),
    ],
)
def test_what_counts_as_one_address(address: str, expected: str) -> None:
    assert network(address) == expected


def test_the_first_failure_is_told() -> None:
    assert Guesses().failed("10.0.0.5", "", 0.0)


def test_further_ones_are_not() -> None:
    assert not failing(1).failed("10.0.0.5", "bob", 159.0)


def test_a_minute_later_one_is_told_again() -> None:
    assert failing(1).failed("10.0.0.5", "alice", 160.0)


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MOST", 100)
    made = Guesses()
    for number in range(1000):
        made.failed(f"10.0.{number // 250}.{number % 250}", "", 0.0)
    assert len(made) == 100


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MOST", 2)
    made = failing(BURST, "a")
    made.failed("b", "", 100.0)
    made.failed("a", "alice", 100.0)
    made.failed("c", "", 100.0)
    assert made.wait("a", "alice", 100.0) > 0


@given(st.lists(st.floats(0, 1000), max_size=200).map(sorted))
def test_in_any_minute_no_more_than_two_buckets_are_heard(times: list[float]) -> None:
    made, heard = Guesses(), []
    for now in times:
        if not made.wait("a", "", now):
            made.failed("a", "", now)
            heard.append(now)
    assert all(len([t for t in heard if start <= t < start + 60]) <= BURST + 60 / REFILL + 1 for start in heard)
