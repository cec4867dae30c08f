from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from mitmproxy import exceptions
from mitmproxy.test import taddons

from support import making
from valetkey.model import Outcome
from valetkey.policy.health import Failure, Place
from valetkey.proxy.commands import ValetCommands
from valetkey.proxy.memory import Memory

KEYS = {"openai/1": making.REAL, "openai/2": making.REAL[:-1] + "2"}
NOW = 1_700_000_000.0
PLACE = Place("openai/1", "openai", "gpt-4o", "gpt-4o", "https://api.openai.com")


@pytest.fixture
def runtime(tmp_path):
    made = making.runtime(keys=KEYS)
    made.adopt(replace(made.snapshot, states={**dict.fromkeys(KEYS), "openai/3": "OPENAI_API_KEY_3 is not set"}))
    made.memory = Memory(made, tmp_path / "state.db", lambda problem: None)
    return made


@pytest.fixture
def run(runtime):
    with taddons.context(ValetCommands(runtime)) as context:
        yield context.master.commands.execute


def fails(runtime, outcome, **details):
    runtime.pools.health.failed(PLACE, Failure(outcome, NOW - 1, **details), NOW)


def condition(runtime):
    return runtime.pools.health.condition(PLACE, NOW)


@pytest.mark.parametrize("name", ["valetkey.keys", "valetkey.keys.disable", "valetkey.keys.enable", "valetkey.keys.reset"])
def test_mitmproxy_knows_the_commands(runtime, name):
    with taddons.context(ValetCommands(runtime)) as context:
        assert context.master.commands.commands[name].help


def test_keys_lists_every_key(run):
    assert [line.partition(":")[0] for line in run("valetkey.keys")] == ["openai/1", "openai/2", "openai/3"]


def test_a_well_key_is_ready(run):
    assert run("valetkey.keys")[0] == "openai/1: ready, 0 in flight, 0 used"


def test_a_key_that_cannot_be_used_says_why(run):
    assert run("valetkey.keys")[2] == "openai/3: OPENAI_API_KEY_3 is not set"


def test_the_list_is_logged(run, caplog):
    with caplog.at_level(logging.INFO):
        run("valetkey.keys")
    assert "valetkey: openai/1: ready" in caplog.text


def test_no_value_is_listed(run, runtime):
    fails(runtime, Outcome.BAD_KEY)
    assert not any(value in line for line in run("valetkey.keys") for value in KEYS.values())


@pytest.mark.parametrize(
    ("outcome", "stated", "words"),
    [
        (Outcome.THROTTLED, 7, "resting: gpt-4o throttled 7 s"),
        (Outcome.QUOTA, None, "resting: gpt-4o quota 3600 s"),
        (Outcome.BAD_KEY, None, "resting (bad_key)"),
    ],
)
def test_a_key_that_rests_says_why(run, runtime, outcome, stated, words):
    fails(runtime, outcome, stated=stated)
    assert run("valetkey.keys")[0].startswith(f"openai/1: {words}, 0 in flight")


def test_what_remains_is_listed(run, runtime):
    runtime.pools.gauges.stated("openai/1", 0.25, "tokens", 60.0, NOW)
    assert run("valetkey.keys")[0].endswith("0 used, 25% of tokens left")


def test_an_upstream_that_is_the_last_choice_is_listed(run, runtime):
    for at in range(3):
        runtime.pools.health.failed(PLACE, Failure(Outcome.NETWORK, NOW + at), NOW + at + 0.5)
    runtime.clock = lambda: NOW + 3
    assert run("valetkey.keys")[-1] == "https://api.openai.com: last choice for 10 s (network)"


def test_a_model_that_is_the_last_choice_is_listed(run, runtime):
    for at in range(3):
        runtime.pools.health.failed(PLACE, Failure(Outcome.OVERLOADED, NOW + at), NOW + at + 0.5)
    runtime.clock = lambda: NOW + 3
    assert run("valetkey.keys")[-1] == "openai/gpt-4o: last choice for 10 s (overloaded)"


def test_a_disabled_key_is_used_no_more(run, runtime):
    run("valetkey.keys.disable openai/1")
    assert condition(runtime).excluded


def test_a_disabled_key_is_listed_so(run):
    run("valetkey.keys.disable openai/1")
    assert run("valetkey.keys")[0].startswith("openai/1: disabled, ")


def test_an_enabled_key_is_used_again(run, runtime):
    run("valetkey.keys.disable openai/1")
    run("valetkey.keys.enable openai/1")
    assert not condition(runtime).excluded


def test_a_key_that_is_reset_rests_no_more(run, runtime):
    fails(runtime, Outcome.QUOTA)
    run("valetkey.keys.reset openai/1")
    assert not condition(runtime).excluded


@pytest.mark.parametrize("verb", ["disable", "enable", "reset"])
def test_what_was_done_is_said(run, caplog, verb):
    with caplog.at_level(logging.INFO):
        run(f"valetkey.keys.{verb} openai/1")
    assert f"valetkey: {verb} openai/1: done" in caplog.text


@pytest.mark.parametrize("verb", ["disable", "enable", "reset"])
def test_a_key_that_is_not_there_is_an_error(run, verb):
    with pytest.raises(exceptions.CommandError, match="there is no key openai/9; keys are openai/1, openai/2, openai/3"):
        run(f"valetkey.keys.{verb} openai/9")


def test_without_any_key_the_error_says_so(run, runtime):
    runtime.adopt(replace(runtime.snapshot, states={}))
    with pytest.raises(exceptions.CommandError, match="keys are none"):
        run("valetkey.keys.disable openai/1")


def test_a_key_is_asked_for(run):
    with pytest.raises(exceptions.CommandError):
        run("valetkey.keys.disable")


def test_before_the_gateway_is_ready_nothing_is_ordered(run, runtime):
    runtime.memory = None
    with pytest.raises(exceptions.CommandError, match="not ready"):
        run("valetkey.keys.disable openai/1")
