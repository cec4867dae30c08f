"""The readers of HTTP/1, played: bytes in, and what the layers above and the peer get of it."""

from __future__ import annotations

import gc
from itertools import pairwise
from types import SimpleNamespace
from weakref import ref

import pytest
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import connection, http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, context, events
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    Http1Client,
    Http1Server,
    HTTPMode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Connection

from support import making
from support.playing import Play, VirtualTime
from valetkey.policy.framing import HEAD_LIMIT
from valetkey.proxy import http1
from valetkey.proxy.alarms import Alarms

GET = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
TRAILED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-key: sk-real\r\nx-other: 1\r\n\r\n"
LONG = b"GET / HTTP/1.1\r\nx: "
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


class Side:
    """One reader, and what came out of it."""

    def __init__(self):
        self.time, self.posted = VirtualTime(), []
        alarms = Alarms(self.time.later, lambda client, event: self.posted.append(event), lambda client: True)
        self.client = connection.Client(
            peername=("192.0.2.1", 1), sockname=("192.0.2.2", 2), timestamp_start=0.0, state=ConnectionState.OPEN
        )
        self.context = context.Context(self.client, SimpleNamespace(proxy_debug=False))
        self.context.server.state = ConnectionState.OPEN
        self.above = http_layers.HttpLayer(self.context, HTTPMode.regular)
        self.reader = self.make(alarms)
        self.out, self.sent, self.logged, self.closed = [], b"", "", False
        self.give(events.Start())

    def give(self, event):
        for command in self.reader.handle_event(event):
            self.perform(command)
        return self

    def perform(self, command):
        match command:
            case ReceiveHttp():
                self.out.append(command.event)
            case commands.SendData():
                self.sent += command.data
            case commands.CloseConnection():
                self.closed = True
                command.connection.state = ConnectionState.CLOSED
            case commands.Log():
                self.logged += command.message

    def feed(self, *chunks):
        for chunk in chunks:
            if not self.closed:
                self.give(events.DataReceived(self.reader.conn, chunk))
        return self

    def leave(self):
        self.reader.conn.state &= ~ConnectionState.CAN_READ
        return self.give(events.ConnectionClosed(self.reader.conn))

    def wait(self, seconds):
        """Let the time pass; what an alarm posts goes the way that it does in a connection."""
        end = self.time.now + seconds
        while self.time.advance(end):
            pass
        self.time.now = end
        while self.posted:
            rung = self.posted.pop()
            for command in self.above.command_sources.pop(rung.command).handle_event(rung):
                self.perform(command)
        return self

    def kinds(self):
        return [type(event) for event in self.out]

    def body(self):
        return b"".join(event.data for event in self.out if isinstance(event, RequestData | ResponseData))


class Agent(Side):
    """What reads an agent's bytes."""

    def make(self, alarms):
        kind = type("BoundServer", (http1.ValetHttp1Server,), {"alarms": alarms})
        return kind(self.context.fork())

    def answer(self):
        """Answer the request, so that the next one is read."""
        number = self.reader.stream_id
        answer = http.Response.make(204, b"", {"content-length": "0"})
        return self.give(ResponseHeaders(number, answer, True)).give(ResponseEndOfMessage(number))


class Provider(Side):
    """What reads a provider's bytes; it has been asked already."""

    def make(self, _):
        return http1.ValetHttp1Client(self.context.fork())

    def __init__(self, method="POST"):
        super().__init__()
        self.ask(1, method)

    def ask(self, number, method="POST"):
        request = http.Request.make(method, "http://a/", b"", {"host": "a"})
        return self.give(RequestHeaders(number, request, True)).give(RequestEndOfMessage(number))

    def statuses(self):
        return [event.response.status_code for event in self.out if isinstance(event, ResponseHeaders)]


def pieces(data, cuts):
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


# ---------------------------------------------------------------- chunks

CHUNKS = (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n", b"1\r\nb\r\n", b"2\r\ncd\r\n", b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("feeds", "bodies"),
    [
        ([b"".join(CHUNKS)], [b"abcd"]),
        ([b"".join(CHUNKS[:3]), CHUNKS[3], CHUNKS[4]], [b"ab", b"cd"]),
        ([*CHUNKS], [b"a", b"b", b"cd"]),
        ([b"".join(CHUNKS[:3]) + CHUNKS[3][:4], CHUNKS[3][4:] + CHUNKS[4]], [b"abc", b"d"]),
    ],
)
def test_chunks_that_come_together_go_on_together(feeds, bodies):
    assert [event.data for event in Provider().feed(*feeds).out if isinstance(event, ResponseData)] == bodies


def test_a_chunk_that_is_alone_is_not_searched_for_others(monkeypatch):
    one = Provider().feed(CHUNKS[0])
    monkeypatch.setattr(ChunkedReader, "__call__", lambda *_: 1 / 0)
    assert one.feed(*CHUNKS[1:4]).body() == b"abcd"


@pytest.mark.parametrize("line", [b"content-encoding: gzip", b"content-type: application/vnd.amazon.eventstream"])
def test_what_is_read_aside_stays_apart(line):
    """Who finds a key in a piece ends the stream there; what came before has passed by then."""
    head = CHUNKS[0].replace(b"transfer", line + b"\r\ntransfer")
    found = Provider().feed(head + b"".join(CHUNKS[1:])).out
    assert [event.data for event in found if isinstance(event, ResponseData)] == [b"a", b"b", b"cd"]


def test_what_came_before_an_error_goes_on_before_it():
    assert Provider().feed(b"".join(CHUNKS[:2]) + b"zz\r\n").kinds() == [ResponseHeaders, ResponseData, ResponseProtocolError]


# ---------------------------------------------------------------- trailers


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_answer_with_trailers_ends_as_one_without(size):
    one = Provider().feed(*(TRAILED[at : at + size] for at in range(0, len(TRAILED), size)))
    assert (one.body(), one.kinds()[-1], one.closed) == (b"{}", ResponseEndOfMessage, False)


def test_nothing_of_an_answers_trailers_is_passed_on():
    assert b"sk-real" not in Provider().feed(TRAILED).body()


def test_after_trailers_the_connection_to_the_provider_goes_on():
    one = Provider().feed(TRAILED).ask(3).feed(OK)
    assert one.statuses() == [200, 200]


def test_a_request_with_trailers_ends_as_one_without():
    one = Agent().feed(CHUNKED + b"2\r\n{}\r\n0\r\nauthorization: Bearer x\r\n\r\n")
    assert (one.kinds(), one.body()) == ([RequestHeaders, RequestData, RequestEndOfMessage], b"{}")


def test_after_trailers_the_connection_of_the_agent_goes_on():
    one = Agent().feed(CHUNKED + b"0\r\nx-a: b\r\n\r\n").answer().feed(GET)
    assert one.kinds().count(RequestEndOfMessage) == 2


def test_what_follows_the_trailers_is_the_next_request():
    one = Agent().feed(CHUNKED + b"0\r\nx-a: b\r\n\r\n" + GET).answer()
    assert one.out[-2].request.path == "/v1/models"


@pytest.mark.parametrize("endless", [b"0\r\nx: ", b"2;x="])
def test_what_surrounds_chunks_is_bounded(endless):
    one = Provider().feed(TRAILED.partition(b"2\r\n")[0] + endless, *[b"a" * 8192] * 9)
    assert (one.closed, one.kinds()[-1], len(one.reader.buf)) == (True, ResponseProtocolError, 0)


def test_a_request_is_bounded_around_its_chunks_as_well():
    one = Agent().feed(CHUNKED + b"0\r\nx: ", *[b"a" * 8192] * 9)
    assert (one.closed, one.kinds()) == (True, [RequestHeaders, RequestProtocolError])


@pytest.mark.parametrize("line", [b"no colon", b": x", b"a b: c"])
def test_garbage_for_trailers_is_a_protocol_error(line):
    one = Provider().feed(TRAILED.replace(b"x-other: 1", line))
    assert (one.closed, one.kinds()[-1]) == (True, ResponseProtocolError)


def test_a_connect_with_trailers_does_not_end_the_tunnel():
    connect = b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n"
    assert Agent().feed(connect).kinds() == [RequestHeaders]


# ---------------------------------------------------------------- the length of a head


@pytest.mark.parametrize("start", [b"CONNECT a:443 HTTP/1.1\r\nx: ", LONG, b"GET /", b"a"])
def test_a_request_head_without_end_is_refused(start):
    one = Agent().feed(start, *[b"a" * 8192] * 9)
    assert (one.sent.partition(b"\r\n")[0], one.closed) == (b"HTTP/1.1 431 Request Header Fields Too Large", True)


def test_of_a_refused_head_nothing_is_kept():
    assert len(Agent().feed(LONG, *[b"a" * 8192] * 9).reader.buf) == 0


def test_the_refusal_says_what_to_do():
    assert b"longer than 65536 bytes" in Agent().feed(LONG + b"a" * HEAD_LIMIT, b"").sent


def test_a_head_is_measured_to_its_end_and_not_with_its_body():
    one = Agent().feed(b"POST / HTTP/1.1\r\ncontent-length: 80000\r\n", b"\r\n" + b"a" * 80000)
    assert one.kinds()[-1] is RequestEndOfMessage


@pytest.mark.parametrize(("size", "fine"), [(HEAD_LIMIT, True), (HEAD_LIMIT + 1, False)])
def test_the_bound_holds_for_a_head_that_is_complete(size, fine):
    head = LONG + b"a" * (size - len(LONG) - 4) + b"\r\n\r\n"
    assert bool(Agent().feed(head[:100], head[100:]).out) is fine


def test_an_answer_head_without_end_is_a_protocol_error():
    one = Provider().feed(b"HTTP/1.1 200 OK\r\nx: ", *[b"a" * 8192] * 9)
    assert (one.kinds(), one.closed, len(one.reader.buf)) == ([ResponseProtocolError], True, 0)


def test_the_end_of_a_connection_after_that_is_no_second_error():
    one = Provider().feed(b"HTTP/1.1 200 OK\r\nx: ", *[b"a" * 8192] * 9)
    assert one.leave().kinds() == [ResponseProtocolError]


def test_bytes_of_a_provider_that_was_not_asked_close_the_connection():
    one = Provider().feed(OK).feed(b"a" * (HEAD_LIMIT + 1))
    assert one.closed


def test_who_sends_too_much_ahead_is_cut_off():
    one = Agent().feed(GET, *[b"a" * 65535] * 18)
    assert (one.closed, one.kinds()[-1], len(one.reader.buf)) == (True, RequestProtocolError, 0)


def test_a_request_sent_ahead_is_read_after_the_answer():
    assert Agent().feed(GET, GET).answer().kinds().count(RequestEndOfMessage) == 2


# ---------------------------------------------------------------- the time for a head


@pytest.mark.parametrize("part", [b"C", b"CONNECT a:443 HT", GET[:-1], b"\r\nGET"])
def test_a_head_that_takes_too_long_is_refused(part):
    one = Agent().feed(part).wait(30)
    assert (one.sent.startswith(b"HTTP/1.1 408 "), one.closed) == (True, True)


def test_the_time_counts_from_the_first_byte():
    one = Agent().feed(b"GET").wait(20).feed(b" / HTTP").wait(10)
    assert one.closed


def test_a_head_may_take_its_time_up_to_then():
    one = Agent().feed(GET[:9]).wait(29.9).feed(GET[9:]).wait(100)
    assert (one.closed, one.kinds()) == (False, [RequestHeaders, RequestEndOfMessage])


@pytest.mark.parametrize("before", [b"", GET, b"\r\n"])
def test_an_idle_connection_is_left_alone(before):
    one = Agent().feed(*([before] if before else []))
    one = one.answer() if before == GET else one
    assert not one.wait(1000).closed


def test_no_timer_is_set_for_a_whole_head():
    assert Agent().feed(GET).reader.timer is None


def test_the_second_head_of_a_connection_has_its_time_too():
    assert Agent().feed(GET).answer().feed(b"GET /").wait(30).closed


def test_a_head_that_was_begun_ahead_has_its_time_from_the_answer_on():
    one = Agent().feed(GET + b"GET /").wait(100).answer().wait(29)
    assert (one.closed, one.wait(1).closed) == (False, True)


def test_a_head_that_ends_as_the_time_is_up_is_served():
    one = Agent().feed(GET[:9])
    while one.time.advance(30):
        pass
    one.feed(GET[9:]).wait(0)
    assert (one.closed, one.kinds()) == (False, [RequestHeaders, RequestEndOfMessage])


def test_a_timer_keeps_no_reader_alive():
    one = Agent().feed(b"GET")
    held, one.reader, one.above, one.context = ref(one.reader), None, None, None
    gc.collect()
    assert held() is None


def test_an_agent_that_leaves_in_its_head_needs_no_timer():
    one = Agent().feed(b"GET / HT").leave()
    assert (one.closed, one.reader.timer) == (True, None)


def test_what_an_agent_left_behind_is_not_logged():
    assert "sk-dummy" not in Agent().feed(b"GET / HTTP/1.1\r\nauthorization: Bearer sk-dummy").leave().logged


@pytest.mark.parametrize("lines", [b"\r\n", b"\n", b"\r\n\r\n\n"])
def test_empty_lines_before_a_request_are_skipped(lines):
    assert Agent().feed(lines + GET).kinds() == [RequestHeaders, RequestEndOfMessage]


# ---------------------------------------------------------------- interim answers


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Other", b" 0103 Odd"])
def test_an_interim_answer_is_dropped(status):
    assert Provider().feed(HINTS.replace(b"103 Early Hints", status) + OK).statuses() == [200]


def test_several_interim_answers_are_dropped():
    assert Provider().feed(HINTS * 3 + OK).statuses() == [200]


def test_the_final_answer_may_come_later():
    assert Provider().feed(HINTS, HINTS[:9], HINTS[9:], OK[:5], OK[5:]).kinds()[-1] is ResponseEndOfMessage


def test_after_an_interim_answer_the_connection_goes_on():
    assert Provider().feed(HINTS + OK).ask(3).feed(HINTS + OK).statuses() == [200, 200]


def test_an_interim_answer_and_then_nothing_is_an_error():
    assert Provider().feed(HINTS).leave().kinds() == [ResponseProtocolError]


def test_a_switch_of_protocols_is_final():
    assert Provider("GET").feed(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n").statuses() == [101]


@pytest.mark.parametrize("size", [100, 10**6])
def test_endless_interim_answers_are_a_protocol_error(size):
    flood = HINTS * 2000
    one = Provider().feed(*(flood[at : at + size] for at in range(0, len(flood), size)))
    assert (one.closed, one.kinds()) == (True, [ResponseProtocolError])


def test_interim_answers_are_counted_anew_for_each_request():
    one, many = Provider(), HINTS * 1000
    assert one.feed(many + OK).ask(3).feed(many + OK).statuses() == [200, 200]


# ---------------------------------------------------------------- any bytes, in any pieces


@QUIET
@given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_pieces_do_not_change_what_an_answer_is(cuts):
    one = Provider().feed(*pieces(HINTS + TRAILED, cuts))
    assert (one.statuses(), one.body(), one.kinds()[-1]) == ([200], b"{}", ResponseEndOfMessage)


@QUIET
@given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_pieces_do_not_change_what_a_request_is(cuts):
    one = Agent().feed(*pieces(b"\r\n" + CHUNKED + b"2\r\n{}\r\n0\r\nx: y\r\n\r\n", cuts))
    assert (one.kinds()[0], one.body(), one.kinds()[-1]) == (RequestHeaders, b"{}", RequestEndOfMessage)


WORDS = st.sampled_from([GET, CHUNKED, OK, TRAILED, HINTS, b"0\r\n", b"\r\n", b"\n", b"x: y\r\n", b"5\r\nhello\r\n"])
GARBAGE = st.lists(WORDS | st.binary(max_size=40), max_size=8)


@QUIET
@given(chunks=GARBAGE)
def test_whatever_an_agent_sends_ends_nowhere_but_here(chunks):
    one = Agent().feed(*chunks).wait(31)
    assert len(one.reader.buf) <= http1.AHEAD_LIMIT + 65535


@QUIET
@given(chunks=GARBAGE)
def test_whatever_a_provider_sends_ends_nowhere_but_here(chunks):
    assert len(Provider().feed(*chunks).reader.buf) <= HEAD_LIMIT


# ---------------------------------------------------------------- the shorter ways


class LongServer(http1.ValetHttp1Server):
    """Without our shorter ways."""

    _handle_event, send, mark_done = Http1Connection._handle_event, Http1Server.send, Http1Server.mark_done
    read_headers = http1.ValetHttp1Server._read_any_head
    read_body = http1._Reader._read_in_pieces

    def __init__(self, context):
        super().__init__(context)
        self.buf = ReceiveBuffer()


class LongClient(http1.ValetHttp1Client):
    """Without our shorter ways."""

    _handle_event, send, mark_done = Http1Connection._handle_event, Http1Client.send, Http1Connection.mark_done
    read_headers = http1.ValetHttp1Client._read_any_head
    read_body = http1._Reader._read_in_pieces

    def __init__(self, context):
        super().__init__(context)
        self.buf = ReceiveBuffer()


class LongAgent(Agent):
    def make(self, alarms):
        return type("Bound", (LongServer,), {"alarms": alarms})(self.context.fork())


class LongProvider(Provider):
    def make(self, _):
        return LongClient(self.context.fork())


LENGTHS = st.sampled_from([{"content-length": "2"}, {"Content-Length": "0"}, {}, {"content-length": ""}, {"content-length": "x"}])
FRAMES = LENGTHS | st.sampled_from([{"transfer-encoding": "chunked"}, {"transfer-encoding": "gzip"}, {"content-length": "1, 1"}])
CONNECTIONS = st.sampled_from([{}, {}, {"connection": "close"}, {"connection": "keep-alive"}, {"Connection": "x"}])
HEADERS = st.tuples(FRAMES, CONNECTIONS).map(lambda both: both[0] | both[1])
STATUSES = st.sampled_from([200, 200, 204, 304, 404, 101, 500])
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"])
FIELDS = st.sampled_from(
    [
        *(
            b"content-length: 2",
            b"Content-Length: 0",
            b"content-length: 70000",
            b"transfer-encoding: chunked",
            b"connection: close",
        ),
        *(b"content-length: 02", b"a b: c", b" folded", b"connection: keep-alive", b"host: a", b"content-length: 2"),
    ]
)
BODIES = st.sampled_from([b"", b"{}", b"{}x", b"2\r\n{}\r\n0\r\n\r\n", b"a" * 70_000, b"2\r\n{}\r\n0\r\nx: y\r\n\r\n"])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r\r\n"])


def heads_with(lines):
    return st.tuples(lines, st.lists(FIELDS, max_size=3), ENDS, BODIES).map(
        lambda told: told[2].join([told[0], *told[1], b"", b""]) + told[3]
    )


ASKED = st.sampled_from([b"POST / HTTP/1.1", b"GET / HTTP/1.0", b"HEAD / HTTP/1.1", b"CONNECT a:443 HTTP/1.1"])
TOLD = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 204 No", b"HTTP/1.1 101 Up", b"HTTP/1.1 103 Hints"])


@st.composite
def answers(draw):
    answer = http.Response.make(draw(STATUSES), b"", draw(HEADERS))
    answer.http_version = draw(VERSIONS)
    if draw(st.booleans()) and "content-length" in answer.headers:
        answer.headers.add("Content-Length", "2")
    return answer


@st.composite
def requests(draw):
    request = http.Request.make(draw(st.sampled_from(["POST", "HEAD", "CONNECT"])), "http://a/", b"", draw(HEADERS))
    request.http_version = draw(VERSIONS)
    return request


PARTS = st.lists(st.sampled_from(["head", "data", "nothing", "end"]), max_size=4)


def shown(side):
    reader = side.reader
    state = reader.state.__name__.replace("_read_in_pieces", "read_body").replace("_read_any_head", "read_headers")
    done = reader.request_done, reader.response_done, reader.request is None, reader.response is None
    events = [(type(event), event.stream_id, getattr(event, "data", None)) for event in side.out]
    return state, done, reader.stream_id, events, side.sent, side.closed, side.logged, bytes(reader.buf)


def played(kind, steps):
    """What comes of the same steps; an error ends them."""
    side = kind()
    for step, *arguments in steps:
        try:
            step(side, *arguments)
        except Exception as error:
            return shown(side), type(error), str(error)
    return shown(side)


def feed(side, data, cuts):
    side.feed(*pieces(data, cuts))


def answered(side, answer, parts):
    number = side.reader.stream_id
    made = {"head": ResponseHeaders(number, answer), "data": ResponseData(number, b"{}"), "nothing": ResponseData(number, b"")}
    for part in parts:
        side.give(made.get(part) or ResponseEndOfMessage(number))


def asked(side, number, request, parts):
    made = {
        "head": RequestHeaders(number, request, False),
        "data": RequestData(number, b"{}"),
        "nothing": RequestData(number, b""),
    }
    for part in parts:
        side.give(made.get(part) or RequestEndOfMessage(number))


USUAL = st.just(["head", "data", "end"])
CUTS = st.lists(st.integers(0, 200), max_size=2)


@QUIET
@given(
    st.lists(
        st.tuples(st.just(feed), heads_with(ASKED), CUTS) | st.tuples(st.just(answered), answers(), USUAL | PARTS), max_size=6
    )
)
def test_the_shorter_ways_lead_where_the_long_ones_do_for_requests(steps):
    assert played(Agent, steps) == played(LongAgent, steps)


@QUIET
@given(
    st.lists(
        st.tuples(st.just(feed), heads_with(TOLD), CUTS)
        | st.tuples(st.just(asked), st.sampled_from([1, 3]), requests(), USUAL | PARTS),
        max_size=6,
    )
)
def test_the_shorter_ways_lead_where_the_long_ones_do_for_answers(steps):
    assert played(Provider, steps) == played(LongProvider, steps)


PIECES = st.lists(st.sampled_from([b"a", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"b: c"]) | st.binary(max_size=3), max_size=12)


@given(PIECES, CUTS)
def test_lines_are_taken_apart_as_in_the_parent(parts, cuts):
    found = []
    for buffer in (http1._Buffer(), ReceiveBuffer()):
        taken = []
        for piece in pieces(b"".join(parts), cuts):
            buffer += piece
            taken.append(buffer.maybe_extract_lines())
        found.append((taken, bytes(buffer)))
    assert found[0] == found[1]


# ---------------------------------------------------------------- in the gateway


PORT = 8999
RULES = f"""
version: 1
gateway: {{egress_allow: ["127.0.0.1:{PORT}"]}}
providers:
  lab: {{like: openai, upstream: "http://127.0.0.1:{PORT}", keys: [env:LAB_API_KEY]}}
"""
BODY = b'{"model":"m","messages":[]}'
CALL = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer sk-dummy\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (PORT, len(BODY), BODY)
)
CHUNKED_CALL = CALL.replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked").replace(
    BODY, b"%x\r\n%s\r\n0\r\nauthorization: Bearer sk-dummy-trailer\r\n\r\n" % (len(BODY), BODY)
)


@pytest.fixture
def play():
    """Play a call against a provider that answers with the given bytes."""

    def run(answer, *chunks):
        one = Play(making.runtime(RULES, keys={"lab/main": making.REAL}), PORT, lambda sent: answer(sent))
        assert http1.install(one.runtime.alarms)
        return one.run(*chunks)

    yield run
    http1.uninstall()


def whole(answer):
    return lambda sent: answer if sent.endswith((BODY, b"0\r\n\r\n")) else None


JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
def test_the_agent_gets_an_answer_with_trailers_and_asks_again(play, kind):
    answer = JSON.replace(b"application/json", kind) + TRAILED.partition(b"OK\r\n")[2].replace(b"sk-real", making.REAL.encode())
    assert play(whole(answer), CALL, CALL).to_client.count(b"HTTP/1.1 200 OK") == 2


def test_a_request_with_trailers_is_sent_without_them(play):
    one = play(whole(OK), CHUNKED_CALL)
    assert (one.to_client.count(b"200 OK"), b"sk-dummy" in one.to_server) == (1, False)


def test_a_head_without_end_is_a_failed_attempt(play):
    one = play(lambda sent: b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 if sent.endswith(BODY) else None, CALL)
    assert one.to_client.startswith(b"HTTP/1.1 502 ")


def test_an_agent_gets_the_final_answer(play):
    assert play(whole(HINTS + OK), CALL).to_client.startswith(b"HTTP/1.1 200 OK")


def test_a_slow_head_is_answered_on_its_own_connection(play):
    one = play(whole(OK), CALL, CALL[:40])
    assert (one.to_client.count(b"HTTP/1.1 408 "), one.time.now) == (1, http1.HEAD_SECONDS)


# ---------------------------------------------------------------- where it goes


@pytest.fixture
def installed():
    assert http1.install(Alarms())
    yield
    http1.uninstall()


def test_every_connection_is_read_here(installed):
    assert issubclass(http_layers.Http1Server, http1.ValetHttp1Server) and http_layers.Http1Client is http1.ValetHttp1Client


def test_the_original_classes_come_back():
    before = http_layers.Http1Server, http_layers.Http1Client
    http1.install(Alarms())
    http1.uninstall()
    assert (http_layers.Http1Server, http_layers.Http1Client) == before


def test_a_second_beginning_is_refused(installed):
    assert http1.install(Alarms()) is False


def test_what_another_one_put_there_stays(monkeypatch):
    monkeypatch.setattr(http_layers, "Http1Client", Provider)
    http1.uninstall()
    assert (http1.install(Alarms()), http_layers.Http1Client) == (False, Provider)


def test_this_mitmproxy_is_one_that_we_know():
    assert http1.differences() is None


@pytest.mark.parametrize("name", list(http1._RELIED_UPON))
@pytest.mark.parametrize("function", [print, lambda self, event: event.kind, lambda self, a, b: None])
def test_other_internals_are_seen(monkeypatch, name, function):
    _, arguments, used = http1._RELIED_UPON[name]
    monkeypatch.setitem(http1._RELIED_UPON, name, (function, arguments, used))
    assert http1.differences() == f"{name} is not what it was in mitmproxy 12.2"


def test_staying_off_is_noticed_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(http_layers, "Http1Client", Provider)
    http1.install(Alarms())
    assert "heads of HTTP/1 are not bounded" in caplog.text


# ---------------------------------------------------------------- heads that go out with their bodies


def told(side, *events_):
    """The pieces that go out for events, one list per event."""
    found = []
    for event in events_:
        sends = [command.data for command in side.reader.handle_event(event) if isinstance(command, commands.SendData)]
        found.append(sends)
    return found


def flat(found):
    return b"".join(piece for sends in found for piece in sends)


def answering(body, **headers):
    """An agent that waits, and the events for its answer."""
    side = Agent().feed(GET)
    answer = http.Response.make(200, body, headers)
    number = side.reader.stream_id
    head = http1.HeadOfWholeAnswer(number, answer, False)
    return side, head, ResponseData(number, body), ResponseEndOfMessage(number)


def test_an_answer_goes_out_as_one_piece():
    side, *answer = answering(b"{}")
    assert [len(sends) for sends in told(side, *answer)] == [0, 1, 0]


def test_it_is_the_same_as_in_two_pieces():
    (side, head, *rest), (other, same, *_) = answering(b"{}"), answering(b"{}")
    apart = told(other, ResponseHeaders(same.stream_id, same.response, False), *rest)
    assert flat(told(side, head, *rest)) == flat(apart)


def test_so_does_a_chunked_one():
    side, *answer = answering(b"{}", **{"transfer-encoding": "chunked"})
    assert [sends[0][-10:] for sends in told(side, *answer) if sends] == [b"\r\n\r\n2\r\n{}\r\n"[-10:], b"0\r\n\r\n"]


def test_a_head_whose_body_does_not_come_goes_out_at_the_end():
    side, head, _, end = answering(b"{}")
    assert [len(sends) for sends in told(side, head, end)] == [0, 1]


def test_a_head_whose_body_is_empty_after_all_goes_out_at_the_end():
    side, head, _, end = answering(b"{}")
    assert [len(sends) for sends in told(side, head, ResponseData(head.stream_id, b""), end)] == [0, 0, 1]


def test_a_head_is_sent_once():
    side, head, body, end = answering(b"{}")
    assert flat(told(side, head, body, body, end)).count(b"HTTP/1.1 200") == 1


def test_after_it_the_connection_goes_on():
    side, *answer = answering(b"{}")
    told(side, *answer)
    assert side.feed(GET).kinds().count(RequestEndOfMessage) == 2


def asking(body):
    side = Provider.__new__(Provider)
    Side.__init__(side)
    request = http.Request.make("POST", "http://a/", body, {"host": "a", "authorization": "Bearer sk-real"})
    return side, http1.HeadOfWholeRequest(1, request, False), RequestData(1, body), RequestEndOfMessage(1)


def test_a_request_goes_out_as_one_piece():
    side, *request = asking(b"{}")
    assert [len(sends) for sends in told(side, *request)] == [0, 1, 0]


def test_of_a_call_that_fails_before_its_body_nothing_goes_out():
    side, head, *_ = asking(b"{}")
    assert told(side, head, RequestProtocolError(1, "given up", ErrorCode.CANCEL)) == [[], []]


def test_the_next_request_of_a_connection_goes_out_as_one_piece_too():
    side, *request = asking(b"{}")
    told(side, *request)
    side.feed(OK)
    again = [http1.HeadOfWholeRequest(3, request[0].request, False), RequestData(3, b"{}"), RequestEndOfMessage(3)]
    assert [len(sends) for sends in told(side, *again)] == [0, 1, 0]
