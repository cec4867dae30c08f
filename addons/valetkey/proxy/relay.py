"""mitmproxy's WebSocket layer, with what it lacks.

A connection can be closed with a reason at any time; a provider that breaks off is no normal end for the agent; a message that is
put in between does not mix with one of which only a part has come; and a message has a bound, as bodies have.
`flow_done` of mitmproxy's `HttpStream` looks the class up by its module name, so `install` replaces that name and `uninstall`
puts it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.websocket import WebsocketConnection, WebsocketEndHook, WebsocketLayer, WebSocketMessageInjected
from mitmproxy.websocket import WebSocketMessage
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection
from wsproto.frame_protocol import CloseReason, Opcode

from ..errors import StartError

_ORIGINAL = WebsocketLayer
_USED = ("start", "relay_messages", "done")
_OPEN = (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING)
_LONGEST_REASON = 120
"""Bytes of a reason that a close frame has room for (https://www.rfc-editor.org/rfc/rfc6455#section-5.5), less the code."""
_PIECE = 64 * 1024
"""Bytes of a frame that is still coming after which the next ones are kept apart: adding to what is there copies it."""
_MOST_FRAMES = 10_000
"""Most frames of one message; empty ones have no size."""
_BROKE_OFF = "valetkey: the provider broke off the connection"


def install(limit: Callable[[], int]) -> None:
    """Make every WebSocket from now on one of ours. `limit` gives the bytes that a message may have. Raises StartError when this
    mitmproxy's internals differ."""
    missing = [name for name in _USED if not hasattr(_ORIGINAL, name)]
    if missing:
        raise StartError(f"this mitmproxy has no WebsocketLayer.{missing[0]}; install a version >=12.2.2,<14")
    websocket.WebsocketLayer = type("BoundRelay", (Relay,), {"limit": staticmethod(limit)})  # type: ignore[assignment,misc]


def uninstall() -> None:
    """Give mitmproxy its own class back."""
    websocket.WebsocketLayer = _ORIGINAL  # type: ignore[misc]


@dataclass
class Closing(WebSocketMessageInjected):
    """Close the connection, to both sides."""

    code: int = CloseReason.POLICY_VIOLATION


def closing(flow: http.HTTPFlow, reason: str) -> Closing:
    """The event that closes a connection because of the rules, with the reason for the agent."""
    return Closing(flow, WebSocketMessage(Opcode.TEXT, False, reason.encode()))


class Relay(WebsocketLayer):
    """One WebSocket between agent and provider."""

    limit: ClassVar[Callable[[], int]]

    def relay_messages(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does, but for what this module is about."""
        if isinstance(event, Closing):
            yield from self._end(event.code, event.message.text)
        elif isinstance(event, WebSocketMessageInjected):
            yield from self._put_between(event)
        elif isinstance(event, events.ConnectionClosed) and event.connection != self.context.client:
            self.server_ws.receive_data(None)
            yield from self._end(CloseReason.INTERNAL_ERROR, _BROKE_OFF)
        else:
            for command in super().relay_messages(event):
                if isinstance(command, websocket.WebsocketMessageHook) and self._is_too_large():
                    yield from self._end(CloseReason.MESSAGE_TOO_BIG, _too_large(type(self).limit()))
                    return
                yield command
            yield from self._check_size()

    def _is_too_large(self) -> bool:
        """Whether the message that came last is; it goes. One that was compressed may come whole in one piece."""
        assert self.flow.websocket is not None
        messages = self.flow.websocket.messages
        if len(messages[-1].content) <= type(self).limit():
            return False
        del messages[-1]
        return True

    def _put_between(self, event: WebSocketMessageInjected) -> layer.CommandGenerator[None]:
        side: WebsocketConnection = self.client_ws if event.message.from_client else self.server_ws
        begun, side.frame_buf = side.frame_buf, [b""]
        yield from super().relay_messages(event)
        side.frame_buf = begun

    def _check_size(self) -> layer.CommandGenerator[None]:
        if self._handle_event == self.done:
            return  # closed, with a part of a message behind it
        limit, sides = type(self).limit(), (self.client_ws, self.server_ws)
        for side in sides:
            if len(side.frame_buf[-1]) > _PIECE:
                side.frame_buf.append(b"")
        if any(sum(map(len, side.frame_buf)) > limit for side in sides):
            text = _too_large(limit)
        elif any(len(side.frame_buf) > _MOST_FRAMES for side in sides):
            text = f"valetkey: a message has more than {_MOST_FRAMES} frames"
        else:
            return
        for side in sides:
            side.frame_buf = [b""]
        yield from self._end(CloseReason.MESSAGE_TOO_BIG, text)

    def _end(self, code: int, reason: str) -> layer.CommandGenerator[None]:
        """Close both sides, for a reason that neither of them gave."""
        told = self.flow.websocket
        assert told is not None
        told.timestamp_end, told.closed_by_client = time.time(), False
        told.close_code, told.close_reason = code, _short(reason)
        for side in (self.server_ws, self.client_ws):
            if side.state in _OPEN:
                yield side.send2(CloseConnection(code, told.close_reason))
            yield commands.CloseConnection(side.conn)
        yield WebsocketEndHook(self.flow)
        self.flow.live = False
        self._handle_event = self.done


def _too_large(limit: int) -> str:
    return f"valetkey: a message is larger than gateway.max_body ({limit} bytes)"


def _short(reason: str) -> str:
    return reason.encode()[:_LONGEST_REASON].decode("utf-8", "ignore")
