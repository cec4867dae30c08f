"""The inputs: seeds, and how they are changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

RECORDINGS = Path(os.environ.get("VALETKEY_RECORDINGS") or Path(__file__).resolve().parents[3] / "shared" / "recordings")
_LARGEST = 4096
"""Bytes of a seed: longer ones make every input slow and say nothing more."""
_ODD = (b"", b"\0", b"\r", b"\n", b"\r\n", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b" ", b"\t", b"\xef\xbb\xbf", b"%", b"\\")


@cache
def recordings() -> tuple[dict[str, Any], ...]:
    """The recorded exchanges, in the order of their names; none where they are not there."""
    return tuple(json.loads(path.read_text()) for path in sorted(RECORDINGS.glob("*.json")))


def recorded(part: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The `request` or `response` bodies that are not too large, each with its exchange."""
    for exchange in recordings():
        body = (exchange[part] or "").encode("utf-8", "surrogatepass")
        if 0 < len(body) <= _LARGEST:
            yield exchange, body


def inputs(seeds: Sequence[bytes], words: Sequence[bytes], longest: int) -> st.SearchStrategy[bytes]:
    """Seeds changed in up to eight places by `words` and parts of other seeds; some inputs are made of nothing but words."""
    known = (*words, *_ODD)
    edits = st.lists(st.integers(0, 2**48), max_size=8)  # one number each: every choice that Hypothesis makes takes its time
    changed = st.builds(lambda data, numbers: _changed(data, numbers, seeds, known), st.sampled_from(seeds), edits)
    made = st.lists(st.sampled_from(known) | st.binary(max_size=3), max_size=24).map(b"".join)
    return st.one_of(changed, changed, changed, made).map(lambda data: data[:longest])


def _changed(data: bytes, edits: Sequence[int], seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    for number in edits:
        number, kind = divmod(number, 8)
        number, size = divmod(number, 64)
        number, at = divmod(number, len(data) + 1)
        word, head, tail = words[number % len(words)], data[:at], data[at:]
        match kind:
            case 0 | 1:
                data = head + word + tail
            case 2:
                data = head + word + tail[len(word) :]
            case 3:
                data = head + tail[size:]
            case 4:
                data = head + tail[:size] * 2 + tail
            case 5:
                data = head + word * size + tail
            case 6:
                data = head
            case _:
                other = seeds[number % len(seeds)]
                data = head + other[at % (len(other) + 1) :]
    return data
