from __future__ import annotations

import pytest
from mitmproxy import connection, http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.websocket import WebSocketMessageInjected
from mitmproxy.test import taddons, tflow
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage
from wsproto.frame_protocol import Opcode

from support import making
from valetkey.errors import StartError
from valetkey.proxy import relay


class Played:
    """A connection in the layer, with both of its ends."""

    def __init__(self, limit=1000):
        self.agent, self.provider = Connection(ConnectionType.CLIENT), Connection(ConnectionType.SERVER)
        self.hooks = []
        self.closed = []
        self.flow = making.flow("api.openai.com", "/v1/responses", b"")
        self.flow.response = http.Response.make(101)
        self.flow.websocket = WebSocketData()
        relay.install(lambda: limit)
        with taddons.context() as context:
            self.context = Context(tflow.tclient_conn(), context.options)
            self.context.server = connection.Server(address=("provider", 443))
            self.context.server.state = ConnectionState.OPEN
            self.layer = websocket.WebsocketLayer(self.context, self.flow)
        relay.uninstall()
        self.play(events.Start())

    def play(self, event):
        for command in self.layer.handle_event(event):
            match command:
                case commands.StartHook():
                    self.hooks.append(command.name)
                    self.play(events.HookCompleted(command))
                case commands.SendData():
                    (self.agent if command.connection is self.context.client else self.provider).receive_data(command.data)
                case commands.CloseConnection():
                    self.closed.append("agent" if command.connection is self.context.client else "provider")
        return self

    def says(self, data, finished=True, by="provider"):
        kind = TextMessage if isinstance(data, str) else BytesMessage
        end = self.provider if by == "provider" else self.agent
        of = self.context.server if by == "provider" else self.context.client
        return self.play(events.DataReceived(of, end.send(kind(data, message_finished=finished))))

    def put(self, text, from_client=False):
        return self.play(WebSocketMessageInjected(self.flow, WebSocketMessage(Opcode.TEXT, from_client, text.encode())))

    @staticmethod
    def heard(end):
        """The messages and the close that an end got."""
        found, parts = [], []
        for event in end.events():
            if isinstance(event, Message):
                parts.append(event.data)
                if event.message_finished:
                    found.append(type(event.data)().join(parts))
                    parts = []
            elif isinstance(event, CloseConnection):
                found.append((int(event.code), event.reason))
        return found


def test_a_message_passes():
    assert Played.heard(Played().says("hello").agent) == ["hello"]


@pytest.mark.parametrize(("part", "rest"), [("hel", "lo"), (b"\x00\x01", b"\x02")])
def test_what_is_put_in_between_does_not_mix_with_a_part_of_a_message(part, rest):
    played = Played().says(part, finished=False).put("error").says(rest)
    assert Played.heard(played.agent) == ["error", part + rest]


def test_a_part_of_the_agents_message_does_not_mix_either():
    played = Played().says("hel", finished=False, by="agent").put("error", from_client=True).says("lo", by="agent")
    assert Played.heard(played.provider) == ["error", "hello"]


@pytest.mark.parametrize("side", ["agent", "provider"])
def test_a_close_of_ours_has_its_reason_for_both_sides(side):
    played = Played()
    played.play(relay.closing(played.flow, "denied: no"))
    assert Played.heard(getattr(played, side)) == [(1008, "denied: no")]


def test_a_close_of_ours_comes_also_within_a_message():
    played = Played().says("hel", finished=False)
    played.play(relay.closing(played.flow, "denied: no"))
    assert Played.heard(played.agent) == [(1008, "denied: no")]


def test_a_close_of_ours_is_an_end_like_others():
    played = Played()
    played.play(relay.closing(played.flow, "denied: no")).play(relay.closing(played.flow, "again"))
    assert (played.hooks, played.closed) == (["websocket_start", "websocket_end"], ["provider", "agent"])


@pytest.mark.parametrize("reason", ["r" * 500, "ü" * 100], ids=["ascii", "others"])
def test_a_long_reason_is_cut_to_what_a_close_holds(reason):
    played = Played()
    played.play(relay.closing(played.flow, reason))
    assert 0 < len(Played.heard(played.agent)[0][1].encode()) <= 120


def test_a_provider_that_breaks_off_is_no_normal_end_for_the_agent():
    played = Played()
    played.play(events.ConnectionClosed(played.context.server))
    assert Played.heard(played.agent) == [(1011, "valetkey: the provider broke off the connection")]


def test_a_provider_that_breaks_off_ends_the_connection_once():
    played = Played()
    played.play(events.ConnectionClosed(played.context.server)).play(events.ConnectionClosed(played.context.client))
    assert played.hooks == ["websocket_start", "websocket_end"]


def test_an_agent_that_leaves_ends_the_connection():
    played = Played()
    played.play(events.ConnectionClosed(played.context.client))
    assert (played.hooks, played.flow.websocket.closed_by_client) == (["websocket_start", "websocket_end"], True)


def test_a_close_in_good_order_passes_as_it_is():
    played = Played()
    played.play(events.DataReceived(played.context.server, played.provider.send(CloseConnection(1000, "bye"))))
    assert Played.heard(played.agent) == [(1000, "bye")]


@pytest.mark.parametrize("by", ["agent", "provider"])
def test_a_message_that_grows_too_large_ends_the_connection(by):
    played = Played(limit=1000).says("x" * 900, finished=False, by=by).says("x" * 200, finished=False, by=by)
    assert Played.heard(played.agent)[-1] == (1009, "valetkey: a message is larger than gateway.max_body (1000 bytes)")


@pytest.mark.parametrize("by", ["agent", "provider"])
def test_threat_82_a_message_that_is_large_once_it_is_whole_ends_the_connection(by):
    played = Played(limit=1000)
    played.says("x" * 5000, by=by)  # in one piece, as a compressed one comes
    assert (played.heard(getattr(played, by))[-1][0], "websocket_message" in played.hooks, played.flow.websocket.messages) == (
        1009, False, [],
    )  # fmt: skip


@pytest.mark.parametrize("by", ["agent", "provider"])
def test_threat_82_a_message_of_countless_empty_frames_ends_the_connection(monkeypatch, by):
    monkeypatch.setattr(relay, "_MOST_FRAMES", 5)
    played = Played()
    for _ in range(6):
        played.says(b"", finished=False, by=by)
    assert Played.heard(getattr(played, by))[-1][0] == 1009


def test_a_close_behind_too_many_frames_ends_the_connection_once(monkeypatch):
    monkeypatch.setattr(relay, "_MOST_FRAMES", 5)
    played = Played()
    frames = b"".join(played.provider.send(BytesMessage(b"", message_finished=False)) for _ in range(6))
    played.play(events.DataReceived(played.context.server, frames + played.provider.send(CloseConnection(1000))))
    assert played.hooks.count("websocket_end") == 1


def test_threat_82_a_frame_that_is_still_coming_is_kept_in_pieces(monkeypatch):
    monkeypatch.setattr(relay, "_PIECE", 100)
    played = Played(limit=10_000)
    data = played.provider.send(TextMessage("x" * 3000))
    for at in range(0, len(data), 200):
        played.play(events.DataReceived(played.context.server, data[at : at + 200]))
        assert max(map(len, played.layer.server_ws.frame_buf)) <= 300
    assert Played.heard(played.agent) == ["x" * 3000]


def test_many_messages_are_no_large_one():
    played = Played(limit=1000)
    for _ in range(5):
        played.says("x" * 900)
    assert len(Played.heard(played.agent)) == 5


def test_another_mitmproxy_is_refused(monkeypatch):
    monkeypatch.setattr(relay, "_USED", ("start", "no_such_thing"))
    with pytest.raises(StartError):
        relay.install(lambda: 1)


def test_mitmproxys_own_layer_is_given_back():
    original = websocket.WebsocketLayer
    relay.install(lambda: 1)
    relay.uninstall()
    assert websocket.WebsocketLayer is original
