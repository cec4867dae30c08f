"""Content encodings: undone whatever the chunks, refused when broken, in constant memory."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from support.chunks import chunkings
from valetkey.formats.decode import MAX_LAYERS, DecodeError, decoder

PLAIN = b'data: {"delta":"text"}\n\n' * 200 + bytes(range(256))


def raw_deflate(data):
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODED = [
    pytest.param(None, PLAIN, id="none"),
    pytest.param("", PLAIN, id="empty"),
    pytest.param("identity", PLAIN, id="identity"),
    pytest.param("gzip", gzip.compress(PLAIN), id="gzip"),
    pytest.param("x-gzip", gzip.compress(PLAIN), id="x-gzip"),
    pytest.param(" GZIP ", gzip.compress(PLAIN), id="capitals and spaces"),
    pytest.param("gzip", gzip.compress(PLAIN[:99]) + gzip.compress(PLAIN[99:]), id="gzip of two members"),
    pytest.param("gzip", gzip.compress(PLAIN) + b"\0" * 99, id="gzip with padding"),
    pytest.param("gzip", gzip.compress(PLAIN[:99]) + b"\0\0" + gzip.compress(PLAIN[99:]), id="gzip with padding between"),
    pytest.param("deflate", zlib.compress(PLAIN), id="deflate with its header"),
    pytest.param("deflate", raw_deflate(PLAIN), id="deflate without"),
    pytest.param("br", brotli.compress(PLAIN), id="br"),
    pytest.param("zstd", zstandard.compress(PLAIN), id="zstd"),
    pytest.param("zstd", zstandard.compress(PLAIN[:99]) + zstandard.compress(PLAIN[99:]), id="zstd of two frames"),
    pytest.param("gzip, br", brotli.compress(gzip.compress(PLAIN)), id="gzip in br"),
    pytest.param("zstd, identity, deflate", zlib.compress(zstandard.compress(PLAIN)), id="zstd in deflate"),
]
REAL = [case for case in ENCODED if case.values[1] != PLAIN]


def undone(encoding, chunks):
    reader = decoder(encoding)
    return b"".join(reader.feed(chunk) for chunk in chunks) + reader.end()


@pytest.mark.parametrize("encoding, data", ENCODED)
def test_it_is_undone_whatever_the_chunks(encoding, data):
    assert {undone(encoding, chunks) for chunks in chunkings(data)} == {PLAIN}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, br", None])
def test_no_body_at_all_is_no_error(encoding):
    assert undone(encoding, []) == b""


@pytest.mark.parametrize("encoding, data", REAL)
def test_data_that_stops_in_the_middle_is_an_error(encoding, data):
    with pytest.raises(DecodeError, match="middle"):
        undone(encoding, [data[:30]])


@pytest.mark.parametrize("encoding", ["deflate", "gzip", "br", "zstd"])
def test_a_single_byte_is_no_body(encoding):
    whole = {"deflate": zlib.compress, "gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}[encoding](PLAIN)
    with pytest.raises(DecodeError, match="middle"):
        undone(encoding, [whole[:1]])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_data_of_another_kind_is_an_error(encoding):
    with pytest.raises(DecodeError, match="no valid"):
        undone(encoding, [b'{"error": "not compressed at all"}' * 9])


@pytest.mark.parametrize("encoding, data", [case for case in REAL if case.id not in ("gzip with padding",)])
def test_something_after_the_end_is_an_error(encoding, data):
    with pytest.raises(DecodeError):
        undone(encoding, [data, b"\x01\x02garbage that is no member"])


@given(st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, zstd"]), st.lists(st.binary()))
def test_garbage_raises_nothing_else(encoding, chunks):
    with suppress(DecodeError):
        undone(encoding, chunks)


@given(st.sampled_from(REAL), st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_else(case, at, byte):
    encoding, data = case.values
    with suppress(DecodeError):
        undone(encoding, [data[:at] + bytes([byte]) + data[at + 1 :]])


@pytest.mark.parametrize("encoding", ["compress", "aws-chunked", "gzip, snappy", "x" * 5000])
def test_an_unknown_encoding_is_refused(encoding):
    with pytest.raises(DecodeError, match="not known"):
        decoder(encoding)


def test_the_message_for_an_unknown_encoding_is_short():
    with pytest.raises(DecodeError) as caught:
        decoder("x" * 5000)
    assert len(str(caught.value)) < 200


def test_too_many_encodings_are_refused():
    with pytest.raises(DecodeError, match="at most"):
        decoder(", ".join(["gzip"] * (MAX_LAYERS + 1)))


@pytest.mark.parametrize(
    "encoding, compress",
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress), ("zstd", zstandard.compress)],
)
def test_a_bomb_comes_out_in_small_pieces(encoding, compress):
    bomb = compress(b"\0" * 20_000_000)
    sizes = [len(piece) for piece in decoder(encoding).feed_iter(bomb)]
    assert (sum(sizes), max(sizes) <= 128 * 1024) == (20_000_000, True)


def test_a_zstd_frame_with_a_huge_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(b"x" * 200_000) + compressor.flush()
    with pytest.raises(DecodeError, match="zstd"):
        undone("zstd", [frame])


@pytest.mark.parametrize("flush", ["gzip", "br", "zstd"])
def test_what_the_sender_flushed_comes_out_at_once(flush):
    if flush == "gzip":
        gzipper = zlib.compressobj(wbits=31)
        part = gzipper.compress(b"data: 1\n\n") + gzipper.flush(zlib.Z_SYNC_FLUSH)
    elif flush == "br":
        squeezer = brotli.Compressor()
        part = squeezer.process(b"data: 1\n\n") + squeezer.flush()
    else:
        packer = zstandard.ZstdCompressor().compressobj()
        part = packer.compress(b"data: 1\n\n") + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    assert decoder(flush).feed(part) == b"data: 1\n\n"
