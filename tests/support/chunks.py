"""The same bytes in pieces: whole, byte by byte, and at random places that a seed fixes."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random


def singly(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def randomly(data: bytes, seed: int, largest: int = 400) -> list[bytes]:
    random, pieces, at = Random(seed), [], 0
    while at < len(data):
        size = random.randint(1, largest)
        pieces.append(data[at : at + size])
        at += size
    return pieces


def chunkings(data: bytes, small: int = 20_000) -> Iterator[list[bytes]]:
    """Whole, byte by byte (bodies up to `small` bytes), and two random ways."""
    yield [data]
    if len(data) <= small:
        yield singly(data)
    yield from (randomly(data, seed) for seed in (1, 2))
