"""An agent that speaks HTTP/3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from .roads import PATIENCE, Answer


class Http3(QuicConnectionProtocol):
    """One connection with as many calls at once as one likes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http = H3Connection(self._quic)
        self._heads: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._ends: dict[int, asyncio.Event] = {}
        self._begun = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        """Collect what comes."""
        for each in self._http.handle_event(event):
            stream = each.stream_id  # type: ignore[attr-defined]
            if isinstance(each, HeadersReceived):
                self._heads[stream] |= {name.decode(): value.decode() for name, value in each.headers}
            elif isinstance(each, DataReceived):
                self._bodies[stream] += each.data
                self._begun.set()
            if each.stream_ended:  # type: ignore[attr-defined]
                self._ends[stream].set()

    async def ask(self, authority: str, path: str, body: object, headers: Mapping[str, str]) -> Answer:
        """One POST."""
        stream = self._quic.get_next_available_stream_id()
        self._heads[stream], self._bodies[stream], self._ends[stream] = {}, bytearray(), asyncio.Event()
        data = json.dumps(body).encode()
        pseudo = {":method": "POST", ":scheme": "https", ":authority": authority, ":path": path}
        fields = pseudo | {"content-type": "application/json", "content-length": str(len(data))} | dict(headers)
        self._http.send_headers(stream, [(name.encode(), value.encode()) for name, value in fields.items()])
        self._http.send_data(stream, data, end_stream=True)
        self.transmit()
        await asyncio.wait_for(self._ends[stream].wait(), PATIENCE)
        head = self._heads[stream]
        return Answer(int(head[":status"]), head, bytes(self._bodies[stream]))

    async def begins(self) -> None:
        """Wait for the first piece of a body."""
        await asyncio.wait_for(self._begun.wait(), PATIENCE)

    def cancel_all(self) -> None:
        """Reset every stream that is still open."""
        for stream, end in self._ends.items():
            if not end.is_set():
                self._quic.reset_stream(stream, 0x10C)  # H3_REQUEST_CANCELLED
                self._quic.stop_stream(stream, 0x10C)
        self.transmit()


@asynccontextmanager
async def http3(port: int, ca: Path, name: str = "localhost") -> AsyncIterator[Http3]:
    """A connection to this machine, its certificate verified for `name`."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], cafile=str(ca), server_name=name)
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Http3) as connection:
        assert isinstance(connection, Http3)
        yield connection
