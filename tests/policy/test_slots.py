"""Permits: as many as the limit, in the order of the queue, none lost, whatever happens."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from valetkey.policy.slots import Permit, Slots


def nobody():
    """Wakes no one."""


def held(key="a", number=1, limit=None):
    """Slots with some permits out."""
    slots = Slots()
    return slots, [slots.take(key, limit) for _ in range(number)]


def test_a_free_key_gives_a_permit():
    assert Slots().take("a", 1).key == "a"


def test_a_key_serves_no_more_than_its_limit():
    slots, _ = held(number=2)
    assert slots.take("a", 2) is None


def test_a_key_without_a_limit_serves_any_number():
    slots, _ = held(number=1000)
    assert slots.take("a", None) is not None


def test_the_limit_is_that_of_each_key():
    slots, _ = held("a")
    assert slots.take("b", 1) is not None


@pytest.mark.parametrize("number", [0, 1, 3])
def test_the_calls_that_a_key_serves_are_counted(number):
    slots, _ = held(number=number)
    assert slots.active("a") == number


def test_a_released_permit_can_be_taken():
    slots, (permit,) = held(limit=1)
    slots.release(permit)
    assert slots.take("a", 1) is not None


def test_releasing_twice_gives_back_one_permit():
    slots, (permit, _) = held(number=2)
    slots.release(permit)
    slots.release(permit)
    assert slots.active("a") == 1


def test_releasing_twice_hands_on_one_permit():
    slots, (permit, _) = held(number=2)
    tickets = [slots.line_up({"a": 2}, nobody) for _ in range(2)]
    slots.release(permit)
    slots.release(permit)
    assert [ticket.granted is not None for ticket in tickets] == [True, False]


def test_a_released_permit_goes_to_the_first_in_the_queue():
    slots, (permit,) = held()
    first, second = (slots.line_up({"a": 1}, nobody) for _ in range(2))
    slots.release(permit)
    assert (first.granted is not None, second.granted) == (True, None)


def test_it_goes_to_the_first_that_wants_this_key():
    slots, (permit,) = held()
    slots.take("b", 1)
    other, mine = slots.line_up({"b": 1}, nobody), slots.line_up({"a": 1}, nobody)
    slots.release(permit)
    assert (other.granted, mine.granted.key) == (None, "a")


def test_who_waits_for_several_keys_takes_the_first_that_is_free():
    slots, _ = held("a")
    permit = slots.take("b", 1)
    ticket = slots.line_up({"a": 1, "b": 1}, nobody)
    slots.release(permit)
    assert ticket.granted.key == "b"


def test_who_waits_for_several_keys_gets_one():
    slots, (one,) = held("a")
    two = slots.take("b", 1)
    slots.line_up({"a": 1, "b": 1}, nobody)
    slots.release(one)
    slots.release(two)
    assert (slots.active("a"), slots.active("b")) == (1, 0)


def test_who_is_served_is_woken():
    slots, (permit,) = held()
    woken = []
    slots.line_up({"a": 1}, lambda: woken.append("first"))
    slots.line_up({"a": 1}, lambda: woken.append("second"))
    slots.release(permit)
    assert woken == ["first"]


def test_the_permit_is_there_when_one_is_woken():
    slots, (permit,) = held()
    seen = []
    ticket = slots.line_up({"a": 1}, lambda: seen.append(ticket.granted))
    slots.release(permit)
    assert seen == [ticket.granted]


def test_a_newcomer_does_not_overtake():
    slots, (permit,) = held()
    slots.line_up({"a": 1}, nobody)
    slots.release(permit)
    assert slots.take("a", 1) is None


def test_all_that_fit_are_served_at_once():
    slots, permits = held(number=3)
    tickets = [slots.line_up({"a": 2}, nobody) for _ in range(2)]  # the limit was lowered meanwhile, then raised
    for permit in permits[:2]:
        slots.release(permit)
    tickets += [slots.line_up({"a": 3}, nobody) for _ in range(2)]
    slots.release(permits[2])
    assert [ticket.granted is not None for ticket in tickets] == [True, True, True, False]


def test_a_key_above_a_lowered_limit_serves_nobody_new():
    slots, permits = held(number=3)
    ticket = slots.line_up({"a": 1}, nobody)
    slots.release(permits[0])
    assert ticket.granted is None


def test_who_leaves_is_not_served():
    slots, (permit,) = held()
    ticket = slots.line_up({"a": 1}, nobody)
    slots.leave(ticket)
    slots.release(permit)
    assert (ticket.granted, slots.active("a")) == (None, 0)


def test_who_leaves_leaves_no_ticket_behind():
    slots, _ = held()
    slots.leave(slots.line_up({"a": 1}, nobody))
    assert slots.waiting == 0


def test_who_leaves_makes_the_next_one_the_first():
    slots, (permit,) = held()
    first, second = (slots.line_up({"a": 1}, nobody) for _ in range(2))
    slots.leave(first)
    slots.release(permit)
    assert second.granted is not None


def test_leaving_before_the_turn_gives_nothing():
    slots, _ = held()
    assert slots.leave(slots.line_up({"a": 1}, nobody)) is None


def test_leaving_after_the_turn_gives_the_permit():
    slots, (permit,) = held()
    ticket = slots.line_up({"a": 1}, nobody)
    slots.release(permit)
    assert isinstance(slots.leave(ticket), Permit)


def test_leaving_twice_gives_the_permit_once():
    slots, (permit,) = held()
    ticket = slots.line_up({"a": 1}, nobody)
    slots.release(permit)
    slots.leave(ticket)
    assert slots.leave(ticket) is None


def test_leaving_twice_harms_nobody():
    slots, _ = held()
    ticket = slots.line_up({"a": 1}, nobody)
    slots.leave(ticket)
    slots.leave(ticket)
    assert slots.waiting == 0


def test_a_permit_that_came_too_late_is_handed_on():
    slots, (permit,) = held()
    first, second = (slots.line_up({"a": 1}, nobody) for _ in range(2))
    slots.release(permit)
    slots.release(slots.leave(first))
    assert second.granted is not None


def test_who_is_woken_may_give_its_permit_back_at_once():
    slots, (permit,) = held()
    first = slots.line_up({"a": 1}, lambda: slots.release(slots.leave(first)))
    second = slots.line_up({"a": 1}, nobody)
    slots.release(permit)
    assert (second.granted is not None, slots.active("a"), slots.waiting) == (True, 1, 0)


def test_who_is_woken_may_line_up_again_at_the_end():
    slots, (permit,) = held()

    def again():
        slots.release(slots.leave(first))
        late.append(slots.line_up({"a": 1}, nobody))

    late = []
    first, second = slots.line_up({"a": 1}, again), slots.line_up({"a": 1}, nobody)
    slots.release(permit)
    assert (second.granted is not None, late[0].granted) == (True, None)


KEYS = st.sampled_from("ab")


class Permits(RuleBasedStateMachine):
    """Any sequence of taking, lining up, leaving and releasing, as the plan does it: who finds a key free takes it."""

    @initialize(limits=st.fixed_dictionaries({"a": st.integers(1, 3), "b": st.integers(1, 3)}))
    def begin(self, limits):
        self.slots, self.limits = Slots(), limits
        self.held, self.queue, self.old = [], [], []
        self.woken, self.numbers, self.granted = Counter(), count(), 0

    @rule(key=KEYS)
    def take(self, key):
        busy = len([permit for permit in self.out() if permit.key == key]) >= self.limits[key]
        permit = self.slots.take(key, self.limits[key])
        assert (permit is None) is busy
        self.held += [permit] if permit else []

    @rule(keys=st.sets(KEYS, min_size=1))
    def line_up(self, keys):
        wanted = {key: self.limits[key] for key in keys}
        if all(self.slots.active(key) >= limit for key, limit in wanted.items()):
            self.queue.append(self.slots.line_up(wanted, self.waker()))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def leave(self, data):
        ticket = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        expected = ticket.granted
        assert self.slots.leave(ticket) is expected
        self.held += [expected] if expected else []
        self.old.append(ticket)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        permit = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        first = next((one for one in self.queue if one.granted is None and permit.key in one.limits), None)
        self.slots.release(permit)
        self.slots.release(permit)
        assert first is None or first.granted.key == permit.key
        self.granted += first is not None

    @precondition(lambda self: self.old)
    @rule()
    def leave_again(self):
        assert self.slots.leave(self.old[-1]) is None

    def waker(self):
        number = next(self.numbers)
        return lambda: self.woken.update([number])

    def out(self):
        """Every permit that is not given back: held by a call, or granted to one in the queue."""
        return [*self.held, *(ticket.granted for ticket in self.queue if ticket.granted is not None)]

    @invariant()
    def what_is_active_is_held(self):
        counts = Counter(permit.key for permit in self.out())
        assert all(self.slots.active(key) == counts[key] <= self.limits[key] for key in "ab")

    @invariant()
    def no_permit_is_there_twice(self):
        assert len(set(map(id, self.out()))) == len(self.out())

    @invariant()
    def nobody_waits_for_a_free_key(self):
        waiting = [ticket for ticket in self.queue if ticket.granted is None]
        assert all(self.slots.active(key) >= limit for ticket in waiting for key, limit in ticket.limits.items())

    @invariant()
    def the_queue_holds_who_waits(self):
        assert self.slots.waiting == len([ticket for ticket in self.queue if ticket.granted is None])

    @invariant()
    def who_is_served_is_woken_once(self):
        assert list(self.woken.values()) == [1] * self.granted

    def teardown(self):
        if hasattr(self, "slots"):
            for ticket in self.queue:
                self.held += [permit] if (permit := self.slots.leave(ticket)) else []
            for permit in self.held:
                self.slots.release(permit)
            assert (self.slots.active("a"), self.slots.active("b"), self.slots.waiting) == (0, 0, 0)


TestPermits = Permits.TestCase
TestPermits.settings = settings(stateful_step_count=30, deadline=None)
