"""TLS connections read by us and by mitmproxy: the same bytes, closes and errors, however the bytes arrive."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.tls import TLSLayer
from OpenSSL import SSL

from valetkey.proxy import records
from valetkey.simulator import make_authority


@pytest.fixture(scope="module")
def server_context(tmp_path_factory):
    files = make_authority(tmp_path_factory.mktemp("tls"), ["a.example"])
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(files.cert))
    context.use_privatekey_file(str(files.key))
    context.set_alpn_select_callback(lambda *_: SSL.NO_OVERLAPPING_PROTOCOLS)
    return context


class Ours:
    """What the two methods need of a layer."""

    receive_data, tls_interact = records.receive_data, records.tls_interact

    def __init__(self, context):
        self.tls = SSL.Connection(context)
        self.tls.set_accept_state()
        self.conn = connection.Client(peername=("192.0.2.1", 1), sockname=("192.0.2.2", 2), state=connection.ConnectionState.OPEN)
        self.debug = None

    def event_to_child(self, event):
        yield SimpleNamespace(event=event)


class Theirs(Ours):
    receive_data, tls_interact = TLSLayer.receive_data, TLSLayer.tls_interact


class Pair:
    """A layer and its peer, connected."""

    def __init__(self, kind, context):
        self.layer = kind(context)
        self.peer = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        self.peer.set_connect_state()
        self.story = []
        for _ in range(3):
            for side in (self.peer, self.layer.tls):
                with contextlib.suppress(SSL.WantReadError):
                    side.do_handshake()
                self.move(self.peer, self.layer.tls)
                self.move(self.layer.tls, self.peer)

    def move(self, one, other):
        data = drained(one)
        if data:
            other.bio_write(data)

    def arrive(self, data):
        """Bytes come to the layer."""
        try:
            for command in self.layer.receive_data(data):
                self.tell(command)
        except Exception as error:
            self.story.append((type(error).__name__, str(error)))

    def tell(self, command):
        if isinstance(command, commands.SendData):
            self.peer.bio_write(command.data)
            self.story.append(("sent", command.connection is self.layer.conn))
        elif isinstance(command, commands.Log):
            self.story.append(("log", command.level, command.message))
        elif isinstance(command.event, events.DataReceived):
            self.story.append(("data", command.event.data))
        else:
            self.story.append((type(command.event).__name__, self.layer.conn.state))

    def send(self, data):
        """The layer sends; what the peer can read of it."""
        try:
            self.layer.tls.sendall(data)
        except SSL.Error as error:  # after garbage
            self.story.append(repr(error))
        for command in self.layer.tls_interact():
            self.tell(command)
        self.story.append(("peer reads", read(self.peer)))

    def play(self, steps):
        for what, size, cut in steps:
            match what:
                case "send":
                    self.send(b"a" * size)
                    continue
                case "peer sends":
                    with contextlib.suppress(SSL.Error):  # it has closed, or was told of garbage
                        self.peer.sendall(b"b" * size)
                case "peer closes":
                    with contextlib.suppress(SSL.Error):
                        self.peer.shutdown()
                case "garbage":
                    self.arrive(b"\x17\x03\x03\x00\x10" + bytes(16))
                    continue
                case "nothing":
                    self.arrive(b"")
                    continue
            data = drained(self.peer)
            for piece in (data[: cut % (len(data) + 1)], data[cut % (len(data) + 1) :]):
                if piece:
                    self.arrive(piece)
        return self.story


def drained(side):
    pieces = []
    try:
        while True:
            pieces.append(side.bio_read(65535))
    except SSL.WantReadError:
        return b"".join(pieces)


def read(side):
    pieces = []
    try:
        while True:
            pieces.append(side.recv(65535))
    except SSL.Error:
        return b"".join(pieces)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "peer sends", "peer sends", "peer closes", "garbage", "nothing"]),
        st.sampled_from([1, 5, 1000, 16_384, 40_000, 70_000]),
        st.integers(0, 200_000),
    ),
    max_size=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(steps=STEPS)
def test_all_that_happens_is_as_in_mitmproxy(server_context, steps):
    ours, theirs = (Pair(kind, server_context).play(steps) for kind in (Ours, Theirs))
    assert ours == theirs


def story(context, *steps):
    return Pair(Ours, context).play(steps)


def test_what_the_peer_sends_is_read(server_context):
    assert story(server_context, ("peer sends", 5, 0)) == [("data", b"bbbbb")]


def test_what_comes_as_several_records_is_read_as_one(server_context):
    assert story(server_context, ("peer sends", 40_000, 0)) == [("data", b"b" * 40_000)]


def test_half_a_record_is_waited_for(server_context):
    assert story(server_context, ("peer sends", 5, 7)) == [("data", b"bbbbb")]


def test_what_is_sent_reaches_the_peer(server_context):
    assert story(server_context, ("send", 70_000, 0))[-1] == ("peer reads", b"a" * 70_000)


def test_the_close_of_the_peer_is_told(server_context):
    assert story(server_context, ("peer closes", 0, 0))[-1][0] == "ConnectionClosed"


def test_what_came_before_the_close_is_read(server_context):
    assert story(server_context, ("peer sends", 5, 0), ("peer closes", 0, 0))[0] == ("data", b"bbbbb")


def test_garbage_is_an_error_in_the_log(server_context):
    assert story(server_context, ("garbage", 0, 0))[0][0] == "log"


def raised_in_a_callback(kind, context):
    """What a callback of OpenSSL's raised comes up with the next bytes."""
    pair = Pair(kind, context)
    pair.layer.tls._context._alpn_select_helper._problems.append(ZeroDivisionError("in a callback"))
    try:
        pair.play([("nothing", 0, 0)])
    finally:
        pair.layer.tls._context._alpn_select_helper._problems.clear()
    return pair.story


def test_what_a_callback_raised_comes_up(server_context):
    assert raised_in_a_callback(Ours, server_context) == raised_in_a_callback(Theirs, server_context) != []


def test_this_pyopenssl_is_one_that_we_know():
    assert records.differences() is None


@pytest.mark.parametrize("name", list(records._RELIED_UPON))
def test_another_one_is_seen(monkeypatch, name):
    monkeypatch.setattr(SSL.Connection, name, lambda self: None)
    assert records.differences() == f"OpenSSL.SSL.Connection.{name} is not what it was in pyOpenSSL 26.2"
