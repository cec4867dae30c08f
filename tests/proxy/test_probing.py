from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace

import pytest
from mitmproxy import exceptions
from mitmproxy.test import taddons

from support import making
from valetkey.proxy import probing
from valetkey.secrets import probe
from valetkey.secrets.probe import Trial
from valetkey.simulator import Fault, TlsFiles, make_authority, run_in_thread

KEYS = {"openai/1": "sk-proj-REALrealREALrealREALreal0001", "openai/2": "sk-proj-REALrealREALrealREALreal0002"}
STATES = {"openai/1": None, "openai/2": None, "openai/3": "OPENAI_API_KEY_3 is empty"}


@pytest.fixture(scope="module")
def simulator():
    with run_in_thread() as running:
        yield running


@pytest.fixture
def server(simulator):
    simulator.faults.clear()
    simulator.seen.clear()
    return simulator


@pytest.fixture
def runtime(server):
    """A gateway with two good keys and a bad one."""
    return rules(server.url)


def rules(url):
    made = making.runtime(f"version: 1\nproviders: {{openai: {{upstream: '{url}/v1'}}}}\n", keys=KEYS)
    made.adopt(replace(made.snapshot, states=STATES))
    return made


class Console:
    """mitmproxy's own commands, and the log as a person reads it."""

    def __init__(self, context, addon, caplog):
        self.addon, self.options, self.commands, self._caplog = addon, context.options, context.master.commands, caplog

    def call(self, *words):
        """Give the command; gives what it returns at once."""
        return self.commands.call_strings("valetkey.keys.test", words)

    async def heard(self):
        """Every line of the log, once all answers have come."""
        for thread in threading.enumerate():
            if thread.name == "valetkey probe":
                await asyncio.to_thread(thread.join)
        for _ in range(3):  # what a thread handed over last is still on its way
            await asyncio.sleep(0)
        return sorted(record.getMessage() for record in self._caplog.records)

    @property
    def levels(self):
        return {record.levelno for record in self._caplog.records}


def play(runtime, caplog, scene):
    """Run a scene on an event loop, as mitmproxy does."""

    async def run():
        addon = probing.ValetProbing(runtime)
        with taddons.context(addon) as context:
            caplog.clear()
            caplog.set_level(logging.DEBUG)
            logging.getLogger("asyncio").setLevel(logging.WARNING)
            return await scene(Console(context, addon, caplog))

    return asyncio.run(run())


@pytest.mark.parametrize(("words", "expected"), [(("openai/1",), ["openai/1"]), (("",), list(STATES)), ((), list(STATES))])
def test_the_command_gives_the_keys_it_asks_about(runtime, caplog, words, expected):
    async def scene(console):
        asked = console.call(*words)
        await console.heard()
        return asked

    assert play(runtime, caplog, scene) == expected


def test_each_key_has_its_line(runtime, server, caplog):
    server.faults.append(Fault(kind="bad_key", key=KEYS["openai/2"]))

    async def scene(console):
        console.call()
        return await console.heard()

    good, bad, unusable = play(runtime, caplog, scene)
    assert good.startswith("valetkey: openai/1  ok  0.") and bad.startswith("valetkey: openai/2  bad_key (401)  Incorrect")
    assert unusable == "valetkey: openai/3  unusable  OPENAI_API_KEY_3 is empty"


@pytest.mark.parametrize(("key", "level"), [("openai/1", logging.INFO), ("openai/3", logging.WARNING)])
def test_what_is_not_well_is_a_warning(runtime, caplog, key, level):
    async def scene(console):
        console.call(key)
        await console.heard()
        return console.levels

    assert play(runtime, caplog, scene) == {level}


def test_only_the_key_that_was_named_is_sent(runtime, server, caplog):
    async def scene(console):
        console.call("openai/2")
        await console.heard()

    play(runtime, caplog, scene)
    assert [(seen.method, seen.path, seen.credentials) for seen in server.seen] == [
        ("GET", "/v1/models", [f"Bearer {KEYS['openai/2']}"])
    ]


def test_the_loop_goes_on_while_a_provider_is_silent(runtime, server, caplog):
    server.faults.append(Fault(slow=0.3))

    async def scene(console):
        console.call("openai/1")
        turns = 0
        while console.addon._asked:
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert play(runtime, caplog, scene) > 10


def test_a_key_is_not_asked_about_twice_at_once(runtime, server, caplog):
    async def scene(console):
        console.call("openai/1")
        with pytest.raises(exceptions.CommandError, match="the answer is still to come: openai/1"):
            console.call()
        await console.heard()

    play(runtime, caplog, scene)
    assert len(server.seen) == 1


def test_a_key_may_be_asked_about_again(runtime, server, caplog):
    async def scene(console):
        for _ in range(2):
            console.call("openai/1")
            await console.heard()

    play(runtime, caplog, scene)
    assert len(server.seen) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_after_a_mistake_of_ours_a_key_may_be_asked_about_again(runtime, caplog, monkeypatch):
    def broken(*arguments):
        raise KeyError("no")

    monkeypatch.setattr(probe, "probe_id", broken)

    async def scene(console):
        console.call("openai/1")
        await console.heard()
        return console.addon._asked

    assert play(runtime, caplog, scene) == set()


def test_an_unknown_key_is_said(runtime, caplog):
    async def scene(console):
        with pytest.raises(exceptions.CommandError, match="there is no key openai/9; keys are openai/1, openai/2, openai/3"):
            console.call("openai/9")

    play(runtime, caplog, scene)


def test_before_the_gateway_is_ready_nothing_is_asked(runtime, server, caplog):
    runtime.ready = False

    async def scene(console):
        with pytest.raises(exceptions.CommandError, match="not ready yet"):
            console.call()

    play(runtime, caplog, scene)
    assert not server.seen


def test_no_key_comes_into_the_log(runtime, server, caplog):
    server.faults.append(Fault(status=401, body=f"no {KEYS['openai/1']}", header=f"x-echo: {KEYS['openai/1']}"))

    async def scene(console):
        console.call("openai/1")
        return await console.heard()

    assert play(runtime, caplog, scene) == [f"valetkey: openai/1  bad_key (401)  no {'*' * len(KEYS['openai/1'])}"]


def test_the_proxy_of_the_shell_is_not_used(runtime, caplog, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")

    async def scene(console):
        console.call("openai/1")
        return await console.heard()

    assert "  ok  " in play(runtime, caplog, scene)[0]


@pytest.mark.parametrize(("trusted", "expected"), [(True, "ok"), (False, "network")])
def test_upstreams_are_verified_by_what_mitmproxy_trusts(tmp_path, caplog, trusted, expected):
    files = make_authority(tmp_path, ())

    async def scene(console):
        if trusted:
            console.options.update(ssl_verify_upstream_trusted_ca=str(files.ca))
        console.call("openai/1")
        return await console.heard()

    with run_in_thread(tls=TlsFiles(files.cert, files.key)) as secure:
        assert f"openai/1  {expected}  " in play(rules(secure.url), caplog, scene)[0]


def test_certificates_that_cannot_be_read_are_said(runtime, caplog):
    async def scene(console):
        console.options.update(ssl_verify_upstream_trusted_ca="/nowhere/ca.pem")
        console.call("openai/1")
        return await console.heard()

    (line,) = play(runtime, caplog, scene)
    assert line.startswith("valetkey: openai/1  unusable  the trusted certificates cannot be read: ")


def test_an_answer_after_the_end_is_dropped(runtime):
    loop = asyncio.new_event_loop()
    loop.close()
    work = probing._Work(runtime.snapshot, None, None, loop, lambda id, found: None)
    assert work._tell("openai/1", Trial("openai/1", None)) is None


def test_the_command_explains_itself(runtime, caplog):
    async def scene(console):
        return console.commands.commands["valetkey.keys.test"].help

    assert "takes a key (all keys when none is named)" in " ".join(play(runtime, caplog, scene).split())
