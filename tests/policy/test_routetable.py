"""Tables of rules: the first that holds is found, and few are tried."""

from __future__ import annotations

import pickle
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from valetkey.policy import routetable
from valetkey.policy.routetable import Globs, RouteTable

GLOBS = st.text("ab-*?", min_size=1, max_size=9) | st.text("aB[]!-*?", min_size=1, max_size=6)
TEXTS = st.text("ab-", max_size=9) | st.text("aB[]!-*?\n", max_size=4)
CROWDED = st.builds("a*{}*{}".format, st.text("ab", min_size=3, max_size=6) | st.just("[bab]"), st.text("ab", max_size=1))
"""Globs that only what is within tells apart."""
FIELDS = st.sampled_from(["model", "agent", "host"])
CONDITIONS = st.dictionaries(FIELDS, st.lists(GLOBS, min_size=1, max_size=6))
ASKED = st.dictionaries(FIELDS, st.lists(TEXTS, max_size=2))


def holds(conditions, asked):
    return all(
        any(fnmatchcase(text, glob) for glob in globs for text in asked.get(field, ())) for field, globs in conditions.items()
    )


@given(st.lists(GLOBS, max_size=40), st.lists(TEXTS, max_size=3))
@example(["[]*a", "[!]a", "a[", "]a", "[a"], ["[a"])
def test_the_first_glob_is_the_one_that_a_walk_finds(globs, texts):
    walked = (number for number, glob in enumerate(globs) if any(fnmatchcase(text, glob) for text in texts))

    assert Globs(globs).first(texts) == next(walked, None)


@given(st.lists(CROWDED, min_size=5, max_size=30), st.text("ab", min_size=4, max_size=9))
@example(["a*baba*", "a*aaaa*", "a*baaa*", "a*aaab*", "a*aabb*"], "aaabb")
def test_the_first_glob_is_found_by_what_is_within(globs, text):
    walked = (number for number, glob in enumerate(globs) if fnmatchcase(text, glob))

    assert Globs(globs).first([text]) == next(walked, None)


@given(st.lists(CONDITIONS, max_size=40), ASKED, st.integers(0, 41))
def test_the_first_rule_is_the_one_that_a_walk_finds(rules, asked, below):
    below = min(below, len(rules))
    walked = (number for number, rule in enumerate(rules[:below]) if holds(rule, asked))

    assert RouteTable(rules).first(asked, lambda number: holds(rules[number], asked), below) == next(walked, None)


def test_a_list_without_globs_matches_nothing():
    assert not Globs([]).matches([""])


@pytest.fixture
def tried(monkeypatch):
    """The globs that were held against a text."""
    found = []
    monkeypatch.setattr(routetable, "fnmatchcase", lambda text, glob: found.append(glob) or fnmatchcase(text, glob))
    return found


@pytest.mark.parametrize(
    ("glob", "text"),
    [
        pytest.param("team-{}-*", "team-{}-x", id="beginning"),
        pytest.param("*-team-{}", "x-team-{}", id="end"),
        pytest.param("gpt-*-{}-*", "gpt-4-{}-mini", id="within"),
        pytest.param("*/{}?", "x/{}1", id="end that is no text"),
        pytest.param("[ab]-{}", "a-{}", id="class"),
    ],
)
def test_few_of_many_globs_are_tried(tried, glob, text):
    globs = Globs([glob.format(f"{number:04}") for number in range(2000)])

    assert (globs.first([text.format("1777")]), len(tried) <= 40) == (1777, True)


def tries_of(rules, asked):
    """How many rules are tested until the first is found."""
    tested = []
    RouteTable(rules).first(asked, lambda number: tested.append(number) or holds(rules[number], asked))
    return len(tested)


@pytest.mark.parametrize(
    ("conditions", "asked"),
    [
        pytest.param(lambda n: {"model": [f"m-{n}"], "host": ["api"]}, {"model": ["m-1777"], "host": ["api"]}, id="models"),
        pytest.param(lambda n: {"agent": [f"a-{n}"], "model": ["*"]}, {"agent": ["a-1777"], "model": ["x"]}, id="agents"),
        pytest.param(
            lambda n: {"agent": [f"a-{n % 45}"], "model": [f"m-{n // 45}", f"n-{n // 45}"]},
            {"agent": ["a-22"], "model": ["m-39"]},
            id="agents with models of their own",
        ),
        pytest.param(lambda n: {"model": ["[ab]*"]} if n == 1999 else {"model": [f"m-{n}"]}, {"model": ["a"]}, id="mixed"),
        pytest.param(lambda n: {"model": [f"m-{n}-*"]}, {"model": ["other"]}, id="none"),
    ],
)
def test_few_of_many_rules_are_tried(conditions, asked):
    assert tries_of([conditions(number) for number in range(2000)], asked) <= 5


def test_long_lists_that_rules_share_do_not_multiply():
    lists = [[f"{team}-{number}" for number in range(300)] for team in "ab"]
    table = RouteTable({"model": names, "agent": names} for _ in range(20) for names in lists)

    assert len(pickle.dumps(table)) < 100_000
