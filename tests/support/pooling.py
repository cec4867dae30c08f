"""Many keys behind the real gateway: a stage with providers that fail on command, cases to play on it, and what came of them."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from support.processes import PROVIDER_HOSTS, ROOT, Gateway, free_ports, running, wait_for
from valetkey.simulator import Seen, Simulator, TlsFiles, make_authority, parse_fault, run_in_thread
from valetkey.simulator.app import App
from valetkey.simulator.wire_types import Request

KEYS = {
    **{f"OPENAI_API_KEY_{n}": f"sk-proj-POOL{n}openaiAAAAAAAAAAAAAAAAAAAA{n}" for n in range(1, 6)},
    **{f"ANTHROPIC_API_KEY_{n}": f"sk-ant-api03-POOL{n}anthropicCCCCCCCCCCCC{n}" for n in range(1, 6)},
    **{f"GEMINI_API_KEY_{n}": f"AIzaPOOL{n}geminiDDDDDDDDDDDDDDDDDDDDDDDDD{n}" for n in range(1, 6)},
}
"""Five of each, whose last character is their number."""
HOSTS = {"openai": "api.openai.com", "anthropic": "api.anthropic.com", "gemini": "generativelanguage.googleapis.com"}
PROVIDERS = {"chat": "openai", "responses": "openai", "messages": "anthropic", "gemini": "gemini"}
"""The formats that are spoken, and whose they are."""
DUMMIES = {
    "authorization": "Bearer sk-dummy-pooled", "x-api-key": "sk-ant-dummy-pooled", "x-goog-api-key": "dummy-pooled",
}  # fmt: skip
CARRIERS = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}


def key(provider: str, number: int) -> str:
    """The value of a key of a provider's family."""
    return KEYS[f"{provider.upper()}_API_KEY_{number}"]


def provider_line(name: str, keys: int | Sequence[int], *, like: str = "openai", upstream: str = "", more: str = "") -> str:
    """A provider of one's own at `https://NAME.example`, whose keys are those of `like`, named by their numbers."""
    numbers = range(1, keys + 1) if isinstance(keys, int) else keys
    listed = ", ".join(f'{{name: "{n}", ref: "env:{like.upper()}_API_KEY_{n}", share: true}}' for n in numbers)
    place = upstream or f"https://{name}.example"
    return f'  {name}: {{like: {like}, upstream: "{place}", keys: [{listed}]{", " if more else ""}{more}}}'


@dataclass
class Stage:
    """A running gateway with its providers behind it; `plain` is one that speaks HTTP/1.1 without TLS."""

    simulator: Simulator
    plain: Simulator
    gateway: Gateway

    def fail(self, fault: str) -> None:
        """Let something go wrong from now on."""
        for each in (self.simulator, self.plain):
            each.faults.append(parse_fault(fault))

    def heal(self) -> None:
        """Let everything go well again."""
        for each in (self.simulator, self.plain):
            each.faults.clear()

    def seen(self, word: str) -> list[Seen]:
        """The requests that came with this word in their path or body, oldest first."""
        found = [
            seen
            for each in (self.simulator, self.plain)
            for seen in tuple(each.seen)
            if word in seen.path or word.encode() in seen.body
        ]
        return sorted(found, key=lambda seen: seen.time)

    def numbers(self, word: str) -> list[str]:
        """The numbers of the keys that these requests came with."""
        return [number_of(seen) for seen in self.seen(word)]

    def receipt(self, answer: httpx.Response | str) -> dict[str, Any]:
        """The receipt of an answer, or of a call's id."""
        call = answer if isinstance(answer, str) else answer.headers["x-valetkey-id"]
        return wait_for(lambda: next((r for r in self.gateway.receipts() if r["id"] == call), None), f"receipt {call}")

    def receipts_of(self, model: str, at_least: int = 1) -> list[dict[str, Any]]:
        """The receipts of calls for a model, once there are so many."""

        def found() -> list[dict[str, Any]] | None:
            those = [r for r in self.gateway.receipts() if r["requested_model"] == model]
            return those if len(those) >= at_least else None

        return wait_for(found, f"{at_least} receipts of {model}")


def number_of(seen: Seen) -> str:
    """The number of the key that a request came with; all its credentials, when that is not one of ours."""
    values = {value.removeprefix("Bearer ") for value in seen.credentials}
    return next((value[-1] for value in values if len(values) == 1 and value in KEYS.values()), repr(values))


@contextmanager
def staged(
    folder: Path,
    rules: str = "",
    *,
    gateway: str = "",
    own: Iterable[str] = (),
    wrong: Iterable[str] = (),
    shut: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """A stage. `own` are names of providers at `https://NAME.example`; the certificate does not name those of `wrong`, and
    nobody listens for those of `shut`. `PLAIN` in the rules becomes the address of the provider without TLS."""
    files = make_authority(folder, [*PROVIDER_HOSTS, *(f"{name}.example" for name in own)])
    with ExitStack() as stack:
        simulator = stack.enter_context(run_in_thread(tls=TlsFiles(files.cert, files.key)))
        plain = stack.enter_context(run_in_thread())
        dial = dict.fromkeys([*PROVIDER_HOSTS, *(f"{name}.example" for name in (*own, *wrong))], simulator.port)
        dial |= dict.fromkeys((f"{name}.example" for name in shut), free_ports(1)[0])
        made = Gateway(
            folder, rules=rules.replace("PLAIN", plain.url), gateway=gateway, dial=dial, ca=files.ca, env=KEYS | dict(env or {})
        )
        yield Stage(simulator, plain, stack.enter_context(running(made)))


# Calls.


@dataclass(frozen=True)
class Call:
    """What an agent asks of a model."""

    format: str
    model: str
    streamed: bool = False
    text: str = "what does a valet key start, and what does it open?"

    @property
    def provider(self) -> str:
        return PROVIDERS[self.format]

    @property
    def path(self) -> str:
        if self.format == "gemini":
            return f"/v1beta/models/{self.model}:" + ("streamGenerateContent?alt=sse" if self.streamed else "generateContent")
        return {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}[self.format]

    @property
    def url(self) -> str:
        return f"https://{HOSTS[self.provider]}{self.path}"

    @property
    def headers(self) -> dict[str, str]:
        carrier = CARRIERS[self.provider]
        return {carrier: DUMMIES[carrier], "content-type": "application/json"}

    @property
    def body(self) -> bytes:
        """The request. It asks for usage where the gateway would: then what the provider sends is what the agent gets."""
        if self.format == "gemini":
            return json.dumps({"contents": [{"role": "user", "parts": [{"text": self.text}]}]}).encode()
        streamed: dict[str, Any] = {"stream": True} if self.streamed else {}
        if self.format == "responses":
            return json.dumps({"model": self.model, "input": self.text} | streamed).encode()
        body = {"model": self.model, "messages": [{"role": "user", "content": self.text}]} | streamed
        if self.format == "messages":
            return json.dumps(body | {"max_tokens": 100}).encode()
        return json.dumps(body | ({"stream_options": {"include_usage": True}} if self.streamed else {})).encode()

    @property
    def fault(self) -> str:
        """The part of a fault that limits it to this model."""
        return f"path=/{self.model}:" if self.format == "gemini" else f"model={self.model}"

    def expected(self) -> bytes:
        """What a provider that is well answers, byte for byte."""
        host = HOSTS[self.provider]
        request = Request("POST", self.path, host, [("authorization", "Bearer x"), ("x-api-key", "x"), ("x-goog-api-key", "x")],
                          self.body, "h2")  # fmt: skip
        return b"".join(piece.data for piece in App().answer(request).pieces)


@dataclass
class Came:
    """What an agent got: as far as it came, and the exception that ended it."""

    status: int = 0
    protocol: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: Exception | None = None

    @property
    def id(self) -> str:
        return self.headers.get("x-valetkey-id", "")


def client_context(gateway: Gateway, offers: Sequence[str]) -> ssl.SSLContext:
    """TLS of a client that trusts the gateway and offers these protocols, the preferred one first."""
    context = ssl.create_default_context(cafile=str(gateway.ca))
    context.set_alpn_protocols(list(offers))
    context.set_alpn_protocols = lambda protocols: None  # type: ignore[method-assign] # httpx has an order of its own
    return context


def agent(gateway: Gateway, offers: Sequence[str] = ("http/1.1",)) -> httpx.AsyncClient:
    """An agent's HTTP client. mitmproxy takes its first offer, and makes all of them to the provider."""
    context = client_context(gateway, offers)
    return httpx.AsyncClient(
        proxy=gateway.proxy, verify=context, http1="http/1.1" in offers, http2="h2" in offers, trust_env=False, timeout=40
    )


async def make(client: httpx.AsyncClient, call: Call, **headers: str) -> Came:
    """Make a call and read its answer to the end, whatever the end is."""
    came = Came()
    try:
        async with client.stream("POST", call.url, content=call.body, headers=call.headers | headers) as answer:
            came.status, came.protocol, came.headers = answer.status_code, answer.http_version, answer.headers
            async for piece in answer.aiter_raw():
                came.body += piece
    except httpx.HTTPError as error:
        came.error = error
    return came


def post(gateway: Gateway, call: Call, **headers: str) -> Came:
    """Make one call with a client of its own."""

    async def one() -> Came:
        async with agent(gateway) as client:
            return await make(client, call, **headers)

    return asyncio.run(one())


async def together(work: Iterable[Any], at_once: int) -> list[Any]:
    """The results of coroutines, so many of which run at once."""
    gate = asyncio.Semaphore(at_once)

    async def one(each: Any) -> Any:
        async with gate:
            return await each

    return await asyncio.gather(*map(one, work))


# The command line.


def valetkey(gateway: Gateway, *arguments: str) -> str:
    """Run the `valetkey` command on a gateway's rules, with its environment; gives what it prints."""
    command = [sys.executable, "-m", "valetkey", *arguments, "--rules", str(gateway.rules)]
    env = {name: value for name, value in os.environ.items() if "API_KEY" not in name and "proxy" not in name.lower()}
    env |= KEYS | {"PYTHONPATH": str(ROOT / "addons")}
    done = subprocess.run(command, cwd=gateway.folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def keys_of(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """`valetkey keys --json`, by id."""
    rows = [json.loads(line) for line in valetkey(gateway, "keys", "--json").splitlines()]
    return {row["id"]: row for row in rows}
