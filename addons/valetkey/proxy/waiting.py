"""Waiting inside a flow: an `HttpStream` with an alarm, whose rests end when it rings.

Waiting is done in this layer alone, and ends at once when the agent leaves; a connection that is not made in time is given up.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from mitmproxy import connection
from mitmproxy.net import server_spec
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.events import Wakeup
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpStream, RequestProtocolError
from mitmproxy.proxy.layers.http import (
    GetHttpConnectionCompleted as Connected,
)

from . import tunnelling
from .alarms import TOLERANCE, Bell, Rest, RestOver, Rung, Timer
from .traffic import Traffic

_ORPHAN: server_spec.ServerSpec = ("http", ("given-up.invalid", 1))
"""Marks a connection that nobody waits for any more, so that it is never matched and never used."""
_LEFT = "the agent left"


class WaitingStream(HttpStream):
    """A stream that can be rung when its time is up."""

    traffic: ClassVar[Traffic]
    timer: Timer | None = None
    _deadline: float | None = None
    _fires = 0.0
    """When the timer fires, which may be before the deadline (both monotonic, seconds)."""
    _limit = 0.0
    _late = False
    """Whether the last connection was given up for lack of time."""

    def __init__(self, context: object, stream_id: int) -> None:
        super().__init__(context, stream_id)  # type: ignore[arg-type]
        parent = self.context.layers[-2]
        assert isinstance(parent, http_layers.HttpLayer)
        self._parent = parent

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does; but a wait of ours ends in this layer, and at once when the agent leaves."""
        if self._paused is not None and isinstance(event, RequestProtocolError | Wakeup | Rung):
            return self._while_paused(event)
        return super().handle_event(event)

    def _while_paused(self, event: events.Event) -> layer.CommandGenerator[None]:
        assert self._paused is not None
        if isinstance(event, RequestProtocolError):
            yield from super().handle_event(event)  # it is queued, where `check_killed` finds it
            ended = self._cut_short(self._paused.command)
            if ended is None:
                return
            event = ended
        elif isinstance(event, Wakeup) or (isinstance(event, Rung) and event.command.owner is self):
            event = self._woken(self._paused.command) or event
        yield from super().handle_event(event)

    def ring(self) -> tuple[connection.Client, events.Event]:
        """The time is up, or a permit was granted: the event that tells this stream."""
        bell = Bell(self)
        # An answer to a command goes the way that the command came; this one came no way, so each fork of it is told.
        for above, below in pairwise(self.context.layers):
            if isinstance(above, http_layers.HttpLayer) and not tunnelling.is_bypassed(above):
                above.command_sources[bell] = below
        return self.context.client, Rung(bell)

    def _woken(self, command: object) -> events.Event | None:
        """The end of what this stream waits for, since its time is up; None when it waits for something else."""
        if isinstance(command, Rest):
            self._parent.command_sources.pop(command, None)
            return RestOver(command)
        if isinstance(command, GetHttpConnection) and self.is_due() and self._withdraw(command):
            self._late = True
            self._parent.command_sources.pop(command, None)
            return Connected(command, (None, "no connection in time"))
        return None

    def is_due(self) -> bool:
        """Whether the time of the alarm has come."""
        left = self._left()
        return left is not None and left <= TOLERANCE

    def _left(self) -> float | None:
        """Seconds until the alarm rings; None when none is set."""
        return None if self._deadline is None else self._deadline - self.traffic.runtime.monotonic()

    def set_alarm(self, seconds: float) -> None:
        """Ring this stream after so many seconds. A timer that fires earlier is left running, and goes on from there."""
        self._limit = seconds
        self._deadline = self.traffic.runtime.monotonic() + seconds
        if self.timer is None or self._deadline < self._fires:
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        self._fires = self.traffic.runtime.monotonic() + seconds
        self.traffic.runtime.alarms.set(self, seconds)

    def timer_fired(self) -> None:
        """Ring, set the timer again, or do nothing: as there is something to wait for."""
        left = self._left()
        if left is not None and left > TOLERANCE:
            self._set_timer(left)
        elif left is not None:
            self.traffic.runtime.alarms.ring(self)

    def no_alarm(self) -> None:
        """Do not ring."""
        self._deadline = None

    def _cut_short(self, command: object) -> events.Event | None:
        """The end of what this stream waits for, since the agent has left; None when it cannot be cut short."""
        self.no_alarm()
        if isinstance(command, Rest):
            self._parent.command_sources.pop(command, None)
            return RestOver(command)
        if isinstance(command, GetHttpConnection) and self._withdraw(command):
            self._parent.command_sources.pop(command, None)
            return Connected(command, (None, _LEFT))
        return None

    def _withdraw(self, command: GetHttpConnection) -> bool:
        """Wait no longer for a connection, which mitmproxy goes on to make all the same."""
        for server, waiting in self._parent.waiting_for_establishment.items():
            for at, each in enumerate(waiting):
                if each is command:
                    del waiting[at]
                    if not waiting and isinstance(server, connection.Server):
                        # Otherwise the next attempt would wait for the same connection instead of making another.
                        # Around mitmproxy's own check: it may be open already, and be shaking hands.
                        object.__setattr__(server, "via", _ORPHAN)
                    return True
        return False

    def wait(self, seconds: float) -> layer.CommandGenerator[None]:
        """Rest for so many seconds; shorter when the stream is woken or the agent leaves."""
        self.set_alarm(seconds)
        if not self.traffic.runtime.alarms.reaches(self.context.client):
            yield commands.RequestWakeup(seconds)  # a replay: only mitmproxy itself knows the way to it
        yield Rest(seconds)
        self.no_alarm()

    def wake(self) -> None:
        """End the rest, if this stream rests."""
        if self._paused is not None and isinstance(self._paused.command, Rest):
            self.traffic.runtime.alarms.ring(self)
