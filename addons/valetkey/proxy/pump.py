"""The Pump: every byte of an answer goes through it on its way to the agent.

First comes the scrub, so that no key is read, kept or passed on by anything behind it. What passes is given to the usage tap,
and through a filter. mitmproxy calls the Pump once per chunk and once with `b""` at the end.

Only the scrub may raise, which ends the stream (`stream.py`): a byte that was not searched must not pass. Metering is no
reason to end one: after a defect there the bytes pass and the call counts as unmetered.
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


class Scrub(Transducer, Protocol):
    """A transducer that hides keys, or raises."""

    found: bool
    """Whether there was a key."""


class Pump:
    """Scrubs, feeds a tap and, when asked, a filter; remembers when the first content passed."""

    def __init__(
        self,
        tap: UsageTap | None,
        transducer: UsageChunkFilter | None,
        clock: Callable[[], float],
        bindings: BindingTap | None = None,
        *,
        scrub: Scrub | None = None,
        on_echo: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_echo` is called when the scrub has found a key."""
        self.tap = tap
        self.bindings = bindings
        self.broken = False
        self.ended = False
        self.bytes = 0
        self.first_content: float | None = None
        self._transducer = transducer
        self._clock = clock
        self._scrub, self._on_echo = scrub, on_echo

    def start_anew(self, other: Pump) -> None:
        """Go on as another one, which has read nothing."""
        vars(self).update(vars(other))

    def __call__(self, data: bytes) -> tuple[bytes, ...]:
        """One chunk, or `b""` for the end; gives no chunk at all rather than an empty one. Raises only what the scrub does."""
        if self._scrub is None:
            return self._metered(data)
        clean = self._scrubbed(self._scrub, data)
        if data:
            return self._metered(clean) if clean else ()
        return (*(self._metered(clean) if clean else ()), *self._metered(b""))

    def _scrubbed(self, scrub: Scrub, data: bytes) -> bytes:
        try:
            return scrub.feed(data) if data else scrub.end()
        finally:
            if scrub.found:
                self._on_echo()

    def _metered(self, data: bytes) -> tuple[bytes, ...]:
        """What passes of a chunk, or of the end. Never raises."""
        try:
            out = self._step(data)
        except Exception:
            out = self._after_defect(data)
        # mitmproxy would frame an empty chunk as the end of a chunked body.
        return (out,) if out else ()

    def _step(self, data: bytes) -> bytes:
        if self.broken:
            return data
        tap, transducer = self.tap, self._transducer
        if not data:
            self.ended = True
            if tap is not None:
                tap.end()
        else:
            self.bytes += len(data)
            if self.bindings is not None:
                self.bindings.feed(data)
            if tap is not None:
                tap.feed(data)
        if self.first_content is None and tap is not None and tap.saw_content:
            self.first_content = self._clock()
        if transducer is None:
            return data
        return transducer.feed(data) if data else transducer.end()

    def _after_defect(self, data: bytes) -> bytes:
        if not self.broken:
            logger.exception("valetkey: metering stopped inside a stream; its bytes pass unmetered")
        self.broken = True
        return self._release(data)

    def _release(self, data: bytes) -> bytes:
        """What the transducer still held, then `data`: a defect may cost the filter, never a byte."""
        held, self._transducer = self._transducer, None
        try:
            return (held.end() if held is not None else b"") + data
        except Exception:
            logger.exception("valetkey: a stream filter could not be emptied")
            return data
