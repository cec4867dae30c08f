"""Compressed answers: read aside, so that no key hides in them."""

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from support.frames import CLAUDE, RECORDED, chunk, converse
from valetkey.errors import WireError
from valetkey.formats.encoded import EncodedWatch, decoded
from valetkey.formats.scrub import Scrubber

KEY = b"sk-proj-9fQ2mZ-x7LkV_0aTqYcR4bN8sT3BlbkFJ"
SCRUBBER = Scrubber([KEY.decode()])
COMPRESS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
    "br, gzip": lambda data: gzip.compress(brotli.compress(data), mtime=0),
}
MANY = 10_000_000


def flushed(pieces):
    """gzip, each piece of which can be read at once."""
    made = zlib.compressobj(wbits=31)
    return [*(made.compress(piece) + made.flush(zlib.Z_SYNC_FLUSH) for piece in pieces), made.flush()]


def passed(chunks, encoding="gzip", limit=MANY, **more):
    """What passes of a stream, and why it ended before its time."""
    watch, out = EncodedWatch(SCRUBBER, encoding, limit, **more), b""
    try:
        for chunk in chunks:
            out += watch.feed(chunk)
        return out + watch.end(), None
    except WireError as error:
        return out, error.reason


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_body_is_decoded(encoding):
    assert decoded(COMPRESS[encoding](b"hello"), encoding, 5) == b"hello"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_body_that_unpacks_to_too_much_is_an_error(encoding):
    with pytest.raises(WireError, match="unpacks to more than 4 bytes"):
        decoded(COMPRESS[encoding](b"hello"), encoding, 4)


@pytest.mark.parametrize("encoding, body", [("gzip", b"no gzip"), ("x-unknown", b""), ("gzip, x-unknown", b""), ("br", b"no br")])
def test_what_cannot_be_decoded_is_an_error(encoding, body):
    with pytest.raises(WireError, match="cannot be searched"):
        decoded(body, encoding, MANY)


def test_a_body_that_breaks_off_is_read_as_far_as_it_goes():
    assert decoded(gzip.compress(b"hello", mtime=0)[:-8], "gzip", MANY) == b"hello"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_stream_without_a_key_passes_as_it_is(encoding):
    data = COMPRESS[encoding](b"data: hello\n\n" * 100)
    assert passed([data], encoding) == (data, None)


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_with_a_key_is_ended(encoding, size):
    data = COMPRESS[encoding](b"data: " + KEY + b"\n\n")
    assert passed([data[at : at + size] for at in range(0, len(data), size)], encoding)[1] == "key_echoed"


@pytest.mark.parametrize("cut", range(1, len(KEY)))
def test_no_telling_part_of_a_key_passes(cut):
    out, _ = passed(flushed([b"data: ", KEY[:cut], KEY[cut:]]))
    assert KEY[:4] not in zlib.decompressobj(31).decompress(out)


def test_what_waited_passes_when_it_proves_harmless():
    chunks = flushed([b"data: ", KEY[:20], b" is no key"])
    assert passed(chunks) == (b"".join(chunks), None)


def test_what_waits_at_the_end_passes():
    chunks = flushed([b"data: ", KEY[:20]])
    assert passed(chunks) == (b"".join(chunks), None)


def test_a_chunk_that_ends_like_any_word_does_not_wait():
    watch, chunks = EncodedWatch(SCRUBBER, "gzip", MANY), flushed([b"this is"])
    assert watch.feed(chunks[0]) == chunks[0]


def test_a_key_in_a_comment_ends_the_stream():
    assert passed([b"\x1f\x8b\x08\x10\0\0\0\0\0\x03" + KEY + b"\0"])[1] == "key_echoed"


def test_it_is_known_that_a_key_was_found():
    watch = EncodedWatch(SCRUBBER, "gzip", MANY)
    with pytest.raises(WireError):
        watch.feed(gzip.compress(KEY, mtime=0))
    assert watch.found


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(bytes(1000), mtime=0)])
def test_a_stream_that_cannot_be_read_is_ended(data):
    assert passed([data], limit=999) == (b"", "unreadable_answer")


def test_what_waits_is_bounded():
    """Blocks that hold nothing keep the end of the plain data where it is."""
    empty = zlib.compressobj(wbits=31)
    chunks = [empty.compress(KEY[:20]) + empty.flush(zlib.Z_SYNC_FLUSH), *([b"\0\0\0\xff\xff"] * 100)]
    assert passed(chunks, limit=200)[1] == "unreadable_answer"


def test_an_unknown_encoding_is_known_at_once():
    with pytest.raises(WireError):
        EncodedWatch(SCRUBBER, "x-unknown", MANY)


@given(st.binary(), st.sampled_from(["gzip", "deflate", "br", "zstd"]))
def test_garbage_passes_or_ends_the_stream(data, encoding):
    assert passed([data], encoding)[1] in (None, "unreadable_answer")


SAID = KEY.decode()
ECHOES = {
    "text": converse("contentBlockDelta", delta={"text": f"your key: {SAID}"}),
    "chunk": chunk(type="content_block_delta", delta={"text": SAID}),
    "chunk, escaped": chunk(delta=SAID.replace("-", "\\u002d")),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_frames_end_before_a_key(echo, encoding, size):
    stream = RECORDED + echo + RECORDED
    stream = b"".join(flushed([stream])) if encoding else stream
    out, reason = passed([stream[at : at + size] for at in range(0, len(stream), size)], encoding, framed=True)
    assert (reason, KEY in out) == ("key_echoed", False)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_frames_without_a_key_pass_as_they_are(size):
    stream = RECORDED + CLAUDE
    assert passed([stream[at : at + size] for at in range(0, len(stream), size)], "", framed=True) == (stream, None)
