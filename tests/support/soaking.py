"""Many calls through a gateway whose provider fails all the time: made, compared with what they should have been, and counted."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from support.processes import Gateway
from valetkey.simulator.app import App
from valetkey.simulator.wire_types import Request

CONNECTIONS = {"api.openai.com": 24, "api.anthropic.com": 8}
KINDS = ("chat", "chat streamed", "responses streamed", "messages streamed")

FAULTS = (
    *(f"status=429,retry_after_ms={wait},chance=0.03" for wait in (100, 200, 300)),
    "status=500,chance=0.03",
    "status=502,chance=0.03",
    "status=503,chance=0.03",
    "host=api.anthropic.com,status=529,chance=0.03",
    "reset,chance=0.05",
    "eof,chance=0.05",
    "error_whole,chance=0.03",
    "error_whole,kind=overloaded,chance=0.01",
    "host=api.openai.com,error_whole,kind=rate_limit,retry_after_ms=150,chance=0.01",
    "headers_stall,chance=0.003",
    "first_stall,chance=0.004",
    "error_first,chance=0.02",
    "error_first,noise=2,kind=overloaded,chance=0.01",
    "error_first,kind=server,chance=0.01",
    "host=api.openai.com,error_first,kind=rate_limit,retry_after_ms=150,chance=0.01",
    "noise=3,chance=0.05",
)
"""Each way to fail before content that goes by with time: three attempts in ten. The last is no failure."""
FAILURES = ("429", "500", "502", "503", "529", "reset", "eof", "error_whole", "error_first", "headers_stall", "first_stall")


@dataclass(frozen=True)
class Call:
    """One call, known by its number: no two ask the same."""

    number: int

    @property
    def kind(self) -> str:
        return KINDS[self.number % len(KINDS)]

    @property
    def host(self) -> str:
        return "api.anthropic.com" if self.kind.startswith("messages") else "api.openai.com"

    @property
    def path(self) -> str:
        kind = self.kind.split()[0]
        return {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}[kind]

    @property
    def headers(self) -> dict[str, str]:
        return {"x-api-key": "sk-ant-dummy"} if self.host == "api.anthropic.com" else {"authorization": "Bearer sk-dummy"}

    @property
    def body(self) -> dict[str, Any]:
        text = f"call {self.number}: tell me in a few words what a valet key starts and what it opens"
        streamed = {"stream": True} if "streamed" in self.kind else {}
        if self.kind.startswith("responses"):
            return {"model": "gpt-4.1", "input": text} | streamed
        body = {"messages": [{"role": "user", "content": text}]} | streamed
        if self.kind.startswith("messages"):
            return body | {"model": "claude-sonnet-4-5", "max_tokens": 100}
        asks = streamed and self.number % 3 == 0
        return body | {"model": "gpt-4o"} | ({"stream_options": {"include_usage": True}} if asks else {})

    def expected(self) -> list[Any]:
        """What a provider that is well answers."""
        sent = Request("POST", self.path, self.host, [("authorization", "Bearer x"), ("x-api-key", "x")], _dump(self.body), "h2")
        return meaning(b"".join(piece.data for piece in App().answer(sent).pieces))


@dataclass
class Figures:
    """What came of all calls. `problems` are told by call; times in seconds, memory in kB."""

    calls: int
    seconds: float = 0.0
    ids: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0
    memory: list[int] = field(default_factory=list)
    """Of the gateway's process: at the start, after each tenth of the calls."""

    def told(self, attempts: int, failures: Counter[str]) -> str:
        """The figures in words."""
        megabytes = ", ".join(f"{kilobytes / 1024:.0f}" for kilobytes in self.memory)
        return (
            f"\n{self.calls} calls in {self.seconds:.1f} s: {self.calls / self.seconds:.0f}/s, the slowest {self.slowest:.1f} s\n"
            f"{attempts} attempts ({attempts / self.calls:.2f} per call), of which failed {failures.total() / attempts:.1%}: "
            f"{', '.join(f'{name} {count}' for name, count in failures.most_common())}\n"
            f"memory of the gateway at the start and after each tenth: {megabytes} MB"
        )


def meaning(body: bytes) -> list[Any]:
    """An answer without what may differ: its document, or the events of its stream with their names; no comments, no pings.

    The gateway asks for the usage of chat streams itself, which the chunks before the last show by `usage: null`.
    """
    if body.startswith(b"{"):
        return [json.loads(body)]
    events = [_event(block) for block in re.split(r"\n\n", body.decode()) if block and not block.startswith(":")]
    return [event for event in events if event[0] != "ping"]


def _event(block: str) -> tuple[str | None, Any]:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    if fields["data"] == "[DONE]":
        return None, "[DONE]"
    document = json.loads(fields["data"])
    if document.get("usage", "") is None:
        del document["usage"]
    return fields.get("event"), document


def soak(gateway: Gateway, calls: int) -> Figures:
    """Make so many calls through the proxy door, 64 at a time, and compare each answer with what it should be."""
    figures = Figures(calls, memory=[memory_of(gateway)])
    begun = time.monotonic()
    asyncio.run(_all(gateway, figures))
    figures.seconds = time.monotonic() - begun
    return figures


async def _all(gateway: Gateway, figures: Figures) -> None:
    context = ssl.create_default_context(cafile=str(gateway.ca))
    limits = httpx.Limits(max_keepalive_connections=None, keepalive_expiry=None)
    async with (
        httpx.AsyncClient(proxy=gateway.proxy, verify=context, trust_env=False, timeout=90, limits=limits) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for host, connections in CONNECTIONS.items():
            todo = iter([call for call in map(Call, range(figures.calls)) if call.host == host])
            for _ in range(connections):
                tasks.create_task(_work(client, todo, gateway, figures))


async def _work(client: httpx.AsyncClient, todo: Iterator[Call], gateway: Gateway, figures: Figures) -> None:
    for call in todo:
        begun = time.monotonic()
        problem = await _one(client, call, figures)
        figures.slowest = max(figures.slowest, time.monotonic() - begun)
        if problem:
            figures.problems.append(f"call {call.number} ({call.kind}): {problem}")
        if len(figures.ids) >= len(figures.memory) * figures.calls // 10 and len(figures.memory) <= 10:
            figures.memory.append(memory_of(gateway))


async def _one(client: httpx.AsyncClient, call: Call, figures: Figures) -> str | None:
    """Make a call; tells what is wrong with its answer."""
    headers = call.headers | {"content-type": "application/json"}
    try:
        answer = await client.post(f"https://{call.host}{call.path}", content=_dump(call.body), headers=headers)
    except httpx.HTTPError as error:
        figures.ids.append("")
        return repr(error)
    figures.ids.append(answer.headers.get("x-valetkey-id", ""))
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:300]}"
    try:
        found = meaning(answer.content)
    except (ValueError, KeyError) as error:
        return f"{error!r} in {answer.text[-300:]}"
    return None if found == call.expected() else f"another answer: {answer.text[:300]} … {answer.text[-100:]}"


def memory_of(gateway: Gateway) -> int:
    """The resident memory of the gateway's process in kB."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def wanted(default: int) -> int:
    """How many calls are made: `VALETKEY_SOAK` says."""
    return int(os.environ.get("VALETKEY_SOAK", default))


def _dump(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
