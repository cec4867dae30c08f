"""Content encodings undone piece by piece, so that a compressed stream is read in constant memory."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import brotli
import zstandard

from ..errors import ValetkeyError

PIECE = 64 * 1024
"""About the size of a piece of output, in bytes: a body that unpacks to gigabytes never stands in memory."""

MAX_LAYERS = 4
"""Most encodings stacked on one body. Each multiplies what a few bytes can unpack to, and nobody needs two."""

_ZSTD_SLICE = 256
"""zstandard has no bound on its output. A block of at least 4 bytes unpacks to at most 128 KiB, so one slice to 8 MiB."""

_ZSTD_WINDOW = 8 * 1024 * 1024
"""The window that a receiver of `content-encoding: zstd` must support (RFC 9659); the library would allocate 128 MiB."""


class DecodeError(ValetkeyError):
    """The bytes are not what their `content-encoding` says, or nobody knows that encoding."""


class Decoder(ABC):
    """Undoes one content encoding, or a chain of them. Every method raises `DecodeError`."""

    @abstractmethod
    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; give what they decode to, in bounded pieces. To be exhausted before the next call."""

    @abstractmethod
    def end(self) -> bytes:
        """The rest. Data that stops in the middle is an error, no data at all is none."""

    def feed(self, data: bytes) -> bytes:
        """Like `feed_iter` in one piece, however large."""
        return b"".join(self.feed_iter(data))


def decoder(content_encoding: str | None) -> Decoder:
    """The decoder for a `content-encoding` header; several encodings are undone in reverse order. Raises `DecodeError`."""
    if not content_encoding:
        return _Chain([])
    names = [name.strip().lower() for name in content_encoding.split(",")]
    layers = [name for name in names if name not in ("", "identity")]
    if len(layers) > MAX_LAYERS:
        raise DecodeError(f"the body has {len(layers)} content encodings; at most {MAX_LAYERS} are undone")
    chain = [_make(name) for name in reversed(layers)]
    return chain[0] if len(chain) == 1 else _Chain(chain)


def _make(name: str) -> Decoder:
    if name not in _DECODERS:
        raise DecodeError(f"the content encoding {name[:40]!r} is not known; gzip, deflate, br and zstd are")
    return _DECODERS[name]()


class _Chain(Decoder):
    """Several decoders, the outermost encoding first; with none, bytes pass as they are."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        return self._through(data, 0)

    def end(self) -> bytes:
        rest: list[bytes] = []
        for at, each in enumerate(self._decoders):
            rest.extend(self._through(each.end(), at + 1))
        return b"".join(rest)

    def _through(self, data: bytes, at: int) -> Iterator[bytes]:
        if at < len(self._decoders):
            for piece in self._decoders[at].feed_iter(data):
                yield from self._through(piece, at + 1)
        elif data:
            yield data


class _Zlib(Decoder):
    """gzip, zlib or raw deflate, one member after another. Zeros around gzip members are padding, as in gzip itself."""

    def __init__(self, bits: int, name: str) -> None:
        self._bits = bits
        self._name = name
        self._member: Any = None

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                data = data.lstrip(b"\0") if self._name == "gzip" else data
                if not data:
                    return
                self._member = zlib.decompressobj(self._bits)
            yield from self._pieces(data)
            data = self._member.unused_data
            if self._member.eof:
                self._member = None

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        try:
            # Asked until it gives nothing: output can be pending although all input is taken.
            while piece := self._member.decompress(data, PIECE):
                yield piece
                if self._member.eof:
                    return  # what is left belongs to the next member
                data = self._member.unconsumed_tail
        except zlib.error as error:
            raise DecodeError(f"the body is no valid {self._name}") from error

    def end(self) -> bytes:
        if self._member is not None:
            raise DecodeError(f"the {self._name} data stops in the middle")
        return b""


class _Deflate(Decoder):
    """`deflate` is zlib by RFC 9110 (8.4.1.2) and raw deflate by widespread habit; the first two bytes tell."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: _Zlib | None = None

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            has_header = data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0
            self._inner = _Zlib(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS, "deflate")
        yield from self._inner.feed_iter(data)

    def end(self) -> bytes:
        if self._inner is not None:
            return self._inner.end()
        if self._head:
            raise DecodeError("the deflate data stops in the middle")
        return b""


class _Brotli(Decoder):
    def __init__(self) -> None:
        self._inner: Any = brotli.Decompressor()
        self._begun = False

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        self._begun = True
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


class _Zstd(Decoder):
    """zstd frames one after another."""

    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._frame: Any = None

    def feed_iter(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            rest = data[start : start + _ZSTD_SLICE]
            while rest:
                out, rest = self._to_frame_end(rest)
                for at in range(0, len(out), PIECE):
                    yield out[at : at + PIECE]

    def _to_frame_end(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode within the current frame; returns the output, and what follows the frame if it ended."""
        self._frame = self._frame or self._context.decompressobj()
        try:
            out = self._frame.decompress(data)
        except zstandard.ZstdError as error:
            raise DecodeError("the body is no valid zstd") from error
        if not self._frame.eof:
            return out, b""
        rest, self._frame = self._frame.unused_data, None
        return out, rest

    def end(self) -> bytes:
        if self._frame is not None:
            raise DecodeError("the zstd data stops in the middle")
        return b""


def _gzip() -> Decoder:
    return _Zlib(16 + zlib.MAX_WBITS, "gzip")


_DECODERS: Mapping[str, Callable[[], Decoder]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
