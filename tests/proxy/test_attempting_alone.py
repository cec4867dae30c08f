"""An attempt without HTTP around it: what is forgotten with it, what comes too late, and the call that it is of."""

from __future__ import annotations

from mitmproxy import connection
from mitmproxy.proxy.layers.http import GetHttpConnection
from mitmproxy.proxy.layers.http import GetHttpConnectionCompleted as Connected

from support.bare import LEFT, Bare
from valetkey.proxy.alarms import Rest, RestOver
from valetkey.proxy.attempting import AttemptingStream


class Stream(Bare, AttemptingStream):
    """A stream that waits for what it is told to, without HTTP around it."""


def test_an_attempt_that_is_forgotten_leaves_no_timer():
    stream = Stream()
    stream.set_alarm(5)
    stream.forget_attempt()
    assert (stream.timer, stream._left()) == (None, None)


def test_the_end_of_a_rest_that_was_ended_already_is_stale():
    assert Stream().is_stale(RestOver(Rest(5)))


def test_a_connection_that_comes_after_all_is_stale():
    stream = Stream(GetHttpConnection(("192.0.2.1", 443), True, None))
    stream._parent.waiting_for_establishment[connection.Server(address=("192.0.2.1", 443))] = [stream.waits_for]
    stream.give(LEFT)
    assert stream.is_stale(Connected(stream.waits_for, (None, None)))


# The call that a stream is.


def test_the_call_is_looked_for_until_it_is_there():
    stream = Stream()
    first = stream.passage
    stream.found = found = object()
    assert (first, stream.passage, len(stream.asked)) == (None, found, 2)


def test_the_call_is_looked_for_once():
    stream = Stream()
    stream.found = object()
    assert [stream.passage for _ in range(3)] == [stream.found] * 3 and len(stream.asked) == 1


def test_before_its_head_a_stream_has_no_flow():
    stream = Stream()
    assert (stream.passage, stream.asked) == (None, [None])
