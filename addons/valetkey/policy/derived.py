"""What is made of a frozen object once and is gone when the object is."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref


class Derived[K, V]:
    """`make` of an object, called at the first question about it. The object is known by its identity: it need not be hashable.

    Two threads may both make it; they make the same.
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
        self._made: dict[int, tuple[ref[K], V]] = {}

    def __call__(self, of: K) -> V:
        """What was made of `of`."""
        found = self._made.get(id(of))
        return self._remember(of) if found is None else found[1]

    def _remember(self, of: K) -> V:
        made, number, all_made = self._make(of), id(of), self._made
        # The entry goes before another object can get the same id.
        all_made[number] = (ref(of, lambda _: all_made.pop(number, None)), made)
        return made
