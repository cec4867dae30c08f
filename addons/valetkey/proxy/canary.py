"""Before the first real call, a made-up one: does the key reach the wire, and nothing else?

A synthetic request runs through mitmproxy's real HTTP layer with the addons that will serve, towards a server that exists only
here. The gateway becomes ready only if the bytes for that server hold the made-up key exactly once and no dummy, and
neither the flow nor the answer holds the key. So a mitmproxy whose internals changed stops the start, not a key.
"""

from __future__ import annotations

import inspect
import secrets as random
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from mitmproxy import connection, ctx, http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.mode_specs import ProxyMode

from ..errors import StartError
from ..model import Auth, Dialect, Endpoint, Format, Key, Provider, ProviderFacts, Rules, Surface, Upstream
from ..rules import Snapshot
from ..secrets import Secret, Vault
from .runtime import Runtime

HOST, PORT, DUMMY = "127.0.0.1", 1, b"sk-dummy-canary"
_BODY = b'{"model":"canary","messages":[]}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:1\r\nauthorization: Bearer " + DUMMY
    + b"\r\nx-api-key: " + DUMMY + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY
)  # fmt: skip


async def prove(runtime: Runtime, addons: Sequence[object]) -> None:
    """Drive the canary. Raises StartError, with what was seen, when the swap does not hold."""
    key = "sk-canary-" + random.token_hex(24)
    before = runtime.snapshot
    runtime.adopt(_snapshot(before.rules, key))
    runtime.ready = runtime.proving = True
    try:
        probe = Probe(addons)
        await probe.run()
    finally:
        runtime.ready = runtime.proving = False
        runtime.adopt(before)
    _judge(probe, key.encode())


class Probe:
    """The synthetic connection: an HTTP layer, and a network that is two byte strings."""

    def __init__(self, addons: Sequence[object]) -> None:
        self.to_server = b""
        self.to_client = b""
        self.flow: http.HTTPFlow | None = None
        self._addons = addons
        self._queue: deque[events.Event] = deque()
        self._client = connection.Client(
            peername=(HOST, PORT), sockname=(HOST, PORT), timestamp_start=0.0, state=ConnectionState.OPEN,
            proxy_mode=ProxyMode.parse("regular"),
        )  # fmt: skip
        context = Context(self._client, ctx.options)
        context.server.address = (HOST, PORT)
        self._layer = HttpLayer(context, HTTPMode.transparent)

    async def run(self) -> None:
        """Play the exchange to its end."""
        self._queue += [events.Start(), events.DataReceived(self._client, _REQUEST)]
        while self._queue:
            for command in list(self._layer.handle_event(self._queue.popleft())):
                await self._perform(command)

    async def _perform(self, command: commands.Command) -> None:
        match command:
            case commands.StartHook():
                await self._hook(command)
                self._queue.append(events.HookCompleted(command))
            case commands.OpenConnection():
                command.connection.state = ConnectionState.OPEN
                command.connection.peername = (HOST, PORT)
                self._queue.append(events.OpenConnectionCompleted(command, None))
            case commands.SendData() if command.connection is self._client:
                self.to_client += command.data
            case commands.SendData():
                self.to_server += command.data
                if self.to_server.endswith(_BODY):
                    self._queue.append(events.DataReceived(command.connection, _ANSWER))

    async def _hook(self, command: commands.StartHook) -> None:
        data = command.args()[0]
        if isinstance(data, http.HTTPFlow):
            self.flow = data
        for addon in self._addons:
            handler = getattr(addon, command.name, None)
            result = handler(data) if handler else None
            if inspect.isawaitable(result):
                await result


def _judge(probe: Probe, key: bytes) -> None:
    if not probe.to_server:
        raise StartError(f"the canary call never left; the gateway answered {probe.to_client[:300]!r}")
    flow = repr(probe.flow.get_state()).encode() if probe.flow else b""
    checks = (
        (probe.to_server.count(key) == 1, "the key is not exactly once in what the provider would get"),
        (DUMMY not in probe.to_server, "the dummy key would reach the provider"),
        (probe.flow is not None and DUMMY in flow, "the flow does not hold what the agent sent"),
        (key not in flow, "the key is in the flow"),
        (key not in probe.to_client, "the key is in the answer"),
        (probe.to_client.startswith(b"HTTP/1.1 200"), "the answer did not come back"),
    )
    for passed, problem in checks:
        if not passed:
            raise StartError(f"the start canary failed: {problem}; this version of mitmproxy is not safe to use here")


def _snapshot(rules: Rules, key: str) -> Snapshot:
    """Rules for the canary alone: one provider on an address that is never dialled."""
    endpoint = Endpoint("chat", ("POST",), "/chat/completions", Format.OPENAI_CHAT, flavor="chat")
    surface = Surface("openai", Dialect.OPENAI, "/v1", Auth("authorization", "Bearer "), (endpoint,))
    facts = ProviderFacts("canary", "Canary", (), f"http://{HOST}:{PORT}", (surface,))
    provider = Provider("canary", facts, Upstream("http", HOST, PORT), configured=True)
    gateway = replace(rules.gateway, ledger_failure="open", egress_allow=(f"{HOST}:{PORT}",))
    held = Key("canary/main", "canary", "main")
    return Snapshot(
        rules=Rules("canary", gateway, {"canary": provider}),
        keys={"canary": (held,)},
        vault=Vault({held.id: Secret(key)}, {held.id: "canary"}),
        notices=(),
        revision=0,
        files=(),
    )
