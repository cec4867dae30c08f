from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.formats import Scrubber, ScrubStream, UsageChunkFilter, UsageTap
from valetkey.model import Format
from valetkey.proxy.pump import Pump

SSE = (
    b'data: {"choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
    b"data: [DONE]\n\n"
)


def tap():
    return UsageTap(Format.OPENAI_CHAT, "text/event-stream", None)


def pump(with_tap=True, with_filter=False):
    return Pump(tap() if with_tap else None, UsageChunkFilter() if with_filter else None, lambda: 7.0)


class Broken:
    found = False

    def feed(self, data):
        raise RuntimeError("defect")

    def end(self):
        return b"held"


@given(st.lists(st.binary(min_size=1)))
def test_without_a_filter_every_byte_passes_at_once(chunks):
    one = pump()
    assert all(one(chunk) == (chunk,) for chunk in chunks)


def test_the_end_is_noted():
    one = pump()
    one(SSE)
    one(b"")
    assert one.ended


def test_usage_is_read_on_the_side():
    one = pump()
    one(SSE)
    one(b"")
    assert one.tap.document["usage"]["total_tokens"] == 4


def test_the_first_content_is_timed():
    one = pump()
    one(SSE)
    assert one.first_content == 7.0


def test_the_filter_takes_the_usage_chunk_out():
    one = pump(with_filter=True)
    assert b"total_tokens" not in b"".join(one(SSE) + one(b""))


def test_a_broken_tap_lets_the_bytes_pass(caplog):
    one = pump()
    one.tap = Broken()
    assert [one(b"a"), one(b"b"), one(b"")] == [(b"a",), (b"b",), ()]


def test_a_broken_filter_gives_back_what_it_held(caplog):
    one = pump(with_tap=False)
    one._transducer = Broken()
    assert one(b"more") == (b"heldmore",)


@pytest.mark.parametrize("part", ["tap", "_transducer"])
def test_a_defect_is_remembered(caplog, part):
    one = pump()
    setattr(one, part, Broken())
    one(b"x")
    assert one.broken


def test_a_swallowed_chunk_is_no_chunk_at_all():
    """mitmproxy frames an empty chunk as `0\\r\\n\\r\\n`, which ends the body."""
    chunk = b'data: {"choices":[],"usage":{"total_tokens":4}}\n\n'
    assert pump(with_filter=True)(chunk) == ()


KEY = "sk-proj-REALrealREALrealREALreal0001"
FINDS = []


def scrubbing(with_filter=False):
    FINDS.clear()
    scrub = ScrubStream(Scrubber([KEY]))
    return Pump(tap(), UsageChunkFilter() if with_filter else None, lambda: 7.0, scrub=scrub, on_echo=lambda: FINDS.append(1))


@pytest.mark.parametrize("with_filter", [True, False])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_key_is_hidden(with_filter, size):
    data, one = b"data: " + KEY.encode() + b"\n\n", scrubbing(with_filter)
    out = b"".join(b"".join(one(data[at : at + size])) for at in range(0, len(data), size))
    assert out + b"".join(one(b"")) == b"data: " + b"*" * len(KEY) + b"\n\n"


def test_what_is_held_at_the_end_passes():
    one = scrubbing()
    assert (one(b"data: sk-proj"), one(b"")) == ((b"data: ",), (b"sk-proj",))


def test_a_chunk_that_is_held_whole_is_no_chunk_at_all():
    assert scrubbing()(b"sk-proj") == ()


def test_the_tap_sees_no_key():
    one = scrubbing()
    one(b'data: {"id":"x","model":"%s","choices":[]}\n\n' % KEY.encode())
    assert KEY not in str(one.tap.document)


def test_a_find_is_told():
    one = scrubbing()
    one(KEY.encode() + b"\n")
    assert FINDS


def test_without_a_find_nothing_is_told():
    one = scrubbing()
    one(SSE)
    one(b"")
    assert not FINDS


def test_a_defect_of_the_scrub_lets_no_byte_pass():
    one = Pump(None, None, lambda: 7.0, scrub=Broken())
    with pytest.raises(RuntimeError):
        one(b"x")


def test_after_a_defect_of_the_tap_keys_are_still_hidden(caplog):
    one = scrubbing()
    one.tap = Broken()
    assert one(b"a") + one(KEY.encode() + b"\n") == (b"a", b"*" * len(KEY) + b"\n")
