"""A tunnel whose connection goes to what is inside: what goes through is the same as with the layers that made it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mitmproxy import connection
from mitmproxy.connection import ConnectionState
from mitmproxy.http import Response
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HttpConnectHook, HTTPMode

from valetkey.proxy import driving, tunnelling

CONNECT = b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n"
OPTIONS = SimpleNamespace(
    proxy_debug=False, connection_strategy="lazy", validate_inbound_headers=True, stream_large_bodies=None, body_size_limit=None,
    keep_host_header=False,
)  # fmt: skip


class Inside(layer.Layer):
    """Does as the data say."""

    def _handle_event(self, event):
        if isinstance(event, events.DataReceived):
            match event.data:
                case b"defect":
                    raise ZeroDivisionError
                case b"half":
                    yield commands.CloseTcpConnection(self.context.client, half_close=True)
                case b"close":
                    yield commands.CloseConnection(self.context.client)
                case b"hook":
                    reply = yield HttpConnectHook(None)
                    yield commands.SendData(self.context.client, b"hooked %a" % reply)
                case data:
                    yield commands.SendData(self.context.client, data.upper())
        elif isinstance(event, events.ConnectionClosed):
            yield commands.Log("left")


class World:
    def __init__(self, mode=HTTPMode.regular, answer=lambda flow: None):
        self.client = connection.Client(peername=("192.0.2.1", 1), sockname=("192.0.2.2", 2), state=ConnectionState.OPEN)
        self.context = context.Context(self.client, OPTIONS)
        self.mode, self.answer, self.out = mode, answer, []
        self.layer = self.first = modes.HttpProxy(self.context)
        self.give(events.Start())
        self.give(events.DataReceived(self.client, CONNECT))

    def give(self, event):
        pending = [event]
        while pending:
            for command in self.layer.handle_event(pending.pop(0)):
                if isinstance(command, layer.NextLayerHook):
                    nothing_yet = not any(isinstance(each, http_layers.HttpLayer) for each in self.context.layers)
                    inside = command.data.context
                    command.data.layer = http_layers.HttpLayer(inside, self.mode) if nothing_yet else Inside(inside)
                    self.outer = getattr(self, "outer", command.data.layer)
                elif isinstance(command, HttpConnectHook) and command.flow is not None:
                    self.answer(command.flow)
                if isinstance(command, commands.StartHook) and command.blocking:
                    pending.append(events.HookCompleted(command))
                elif not isinstance(command, commands.StartHook):
                    self.out.append(command)

    def step_aside(self):
        """As the stream does it, while an event goes through."""
        driving._now = driving._Round(self)
        try:
            return tunnelling.step_aside(self.outer.streams[1])
        finally:
            driving._now = None

    def through(self, *pieces):
        """What comes of bytes that go into the tunnel."""
        self.out.clear()
        for piece in pieces:
            self.give(events.DataReceived(self.client, piece))
        return [tell(command) for command in self.out]


def tell(command):
    return type(command).__name__, getattr(command, "data", None), getattr(command, "half_close", None)


def chunked(flow):
    flow.response = Response.make(200, b"", {"transfer-encoding": "chunked"})


def test_a_tunnel_steps_aside():
    assert World().step_aside()


def test_the_connection_goes_to_what_is_inside():
    world = World()
    world.step_aside()
    assert isinstance(world.layer, tunnelling.Tunnel)


@pytest.mark.parametrize("pieces", [[b"a"], [b"a", b"b"], [b"hook"], [b"half"], [b"close"], [b"a", b"hook", b"b"]])
def test_what_goes_through_is_the_same(pieces):
    ours, theirs = World(), World()
    assert ours.step_aside()
    assert ours.through(b"begin", *pieces) == theirs.through(b"begin", *pieces)


def test_the_end_of_the_agent_reaches_what_is_inside():
    world = World()
    world.step_aside()
    world.through(b"a")
    world.out.clear()
    world.give(events.ConnectionClosed(world.client))
    assert [tell(command)[0] for command in world.out] == ["Log"]


def test_a_defect_inside_closes_the_connection():
    world = World()
    world.step_aside()
    assert world.through(b"defect") == [("CloseConnection", None, None)]


@pytest.mark.parametrize("mode", [HTTPMode.transparent, HTTPMode.upstream])
def test_other_modes_stay_as_they_are(mode):
    world = World()
    world.outer.mode = mode
    assert not world.step_aside()


def test_a_tunnel_that_is_framed_stays_as_it_is():
    assert not World(answer=chunked).step_aside()


def test_a_tunnel_in_another_connection_stays_as_it_is():
    world = World()
    world.outer.streams[1].context.layers.insert(1, None)
    assert not world.step_aside()


def test_where_we_do_not_drive_a_tunnel_stays_as_it_is():
    world = World()
    assert not tunnelling.step_aside(world.outer.streams[1])


def test_a_layer_that_was_passed_by_is_known():
    world = World()
    before = tunnelling.is_bypassed(world.outer)
    world.step_aside()
    assert (before, tunnelling.is_bypassed(world.outer)) == (False, True)
