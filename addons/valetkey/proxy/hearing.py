"""Hear an answer before it passes: is it an error, and may the call be made again? Nothing reaches the agent meanwhile.

Errors and whole answers are heard to their end, streams until the first event that means something. What is heard is held by
the stream layer, which replays it when the answer may pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mitmproxy import http

from ..formats import DecodeError, Opening, decoder, read_whole
from ..formats import Failure as InStream
from ..model import Outcome
from . import heads
from .passage import Passage

ERROR_LIMIT = 256 * 1024
"""Bytes of an error that are read; a longer one passes as it is."""

Word = Literal["wait", "pass"]

_FAILED = b'failed"'
_ERROR = re.compile(rb'error"(?!\s*:\s*null)')
"""Without these words a document is no error, and need not be parsed. Every answer of the Responses API has `"error": null`."""
_KEPT = ("x-", "request-id", "retry-after", "anthropic-", "openai-", "cf-ray", "date")
"""How the names of those headers begin that an error keeps when it is taken out of its stream."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An attempt that gave no answer which may pass. `answer` is what there is to show for it.

    `message` is for people; `outcome` is set where it does not follow from the answer.
    """

    message: str
    answer: http.Response | None = None
    outcome: Outcome | None = None
    again: bool = True
    """Whether the same key may be worth a second try."""


class Hearing:
    """One answer, heard from its head on."""

    def __init__(self, answer: http.Response, passage: Passage) -> None:
        self._answer = answer
        self._place = place = passage.place
        self._pieces: list[bytes] = []
        self._size = 0
        gateway, call = passage.snapshot.rules.gateway, passage.call
        self._retry_empty, self._limit = gateway.retry_empty, gateway.max_body
        self._was_silent = passage.silent
        self._is_error = answer.status_code >= 400
        self._opening: Opening | None = None
        self._passes = not self._is_error
        if answer.status_code == 200 and place is not None and place.endpoint.flavor is not None:
            if call is not None and call.streamed:
                kind, encoding = self._header(b"content-type"), self._header(b"content-encoding")
                self._opening = Opening(place.endpoint.format, kind, encoding)
                self._passes = self._opening.feed(b"") is True
            else:
                self._passes = not self._is_whole()

    @property
    def holds(self) -> bool:
        """Whether the answer is a stream whose head is held for a limited time."""
        return self._opening is not None

    def begin(self) -> Word:
        """What the head says."""
        return "pass" if self._passes else "wait"

    def feed(self, data: bytes) -> Word | Trouble:
        """Take the next bytes."""
        if self._opening is not None:
            return self._heard(self._opening.feed(data))
        self._pieces.append(data)  # the same bytes that the stream layer holds, not a copy
        self._size += len(data)
        return "pass" if self._size > (ERROR_LIMIT if self._is_error else self._limit) else "wait"

    def end(self) -> Word | Trouble:
        """The answer is complete."""
        if self._opening is not None:
            found = self._opening.end()
            return self._empty() if found is False else self._heard(found)
        if self._is_error:
            return Trouble(f"status {self._answer.status_code}", self._whole())
        return self._judge_whole()

    def out_of_time(self) -> Word | Trouble:
        """The head was held as long as it may be. A provider that has sent nothing at all is given up, once.

        A second silence is taken for thought: some models think for minutes before their first event, and are paid for it.
        """
        if self._opening is None or self._opening.noise or self._was_silent:
            return "pass"
        return Trouble("the stream began and nothing came", None, Outcome.TIMEOUT, again=False)

    def _is_whole(self) -> bool:
        """Whether what came with a 200 is a document that could be an error or empty, and is not too large to be heard."""
        names = heads.by_name(self._answer.headers)
        if names is not None and names.get(b"content-type") == b"application/json":  # most are, and say how long
            size = names.get(b"content-length", b"")
            if type(size) is bytes and size.isdigit():
                return int(size) <= self._limit
        kind = self._header(b"content-type") or ""
        if kind != "application/json" and kind.partition(";")[0].strip().lower() != "application/json":
            return False
        length = self._header(b"content-length") or ""
        return not length.isdecimal() or int(length) <= self._limit

    def _header(self, name: bytes) -> str | None:
        """The values of a header with commas between, as mitmproxy gives them; None where there is none."""
        found = heads.raw_values(self._answer.headers, name)
        return b", ".join(found).decode("utf-8", "surrogateescape") if found else None

    def _judge_whole(self) -> Word | Trouble:
        assert self._place is not None
        body = self._plain()
        # Parsing costs several times what looking for words does.
        if body is None or not (self._retry_empty or _FAILED in body or _ERROR.search(body)):
            return "pass"
        found = read_whole(self._place.endpoint.format, self._header(b"content-type"), None, body)
        return self._empty() if found is False else self._heard(found)

    def _plain(self) -> bytes | None:
        """The body, decoded; None where it cannot be, or is larger than what is heard."""
        body, names = b"".join(self._pieces), heads.by_name(self._answer.headers)
        if names is not None and b"content-encoding" not in names:
            return body
        encoding = self._header(b"content-encoding")
        if not encoding:
            return body
        plain, size = [], 0
        try:
            reader = decoder(encoding)
            for piece in reader.feed_iter(body):
                plain.append(piece)
                size += len(piece)
                if size > self._limit:
                    return None
            plain.append(reader.end())
        except DecodeError:
            return None
        return b"".join(plain)

    def _heard(self, found: InStream | bool) -> Word | Trouble:
        if isinstance(found, InStream):
            return Trouble("an error came inside the answer", self._as_error(found))
        return "pass" if found else "wait"

    def _empty(self) -> Word | Trouble:
        return Trouble("the answer was empty", None, Outcome.SERVER) if self._retry_empty else "pass"

    def _whole(self) -> http.Response:
        whole = self._answer.copy()
        whole.stream = False
        whole.raw_content = b"".join(self._pieces)
        return whole

    def _as_error(self, found: InStream) -> http.Response:
        """The error with the status that it would have had by itself; nothing has reached the agent, so it can be told so."""
        made = http.Response.make(found.status, found.body, {"content-type": "application/json"})
        for name, value in self._answer.headers.items():
            if name.lower().startswith(_KEPT):
                made.headers[name] = value
        return made
