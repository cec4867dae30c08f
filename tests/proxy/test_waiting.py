"""The alarm of a stream: one timer for many deadlines, and what ends a wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpRequestHook
from mitmproxy.test import tflow

from support.bare import LEFT, Bare
from valetkey.proxy.alarms import TOLERANCE, Bell, Rest, Rung
from valetkey.proxy.waiting import WaitingStream


class Stream(Bare, WaitingStream):
    """A stream that waits for what it is told to, without HTTP around it."""


# The timer.


def test_it_rings_at_its_time():
    stream = Stream()
    stream.set_alarm(5)
    stream.run()
    assert stream.rings == [5]


def test_many_later_times_need_one_timer():
    stream = Stream()
    for seconds in range(5, 50):
        stream.set_alarm(seconds)
    assert stream.timers == [5]


def test_the_last_time_counts():
    stream = Stream()
    for seconds in (5, 30, 20):
        stream.set_alarm(seconds)
    stream.run()
    assert (stream.rings, stream.timers) == ([20], [5, 15])


def test_an_earlier_time_takes_the_place_of_the_timer():
    stream = Stream()
    stream.set_alarm(30)
    stream.set_alarm(5)
    stream.run()
    assert (stream.rings, stream.timers) == ([5], [30, 5])


def test_without_an_alarm_a_timer_that_fires_does_nothing():
    stream = Stream()
    stream.set_alarm(5)
    stream.no_alarm()
    stream.run()
    assert (stream.rings, stream.timers, stream.timer) == ([], [5], None)


def test_an_alarm_that_was_taken_back_and_set_again_rings_once():
    stream = Stream()
    stream.set_alarm(5)
    stream.no_alarm()
    stream.set_alarm(9)
    stream.run()
    assert stream.rings == [9]


def test_a_timer_may_be_a_little_early():
    stream = Stream()
    stream.set_alarm(5)
    stream.time.now = 5 - TOLERANCE / 2
    stream.timer_fired()
    assert len(stream.rings) == 1


@pytest.mark.parametrize("seconds", [1, 9])
def test_it_can_be_set_again_after_it_rang(seconds):
    stream = Stream()
    stream.set_alarm(5)
    stream.run(5)
    stream.set_alarm(seconds)
    stream.run()
    assert stream.rings == [5, 5 + seconds]


STEPS = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 20)),
    st.tuples(st.just("none"), st.just(0)),
    st.tuples(st.just("run"), st.integers(0, 15)),
)


@given(st.lists(STEPS, max_size=20))
def test_it_rings_when_a_timer_of_its_own_would(steps):
    """As if each alarm had a timer, which is cancelled by the next."""
    stream, expected, due = Stream(), [], None
    for what, seconds in [*steps, ("run", 100)]:
        if what == "set":
            stream.set_alarm(seconds)
            due = stream.time.now + seconds
        elif what == "none":
            stream.no_alarm()
            due = None
        else:
            until = stream.time.now + seconds
            if due is not None and due <= until:
                expected.append(due)
                due = None
            stream.run(until)
    assert stream.rings == expected


# What ends a wait.


def bell(stream):
    return Rung(Bell(stream))


@pytest.mark.parametrize("event", [bell, lambda _: events.Wakeup(commands.RequestWakeup(1)), lambda _: LEFT])
def test_a_rest_is_ended(event):
    stream = Stream(Rest(5))
    stream.give(event(stream))
    assert (stream._paused, stream.replies[0], stream._parent.command_sources) == (None, None, {})


def test_the_bell_of_another_stream_ends_no_rest():
    stream = Stream(Rest(5))
    stream.give(bell(Stream()))
    assert stream.replies == []


def test_an_agent_that_leaves_is_heard_of_after_the_rest():
    stream = Stream(Rest(5))
    stream.give(LEFT)
    assert stream.replies == [None, LEFT]


def test_an_agent_that_leaves_takes_the_alarm_with_it():
    stream = Stream(Rest(5))
    stream.set_alarm(5)
    stream.give(LEFT)
    stream.run()
    assert stream.rings == []


@pytest.mark.parametrize("event", [bell, lambda _: LEFT])
def test_a_hook_is_not_cut_short(event):
    stream = Stream(HttpRequestHook(tflow.tflow()))
    stream.set_alarm(0)
    stream.give(event(stream))
    assert stream.replies == []


def dialling(waiting=1):
    command = GetHttpConnection(("192.0.2.1", 443), True, None)
    stream = Stream(command)
    server = connection.Server(address=("192.0.2.1", 443))
    stream._parent.waiting_for_establishment[server] = [*(["another"] * (waiting - 1)), command]
    return stream, server


def test_a_connection_that_is_not_made_in_time_is_given_up():
    stream, _ = dialling()
    stream.set_alarm(5)
    stream.run(5)
    stream.give(bell(stream))
    assert (stream.replies, stream._late) == ([(None, "no connection in time")], True)


def test_a_bell_before_the_time_gives_no_connection_up():
    stream, _ = dialling()
    stream.set_alarm(5)
    stream.give(bell(stream))
    assert stream.replies == []


def test_an_agent_that_leaves_gives_the_connection_up():
    stream, _ = dialling()
    stream.give(LEFT)
    assert (stream.replies, stream._late) == ([(None, "the agent left"), LEFT], False)


@pytest.mark.parametrize(("waiting", "marked"), [(1, True), (2, False)])
def test_a_connection_that_nobody_waits_for_is_marked(waiting, marked):
    stream, server = dialling(waiting)
    stream.give(LEFT)
    assert (server.via is not None) == marked
