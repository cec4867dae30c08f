"""The echo scrub: real keys taken out of what an upstream sends, in whatever spelling, before the agent sees it.

Every byte of a key, in any spelling of `encodings`, becomes `*`. So the length stays: `content-length`, chunk sizes and SSE
framing remain true; an asterisk is at home in a JSON string, a header value, a reason phrase and a URL, and it is what
providers themselves mask keys with. A match covers whole escapes, so that no half of one is left. All other bytes stay as they
are. Because the mark is one byte repeated, overlapping keys need no order and the cut into chunks leaves no trace.

The search: of each spelling, eight-byte pieces at consecutive offsets are known, as many offsets as there are bytes from one
probe of the data to the next. So wherever a spelling stands in the data, a probe falls on one of its pieces. One set operation on
the probed words excludes all keys at once, at a cost that does not depend on how many there are.

A key that is spread over several events, a part in the text of each, is not recognised: its bytes never stand together.

A short key is looked for as it is, and under escapes, but not in other encodings: those of a few characters are too common.
"""

from __future__ import annotations

import struct
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from .encodings import ESCAPE_BYTES, LONGEST_ESCAPE, Unescaped, has_escapes, unescape, unfinished, variants

MIN_LENGTH = 16
"""Characters of a key that is looked for in all spellings. Those of providers are longer."""
LEAST_LENGTH = 8
"""Characters of a key that is looked for at all. A shorter one could be a common word, and content would suffer."""

MARK = b"*"
_WORD = 8
_MOST_PIECES = 100_000
"""Pieces known for the sake of wider steps; each takes about 150 bytes of memory."""
_UNROLLED = 64
"""Probes that are read by one call of `struct`, twice as fast as a view; more than in nearly every chunk of a stream."""
_HEAD = 3

_Span = tuple[int, int]


class Scrubber:
    """Finds and hides a set of keys. Never changes, so all flows can share one."""

    __slots__ = ("_beginnings", "_pieces", "_short")

    def __init__(self, secrets: Iterable[str]) -> None:
        """`secrets` are ASCII without white space; those shorter than `LEAST_LENGTH` are not looked for."""
        secrets = tuple(secrets)
        self._short = tuple({secret.encode() for secret in secrets if LEAST_LENGTH <= len(secret) < MIN_LENGTH})
        spelled = {text for secret in secrets if len(secret) >= MIN_LENGTH for text in variants(secret)}
        long = [text for text in spelled if len(text) >= MIN_LENGTH]
        self._pieces = _Pieces(_Spellings(long))
        self._beginnings = _Beginnings(_Spellings([*long, *self._short]))

    def __bool__(self) -> bool:
        """Whether there is any key to look for."""
        return bool(self._short or self._pieces)

    def scrub(self, data: bytes) -> bytes:
        """A whole body or header with all keys hidden; the same object where there is none."""
        spans = self.spans(data) if self.suspects(data) else []
        return masked(data, spans) if spans else data

    def scrub_text(self, text: str) -> str:
        """The same for text, such as a log line; lone surrogates (undecodable bytes of a header) survive."""
        data = text.encode("utf-8", "surrogatepass")
        scrubbed = self.scrub(data)
        return text if scrubbed is data else scrubbed.decode("utf-8", "surrogatepass")

    def finds(self, data: bytes) -> bool:
        """Whether a key stands in `data`."""
        return self.suspects(data) and bool(self.spans(data))

    def suspects(self, data: bytes) -> bool:
        """A fast test that no data with a key fails, and hardly any other passes."""
        return self._touches(data) or (has_escapes(data) and self._touches(unescape(data)))

    def spans(self, data: bytes) -> list[_Span]:
        """Where keys stand, unordered and perhaps overlapping."""
        spans = list(self._find(data))
        if has_escapes(data):
            plain = Unescaped(data)
            spans += [(plain.origin(start), plain.origin(end)) for start, end in self._find(plain.text)]
        return spans

    def _touches(self, data: bytes) -> bool:
        return self._pieces.touch(data) or (bool(self._short) and any(text in data for text in self._short))

    def _find(self, data: bytes) -> Iterator[_Span]:
        yield from self._pieces.find(data)
        for text in self._short:
            start = data.find(text)
            while start >= 0:
                yield start, start + len(text)
                start = data.find(text, start + 1)

    def held(self, data: bytes) -> int:
        """From where on the end of `data` may be the beginning of a key; its length if it is not."""
        return self._beginnings.start(data)


class ScrubStream:
    """Scrubs one stream. Holds back only an end that is the beginning of a key, or of an escape; `end` lets it go."""

    __slots__ = ("_carry", "_covered", "_scrubber", "found")

    def __init__(self, scrubber: Scrubber) -> None:
        self.found = False
        """Whether a key was hidden so far."""
        self._scrubber = scrubber
        self._carry = b""
        # How much of the carry belongs to a key that was found already: one key may begin within another.
        self._covered = 0

    @property
    def held(self) -> int:
        """Bytes of the end of the last chunk that are held back."""
        return len(self._carry)

    def feed(self, data: bytes) -> bytes:
        """Take the next chunk; gives what may pass."""
        if self._carry:
            data = self._carry + data
        return self._advance(data, self._scrubber.held(data))

    def end(self) -> bytes:
        """The stream is over: gives what was held, scrubbed."""
        return self._advance(self._carry, len(self._carry))

    def _advance(self, data: bytes, hold: int) -> bytes:
        """Give `data` up to `hold`, keep the rest."""
        self._carry = data[hold:]
        if not self._covered and not self._scrubber.suspects(data):
            return data[:hold]
        # What begins in the rest is found with the next chunk, when an escape that is cut there can be read.
        spans = [span for span in self._scrubber.spans(data) if span[0] < hold]
        self.found = self.found or bool(spans)
        spans.append((0, self._covered))
        self._covered = max(0, max(end for _, end in spans) - hold)
        return masked(data[:hold], spans)


def masked(data: bytes, spans: Iterable[_Span]) -> bytes:
    """`data` with the bytes of all `spans` hidden, as far as it reaches."""
    out = bytearray(data)
    for start, end in spans:
        end = min(end, len(out))
        out[start:end] = MARK * (end - start)
    return bytes(out)


class _Spellings:
    """All spellings, sorted, so that looking one up costs hardly more with a thousand keys than with one."""

    __slots__ = ("_shorter", "longest", "texts")

    def __init__(self, texts: Iterable[bytes]) -> None:
        self.texts = sorted(texts)
        self.longest = max(map(len, self.texts), default=0)
        self._shorter: dict[bytes, bytes] = {}
        for before, text in pairwise(self.texts):
            self._shorter[text] = self._beginning(text, before)

    def at(self, data: bytes, start: int) -> bytes:
        """The longest spelling that stands in `data` from `start` on; empty if there is none."""
        text = data[start : start + self.longest]
        after = bisect_right(self.texts, text)
        return self._beginning(text, self.texts[after - 1]) if after else b""

    def continues(self, part: bytes) -> bool:
        """Whether `part` is a proper beginning of a spelling."""
        after = bisect_right(self.texts, part)
        return after < len(self.texts) and self.texts[after].startswith(part)

    def _beginning(self, text: bytes, before: bytes) -> bytes:
        """The longest spelling that `text` begins with. It begins all that sorts between, so also `before`, the last of those."""
        while not text.startswith(before):
            before = self._shorter.get(before, b"")
        return before


class _Pieces:
    """Known pieces of all spellings, and the search for them."""

    __slots__ = ("_known", "_offsets", "_readers", "_spellings", "_step")

    def __init__(self, spellings: _Spellings) -> None:
        self._spellings = spellings
        self._step = _stride(spellings.texts) * _WORD
        self._offsets = _pieces(spellings.texts, self._step)
        self._known = frozenset(self._offsets)
        self._readers = tuple(_reader(count, self._step) for count in range(_UNROLLED))

    def __bool__(self) -> bool:
        return bool(self._known)

    def touch(self, data: bytes) -> bool:
        """Whether a probe of `data` is a known piece."""
        count = (len(data) + self._step - _WORD) // self._step
        if count < _UNROLLED:  # as in `_probes`, without a call: this is asked of every head, body and chunk
            return not self._known.isdisjoint(self._readers[count](data))
        return not self._known.isdisjoint(self._probes(data))

    def find(self, data: bytes) -> Iterator[_Span]:
        """Where the spellings stand in `data`; of those that begin at one place, the longest."""
        if not self.touch(data):
            return
        for index, probe in enumerate(self._probes(data)):
            for offset in self._offsets.get(probe, ()):
                start = index * self._step - offset
                if start >= 0 and (text := self._spellings.at(data, start)):
                    yield start, start + len(text)

    def _probes(self, data: bytes) -> Iterable[int]:
        count = (len(data) + self._step - _WORD) // self._step
        if count < _UNROLLED:
            return self._readers[count](data)
        return memoryview(data)[: len(data) // _WORD * _WORD].cast("Q")[:: self._step // _WORD]


def _stride(texts: Sequence[bytes]) -> int:
    """Words from one probe to the next: the wider, the fewer probes, the more pieces and the longer the shortest spelling."""
    shortest = min(map(len, texts), default=0)
    for words in (4, 2):
        if shortest >= (words + 1) * _WORD - 1 and len(texts) * words * _WORD <= _MOST_PIECES:
            return words
    return 1


def _pieces(texts: Sequence[bytes], step: int) -> dict[int, tuple[int, ...]]:
    """The last pieces of each spelling, as keys of a provider often begin alike; for each, the offsets where it may stand."""
    found: dict[int, tuple[int, ...]] = {}
    for text in texts:
        last = len(text) - _WORD
        for offset in range(last - step + 1, last + 1):
            piece = int.from_bytes(text[offset : offset + _WORD], sys.byteorder)
            others = found.get(piece, ())
            if offset not in others:
                found[piece] = (*others, offset)
    return found


def _reader(count: int, step: int) -> Callable[[bytes], tuple[int, ...]]:
    """Reads the first `count` probes. Byte order as the machine's, like that of a memoryview."""
    return struct.Struct("=" + f"Q{step - _WORD}x" * (count - 1) + "Q" * bool(count)).unpack_from


class _Beginnings:
    """Tells whether data ends with a proper beginning of a spelling."""

    __slots__ = ("_bytes", "_heads", "_last", "_spellings")

    def __init__(self, spellings: _Spellings) -> None:
        self._spellings = spellings
        texts = spellings.texts
        self._heads = frozenset(text[:length] for text in texts for length in range(1, _HEAD + 1))
        self._bytes = bytes({*b"".join(texts), *ESCAPE_BYTES}) if texts else b""
        self._last = frozenset(self._bytes)

    def start(self, data: bytes) -> int:
        """From where on the end of `data` must wait: a beginning of a spelling, escaped or not, or an unfinished escape."""
        if not data or data[-1] not in self._last:
            return len(data)
        tail = data[-self._spellings.longest * LONGEST_ESCAPE :]
        run = tail[len(tail.rstrip(self._bytes)) :]
        before = len(data) - len(run)
        broken = unfinished(run)
        if broken == len(run) and not has_escapes(run):
            return before + self._plain(run)
        plain = Unescaped(run[:broken])
        # What is given out must end between escapes: only then the rest reads as it would have in one piece.
        return before + min(plain.origin(self._plain(plain.text)), plain.outside(self._plain(run)))

    def _plain(self, text: bytes) -> int:
        """Where the longest end of `text` begins that is a proper beginning of a spelling."""
        for start in range(max(0, len(text) - self._spellings.longest + 1), len(text)):
            if text[start : start + _HEAD] in self._heads and self._spellings.continues(text[start:]):
                return start
        return len(text)
