from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.rules.globs import overlap, wider

GLOBS = st.lists(st.sampled_from(["a", "b", "-", "*", "**", "?", "[ab]", "[!a]", "[]a]", "[a-b]"]), max_size=6).map("".join)
TEXTS = st.text("ab-]", max_size=6)


@pytest.mark.parametrize(
    ("broad", "slim", "expected"),
    [("gpt-*", "gpt-4*", True), ("gpt-4*", "gpt-*", False), ("a", "a", True), ("a?", "a[b]", False), ("*]", "x[ab]", False)],
)
def test_wider(broad, slim, expected):
    assert wider(broad, slim) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("gpt-*", "gpt-4o", True),
        ("gpt-4*", "*-mini", True),
        ("gpt-4*", "o1-*", False),
        ("gpt-[45]*", "gpt-3*", False),
        ("gpt-[45]*", "gpt-?o", True),
        ("gpt-[!4]", "gpt-4", False),
        ("*a*b*", "*b*a*", True),
        ("a*b", "a*c", False),
        ("", "*", True),
        ("", "a", False),
        ("a[", "a[", True),
    ],
)
def test_overlap(one, other, expected):
    assert overlap(one, other) is expected


@given(GLOBS, GLOBS, TEXTS)
def test_what_takes_the_same_text_overlaps(one, other, text):
    assert overlap(one, other) or not (fnmatchcase(text, one) and fnmatchcase(text, other))


@given(GLOBS, TEXTS)
def test_a_plain_text_overlaps_with_what_takes_it(glob, text):
    assert overlap(glob, text) is fnmatchcase(text, glob)


@given(GLOBS, GLOBS)
def test_it_is_the_same_from_both_sides(one, other):
    assert overlap(one, other) is overlap(other, one)


def test_a_long_glob_takes_no_long_time():
    assert not overlap("*a" * 100_000, "*b" * 100_000)
