"""A stream of the stream layer without HTTP around it."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import ErrorCode, RequestProtocolError

from support.playing import VirtualTime
from valetkey.proxy.alarms import Alarms

LEFT = RequestProtocolError(1, "the agent left", ErrorCode.CANCEL)


class Bare:
    """Put before a class of the stream layer: it waits for what it is told to, and its clock is the test's."""

    def __init__(self, waits_for=None):
        self.time = VirtualTime()
        self.rings, self.timers, self.replies, self.asked = [], [], [], []
        self.found = None
        alarms = Alarms(self._later, lambda *_: self.rings.append(self.time.now), lambda client: True)
        runtime = SimpleNamespace(monotonic=lambda: 100.0 + self.time.now, alarms=alarms)
        self.traffic = SimpleNamespace(runtime=runtime, passage=self._find)
        self._parent = SimpleNamespace(command_sources={}, waiting_for_establishment=defaultdict(list))
        layer.Layer.__init__(self, SimpleNamespace(layers=[], client=None, options=SimpleNamespace(proxy_debug=False)))
        self.waits_for = waits_for
        if waits_for is not None:
            self.give(events.Start())

    def _later(self, seconds, call):
        self.timers.append(seconds)
        return self.time.later(seconds, call)

    def _find(self, flow):
        self.asked.append(flow)
        return self.found

    def _handle_event(self, event):
        if isinstance(event, events.Start):
            self._parent.command_sources[self.waits_for] = self
            self.replies.append((yield self.waits_for))
        else:
            self.replies.append(event)

    def give(self, event):
        return list(self.handle_event(event))

    def run(self, until=1000.0):
        while self.time.advance(until):
            pass
        self.time.now = until
