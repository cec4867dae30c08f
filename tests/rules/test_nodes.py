from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.errors import RulesError
from valetkey.rules.nodes import Document

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_data_is_plain():
    assert Document("a: [1, x, true, null]\n", "f").data == {"a": [1, "x", True, None]}


def test_every_value_has_its_line():
    assert Document("a:\n  b:\n    - x\n    - y\n", "f").line_of(("a", "b", 1)) == 4


def test_what_is_not_there_has_the_line_of_what_is_around():
    assert Document("a:\n  b: 1\n", "f").line_of(("a", "b", "c")) == 2


def test_an_empty_file_has_no_data():
    assert Document("# nothing\n", "f").data is None


def test_a_key_written_twice_is_a_problem():
    assert [problem.line for problem in Document("a: 1\nb: 2\na: 3\n", "f").problems] == [3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "no YAML"),
        ("a: !!python/object:os.system x", "tag"),
        ("a: !env X", "tag"),
        (BOMB, "unfolds"),
        ("x" * 2_000_001, "larger"),
        ("[" * 20_000, "nested deeper"),
        ("[" * 40 + "]" * 40, "nested deeper"),
        ("a: &a [*a]", "nested deeper"),
        ("? !!python/name:os.system x\n: 1", "tag"),
        ("a: !!map x", "tag"),
    ],
    ids=["syntax", "python tag", "own tag", "bomb", "huge", "deep", "deeper than data", "endless", "tag of a word", "wrong tag"],
)
def test_what_cannot_be_read_is_said(text, words):
    with pytest.raises(RulesError, match=words):
        Document(text, "f")


@pytest.mark.parametrize("value", ["!!int x", "!!float x", "!!bool x", "0b_", "1" * 5000], ids=lambda value: value[:9])
def test_a_value_that_is_not_what_it_says_is_a_problem(value):
    assert [problem.line for problem in Document(f"a: 1\nb: {value}\n", "f").problems] == [2]


@pytest.mark.parametrize(("text", "words"), [("a: {<<: {b: 1}}", "merging"), ("? [a]\n: 1", "where a word belongs")])
def test_a_word_that_is_none_is_a_problem(text, words):
    assert words in str(Document(text, "f").problems[0])


def test_an_alias_stands_for_its_value():
    assert Document("a: &x [1]\nb: *x\n", "f").data == {"a": [1], "b": [1]}


def test_a_date_stays_text():
    assert Document("a: 2026-11-21\n", "f").data == {"a": "2026-11-21"}


@given(st.text(max_size=200))
def test_garbage_is_an_error_of_ours_or_data(text):
    with contextlib.suppress(RulesError):
        Document(text, "f")
