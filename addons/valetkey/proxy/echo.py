"""No real key on the way back: what an upstream sends is scrubbed before anything of it is shown, kept or read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from mitmproxy import http
from mitmproxy.proxy.layers.http import HttpEvent, ResponseData, ResponseProtocolError
from mitmproxy.websocket import WebSocketMessage

from ..formats import EVENT_STREAM, DecodeError, EncodedWatch, ScrubStream, decoded, decoder
from . import heads
from .passage import Passage

logger = logging.getLogger(__name__)

NOTE = "key_echoed"
"""On the receipt of a call whose answer held a real key."""
CONNECTIONS = logging.getLogger("mitmproxy.proxy.server")
"""Where mitmproxy logs what happens on a connection; some of its lines quote what came."""


def note(passage: Passage) -> None:
    """Remember that the provider sent a key back, and say so once."""
    if NOTE not in passage.notes:
        passage.note(NOTE)
        provider = passage.plan.provider.name if passage.plan else passage.provider
        logger.warning("valetkey: %s sent a real key back; it was hidden from the agent (call %s)", provider, passage.id)


def scrub_head(answer: http.Response, passage: Passage) -> None:
    """Hide keys in the reason phrase and in headers."""
    scrubber, data = passage.snapshot.vault.scrubber, answer.data
    # One search for all of it: nearly always there is nothing to be found.
    if not scrubber.suspects(b"\n".join([data.reason, *chain.from_iterable(data.headers.fields)])):
        return
    reason = scrubber.scrub(data.reason)
    found = reason is not data.reason
    data.reason = reason
    if heads.scrub(answer.headers, scrubber) or found:
        note(passage)


def scrub_trailers(answer: http.Response, passage: Passage) -> None:
    """Hide keys in trailers."""
    if answer.trailers and heads.scrub(answer.trailers, passage.snapshot.vault.scrubber):
        note(passage)


def scrub_body(answer: http.Response, passage: Passage) -> None:
    """Hide keys in a whole body; without any it stays byte for byte. Raises WireError when it cannot be searched."""
    body, scrubber, encoding = answer.raw_content, passage.snapshot.vault.scrubber, content_encoding(answer)
    if not body or not scrubber:
        return
    if not encoding:
        clean = scrubber.scrub(body)
        if clean is not body:
            answer.raw_content = clean  # of the same length
            note(passage)
        return
    plain = decoded(body, encoding, passage.snapshot.rules.gateway.max_body)
    # Compressed data has room for comments, so both are searched.
    if scrubber.finds(plain) or scrubber.finds(body):
        answer.content = scrubber.scrub(plain)
        note(passage)


def stream(answer: http.Response, passage: Passage) -> ScrubStream | EncodedWatch | None:
    """What a stream goes through; None without any key. Raises WireError for an encoding that is not known."""
    scrubber, encoding = passage.snapshot.vault.scrubber, content_encoding(answer)
    if not scrubber:
        return None
    framed = heads.get(answer.headers, b"content-type").partition(";")[0].strip().lower() == EVENT_STREAM
    if not encoding and not framed:
        return ScrubStream(scrubber)
    return EncodedWatch(scrubber, encoding, passage.snapshot.rules.gateway.max_body, framed=framed)


def is_readable(answer: http.Response) -> bool:
    """Whether its encoding is known. If not, it is better read whole: what has not reached the agent can still be refused."""
    try:
        decoder(content_encoding(answer))
    except DecodeError:
        return False
    return True


def content_encoding(answer: http.Response) -> str:
    """All content encodings, empty for none."""
    return ", ".join(heads.get_all(answer.headers, b"content-encoding"))


def scrub_message(message: WebSocketMessage, passage: Passage) -> None:
    """Hide keys in a message of a WebSocket."""
    scrubber = passage.snapshot.vault.scrubber
    # A defect below must not let it pass.
    dropped, message.dropped = message.dropped, True
    clean = scrubber.scrub(message.content)
    if clean is not message.content:
        message.content = clean
        note(passage)
    message.dropped = dropped


def scrub_event[E: HttpEvent](event: E, passage: Passage | None, *, framed: bool = False) -> E:
    """Hide keys in what no hook sees before it goes to the agent: error messages, which quote what could not be parsed, and
    the control frames of a WebSocket. `framed`: data are frames; a mask is as long as what it hides, so they stay frames.
    """
    if passage is None:
        return event
    if isinstance(event, ResponseProtocolError):
        return replace(event, message=passage.snapshot.vault.redact(event.message))
    if framed and isinstance(event, ResponseData):
        clean = passage.snapshot.vault.scrubber.scrub(event.data)
        if clean is not event.data:
            note(passage)
            return replace(event, data=clean)
    return event


class LogScrub(logging.Filter):
    """Hides keys in log lines."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the line, never suppress it."""
        text = record.getMessage()
        clean = self._redact(text)
        if clean is not text:
            record.msg, record.args = clean, ()
        return True
