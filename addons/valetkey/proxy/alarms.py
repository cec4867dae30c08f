"""Wake a stream later: deadlines, pauses and permits. One timer per stream; nothing is held when it is cancelled.

mitmproxy's own `RequestWakeup` pins stream, flow and body until it fires. Here the timer holds a weak reference, and the event
is handed to the stream's connection only when it rings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import ref

from mitmproxy import connection, ctx
from mitmproxy.proxy import commands, events

TOLERANCE = 0.001
"""Seconds by which a time counts as up: timers and clocks are not the same clock."""
_NOWHERE = connection.Server(address=None)


class Rest(commands.ConnectionCommand):
    """A stream waits; it is paused until `RestOver` comes.

    All layers pass it on as a command for a connection that is not there, and at the end nobody carries it out.
    """

    blocking = True

    def __init__(self, seconds: float) -> None:
        super().__init__(_NOWHERE)
        self.seconds = seconds


@dataclass(repr=False)
class RestOver(events.CommandCompleted):
    """The end of a `Rest`."""

    command: Rest
    reply: None = None


class Bell(commands.Command):
    """Stands for the event that a stream is rung with, so that mitmproxy finds the way to it."""

    def __init__(self, owner: object) -> None:
        self.owner = owner


@dataclass(repr=False)
class Rung(events.CommandCompleted):
    """A stream's time is up."""

    command: Bell
    reply: None = None


class Timer(Protocol):
    """What `call_later` gives."""

    def cancel(self) -> None:
        """Do not fire."""
        ...


class Sleeper(Protocol):
    """A stream that can be woken."""

    timer: Timer | None

    def timer_fired(self) -> None:
        """The timer has fired. What it was set for may be over by now, or later."""
        ...

    def ring(self) -> tuple[connection.Client, events.Event]:
        """The event for its time being up, and the connection that leads to it."""
        ...


Later = Callable[[float, Callable[[], None]], Timer]
Post = Callable[[connection.Client, events.Event], None]
Reaches = Callable[[connection.Client], bool]


def later(seconds: float, call: Callable[[], None]) -> Timer:
    """Call on the event loop after so many seconds."""
    return asyncio.get_running_loop().call_later(seconds, call)


def post(client: connection.Client, event: events.Event) -> None:
    """Hand an event to a client's connection, if it is still there."""
    proxyserver = ctx.master.addons.get("proxyserver")
    handler = proxyserver.connections.get(client.id) if proxyserver is not None else None
    if handler is not None:
        task = asyncio.get_running_loop().create_task(handler.server_event(event))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def reaches(client: connection.Client) -> bool:
    """Whether `post` finds the connection; a replayed flow has none."""
    proxyserver = ctx.master.addons.get("proxyserver")
    return proxyserver is not None and client.id in proxyserver.connections


_tasks: set[asyncio.Task[None]] = set()


class Alarms:
    """Sets and cancels the timers of streams."""

    def __init__(self, later: Later = later, post: Post = post, reaches: Reaches = reaches) -> None:
        self._later, self._post = later, post
        self.reaches = reaches

    def set(self, sleeper: Sleeper, seconds: float) -> None:
        """Wake `sleeper` after so many seconds, instead of any time set before."""
        self.cancel(sleeper)
        held = ref(sleeper)
        sleeper.timer = self._later(seconds, lambda: self._ring(held))

    def cancel(self, sleeper: Sleeper) -> None:
        """Let `sleeper` sleep."""
        if sleeper.timer is not None:
            sleeper.timer.cancel()
            sleeper.timer = None

    def ring(self, sleeper: Sleeper) -> None:
        """Wake `sleeper` now."""
        self.cancel(sleeper)
        self._post(*sleeper.ring())

    def _ring(self, held: ref[Sleeper]) -> None:
        sleeper = held()
        if sleeper is not None:
            sleeper.timer = None
            sleeper.timer_fired()
