"""Every target on its seeds, on inputs that once failed, and on a few new ones; and that the runner finds what is wrong."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings

from . import files, formats, policy  # noqa: F401 - they fill the table
from .corpus import inputs
from .engine import TARGETS, Target, run
from .steps import counted

REGRESSIONS = [
    ("decode", b"\0" + gzip.compress(bytes(200_000), mtime=0) + gzip.compress(b"second", mtime=0)),
    ("rules", b"!!int "),
]
"""Inputs that once failed, as `make fuzz` prints them."""


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_property_holds_for_seeds(target):
    for seed in target.seeds[:: max(1, len(target.seeds) // 40)]:
        target.examine(seed)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_property_holds_for_some_inputs(target):
    result = run(target, 20.0, 1, most=25)
    assert (result.error, result.failure) == (None, None)


@pytest.mark.parametrize(("name", "data"), REGRESSIONS)
def test_what_failed_once_holds(name, data):
    TARGETS[name].examine(data)


def planted(check):
    return Target("planted", check, [b"abc"], [b"\xff"], 100, 1)


def refuses(data):
    assert b"\xff" not in data


def test_a_failure_is_found_and_made_small():
    assert run(planted(refuses), 20.0, 1).failure == b"\xff"


def test_the_same_seed_tries_the_same_inputs():
    tried = []
    for _ in range(2):
        seen = []
        run(planted(seen.append), 20.0, 7, most=50)
        tried.append(seen)
    assert tried[0] == tried[1]


def test_too_many_steps_are_a_failure():
    with pytest.raises(AssertionError, match="more than 10 steps"), counted(10):
        policy.paths.check_path("/v1/messages")
        formats.scan(b'{"a":[1,2,3],"b":{"c":1}}')


def test_steps_of_others_are_not_counted():
    with counted(10) as counter:
        list(map(str.upper, "abc" * 100))
    assert counter.steps == 0


def test_loops_within_one_line_count():
    with counted(1000) as short:
        formats.scan(b'{"a":1,"b":2}')
    with counted(1000) as long:
        formats.scan(b'{"a":1,"b":2,"c":3,"d":4}')
    assert long.steps > short.steps


@settings(max_examples=50)
@given(inputs([b"x" * 50], [b"y"], 10))
def test_inputs_are_no_longer_than_asked(data):
    assert len(data) <= 10
