"""What is derived from an object: once, for that object, for as long as it lives."""

from __future__ import annotations

from itertools import count

from valetkey.policy.derived import Derived


class Facts:
    """Equal to all others and not hashable."""

    __hash__ = None

    def __eq__(self, other):
        return True


def counted():
    """Makes 1 of the first object, 2 of the next."""
    made = count(1)
    return Derived(lambda facts: next(made))


def test_it_is_made_once():
    derived = counted()
    facts = Facts()

    assert [derived(facts), derived(facts)] == [1, 1]


def test_it_is_not_that_of_an_equal_object():
    derived = counted()
    one, other = Facts(), Facts()

    assert [derived(one), derived(other)] == [1, 2]


def test_it_is_not_that_of_an_earlier_object_with_the_same_id():
    derived = counted()

    assert [derived(Facts()) for _ in range(50)] == list(range(1, 51))


def test_it_goes_with_its_object():
    held = []

    class Made:
        def __del__(self):
            held.remove(id(self))

    def make(_):
        made = Made()
        held.append(id(made))
        return made

    derived = Derived(make)
    derived(Facts())

    assert held == []
