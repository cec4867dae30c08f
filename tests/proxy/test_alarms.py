from __future__ import annotations

import asyncio
import gc
from weakref import ref

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons, tflow

from support.playing import VirtualTime
from valetkey.proxy import alarms
from valetkey.proxy.alarms import Alarms, Bell, Rung


class Sleeper:
    timer = None

    def __init__(self, name="a", bells=None):
        self.name, self.bells = name, bells

    def timer_fired(self):
        self.bells.ring(self)

    def ring(self):
        return f"client of {self.name}", f"bell of {self.name}"


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def posted():
    return []


@pytest.fixture
def bells(time, posted):
    return Alarms(time.later, lambda client, event: posted.append((client, event)), lambda client: True)


def run(time, until=100.0):
    while time.advance(until):
        pass


def test_it_rings_when_the_time_is_up(bells, time, posted):
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 5)
    run(time)
    assert (posted, time.now) == ([("client of a", "bell of a")], 5)


def test_it_does_not_ring_before(bells, time, posted):
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 5)
    run(time, 4.9)
    assert posted == []


@pytest.mark.parametrize("seconds", [1, 9])
def test_a_new_time_takes_the_place_of_the_old(bells, time, posted, seconds):
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 5)
    bells.set(sleeper, seconds)
    run(time)
    assert (len(posted), time.now) == (1, seconds)


def test_a_cancelled_one_does_not_ring(bells, time, posted):
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 5)
    bells.cancel(sleeper)
    run(time)
    assert (posted, sleeper.timer) == ([], None)


def test_cancelling_what_was_not_set_does_nothing(bells, posted):
    bells.cancel(Sleeper())
    assert posted == []


def test_to_ring_now_replaces_the_timer(bells, time, posted):
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 5)
    bells.ring(sleeper)
    run(time)
    assert (len(posted), sleeper.timer) == (1, None)


def test_a_timer_that_rang_is_forgotten(bells, time):
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 5)
    run(time)
    assert sleeper.timer is None


def test_it_can_be_set_again_while_it_rings(time):
    rings = []

    def again(client, event):
        rings.append(time.now)
        if len(rings) < 3:
            bells.set(sleeper, 2)

    bells = Alarms(time.later, again, lambda client: True)
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 2)
    run(time)
    assert rings == [2, 4, 6]


def test_each_sleeper_has_its_own(bells, time, posted):
    first, second = Sleeper("a", bells), Sleeper("b", bells)
    bells.set(first, 5)
    bells.set(second, 3)
    bells.cancel(first)
    run(time)
    assert posted == [("client of b", "bell of b")]


def test_a_timer_keeps_no_sleeper_alive(bells):
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 5)
    seen = ref(sleeper)
    del sleeper
    gc.collect()
    assert seen() is None


def test_a_sleeper_that_is_gone_is_not_rung(bells, time, posted):
    sleeper = Sleeper(bells=bells)
    bells.set(sleeper, 5)
    del sleeper
    gc.collect()
    run(time)
    assert posted == []


def test_the_loops_own_timer_keeps_no_sleeper_alive():
    async def play():
        sleeper = Sleeper(bells=bells)
        Alarms().set(sleeper, 60)
        seen = ref(sleeper)
        timer = sleeper.timer
        del sleeper
        gc.collect()
        timer.cancel()
        return seen()

    assert asyncio.run(play()) is None


class Handler:
    def __init__(self):
        self.events = []

    async def server_event(self, event):
        self.events.append(event)


def posting(client_of, times=1):
    """Post an event on a running loop; gives what the handler of the connection got, and the tasks that are left."""
    handler, client = Handler(), tflow.tclient_conn()

    async def play():
        with taddons.context() as context:
            server = Proxyserver()
            context.master.addons.add(server)
            server.connections.update(client_of(client, handler))
            for _ in range(times):
                alarms.post(client, Rung(Bell(None)))
            await asyncio.gather(*alarms._tasks)
        return len(alarms._tasks)

    return asyncio.run(play()), handler.events


def test_an_event_is_posted_to_its_connection_once():
    assert len(posting(lambda client, handler: {client.id: handler})[1]) == 1


def test_nothing_is_kept_of_a_post_that_arrived():
    assert posting(lambda client, handler: {client.id: handler}, times=3)[0] == 0


def test_an_event_for_a_connection_that_is_gone_is_dropped():
    assert posting(lambda client, handler: {"another": handler})[1] == []


def test_without_a_proxy_server_nothing_is_posted():
    with taddons.context():
        alarms.post(tflow.tclient_conn(), Rung(Bell(None)))
    assert not alarms._tasks


@pytest.mark.parametrize(("known", "reached"), [(True, True), (False, False)])
def test_a_connection_that_mitmproxy_knows_can_be_reached(known, reached):
    client = tflow.tclient_conn()
    with taddons.context() as context:
        server = Proxyserver()
        context.master.addons.add(server)
        if known:
            server.connections[client.id] = Handler()
        assert alarms.reaches(client) is reached
