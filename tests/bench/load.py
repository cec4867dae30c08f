"""Makes the calls: a program of its own, on bare asyncio protocols, that takes orders as lines of JSON and answers with figures.

It needs nothing but the standard library. A closed loop: each connection makes its next call when the last answer has ended.
Connections of a keep-alive load are opened, and used once, before the clock starts.
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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

_CONTENT = b"valet"
_END = b"0\r\n\r\n"
_EVENT = b"data: "
_CARRY = max(len(_END), len(_EVENT), len(_CONTENT)) - 1
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_OPENING = 32
"""Connections that are opened at a time: mitmproxy's listening socket has room for a hundred."""
PATIENCE = 90.0
"""Seconds that an order may take longer than it says."""


@dataclass(frozen=True)
class Order:
    """What to do. `pids` names the processes whose CPU time is wanted: `mock`, and `proxy` where there is one.

    `via`: `plain` HTTP, `tls`, or `connect` (CONNECT, then TLS). `request`: bytes of the body. `events`: of a stream; 0 asks for a
    whole answer. `pace`: ms between events. It ends after `seconds` or `calls`, what comes first (0: no bound). With `hold`, each
    connection makes one call, the streams stay open after so many events, and the RSS of `proxy` is taken when all are.
    """

    via: Literal["plain", "tls", "connect"]
    port: int
    host: str
    ca: str
    pids: Mapping[str, int]
    connections: int = 1
    request: int = 500
    events: int = 0
    pace: int = 0
    hold: int = 0
    keep_alive: bool = True
    seconds: float = 0.0
    calls: int = 0

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    def body(self) -> bytes:
        """A chat request, of as many bytes as asked for, or a few more."""
        stream = {"stream": True} if self.events else {}
        text = f"bench {self.events} {self.pace} {self.hold}"
        bare = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]} | stream)
        text += " the quick brown fox" * -(-max(0, self.request - len(bare)) // 20)
        return json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]} | stream).encode()

    def message(self) -> bytes:
        """The request as it goes on the wire."""
        body = self.body()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self.host}\r\naccept: application/json\r\naccept-encoding: identity\r\n"
            "user-agent: OpenAI/Python 2.8.0\r\nauthorization: Bearer sk-dummy\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


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
        self.error = self.error or text[:500]

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

    def run(self, tally: Tally) -> asyncio.Future[None]:
        """Call at least once, and again as long as `tally` goes on."""
        self.tally, self._done = tally, self._loop.create_future()
        self.call(time.perf_counter())
        return self._done

    def call(self, begun: float) -> None:
        """Send the request. `begun`: the time from which it counts."""
        self._begun, self._last = begun, 0.0
        self._head, self._left, self._carry, self._seen, self._has_content = b"", -1, b"", 0, False
        self.tally.begun += 1
        self.transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._left < 0 and self._head is not None:
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
        """Count events, also those whose first bytes came before."""
        if self._last:
            self.tally.gaps.append(now - self._last)
        self._last = now
        text = self._carry + data
        self._seen += text.count(_EVENT) - self._carry.count(_EVENT)
        if not self._has_content and _CONTENT in text:
            self._has_content = True
            self.tally.first_content.append(now - self._begun)
            if not self.contents.done():
                self.contents.set_result(None)

    def _end(self, now: float) -> None:
        # The event before the content, the finish and [DONE] come on top.
        if self._events and self._seen < self._events + 2:
            self._fail(f"{self._seen} of {self._events} events")
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
            await asyncio.gather(*(caller.run(self._tally) for caller in self._callers))
        else:
            await asyncio.gather(*(self._short_lived() for _ in range(self._order.connections)))
        self._conclude(time.perf_counter() - begun, before)

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
            # One call, which begins with its connection.
            once = Tally()
            done = caller.run(once)
            caller._begun = begun
            await done
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


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process and its threads have used; 0 where the system does not tell."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9 or _ticks_of(pid)
    except OSError:
        return _ticks_of(pid)


def _ticks_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_of(pid: int) -> float:
    """Megabytes (10^6 bytes) that a process holds in memory; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


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
