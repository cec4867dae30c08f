"""Makes the calls: a program of its own, on bare asyncio protocols, that takes orders as lines of JSON and answers with figures.

A closed loop: each connection makes its next call when the last answer has ended. Connections of a keep-alive load are opened,
and used once, before the clock starts.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import ssl
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from .orders import Order
from .readings import cpu_of, rss_of

_CONTENT = b"valet"
"""Once in every content event."""
_END = b"0\r\n\r\n"
_CARRY = 4
"""Bytes of one piece that are looked at again with the next: one less than either has."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_FRAME = re.compile(rb"\r\n[0-9a-fA-F]+\r\n")
_OPENING = 32
"""Connections that are opened at a time: mitmproxy's listening socket has room for a hundred."""
PATIENCE = 90.0
"""Seconds that an order may take longer than it says."""


@dataclass
class Tally:
    """What was seen. Times are seconds here, and milliseconds in the figures."""

    until: float = 0.0
    limit: int = 0
    begun: int = 0
    latency: list[float] = field(default_factory=list)
    first_byte: list[float] = field(default_factory=list)
    first_content: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    errors: int = 0
    error: str = ""

    def goes_on(self) -> bool:
        """Whether another call may begin."""
        return time.perf_counter() < self.until and not (self.limit and self.begun >= self.limit)

    def failed(self, text: str) -> None:
        """Count a call that went wrong; the first one is told."""
        self.errors += 1
        self.error = self.error or " ".join(text.split())[:500]

    def figures(self) -> dict[str, Any]:
        """Counts, and times in ms."""
        names = ("latency", "first_byte", "first_content", "gaps")
        values: dict[str, list[float]] = {name: sorted(getattr(self, name)) for name in names}
        times = {
            "p50": _at(values["latency"], 0.50),
            "p99": _at(values["latency"], 0.99),
            "first_byte": _at(values["first_byte"], 0.50),
            "first_content": _at(values["first_content"], 0.50),
            "first_content_p99": _at(values["first_content"], 0.99),
            "gap_p99": _at(values["gaps"], 0.99),
        }
        return {"answered": len(self.latency), "errors": self.errors, "error": self.error} | times


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else None


def _contents(body: bytes) -> int:
    """How many content events a chunked body holds. Events hold no CR: what stands between two is a chunk's frame."""
    return _FRAME.sub(b"", b"\r\n" + body).count(_CONTENT)


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, message: bytes, events: int) -> None:
        self._message, self._events = message, events
        self._done: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.tally = Tally()
        self.contents: asyncio.Future[None] = self._loop.create_future()
        """Done with the first content event."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def run(self, tally: Tally, begun: float | None = None) -> asyncio.Future[None]:
        """Call at least once, and again as long as `tally` goes on. The first call counts from `begun`, else from now."""
        self.tally, self._done = tally, self._loop.create_future()
        self.call(time.perf_counter() if begun is None else begun)
        return self._done

    def call(self, begun: float) -> None:
        """Send the request. `begun`: the time from which it counts."""
        self._begun, self._last = begun, 0.0
        self._head: bytes | None = b""
        self._left, self._carry, self._seen = -1, b"", 0
        self._pieces: list[bytes] = []
        self.tally.begun += 1
        self.transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._head is not None:
            data = self._read_head(data, now)
        if self._head is None and data:
            self._read_body(data, now)

    def _read_head(self, data: bytes, now: float) -> bytes:
        """Gives what belongs to the body."""
        assert self._head is not None
        if not self._head:
            self.tally.first_byte.append(now - self._begun)
        head, separator, body = (self._head + data).partition(b"\r\n\r\n")
        if not separator:
            self._head = head
            return b""
        if head[9:12] != b"200":
            self._fail((head + b" " + body).decode(errors="replace"))
            return b""
        length = _LENGTH.search(head)
        self._head, self._left = None, int(length[1]) if length else -1
        return body

    def _read_body(self, data: bytes, now: float) -> None:
        if self._events:
            self._look(data, now)
        if self._left >= 0:
            self._left -= len(data)
            if self._left == 0:
                self._end(now)
            return
        tail = self._carry + data
        self._carry = tail[-_CARRY:]
        if tail.endswith(_END):
            self._end(now)

    def _look(self, data: bytes, now: float) -> None:
        """Count content events, but for those that a proxy has cut in two by chunks of its own."""
        self._pieces.append(data)
        if self._last:
            self.tally.gaps.append(now - self._last)
        self._last = now
        contents = (self._carry + data).count(_CONTENT)
        if contents and not self._seen:
            self.tally.first_content.append(now - self._begun)
            if not self.contents.done():
                self.contents.set_result(None)
        self._seen += contents

    def _end(self, now: float) -> None:
        if self._seen != self._events and (exact := _contents(b"".join(self._pieces))) != self._events:
            self._fail(f"{exact} of {self._events} events")
            return
        self.tally.latency.append(now - self._begun)
        if self.tally.goes_on():
            self.call(now)
        else:
            self._finish()

    def _fail(self, text: str) -> None:
        self.tally.failed(text)
        self._finish()
        self.transport.close()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
        if not self.contents.done():
            self.contents.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self.tally.failed(f"the connection was lost: {exc!r}")
        self._finish()


class _Connecting(asyncio.Protocol):
    """Asks a proxy for a tunnel."""

    def __init__(self, host: str) -> None:
        self._host, self._answer = host, b""
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"CONNECT {self._host}:443 HTTP/1.1\r\nhost: {self._host}:443\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if b"\r\n\r\n" in self._answer and not self.open.done():
            if self._answer[9:12] == b"200":
                self.open.set_result(None)
            else:
                self.open.set_exception(ConnectionError(f"no tunnel: {self._answer[:300]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(ConnectionError(f"no tunnel: {exc!r}"))


class Session:
    """Carries out one order."""

    def __init__(self, order: Order) -> None:
        self._order, self._message = order, order.message()
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context(cafile=order.ca) if order.via != "plain" else None
        self._callers: list[Caller] = []
        self._made = 0
        self._tally = Tally()
        self._figures: dict[str, Any] = {}

    async def run(self) -> dict[str, Any]:
        """The figures; an order that cannot be carried out counts as an error."""
        try:
            async with asyncio.timeout(PATIENCE + self._order.seconds):
                await (self._hold() if self._order.hold else self._measure())
        except (OSError, TimeoutError, ssl.SSLError) as error:
            self._tally.failed(f"{type(error).__name__}: {error}")
        finally:
            await self._close()
        return self._figures | self._tally.figures() | {"calls": self._made + self._tally.begun}

    async def _measure(self) -> None:
        if self._order.keep_alive:
            await self._open_all()
            warm = Tally()
            await asyncio.gather(*(caller.run(warm) for caller in self._callers))
            self._made += warm.begun
            if warm.errors:
                self._tally.failed(warm.error)
                return
        before, begun = self._cpu(), time.perf_counter()
        self._tally.until = begun + (self._order.seconds or PATIENCE)
        self._tally.limit = self._order.calls
        if self._order.keep_alive:
            await asyncio.gather(*(self._from(number, caller) for number, caller in enumerate(self._callers)))
        else:
            await asyncio.gather(*(self._short_lived() for _ in range(self._order.connections)))
        self._conclude(time.perf_counter() - begun, before)

    async def _from(self, number: int, caller: Caller) -> None:
        """Paced streams begin one after the other, spread over the time of one: agents do not call in the same millisecond."""
        if self._order.pace:
            await asyncio.sleep(number * self._order.events * self._order.pace / 1000 / self._order.connections)
        await caller.run(self._tally)

    def _conclude(self, seconds: float, before: dict[str, float]) -> None:
        calls = max(1, len(self._tally.latency))
        spent = {name: value - before[name] for name, value in self._cpu().items()}
        self._figures = {
            "seconds": seconds,
            "rate": len(self._tally.latency) / seconds,
            "shares": {name: value / seconds for name, value in spent.items()},
            "cpu_per_call": spent["proxy"] / calls * 1000 if spent.get("proxy") else None,
        }

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_of(pid) for name, pid in self._order.pids.items()} | {"load": time.process_time()}

    async def _short_lived(self) -> None:
        while self._tally.goes_on():
            begun = time.perf_counter()
            caller = await self._open()
            once = Tally()
            await caller.run(once, begun)
            caller.transport.close()
            self._add(once)

    def _add(self, once: Tally) -> None:
        tally = self._tally
        tally.begun += once.begun
        for name in ("latency", "first_byte", "first_content", "gaps"):
            getattr(tally, name).extend(getattr(once, name))
        if once.errors:
            tally.failed(once.error)

    async def _hold(self) -> None:
        """Streams that are all open at the same time."""
        await self._open_all()
        done = [caller.run(self._tally) for caller in self._callers]
        await asyncio.gather(*(caller.contents for caller in self._callers))
        self._figures = {"rss": rss_of(self._order.pids["proxy"]), "open": len(self._tally.first_content)}
        os.kill(self._order.pids["mock"], signal.SIGUSR1)
        await asyncio.gather(*done)

    async def _open_all(self) -> None:
        places = asyncio.Semaphore(_OPENING)

        async def one() -> Caller:
            async with places:
                return await self._open()

        self._callers = await asyncio.gather(*(one() for _ in range(self._order.connections)))

    async def _open(self) -> Caller:
        order, caller = self._order, Caller(self._message, self._order.events)
        if order.via != "connect":
            name = order.host if self._tls else None
            await self._loop.create_connection(lambda: caller, "127.0.0.1", order.port, ssl=self._tls, server_hostname=name)
            return caller
        assert self._tls is not None
        transport, tunnel = await self._loop.create_connection(lambda: _Connecting(order.host), "127.0.0.1", order.port)
        await tunnel.open
        secure = await self._loop.start_tls(transport, caller, self._tls, server_hostname=order.host)
        assert secure is not None
        caller.transport = secure
        return caller

    async def _close(self) -> None:
        for caller in self._callers:
            caller.transport.abort()
        await asyncio.sleep(0)


async def carry_out(order: Order) -> dict[str, Any]:
    """Open, call, measure, close."""
    return await Session(order).run()


def main() -> None:
    """One order per line."""
    gc.freeze()
    for line in sys.stdin:
        figures = asyncio.run(carry_out(Order(**json.loads(line))))
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
