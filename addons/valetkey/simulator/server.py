"""The simulator as a server: listens, remembers what it saw, and is told over HTTP what should go wrong."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from .app import App
from .counts import Counts
from .credentials import carried
from .faults import Faults, parse_fault
from .transports import serve_connection
from .wire_types import Piece, Request, Script, Seen

CONTROL = "/_simulator/"
REMEMBERED = 10_000
"""Requests that are remembered; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a server's certificate and key."""

    cert: Path
    key: Path


class Simulator:
    """A provider that speaks all formats. `keys` are the keys taken per provider; None takes whatever is no dummy.

    With `record` it remembers the requests. `seed` decides what faults with a chance strike.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: TlsFiles | None = None,
        keys: Mapping[str, Collection[str]] | None = None,
        record: bool = True,
        seed: int = 0,
    ) -> None:
        self.seen: deque[Seen] = deque(maxlen=REMEMBERED)
        self._host, self.port, self._tls, self._record = host, port, tls, record
        self._app = App(keys, seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def faults(self) -> Faults:
        """What goes wrong."""
        return self._app.faults

    @property
    def counts(self) -> Counts:
        """What it has done."""
        return self._app.counts

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._tasks)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    async def start(self) -> None:
        """Listen; with port 0 on a free one, which `port` then names."""
        context = _context(self._tls) if self._tls else None
        self._server = await asyncio.start_server(self._connected, self._host, self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break what still runs."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await serve_connection(reader, writer, self._answer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    def _answer(self, request: Request) -> Script:
        if request.path.startswith(CONTROL):
            return self._control(request, request.path.removeprefix(CONTROL))
        if self._record:
            self.seen.append(_seen(request))
        return self._app.answer(request)

    def _control(self, request: Request, word: str) -> Script:
        match request.method, word:
            case "GET", "health":
                return _json(200, {"status": "ok"})
            case "GET", "seen":
                return _json(200, [_shown(seen) for seen in self.seen])
            case "GET", "counts":
                return _json(200, self.counts.shown())
            case "DELETE", "counts":
                self.counts.clear()
            case "DELETE", "seen":
                self.seen.clear()
            case "DELETE", "faults":
                self.faults.clear()
            case "POST", "faults":
                try:
                    self.faults.append(parse_fault(request.body.decode()))
                except ValueError as error:
                    return _json(400, {"error": str(error)})
            case _:
                return _json(404, {"error": f"there is no {request.method} {request.path}"})
        return _json(200, {"status": "ok"})


@contextmanager
def run_in_thread(**options: Any) -> Iterator[Simulator]:
    """A running simulator in a thread with a loop of its own; takes the options of `Simulator`."""
    simulator = Simulator(**options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="valetkey simulator", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(simulator.start(), loop).result(10)
        try:
            yield simulator
        finally:
            asyncio.run_coroutine_threadsafe(simulator.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.cert, tls.key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = _remember_sni
    return context


def _remember_sni(tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
    tls.valetkey_sni = name  # type: ignore[attr-defined]


def _seen(request: Request) -> Seen:
    return Seen(
        time.time(), request.host, request.sni, request.protocol, request.method, request.path, request.headers,
        request.body, carried(request),
    )  # fmt: skip


def _shown(seen: Seen) -> dict[str, Any]:
    return asdict(seen) | {"body": seen.body.decode("utf-8", "replace")}


def _json(status: int, document: Any) -> Script:
    return Script(status, [("content-type", "application/json")], [Piece(json.dumps(document).encode())])
