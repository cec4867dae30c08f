"""Content encodings undone piece by piece, so that a compressed stream is read in constant memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import brotli
import zstandard

from ..errors import ValetkeyError

PIECE = 64 * 1024
"""Bytes of output per step, where the library can be held to it: a bomb fills no memory."""


class DecodeError(ValetkeyError):
    """The bytes are not what their `content-encoding` says, or nobody knows that encoding."""


class Decoder(Protocol):
    """Undoes one content encoding, or a chain of them."""

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; give what they decode to, in pieces. Raises DecodeError."""
        ...

    def feed(self, data: bytes) -> bytes:
        """The same in one piece."""
        ...

    def end(self) -> bytes:
        """The rest. Raises DecodeError where the data stops in the middle."""
        ...


def decoder(content_encoding: str | None) -> Decoder:
    """The decoder for a `content-encoding` header; several encodings are undone in reverse order. Raises DecodeError."""
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    chain = [_make(name) for name in reversed(names) if name not in ("", "identity")]
    return chain[0] if len(chain) == 1 else _Chain(chain)


class _Base:
    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        raise NotImplementedError

    def feed(self, data: bytes) -> bytes:
        return b"".join(self.feed_iter(data))

    def end(self) -> bytes:
        return b""


class _Chain(_Base):
    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        yield from self._through(data, self._decoders)

    def end(self) -> bytes:
        rest = b""
        for at, each in enumerate(self._decoders):
            rest += b"".join(self._through(each.end(), self._decoders[at + 1 :]))
        return rest

    def _through(self, data: bytes, decoders: list[Decoder]) -> Iterator[bytes]:
        if not decoders:
            if data:
                yield data
            return
        for piece in decoders[0].feed_iter(data):
            yield from self._through(piece, decoders[1:])


class _Zlib(_Base):
    """gzip (one member after another) and deflate (with or without a zlib header; RFC 9110, section 8.4.1.2)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bits = 31 if name == "gzip" else 15
        self._inner = zlib.decompressobj(self._bits)
        self._begun = False

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner.eof:
                if self._name != "gzip":
                    return
                self._inner = zlib.decompressobj(self._bits)
            piece = self._step(data)
            self._begun = True
            data = self._inner.unconsumed_tail or (self._inner.unused_data if self._inner.eof else b"")
            if piece:
                yield piece
            if self._inner.eof and not data.strip(b"\0"):
                return

    def _step(self, data: bytes) -> bytes:
        try:
            return self._inner.decompress(data, PIECE)
        except zlib.error as error:
            if self._name == "deflate" and not self._begun and self._bits > 0:
                self._bits = -15
                self._inner = zlib.decompressobj(self._bits)
                return self._step(data)
            raise DecodeError(f"the body is no valid {self._name}") from error

    def end(self) -> bytes:
        if self._begun and not self._inner.eof:
            raise DecodeError(f"the {self._name} data stops in the middle")
        return b""


class _Brotli(_Base):
    def __init__(self) -> None:
        self._inner: Any = brotli.Decompressor()
        self._begun = False

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            piece = self._inner.process(data, output_buffer_limit=PIECE)
            while piece or not self._inner.can_accept_more_data():
                yield piece
                piece = self._inner.process(b"", output_buffer_limit=PIECE)
        except brotli.error as error:
            raise DecodeError("the body is no valid br") from error

    def end(self) -> bytes:
        if self._begun and not self._inner.is_finished():
            raise DecodeError("the br data stops in the middle")
        return b""


class _Zstd(_Base):
    def __init__(self) -> None:
        self._inner: Any = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        # zstd expands a block (at most 128 KiB of output) at a time; small inputs keep the output of one step small.
        for start in range(0, len(data), 1024):
            yield from self._feed(data[start : start + 1024])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner.eof:
                self._inner = zstandard.ZstdDecompressor().decompressobj()
            self._begun = True
            try:
                piece = self._inner.decompress(data)
            except zstandard.ZstdError as error:
                raise DecodeError("the body is no valid zstd") from error
            data = self._inner.unused_data if self._inner.eof else b""
            if piece:
                yield piece

    def end(self) -> bytes:
        if self._begun and not self._inner.eof:
            raise DecodeError("the zstd data stops in the middle")
        return b""


def _make(name: str) -> Decoder:
    match name:
        case "gzip" | "x-gzip":
            return _Zlib("gzip")
        case "deflate":
            return _Zlib("deflate")
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
        case _:
            raise DecodeError(f"the content encoding {name[:40]!r} is not known; gzip, deflate, br and zstd are")
