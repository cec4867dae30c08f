"""WebSockets on a connection that has switched to them. The protocol itself is `wsproto`, which mitmproxy brings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import LocalProtocolError, generate_accept_token

from .conversations import Body, Conversation, heard, said
from .wire_types import Fields, Request

_CHUNK = 65536
_FRAGMENT = 300
"""Bytes of a fragment: whatever is longer comes in several, as it may."""


class Broken(Exception):
    """The conversation ends here, without a close, because it was told to."""


def is_asked_for(request: Request) -> bool:
    """Whether a request wants to become a WebSocket."""
    return (request.header("upgrade") or "").lower() == "websocket" and request.header("sec-websocket-key") is not None


def handshake(request: Request) -> tuple[Fields, list[PerMessageDeflate]]:
    """The headers of the 101, and the extensions that are in use from then on."""
    key = (request.header("sec-websocket-key") or "").encode()
    headers = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", generate_accept_token(key).decode())]
    first = (request.header("sec-websocket-protocol") or "").partition(",")[0].strip()
    if first:
        headers.append(("sec-websocket-protocol", first))
    offer = (request.header("sec-websocket-extensions") or "").partition(",")[0].strip()
    if not offer.startswith("permessage-deflate"):
        return headers, []
    deflate = PerMessageDeflate()
    accepted = deflate.accept(offer)
    more = f"; {accepted}" if isinstance(accepted, str) and accepted else ""
    return [*headers, ("sec-websocket-extensions", f"permessage-deflate{more}")], [deflate]


class Socket:
    """One WebSocket. `left` is what came right after the handshake."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        conversation: Conversation,
        extensions: list[PerMessageDeflate],
        left: bytes = b"",
    ) -> None:
        self._reader, self._writer, self._conversation = reader, writer, conversation
        self._connection = Connection(ConnectionType.SERVER, list(extensions), left)
        self._parts: list[str | bytes] = []
        self._sent = 0

    async def run(self) -> None:
        """Talk until one side closes. Raises Broken where the connection is to be cut."""
        await self._say(self._conversation.greet())
        while True:
            for event in self._connection.events():
                if not await self._handle(event):
                    return
            data = await self._reader.read(_CHUNK)
            if not data:
                return
            self._connection.receive_data(data)

    async def _handle(self, event: Event) -> bool:
        """Whether the talk goes on."""
        match event:
            case Message():
                self._parts.append(event.data)
                if event.message_finished:
                    parts, self._parts = self._parts, []
                    whole = b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in parts)
                    if isinstance(event, BytesMessage) and self._conversation.fault.echo:
                        await self._write(BytesMessage(bytearray(whole)))
                    else:
                        await self._say(self._conversation.hear(heard(whole)))
            case Ping():
                await self._write(event.response())
            case CloseConnection():
                try:
                    await self._write(event.response())
                except LocalProtocolError:
                    return False  # closed by both at once
                return False
        return True

    async def _say(self, events: Iterator[Body]) -> None:
        fault = self._conversation.fault
        for event in events:
            if self._sent == fault.cut:
                raise Broken
            if fault.delay:
                await asyncio.sleep(fault.delay)
            await self._message(said(event))
            self._sent += 1

    async def _message(self, data: bytes) -> None:
        """Send a message, in fragments where it is long."""
        for at in range(0, len(data), _FRAGMENT):
            part, last = data[at : at + _FRAGMENT], at + _FRAGMENT >= len(data)
            if self._conversation.is_binary:
                await self._write(BytesMessage(bytearray(part), message_finished=last))
            else:
                await self._write(TextMessage(part.decode(), message_finished=last))

    async def _write(self, event: Event) -> None:
        self._writer.write(self._connection.send(event))
        await self._writer.drain()
