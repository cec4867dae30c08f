"""A CONNECT tunnel without the layers that made it.

mitmproxy leads all that goes through a tunnel over its outer HTTP layers, which do nothing more but pass it on, through a dozen
generators each way. Once a tunnel is made, its connection goes to what is inside.
"""

from __future__ import annotations

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.http._http1 import Http1Connection

from . import driving, guard


class Tunnel:
    """In the place of the first layer of a connection."""

    def __init__(self, context: Context, inside: layer.Layer) -> None:
        self.context = context
        self._inside = inside

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the layers that were here, also with a defect inside: the connection is closed, or its agent would wait."""
        return guard.closing(self._through(event), self.context.client)

    def _through(self, event: events.Event) -> layer.CommandGenerator[None]:
        for command in self._inside.handle_event(event):
            # In a tunnel mitmproxy closes a direction only with the other.
            yield commands.CloseConnection(command.connection) if isinstance(command, commands.CloseTcpConnection) else command


def step_aside(stream: http_layers.HttpStream) -> bool:
    """Let the connection of a stream that is a tunnel go to what is inside; whether it does from the next event on."""
    first, *between = stream.context.layers
    inside, answer = stream.child_layer, stream.flow.response
    if type(first) is not modes.HttpProxy or len(between) != 2 or inside is None or answer is None:
        return False
    parent = between[0]
    if not isinstance(parent, http_layers.HttpLayer) or parent.mode is not HTTPMode.regular or len(parent.streams) != 1:
        return False
    if "transfer-encoding" in answer.headers or stream.flow.request.method != "CONNECT":
        return False
    reader = parent.connections.get(stream.context.client)
    if not isinstance(reader, Http1Connection) or reader.state != reader.passthrough or reader.buf:
        return False
    if not driving.replace_first(first, Tunnel(stream.context, inside)):
        return False
    parent.is_bypassed = True  # type: ignore[attr-defined]
    return True


def is_bypassed(parent: http_layers.HttpLayer) -> bool:
    """Whether events do not come through this layer any more, so that it must not wait for one."""
    return getattr(parent, "is_bypassed", False)
