from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest

from valetkey.proxy import turns


def in_a_loop(step):
    """What `step(loop)` gives inside a running event loop."""

    async def run():
        return step(asyncio.get_running_loop())

    return asyncio.run(run())


def test_a_loop_for_which_nothing_waits_is_not_busy():
    assert in_a_loop(turns.is_busy) is False


def test_a_loop_with_something_left_to_run_is_busy():
    assert in_a_loop(lambda loop: (loop.call_soon(str), turns.is_busy(loop))[1]) is True


def with_bytes():
    """Whether a loop is busy when bytes have come for a socket that it watches, and what it reads then."""

    async def run():
        loop, (ours, theirs) = asyncio.get_running_loop(), socket.socketpair()
        with ours, theirs:
            came = loop.create_future()
            loop.add_reader(ours, lambda: came.done() or came.set_result(ours.recv(9)))
            theirs.send(b"x")
            busy = turns.is_busy(loop)
            return busy, await came

    return asyncio.run(run())


def test_a_loop_to_which_bytes_have_come_is_busy_and_reads_them_all_the_same():
    assert with_bytes() == (True, b"x")


def test_a_loop_that_gives_what_has_come_only_once_is_not_asked():
    asked = []
    loop = SimpleNamespace(_ready=(), _selector=SimpleNamespace(select=asked.append))
    assert (turns.is_busy(loop), asked) == (False, [])


@pytest.mark.parametrize("seconds", [0.0, 0.001])
def test_what_is_put_off_is_run(seconds):
    async def run():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        turns.later(loop, seconds, lambda: done.set_result("done"))
        return done.done(), await done

    assert asyncio.run(run()) == (False, "done")
