"""The Pump: every byte of an answer goes through it on its way to the agent, and usage is read on the side.

mitmproxy calls it once per chunk and once with `b""` at the end. An exception in such a callable would hang the agent,
so nothing leaves here but bytes: after a defect the bytes pass and the call counts as unmetered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from ..formats import BindingTap, UsageChunkFilter, UsageTap

logger = logging.getLogger(__name__)


class Transducer(Protocol):
    """Bytes in, bytes out; `end` gives what was held back."""

    def feed(self, data: bytes) -> bytes:
        """Take a chunk, give what may pass."""
        ...

    def end(self) -> bytes:
        """Give the rest."""
        ...


class Pump:
    """Feeds a tap and, when asked, a filter; remembers when the first content passed."""

    def __init__(
        self,
        tap: UsageTap | None,
        transducer: UsageChunkFilter | None,
        clock: Callable[[], float],
        bindings: BindingTap | None = None,
    ) -> None:
        self.tap = tap
        self.bindings = bindings
        self.broken = False
        self.ended = False
        self.bytes = 0
        self.first_content: float | None = None
        self._transducer = transducer
        self._clock = clock

    def __call__(self, data: bytes) -> tuple[bytes, ...]:
        """One chunk, or `b""` for the end; gives no chunk at all rather than an empty one. Never raises."""
        out = self._passed(data)
        # mitmproxy would frame an empty chunk as the end of a chunked body.
        return (out,) if out else ()

    def _passed(self, data: bytes) -> bytes:
        try:
            return self._step(data)
        except Exception:
            if not self.broken:
                logger.exception("valetkey: metering stopped inside a stream; its bytes pass unmetered")
            self.broken = True
            return self._release(data)

    def _step(self, data: bytes) -> bytes:
        if self.broken:
            return data
        self._meter(data)
        if self._transducer is None:
            return data
        return self._transducer.feed(data) if data else self._transducer.end()

    def _meter(self, data: bytes) -> None:
        self.bytes += len(data)
        if not data:
            self.ended = True
        elif self.bindings is not None:
            self.bindings.feed(data)
        if self.tap is None:
            return
        if data:
            self.tap.feed(data)
        else:
            self.tap.end()
        if self.first_content is None and self.tap.saw_content:
            self.first_content = self._clock()

    def _release(self, data: bytes) -> bytes:
        """What the transducer still held, then `data`: a defect may cost the filter, never a byte."""
        held, self._transducer = self._transducer, None
        try:
            return (held.end() if held is not None else b"") + data
        except Exception:
            logger.exception("valetkey: a stream filter could not be emptied")
            return data
