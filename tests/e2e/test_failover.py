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
import time
from dataclasses import dataclass
from itertools import product, takewhile
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

GATEWAY = """timeouts:
  {retry: 20ms, first_byte: 1500ms, whole: 1500ms, hold: 800ms, connect: 2s, max_wait: 3s, small_wait: 0s, between_events: 1s}"""
AT_ONCE = 24


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
    "first stall": Trigger("first_stall", ("timeout",), "streamed"),
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
    assert (last in failed, len(set(failed))) == (False, 1)


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


def test_a_stream_stays_a_stream(stage):
    """After a failed attempt the pieces of the next one arrive as the provider sends them."""
    call = Call("chat", "live", True, "as they come")
    stage.fail(f"status=500,times=1,{call.fault}")
    stage.fail(f"delay=0.15,{call.fault}")

    async def moments() -> list[float]:
        async with (
            agent(stage.gateway) as client,
            client.stream("POST", call.url, content=call.body, headers=call.headers) as came,
        ):
            return [asyncio.get_running_loop().time() async for _ in came.aiter_raw()]

    found = asyncio.run(moments())
    stage.heal()
    assert found[-1] - found[0] > 0.5


def test_a_second_silence_is_taken_for_thought(stage):
    """It passes; when nothing comes at all, `between_events` ends it."""
    call = Call("chat", "silent", True)
    stage.fail(f"first_stall,{call.fault}")
    came = post(stage.gateway, call)
    stage.heal()
    receipt = stage.receipt(came.id)
    attempts = [attempt["outcome"] for attempt in receipt["attempts"]]
    assert (came.status, came.body, receipt["outcome"], attempts) == (200, b"", "timeout", ["timeout", "timeout"])


def test_streams_of_one_connection_fail_over_apart(stage):
    """HTTP/2: sixty calls of one connection, of which every second fails at first."""
    calls = [Call("chat", f"many-{n:02}", n % 4 < 2, f"one of many: {n}") for n in range(60)]
    for at, call in enumerate(calls[::2]):
        stage.fail(f"{('status=429', 'status=500', 'reset', 'error_first,error_whole')[at % 4]},times=1,{call.fault}")

    async def everything() -> list[Came]:
        async with agent(stage.gateway, ["h2"]) as client:
            await make(client, Call("chat", "many-more"))
            return await asyncio.gather(*(make(client, call) for call in calls))

    came = asyncio.run(everything())
    stage.heal()
    wrong = [call.model for call, each in zip(calls, came, strict=True) if (each.status, each.body) != (200, call.expected())]
    assert (wrong, {each.headers.get("x-valetkey-attempts") for each in came[::2]}) == ([], {"2"})


def test_a_connection_that_ends_takes_no_other_call_with_it(stage):
    """HTTP/2: the provider closes the connection that thirty calls share; each of them is made again."""
    calls = [Call("chat", f"shared-{n:02}", bool(n % 2), f"one that shares: {n}") for n in range(30)]
    for call in calls:
        stage.fail(f"{'eof' if call.model == 'shared-15' else 'slow=0.3'},times=1,{call.fault}")

    async def everything() -> list[Came]:
        async with agent(stage.gateway, ["h2"]) as client:
            await make(client, Call("chat", "shared-more"))
            return await asyncio.gather(*(make(client, call) for call in calls))

    came = asyncio.run(everything())
    stage.heal()
    wrong = [call.model for call, each in zip(calls, came, strict=True) if (each.status, each.body) != (200, call.expected())]
    assert wrong == []


# Unmodified SDKs.

SDK_TRIGGERS = {
    "429": ("status=429,times=1", 2),
    "500": ("status=500,times=2", 3),
    "reset": ("reset,times=2", 3),
    "headers-stall": ("headers_stall,times=1", 2),
    "error-first": ("error_first,error_whole,kind=server,times=2", 3),
    "noise": ("error_first,noise=3,kind=server,times=2", 3),
}
"""Fault and attempts; whole answers know no noise."""
ENDINGS = {"cut": "cut=7", "stall": "stall=7"}
TEXT = "tell me of keys that open some doors and not all doors"
PROGRAMS = {
    "openai": """
        import openai
        client = openai.OpenAI(max_retries=0)
        def chat(model):
            out = client.chat.completions.create(model=model, messages=[{"role": "user", "content": TEXT}])
            yield out.choices[0].message.content
        def chat_streamed(model):
            for part in client.chat.completions.create(model=model, messages=[{"role": "user", "content": TEXT}], stream=True):
                yield part.choices[0].delta.content or ""
        def responses(model):
            yield client.responses.create(model=model, input=TEXT).output_text
        def responses_streamed(model):
            with client.responses.stream(model=model, input=TEXT) as stream:
                for event in stream:
                    if event.type == "response.output_text.delta":
                        yield event.delta
                stream.get_final_response()
    """,
    "anthropic": """
        import anthropic
        client = anthropic.Anthropic(max_retries=0)
        asked = {"max_tokens": 50, "messages": [{"role": "user", "content": TEXT}]}
        def messages(model):
            yield client.messages.create(model=model, **asked).content[0].text
        def messages_streamed(model):
            with client.messages.stream(model=model, **asked) as stream:
                yield from stream.text_stream
                stream.get_final_message()
    """,
    "google-genai": """
        from google import genai
        client = genai.Client()
        def gemini(model):
            yield client.models.generate_content(model=model, contents=TEXT).text
        def gemini_streamed(model):
            for part in client.models.generate_content_stream(model=model, contents=TEXT):
                yield part.text or ""
    """,
}
HEAD = f"import json, sys\nTEXT = {TEXT!r}\n"
RUN = """
for name in json.loads(sys.argv[1]):
    parts, error = [], None
    try:
        for part in globals()[name.split(".")[0]](name):
            parts.append(part)
    except Exception as raised:
        error = type(raised).__module__.split(".")[0] + "." + type(raised).__name__
    print(json.dumps([name, "".join(parts), error]))
"""
WAYS = {
    "openai": ("chat", "chat_streamed", "responses", "responses_streamed"),
    "anthropic": ("messages", "messages_streamed"),
    "google-genai": ("gemini", "gemini_streamed"),
}


def _sdk_models() -> dict[str, list[str]]:
    """Models by SDK: `way.trigger`, as the programs above take them."""
    found: dict[str, list[str]] = {}
    for sdk, ways in WAYS.items():
        before = [f"{way}.{trigger}" for way in ways for trigger in SDK_TRIGGERS if trigger != "noise" or "streamed" in way]
        found[sdk] = before + [f"{way}.{ending}" for way in ways for ending in ENDINGS if "streamed" in way]
    return found


SDK_MODELS = _sdk_models()
SDK_GOOD = [name for names in SDK_MODELS.values() for name in names if name.split(".")[1] in SDK_TRIGGERS]
SDK_ENDED = [name for names in SDK_MODELS.values() for name in names if name.split(".")[1] in ENDINGS]


@pytest.fixture(scope="module")
def programs(stage: Stage) -> dict[str, tuple[str, str | None]]:
    """What the programs got, by model: the text, and the name of the exception that ended it."""
    for name in (*SDK_GOOD, *SDK_ENDED):
        way, what = name.split(".")
        fault = SDK_TRIGGERS[what][0] if what in SDK_TRIGGERS else ENDINGS[what]
        stage.fail(f"{fault},{f'path=/{name}:' if way.startswith('gemini') else f'model={name}'}")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", f"{HEAD}{textwrap.dedent(program)}{RUN}", json.dumps(SDK_MODELS[sdk])],
            env=stage.gateway.agent_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for sdk, program in PROGRAMS.items()
    ]  # fmt: skip
    found = {}
    for process in running:
        out, problems = process.communicate(timeout=90)
        assert process.returncode == 0, problems
        found |= {name: (text, error) for name, text, error in map(json.loads, out.splitlines())}
    stage.heal()
    return found


@pytest.mark.parametrize("model", SDK_GOOD)
def test_an_sdk_that_never_tries_again_gets_its_answer(programs, model):
    assert programs[model] == (f"Simulated answer to: {TEXT}", None)


@pytest.mark.parametrize("model", SDK_GOOD)
def test_what_an_sdk_asked_once_has_one_receipt(stage, programs, model):
    receipts = stage.receipts_of(model)
    attempts = [len(receipt["attempts"]) for receipt in receipts]
    assert (attempts, len(stage.seen(model))) == ([SDK_TRIGGERS[model.split(".")[1]][1]], attempts[0])


# After content.


RAISED = {
    "chat_streamed": ("openai.APIConnectionError", "httpx.RemoteProtocolError"),
    "responses_streamed": ("builtins.RuntimeError", "openai.APIConnectionError"),
    "messages_streamed": ("anthropic.APIStatusError",),
    "gemini_streamed": ("httpx.RemoteProtocolError", "httpx2.RemoteProtocolError"),
}
"""What the SDKs raise, by version; `RuntimeError` is openai's for a response that was never completed."""


@pytest.mark.parametrize("model", SDK_ENDED)
def test_an_sdk_raises_when_a_stream_breaks_after_content(programs, model):
    text, error = programs[model]
    wanted = f"Simulated answer to: {TEXT}"
    assert error in RAISED[model.split(".")[0]] and text and text != wanted and wanted.startswith(text)


BROKEN = list(product(("chat", "responses", "messages", "gemini"), ENDINGS, ("1-1", "2-2")))
OUTCOMES = {"cut": ("server", "network"), "stall": ("timeout",)}


@pytest.fixture(scope="module")
def broken(stage: Stage) -> dict[tuple[str, str, str], Came]:
    """Streams that break after content, played at once."""

    async def play(format: str, ending: str, pair: str) -> Came:
        call = _broken_call(format, ending, pair)
        stage.fail(f"{ENDINGS[ending]},{call.fault}")
        async with agent(stage.gateway, PAIRS[pair]) as client:
            return await make(client, call)

    came = asyncio.run(together((play(*each) for each in BROKEN), AT_ONCE))
    stage.heal()
    return dict(zip(BROKEN, came, strict=True))


def _broken_call(format: str, ending: str, pair: str) -> Call:
    return Call(format, f"broken-{format}-{ending}-{pair}", True, "a long enough answer that it can break off somewhere")


@pytest.mark.parametrize(("format", "ending", "pair"), BROKEN)
def test_a_broken_stream_begins_as_the_answer_did(broken, format, ending, pair):
    came, expected = broken[format, ending, pair], _broken_call(format, ending, pair).expected()
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(came.body, expected, strict=False)))
    assert came.status == 200 and 500 < common < len(expected) and b"\n" in came.body[common - 30 : common + 1]


@pytest.mark.parametrize(("format", "ending", "pair"), BROKEN)
def test_a_broken_stream_ends_in_the_words_of_its_format(broken, format, ending, pair):
    came = broken[format, ending, pair]
    last = came.body.replace(b"\r", b"").rstrip(b"\n").rpartition(b"\n\n")[2]
    match format:
        case "messages":
            assert last.startswith(b"event: error\n") and b'"type":"error"' in last
        case "responses":
            assert last.startswith(b"event: response.failed\n") and b'"status":"failed"' in last
        case "chat":
            assert b"[DONE]" not in came.body and b'"finish_reason":"stop"' not in came.body
        case "gemini":
            assert b"finishReason" not in came.body


@pytest.mark.parametrize(("format", "ending", "pair"), BROKEN)
def test_a_stream_that_broke_is_not_taken_for_a_whole_one(broken, format, ending, pair):
    """Where the format has no words for it, the connection tells: it does not end in good order."""
    assert broken[format, ending, pair].error is not None or format in ("messages", "responses")


@pytest.mark.parametrize(("format", "ending", "pair"), BROKEN)
def test_a_call_that_broke_after_content_is_not_made_again(stage, broken, format, ending, pair):
    model = _broken_call(format, ending, pair).model
    receipts = stage.receipts_of(model)
    assert ([len(r["attempts"]) for r in receipts], len(stage.seen(model))) == ([1], 1)
    assert receipts[0]["outcome"] in OUTCOMES[ending]


# The agent leaves.


async def _leave(stage: Stage, call: Call, seconds: float, offers: tuple[str, ...]) -> None:
    async with agent(stage.gateway, offers) as client:
        if "h2" in offers:  # the connection stays, a stream is given up
            await make(client, Call("chat", "leaving-later", text="the connection stays"))
        task = asyncio.ensure_future(make(client, call))
        await asyncio.sleep(seconds)
        task.cancel()
        if "h2" in offers:
            await asyncio.sleep(0.3)


LEAVING = {
    "while all keys rest": ("status=429,retry_after_ms=1200", ["throttled", "throttled"]),
    "while the head stalls": ("headers_stall", ["client"]),
    "while a stream does not begin": ("first_stall,noise=2", ["client"]),
}
OFFERS = [pytest.param(("http/1.1",), id="http/1.1"), pytest.param(("h2",), id="h2")]
SLOTS = ("slot/1", "slot/2")


def _left(stage: Stage, name: str, offers: tuple[str, ...]) -> tuple[Call, dict[str, Any]]:
    """Make a call that goes badly in some way and leave; gives its receipt."""
    fault, _ = LEAVING[name]
    call = Call("chat", f"slot-{name.split()[-1]}-{offers[0].replace('/', '')}", True)
    stage.fail(f"{fault},{call.fault}")
    asyncio.run(_leave(stage, call, 0.35, offers))
    stage.heal()
    return call, stage.receipts_of(call.model)[0]


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("name", LEAVING)
def test_an_agent_that_leaves_ends_the_call_at_once(stage, name, offers):
    begun = time.monotonic()
    call, receipt = _left(stage, name, offers)
    attempts = [attempt["outcome"] for attempt in receipt["attempts"]]
    assert (receipt["outcome"], attempts, receipt["duration_ms"] < 900) == ("client", LEAVING[name][1], True)
    # No connection is kept, no key is held, and nothing is made after that, also when the rest is over.
    wait_for(lambda: stage.simulator.connections == 0, "the end of the connections")
    time.sleep(max(0.0, begun + 1.8 - time.monotonic()))
    known = keys_of(stage.gateway)
    assert (len(stage.seen(call.model)), [known[key]["in_flight"] for key in SLOTS]) == (len(attempts), [0, 0])


def test_who_leaves_the_line_holds_nobody_up(stage):
    """One key that serves one call at once: who waits second leaves, who waits third is served."""
    stage.fail("slow=0.8,model=line-first")

    async def three() -> Came:
        first = asyncio.ensure_future(_one("line-first"))
        await asyncio.sleep(0.2)
        second = asyncio.ensure_future(_one("line-second"))
        await asyncio.sleep(0.2)
        third = asyncio.ensure_future(_one("line-third"))
        await asyncio.sleep(0.2)
        second.cancel()
        await first
        return await third

    async def _one(model: str) -> Came:
        async with agent(stage.gateway) as client:
            return await make(client, Call("chat", model))

    served = asyncio.run(three())
    stage.heal()
    second = stage.receipts_of("line-second")[0]
    assert (served.status, second["outcome"], second["attempts"], stage.seen("line-second")) == (200, "client", [], [])


def test_the_gateway_complained_of_nothing(stage, played, programs, broken):
    """Runs last in this file."""
    assert post(stage.gateway, Call("chat", "after-all")).status == 200
    assert not any(word in stage.gateway.output() for word in ("Traceback", "defect", "mitmproxy has crashed", "never retrieved"))
    assert not any(value in stage.gateway.output() for value in KEYS.values())
