"""Failover through the real process: whatever fails before content, the agent sees one whole answer; after content, an end.

All cases are played at once against one gateway, each with a model of its own (and a provider of its own where a key, or an
upstream, is what fails); then each is looked at.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from support.pooling import (
    KEYS,
    Call,
    Came,
    Stage,
    agent,
    keys_of,
    make,
    number_of,
    post,
    provider_line,
    staged,
    together,
)
from support.processes import wait_for

pytestmark = pytest.mark.e2e

GATEWAY = (
    "timeouts: {retry: 20ms, first_byte: 1s, whole: 1s, hold: 500ms, connect: 1s, max_wait: 3s, small_wait: 0s, between_events: 1s}"
)
AT_ONCE = 16


@dataclass(frozen=True)
class Trigger:
    """A way to fail: the simulator's fault, how often, and what each failed attempt is called.

    `only`: `whole` or `streamed`, where it makes sense for one of them. `place`: what a case needs of its own: an `own` provider
    since the whole key is marked, or one in front that cannot be reached (`wrong` certificate, `shut` port, `lost` name).
    """

    fault: str
    outcomes: tuple[str, ...]
    only: str = ""
    place: str = ""


AGAIN = 2
"""Faults of the provider strike the same key twice: it is asked again, then another."""
TRIGGERS = {
    "429": Trigger("status=429", ("throttled",)),
    "402": Trigger("status=402", ("quota",)),
    "bad key": Trigger("kind=bad_key", ("bad_key",), place="own"),
    "500": Trigger("status=500", ("server",) * AGAIN),
    "overloaded": Trigger("kind=overloaded", ("overloaded",) * AGAIN),
    "reset": Trigger("reset", ("network",) * AGAIN),
    "eof": Trigger("eof", ("network",) * AGAIN),
    "headers stall": Trigger("headers_stall", ("timeout",) * AGAIN),
    "first stall": Trigger("first_stall", ("timeout",) * AGAIN, "streamed"),
    "error first": Trigger("error_first,kind=server", ("server",) * AGAIN, "streamed"),
    "throttled first": Trigger("error_first,kind=rate_limit", ("throttled",), "streamed"),
    "error after noise": Trigger("error_first,noise=3,kind=server", ("server",) * AGAIN, "streamed"),
    "error in a whole": Trigger("error_whole,kind=server", ("server",) * AGAIN, "whole"),
    "wrong certificate": Trigger("", ("network",) * AGAIN, place="wrong"),
    "nobody listens": Trigger("", ("network",) * AGAIN, place="shut"),
    "no such name": Trigger("", ("network",) * AGAIN, place="lost"),
}
PAIRS = {
    "1-1": ("http/1.1",),
    "2-2": ("h2",),
    "1-2": ("http/1.1", "h2"),
    "2-1": ("h2",),
}
"""Protocols of agent and provider, and what the agent offers. 2-1 goes to a provider without TLS."""
WHERE = [*product(["chat"], PAIRS), ("responses", "1-1"), ("messages", "1-1"), ("messages", "2-2"), ("gemini", "2-2")]


@dataclass(frozen=True)
class Case:
    number: int
    trigger: str
    format: str
    pair: str
    streamed: bool

    def __str__(self) -> str:
        return f"{self.trigger}-{self.format}-{self.pair}-{'streamed' if self.streamed else 'whole'}"

    @property
    def how(self) -> Trigger:
        return TRIGGERS[self.trigger]

    @property
    def call(self) -> Call:
        return Call(self.format, f"case-{self.number:03}", self.streamed, f"case {self.number}: what does it open?")

    @property
    def place(self) -> str:
        """The name of the provider that this case has for itself."""
        return f"{self.how.place}-{self.number:03}" if self.how.place else ""

    @property
    def home(self) -> str:
        """The provider that can answer."""
        return "plain" if self.pair == "2-1" else self.call.provider

    def providers(self) -> list[str]:
        if not self.place:
            return []
        upstream = "PLAIN" if self.place.startswith("own") and self.pair == "2-1" else ""
        upstream = f"https://{self.place}.invalid" if self.how.place == "lost" else upstream
        keys = 3 if self.how.place == "own" else 1
        return [provider_line(self.place, keys, like=self.call.provider, upstream=upstream)]

    def routes(self) -> list[str]:
        if not self.place and self.pair != "2-1":
            return []
        to = {"": self.home, "own": self.place}.get(self.how.place) or f"[{self.place}, {self.home}]"
        return [f"  - {{match: {{model: {self.call.model}}}, to: {to}}}"]


def _cases():
    number = 0
    for (format, pair), (trigger, how), streamed in product(WHERE, TRIGGERS.items(), [False, True]):
        if how.only != ("whole" if streamed else "streamed"):
            number += 1
            yield Case(number, trigger, format, pair, streamed)


CASES = list(_cases())


def rules_of(cases: list[Case]) -> str:
    shared = [provider_line("plain", 3, upstream="PLAIN")]
    shared += [provider_line("line", 1, more="concurrency: 1"), provider_line("slot", 2, more="concurrency: 1")]
    native = [
        f"  {name}: {{keys: [{', '.join(f'env:{name.upper()}_API_KEY_{n}' for n in (1, 2, 3))}]}}"
        for name in ("openai", "anthropic", "gemini")
    ]
    providers = shared + native + [line for case in cases for line in case.providers()]
    own = ["line", "slot"]
    routes = [line for case in cases for line in case.routes()]
    routes += [f"  - {{match: {{model: '{name}-*'}}, to: {name}}}" for name in own]
    return "\n".join(["providers:", *providers, "routes:", *routes])


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    def places(kind: str) -> list[str]:
        return [case.place for case in CASES if case.how.place == kind]

    folder = tmp_path_factory.mktemp("failover")
    own = ["line", "slot", *places("own")]
    with staged(folder, rules_of(CASES), gateway=GATEWAY, own=own, wrong=places("wrong"), shut=places("shut")) as started:
        yield started


# Before content.


@dataclass
class Played:
    came: Came
    receipt: dict[str, Any]


@pytest.fixture(scope="module")
def played(stage: Stage) -> dict[Case, Played]:
    """All cases, played once."""
    for case in CASES:
        if case.how.fault:
            stage.fail(f"{case.how.fault},{case.call.fault},times={len(case.how.outcomes)}")

    async def play(case: Case) -> Came:
        async with agent(stage.gateway, PAIRS[case.pair]) as client:
            return await make(client, case.call)

    came = asyncio.run(together(map(play, CASES), AT_ONCE))
    receipts = {receipt["id"]: receipt for receipt in stage.gateway.receipts(len(CASES))}
    stage.heal()
    return {case: Played(each, receipts.get(each.id, {})) for case, each in zip(CASES, came, strict=True)}


each_case = pytest.mark.parametrize("case", CASES, ids=str)


@each_case
def test_the_agent_gets_one_whole_answer(played, case):
    came = played[case].came
    assert (came.status, came.error, came.body) == (200, None, case.call.expected())


@each_case
def test_the_receipt_names_every_attempt(played, case):
    receipt = played[case].receipt
    wanted = (200, "ok", [*case.how.outcomes, "ok"])
    assert (receipt["status"], receipt["outcome"], [attempt["outcome"] for attempt in receipt["attempts"]]) == wanted


@each_case
def test_the_provider_saw_the_keys_of_the_receipt(stage, played, case):
    attempts = played[case].receipt["attempts"]
    reached = [attempt for attempt in attempts if not attempt["key"].startswith(("wrong", "shut", "lost"))]
    wanted = [(attempt["upstream"].partition("://")[2], attempt["key"].rpartition("/")[2]) for attempt in reached]
    assert [(seen.host, number_of(seen)) for seen in stage.seen(case.call.text)] == wanted


@each_case
def test_another_key_answered(played, case):
    *failed, last = [attempt["key"] for attempt in played[case].receipt["attempts"]]
    assert last not in failed and len(set(failed)) == 1


@each_case
def test_the_header_names_the_key_and_the_attempts(played, case):
    came, receipt = played[case].came, played[case].receipt
    wanted = (receipt["attempts"][-1]["key"], str(len(receipt["attempts"])))
    assert (came.headers["x-valetkey-key"], came.headers["x-valetkey-attempts"]) == wanted


@each_case
def test_both_sides_spoke_the_protocols_of_the_case(stage, played, case):
    agents, providers = case.pair.split("-")
    spoken = {seen.protocol for seen in stage.seen(case.call.text)}
    assert (played[case].came.protocol, spoken) == (
        {"1": "HTTP/1.1", "2": "HTTP/2"}[agents],
        {{"1": "http/1.1", "2": "h2"}[providers]},
    )
