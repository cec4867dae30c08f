"""Globs held against globs: whether one takes all that another takes, or some of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

_ALPHABET = frozenset(map(chr, range(32, 127)))
"""What `?` and classes stand for; names of models have no other characters."""
_LONGEST = 200
"""Characters of a glob that are looked at, as many as of a model's name."""
_MARK = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)
_Token = frozenset[str] | None
"""The characters that may stand at one place; None for `*`."""


def wider(broad: str, slim: str) -> bool:
    """Whether `broad` takes all that `slim` takes, as far as text tells: `gpt-*` is wider than `gpt-4*`, and than itself.

    A glob's own marks are matched by `*` and nothing else.
    """
    return broad == slim or (fnmatchcase(slim, broad) and not set("?[]") & set(broad))


def overlap(one: str, other: str) -> bool:
    """Whether there is a text that both globs take."""
    left, right = tuple(_tokens(one[:_LONGEST])), tuple(_tokens(other[:_LONGEST]))
    seen, todo = {(0, 0)}, [(0, 0)]
    while todo:
        place = todo.pop()
        if place == (len(left), len(right)):
            return True
        new = {*_next(left, right, *place)} - seen
        seen |= new
        todo += new
    return False


def _next(left: Sequence[_Token], right: Sequence[_Token], at: int, to: int) -> Iterator[tuple[int, int]]:
    """The places after `at` and `to` that a common text can lead to: a `*` ends there, or takes what the other one has."""
    mine, yours = _at(left, at), _at(right, to)
    if mine is None:
        yield at + 1, to
    if yours is None:
        yield at, to + 1
    if mine is None and to < len(right):
        yield at, to + 1
    if yours is None and at < len(left):
        yield at + 1, to
    if mine and yours and not mine.isdisjoint(yours):
        yield at + 1, to + 1


def _at(tokens: Sequence[_Token], place: int) -> _Token:
    """The token at a place; behind the last one nothing may stand."""
    return tokens[place] if place < len(tokens) else frozenset()


def _tokens(glob: str) -> Iterator[_Token]:
    for mark in _MARK.findall(glob):
        if mark.startswith("*"):
            yield None
        elif len(mark) > 1 or mark == "?":
            yield frozenset(each for each in _ALPHABET if fnmatchcase(each, mark))
        else:
            yield frozenset({mark})
