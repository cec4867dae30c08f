"""Drive mitmproxy's real HTTP layer with the gateway's addons, without a socket: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
import logging
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from mitmproxy import connection, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import ConnectionState
from mitmproxy.log import MitmLogHandler
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons

from support.assembling import assembled
from valetkey.proxy import stream
from valetkey.proxy.alarms import Alarms
from valetkey.proxy.runtime import Runtime

LOCAL = "127.0.0.1"
EPOCH = 1_700_000_000.0


class VirtualTime:
    """A clock that only the play moves, and timers on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._count = itertools.count()

    def later(self, seconds: float, call: Callable[[], None]) -> VirtualTimer:
        timer = VirtualTimer(call)
        heapq.heappush(self._timers, (self.now + seconds, next(self._count), timer))
        return timer

    def advance(self, until: float) -> bool:
        """Ring the next timer that is due by `until`; whether there was one."""
        while self._timers and self._timers[0][0] <= until:
            due, _, timer = heapq.heappop(self._timers)
            if timer.call is not None:
                self.now = max(self.now, due)
                timer.call()
                return True
        return False


class VirtualTimer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Play:
    """One client connection to the provider `lab` on loopback, and a server played by the test.

    `server(data)` gets what the provider would, and returns what it answers (None: nothing yet; several pieces come one after
    the other; an exception: the connection closes).
    """

    def __init__(
        self,
        runtime: Runtime,
        port: int,
        server: Callable[[bytes], bytes | tuple[bytes, ...] | None],
        connect_error: str | list[str | None] | None = None,
        patience: float = 60.0,
    ) -> None:
        self.runtime = runtime
        self.time = VirtualTime()
        self.patience = patience
        """Seconds of virtual time to play on when nothing moves by itself."""
        runtime.monotonic = lambda: 100.0 + self.time.now
        runtime.clock = lambda: EPOCH + self.time.now
        runtime.chance = lambda: 0.0
        runtime.alarms = Alarms(self.time.later, lambda client, event: self._queue.append(event), lambda client: True)
        self.addons = assembled(runtime)
        self.to_client = b""
        self.to_server = b""
        self.flows: list[http.HTTPFlow] = []
        self.hooks: list[str] = []
        self.closed: list[Any] = []
        self._server = server
        self._connect_error = connect_error
        self._queue: deque[events.Event] = deque()
        self._client = connection.Client(
            peername=(LOCAL, 1), sockname=(LOCAL, 2), timestamp_start=0.0, state=ConnectionState.OPEN,
            proxy_mode=ProxyMode.parse("regular"),
        )  # fmt: skip
        self._port = port
        self.layer: Any = None
        self.upstream: connection.Connection | None = None
        self.others: tuple[object, ...] = ()
        """Other addons, which come after ours."""
        self.pace = 0.0
        """Seconds between the pieces of an answer."""
        self.break_after_answer = False
        """Whether the server closes its connection right after it has answered."""

    def run(self, *chunks: bytes, leave: bool = False) -> Play:
        """Send `chunks` from the client, then perhaps leave; play until nothing moves any more."""
        for handler in list(logging.getLogger().handlers):
            if isinstance(handler, MitmLogHandler):  # of a test before, whose loop is closed
                handler.uninstall()
        with taddons.context() as context:
            context.master.addons.add(Proxyserver())
            stream.install(self.addons.lifecycle.traffic)
            try:
                layer_context = Context(self._client, context.options)
                layer_context.server.address = (LOCAL, self._port)
                self.layer = layer = HttpLayer(layer_context, HTTPMode.transparent)
                self._queue += [events.Start(), *(events.DataReceived(self._client, chunk) for chunk in chunks)]
                if leave:
                    self._queue.append(events.ConnectionClosed(self._client))
                asyncio.run(self._play(layer))
            finally:
                stream.uninstall()
        return self

    async def _play(self, layer: HttpLayer) -> None:
        end = self.time.now + self.patience
        while self._queue or self.time.advance(end):
            if not self._queue:
                continue
            for command in list(layer.handle_event(self._queue.popleft())):
                await self._perform(command)

    async def _perform(self, command: commands.Command) -> None:
        match command:
            case commands.StartHook():
                await self._hook(command)
                if command.blocking:
                    self._queue.appendleft(events.HookCompleted(command))
            case commands.OpenConnection():
                self._connect(command)
            case commands.SendData() if command.connection is self._client:
                self.to_client += command.data
            case commands.SendData():
                self.to_server += command.data
                self._answer(command.connection)
            case commands.CloseConnection():
                self.closed.append(command.connection)
                command.connection.state = ConnectionState.CLOSED

    def _connect(self, command: commands.OpenConnection) -> None:
        self.upstream = command.connection
        error = self._connect_error
        if isinstance(error, list):
            error = error.pop(0) if error else None
        if error == "hangs":
            return
        if error:
            command.connection.error = error
        else:
            command.connection.state = ConnectionState.OPEN
            command.connection.peername = (LOCAL, self._port)
        self._queue.appendleft(events.OpenConnectionCompleted(command, error))

    def _answer(self, to: connection.Connection) -> None:
        try:
            answer = self._server(self.to_server)
        except ConnectionError:
            to.state = ConnectionState.CLOSED
            self._queue.append(events.ConnectionClosed(to))
            return
        if answer is not None:
            pieces = answer if isinstance(answer, tuple) else (answer,)
            for number, piece in enumerate(pieces):
                self._come(events.DataReceived(to, piece), number * self.pace)
            if self.break_after_answer:
                self._queue.append(events.ConnectionClosed(to))

    def _come(self, event: events.Event, seconds: float) -> None:
        if seconds:
            self.time.later(seconds, lambda: self._queue.append(event))
        else:
            self._queue.append(event)

    async def _hook(self, command: commands.StartHook) -> None:
        self.hooks.append(command.name)
        data = command.args()[0]
        if isinstance(data, http.HTTPFlow) and data not in self.flows:
            self.flows.append(data)
        for addon in (*self.addons.on_the_way, *self.others):
            handler = getattr(addon, command.name, None)
            result = handler(data) if handler else None
            if inspect.isawaitable(result):
                await result


@contextmanager
def broken(owner: Any, name: str):  # type: ignore[no-untyped-def]
    """Make `owner.name` raise for a while."""
    original = getattr(owner, name)

    def raising(*_: Any, **__: Any) -> Any:
        raise RuntimeError("sabotaged")

    setattr(owner, name, raising)
    try:
        yield
    finally:
        setattr(owner, name, original)
