from __future__ import annotations

from dataclasses import replace

import pytest

from support import making
from valetkey.proxy.runtime import Runtime


def test_without_rules_nothing_is_decided():
    with pytest.raises(RuntimeError):
        _ = Runtime(making.CATALOG).snapshot


def test_new_rules_come_into_force_as_a_whole():
    runtime = making.runtime()
    new = making.snapshot("version: 1\nproviders: {lab: {like: openai, upstream: 'http://127.0.0.1:8000', keys: none}}\n")
    runtime.adopt(new)
    assert (runtime.snapshot, runtime.hosts.find("127.0.0.1", 8000, "http")) == (new, "lab")


def test_time_goes_on_when_the_wall_clock_is_set_back():
    runtime, wall = making.runtime(), iter([1000.0, 1010.0, 400.0, 405.0])
    runtime.clock = lambda: next(wall)
    assert [runtime.now() for _ in range(4)] == [1000.0, 1010.0, 1010.0, 1015.0]


def test_time_follows_a_wall_clock_that_is_set_forward():
    runtime, wall = making.runtime(), iter([1000.0, 9000.0])
    runtime.clock = lambda: next(wall)
    assert [runtime.now() for _ in range(2)] == [1000.0, 9000.0]


@pytest.mark.parametrize(
    ("policy", "healthy", "blocks"), [("open", False, False), ("closed", False, True), ("closed", True, False)]
)
def test_the_ledger_blocks_calls_only_when_told_to(policy, healthy, blocks):
    runtime = making.runtime(f"version: 1\ngateway: {{ledger_failure: {policy}}}\n")
    runtime.writer = type("Writer", (), {"healthy": healthy})()
    assert runtime.ledger_blocks is blocks


def test_a_key_that_is_refused_is_doubted_where_it_comes_from():
    runtime, doubted = making.runtime(), []
    runtime.adopt(replace(runtime.snapshot, references={"openai/op": "cmd:op read x"}))
    runtime.fetcher = type("Fetcher", (), {"doubt": lambda self, reference: doubted.append(reference)})()
    runtime.doubt("openai/op")
    assert doubted == ["cmd:op read x"]
