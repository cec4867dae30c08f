"""What the stream layer asks of the gateway: small questions with answers, no protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mitmproxy import connection, http

from ..formats import error_event
from ..model import Format, Outcome, Refusal
from . import wire
from .passage import Passage, Ready
from .refusals import PREFIX
from .runtime import Runtime

if TYPE_CHECKING:
    from .pump import Pump


_WITH_ERROR_EVENT = (Format.ANTHROPIC_MESSAGES, Format.OPENAI_RESPONSES, Format.BEDROCK_CONVERSE, Format.BEDROCK_INVOKE)
"""Their streams have an event for an error. Chat has none: its SDKs take a missing `[DONE]` for one."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The stream layer's view of the gateway.

    `prepare` does what can be done before an answer may pass; `pump` opens one for an answer, and `reopen` lets it start anew;
    `stream_request` decides without a body.
    """

    runtime: Runtime
    prepare: Callable[[http.Response, Passage], Ready]
    pump: Callable[[http.HTTPFlow], Pump]
    reopen: Callable[[http.HTTPFlow], None]
    stream_request: Callable[[http.HTTPFlow], bool]
    settle: Callable[[http.HTTPFlow], None]

    def passage(self, flow: http.HTTPFlow | None) -> Passage | None:
        """The call that `flow` is, if it is one."""
        return self.runtime.passages.of(flow) if flow is not None else None

    def wire_request(self, flow: http.HTTPFlow, passage: Passage | None, server: connection.Server) -> http.Request:
        """The copy that goes out, with the credential. Raises WireError when it must not."""
        if passage is None:
            return wire.foreign_request(flow, server, self.runtime)
        return wire.request(flow, passage, server, self.runtime)

    def last_words(self, flow: http.HTTPFlow, passage: Passage, error: str) -> bytes:
        """The error event for a stream that broke; empty where the format ends a broken stream by closing it."""
        answer, place = flow.response, passage.place
        if answer is None or place is None or place.endpoint.format not in _WITH_ERROR_EVENT:
            return b""
        tap = passage.pump.tap if passage.pump is not None else None
        # What follows half a frame would be read as the rest of it.
        takes_frame = tap is not None and tap.takes_frame
        if not takes_frame and "text/event-stream" not in answer.headers.get("content-type", ""):
            return b""
        if "content-encoding" in answer.headers:
            return b""
        message = f"{PREFIX}the provider's stream broke: {error}"
        return error_event(place.endpoint.format, 502, "upstream_failed", message)

    def broke_off(self, passage: Passage, *, by_agent: bool) -> None:
        """Note who ended a call before its time."""
        if self.runtime.ending():
            passage.outcome = passage.outcome or Outcome.SHUTDOWN
            return
        if by_agent:
            passage.note("client_left")
        passage.outcome = passage.outcome or (Outcome.CLIENT if by_agent else Outcome.SERVER)

    def ended(self, flow: http.HTTPFlow, refusal: Refusal, outcome: Outcome) -> None:
        """The layer ended the call itself: settle it, since no hook will."""
        passage = self.passage(flow)
        if passage is not None and not passage.settled:
            passage.refusal = passage.refusal or refusal
            passage.outcome = outcome
            self.settle(flow)
