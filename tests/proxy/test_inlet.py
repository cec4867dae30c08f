"""Bytes that arrive go to the layers at once, in order and once, whatever else happens."""

from __future__ import annotations

import asyncio
import contextvars
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection
from mitmproxy.proxy import events

from valetkey.proxy.inlet import READ_SIZE, Inlet

VARIABLE = contextvars.ContextVar("variable", default="unset")


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.max_size, self.unsent, self.closing, self.pauses = 1 << 18, 0, False, 0

    def get_write_buffer_size(self):
        return self.unsent

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        self.pauses += 1

    def resume_reading(self):
        pass


class World:
    """A connection whose task reads through an inlet, as mitmproxy's does."""

    def __init__(self):
        self.reader = asyncio.StreamReader()
        self.transport = Transport()
        self.reader.set_transport(self.transport)
        protocol = asyncio.StreamReaderProtocol(self.reader)
        writer = asyncio.StreamWriter(self.transport, protocol, self.reader, asyncio.get_running_loop())
        self.connection = connection.Server(address=("server", 1))
        io = SimpleNamespace(writer=writer, reader=self.reader)
        self.transports = {self.connection: io}
        self._server_event_lock = asyncio.Lock()
        self.got, self.drained, self.may_drain = [], 0, asyncio.Event()
        self.may_drain.set()
        self.by_task = b""
        self.on_data = lambda: None

    async def drain_writers(self):
        self.drained += 1
        await self.may_drain.wait()

    def drive(self, handler, event):
        assert handler is self and isinstance(event, events.DataReceived) and event.connection is self.connection
        assert self._server_event_lock.locked()
        self.got.append(event.data)
        self.on_data()

    async def task(self):
        inlet = Inlet(self, self.connection, self.reader, self.drive)
        while data := await inlet.read(65535):
            async with self._server_event_lock:
                self.by_task += data
                self.drive(self, events.DataReceived(self.connection, data))

    async def begin(self):
        self.reading = asyncio.get_running_loop().create_task(self.task())
        await asyncio.sleep(0)

    async def arrive(self, *pieces):
        """As from a socket: in no task."""
        loop = asyncio.get_running_loop()
        for piece in pieces:
            loop.call_soon(self.reader.feed_data, piece)
        done = loop.create_future()
        loop.call_soon(done.set_result, None)
        await done

    async def end(self):
        self.reader.feed_eof()
        await self.reading


async def settled():
    """All that can happen by now has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


def play(script):
    async def run():
        world = World()
        await world.begin()
        try:
            return await script(world)
        finally:
            world.transport.closing = True  # or its writer complains

    return asyncio.run(run())


def test_data_go_to_the_layers_as_they_arrive():
    async def script(world):
        await world.arrive(b"one")
        return world.got

    assert play(script) == [b"one"]


def test_they_do_so_again_and_again():
    async def script(world):
        await world.arrive(b"one", b"two", b"three")
        return world.got

    assert play(script) == [b"one", b"two", b"three"]


def test_they_come_in_the_name_of_the_task_that_reads():
    async def script(world):
        tasks = []
        world.on_data = lambda: tasks.append(asyncio.current_task())
        await world.arrive(b"one")
        return tasks == [world.reading]

    assert play(script)


def test_afterwards_the_task_that_ran_is_the_present_one():
    async def script(world):
        await world.arrive(b"one")
        return asyncio.current_task() is not world.reading

    assert play(script)


def test_context_variables_are_those_of_the_task():
    async def script(world):
        world.on_data = lambda: VARIABLE.set("set")
        await world.arrive(b"one")
        return VARIABLE.get(), world.reading.get_context()[VARIABLE]

    assert play(script) == ("unset", "set")


def test_the_lock_is_free_afterwards():
    async def script(world):
        await world.arrive(b"one")
        return world._server_event_lock.locked()

    assert not play(script)


def test_the_lock_is_free_after_the_end_of_the_process_was_asked_for():
    async def script(world):
        def leave():
            raise KeyboardInterrupt

        world.on_data, caught = leave, []

        def arrive():
            try:
                world.reader.feed_data(b"one")
            except KeyboardInterrupt:
                caught.append((world._server_event_lock.locked(), asyncio.current_task()))

        asyncio.get_running_loop().call_soon(arrive)
        await asyncio.sleep(0)
        return caught

    assert play(script) == [(False, None)]


def test_while_layers_are_busy_data_wait():
    async def script(world):
        async with world._server_event_lock:
            await world.arrive(b"one")
            before = list(world.got)
        await settled()
        return before, world.got

    assert play(script) == ([], [b"one"])


def test_who_has_waited_for_the_layers_comes_first():
    """The lock is free then, and yet not ours."""

    async def script(world):
        lock, loop = world._server_event_lock, asyncio.get_running_loop()
        await lock.acquire()

        async def other():
            async with lock:
                world.got.append(b"other")

        waiting, done = loop.create_task(other()), loop.create_future()
        await asyncio.sleep(0)
        loop.call_soon(lambda: (lock.release(), world.reader.feed_data(b"two"), done.set_result(None)))
        await done
        await waiting
        await settled()
        return world.got, lock.locked()

    assert play(script) == ([b"other", b"two"], False)


def test_data_for_a_task_that_is_to_end_do_not_go_to_the_layers():
    async def script(world):
        world.reading.cancel()
        await world.arrive(b"one")
        return world.got

    assert play(script) == []


def test_the_end_ends_reading():
    async def script(world):
        await world.arrive(b"one")
        await world.end()
        return world.got

    assert play(script) == [b"one"]


def test_an_error_of_the_connection_reaches_the_task():
    async def script(world):
        world.reader.set_exception(ConnectionResetError())
        with pytest.raises(ConnectionResetError):
            await world.reading

    play(script)


@pytest.mark.parametrize(("unsent", "closing"), [(1, False), (0, True)])
def test_the_task_waits_for_a_receiver_that_is_behind_or_has_gone(unsent, closing):
    async def script(world):
        world.transport.unsent, world.transport.closing = unsent, closing
        await world.arrive(b"one")
        await asyncio.sleep(0)
        return world.drained

    assert play(script) == 1


def test_nothing_goes_to_the_layers_while_a_receiver_is_behind():
    async def script(world):
        world.may_drain.clear()
        world.transport.unsent = 1
        await world.arrive(b"one", b"two")
        await world.arrive(b"three")
        return world.got

    assert play(script) == [b"one"]


def test_what_came_meanwhile_follows_when_it_has_caught_up():
    async def script(world):
        world.may_drain.clear()
        world.transport.unsent = 1
        await world.arrive(b"one")
        await asyncio.sleep(0)
        await world.arrive(b"two")
        world.transport.unsent = 0
        world.may_drain.set()
        await settled()
        return world.got

    assert play(script) == [b"one", b"two"]


def test_a_sender_that_does_not_stop_is_stopped_meanwhile():
    async def script(world):
        world.may_drain.clear()
        world.transport.unsent = 1
        await world.arrive(*[b"x" * 65536] * 4)
        return world.transport.pauses

    assert play(script) == 1


def test_a_receiver_that_takes_all_is_not_waited_for():
    async def script(world):
        await world.arrive(b"one")
        await asyncio.sleep(0)
        return world.drained

    assert play(script) == 0


def test_as_much_is_read_at_once_as_mitmproxy_takes():
    async def script(world):
        return world.transport.max_size

    assert play(script) == READ_SIZE


@given(
    st.lists(
        st.tuples(st.sampled_from(["feed", "round", "hold", "free", "behind", "caught up"]), st.binary(min_size=1, max_size=3))
    )
)
def test_nothing_is_lost_doubled_or_overtaken(steps):
    async def script(world):
        fed = b""
        for step, data in steps:
            match step:
                case "feed":
                    if data[0] % 2:
                        world.reader.feed_data(data)  # by a task
                    else:
                        await world.arrive(data)
                    fed += data
                case "round":
                    await asyncio.sleep(0)
                case "hold":
                    if not world._server_event_lock.locked():
                        await world._server_event_lock.acquire()
                        world.held = True
                case "free":
                    if getattr(world, "held", False):
                        world._server_event_lock.release()
                        world.held = False
                case "behind":
                    world.transport.unsent = 1
                    world.may_drain.clear()
                case "caught up":
                    world.transport.unsent = 0
                    world.may_drain.set()
        if getattr(world, "held", False):
            world._server_event_lock.release()
        world.may_drain.set()
        await world.end()
        return b"".join(world.got) == fed

    assert play(script)
