"""Answers that are found once and kept: what pure functions say about frozen facts and the short texts of a call."""

from __future__ import annotations

from collections.abc import Hashable

_MOST = 1024
_LONGEST = 256
"""Most answers that are kept of one kind, and the longest text in characters of a question: agents choose both."""


class Kept[T]:
    """The answers to one kind of question. When there are too many they are all forgotten.

    Facts cannot be hashed. So the key holds their `id`, and the entry the facts themselves: no others get that id meanwhile.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[Hashable, ...], tuple[T, object]] = {}

    def get(self, key: tuple[Hashable, ...]) -> T | None:
        """The answer to a question, None when it is not known."""
        found = self._answers.get(key)
        return None if found is None else found[0]

    def put(self, key: tuple[Hashable, ...], answer: T, facts: object, text: str) -> T:
        """Keep an answer. `facts` are what the ids in the key belong to, `text` is the part of it that an agent wrote."""
        if len(text) <= _LONGEST:
            if len(self._answers) >= _MOST:
                self._answers.clear()
            self._answers[key] = answer, facts
        return answer
