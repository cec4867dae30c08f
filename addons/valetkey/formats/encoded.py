"""Answers with a `content-encoding` or in frames with sums, read aside so that no key hides in them.

An encoding that nobody here can undo, data that does not decode, and data that unpacks beyond all bounds are errors: what
cannot be read cannot be searched. Data that breaks off is none: an agent reads no more of it than we do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import WireError
from .decode import DecodeError, decoder
from .eventstream import EventStreamParser
from .scrub import Scrubber, ScrubStream

_TELLING = 4
"""Bytes of the beginning of a key that may pass, so that hardly any chunk has to wait: they give nothing away."""


def decoded(data: bytes, content_encoding: str, limit: int) -> bytes:
    """A whole body with its encodings undone, at most `limit` bytes. Raises WireError."""
    return b"".join(_Reader(content_encoding).read(data, limit))


class EncodedWatch:
    """Lets a compressed stream pass as it is, and ends it with a WireError before a key in it is complete.

    Both the plain data and the bytes themselves are searched: a compressed stream has room for comments. A chunk waits while
    what came so far may be the beginning of a key. `limit` bounds what one chunk unpacks to, and what waits, in bytes.

    `framed`: the plain data is an event stream of AWS, whose frames a mask would break. The events in it are searched as well:
    those of a model stand encoded in their frames.
    """

    def __init__(self, scrubber: Scrubber, content_encoding: str, limit: int, *, framed: bool = False) -> None:
        """Raises WireError for an encoding that is not known."""
        self.found = False
        """Whether the stream was ended because of a key."""
        self._reader, self._limit = _Reader(content_encoding), limit
        self._plain, self._bytes = ScrubStream(scrubber), ScrubStream(scrubber)
        self._frames = EventStreamParser(limit) if framed else None
        self._scrubber = scrubber
        self._waiting = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next chunk; gives what may pass. Raises WireError."""
        self._search(self._bytes, data)
        for piece in self._reader.read(data, self._limit):
            self._search(self._plain, piece)
            if self._frames is not None:
                self._search_frames(self._frames.feed(piece))
        self._waiting += data
        if max(self._plain.held, self._bytes.held) >= _TELLING:
            if len(self._waiting) > self._limit:
                raise WireError(502, "unreadable_answer", "the provider's answer unpacks to nothing")
            return b""
        return self.end()

    def end(self) -> bytes:
        """The stream is over, or nothing needs to wait: gives what waited."""
        passing, self._waiting = self._waiting, b""
        return passing

    def _search(self, stream: ScrubStream, data: bytes) -> None:
        stream.feed(data)
        self._end_if(stream.found)

    def _search_frames(self, events: Iterable[tuple[str | None, bytes]]) -> None:
        """Search what models say; all other events stand in their frames as they are."""
        self._end_if(any(name is None and self._scrubber.finds(data) for name, data in events))

    def _end_if(self, found: bool) -> None:
        if found:
            self.found = True
            text = "the provider sent a real key back in a stream that cannot be changed, and was ended"
            raise WireError(502, "key_echoed", text)


class _Reader:
    """A decoder that bounds what comes out of it, and whose errors end a call."""

    def __init__(self, content_encoding: str) -> None:
        try:
            self._decoder = decoder(content_encoding)
        except DecodeError as error:
            raise _unreadable(error) from error

    def read(self, data: bytes, limit: int) -> Iterator[bytes]:
        size = 0
        try:
            for piece in self._decoder.feed_iter(data):
                size += len(piece)
                if size > limit:
                    raise DecodeError(f"it unpacks to more than {limit} bytes (gateway.max_body)")
                yield piece
        except DecodeError as error:
            raise _unreadable(error) from error


def _unreadable(error: DecodeError) -> WireError:
    return WireError(502, "unreadable_answer", f"the provider's answer cannot be searched for keys: {error}")
