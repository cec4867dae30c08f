"""What an upstream sends is scrubbed before it is shown, kept or read."""

from __future__ import annotations

import gzip
import logging

import pytest
from mitmproxy import http
from mitmproxy.proxy.layers.http import ErrorCode, ResponseData, ResponseProtocolError
from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import Opcode

from support import making
from support.assembling import assembled
from support.frames import RECORDED, converse
from valetkey.errors import WireError
from valetkey.proxy import echo

KEY = making.REAL
MASK = "*" * len(KEY)


def passage(gateway=""):
    runtime = making.runtime(f"version: 1\ngateway: {{{gateway}}}\n")
    intake = assembled(runtime).intake
    flow = making.flow()
    intake.requestheaders(flow)
    intake.request(flow)
    return making.attempt(runtime, flow)


def answer(body=b"{}", **headers):
    made = http.Response.make(200, b"", {name.replace("_", "-"): value for name, value in headers.items()})
    for name, value in headers.items():
        made.headers[name.replace("_", "-")] = value  # also encodings that mitmproxy does not know
    made.raw_content = body
    return made


def test_a_head_is_scrubbed():
    one = answer(location=f"https://a.test/{KEY}?b")
    echo.scrub_head(one, passage())
    assert one.headers["location"] == f"https://a.test/{MASK}?b"


def test_the_name_of_a_header_is_scrubbed():
    one = answer(**{f"x-{KEY}": "a"})
    echo.scrub_head(one, passage())
    assert f"x-{MASK}" in one.headers


def test_a_reason_is_scrubbed():
    one = answer()
    one.reason = f"Bad {KEY}"
    echo.scrub_head(one, passage())
    assert one.reason == f"Bad {MASK}"


def test_a_head_without_a_key_is_not_touched():
    one = answer(x="y")
    fields = one.headers.fields
    echo.scrub_head(one, passage())
    assert one.headers.fields is fields


def test_trailers_are_scrubbed():
    one = answer()
    one.trailers = http.Headers(x=KEY)
    echo.scrub_trailers(one, passage())
    assert one.trailers["x"] == MASK


def test_a_body_is_scrubbed():
    one = answer(f"<{KEY}>".encode())
    echo.scrub_body(one, passage())
    assert one.text == f"<{MASK}>"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity"])
def test_an_encoded_body_is_encoded_again(encoding):
    one = answer(content_encoding=encoding)
    one.content = f"<{KEY}>".encode()
    echo.scrub_body(one, passage())
    assert (one.headers["content-encoding"], one.text) == (encoding, f"<{MASK}>")


def test_the_length_of_a_body_is_that_of_the_new_one():
    one = answer(content_encoding="gzip")
    one.content = f"<{KEY}>".encode()
    echo.scrub_body(one, passage())
    assert one.headers["content-length"] == str(len(one.raw_content))


@pytest.mark.parametrize("body", [b"{}", gzip.compress(b"{}", mtime=0)])
def test_a_body_without_a_key_is_not_touched(body):
    one = answer(body, content_encoding="gzip" if body[0] == 0x1F else "")
    echo.scrub_body(one, passage())
    assert one.raw_content is body


def test_an_encoding_that_is_not_known_is_an_error():
    with pytest.raises(WireError):
        echo.scrub_body(answer(content_encoding="x-unknown"), passage())


def test_an_empty_body_needs_no_encoding():
    one = answer(b"", content_encoding="x-unknown")
    echo.scrub_body(one, passage())
    assert one.raw_content == b""


def test_a_body_unpacks_to_max_body_at_most():
    with pytest.raises(WireError):
        echo.scrub_body(answer(gzip.compress(bytes(1025)), content_encoding="gzip"), passage("max_body: 1 KB"))


def message(text, dropped=False):
    return WebSocketMessage(Opcode.TEXT, False, text.encode(), 0.0, dropped)


@pytest.mark.parametrize("dropped", [True, False])
def test_a_message_is_scrubbed_and_otherwise_left_alone(dropped):
    one = message(f"<{KEY}>", dropped)
    echo.scrub_message(one, passage())
    assert (one.text, one.dropped) == (f"<{MASK}>", dropped)


def test_a_defect_lets_no_message_pass():
    one = message("x")
    one.content = None
    with pytest.raises(TypeError):
        echo.scrub_message(one, passage())
    assert one.dropped


def test_an_error_message_is_scrubbed():
    event = ResponseProtocolError(1, f"bad {KEY}", ErrorCode.GENERIC_SERVER_ERROR)
    assert echo.scrub_event(event, passage()).message == f"bad {MASK}"


@pytest.mark.parametrize("framed", [True, False])
def test_only_framed_data_is_scrubbed(framed):
    event = ResponseData(1, f"\x89{KEY}".encode("latin-1"))
    assert (KEY.encode() in echo.scrub_event(event, passage(), framed=framed).data) is not framed


@pytest.mark.parametrize("event", [ResponseData(1, b"x"), ResponseData(1, KEY.encode())])
def test_events_that_are_no_call_are_not_touched(event):
    assert echo.scrub_event(event, None, framed=True) is event


def test_a_find_is_noted_once(caplog):
    one = passage()
    echo.note(one)
    echo.note(one)
    assert (one.notes, len(caplog.records)) == (["key_echoed"], 1)


def test_nothing_is_noted_without_a_find():
    one = passage()
    echo.scrub_head(answer(), one)
    echo.scrub_body(answer(), one)
    assert one.notes == []


@pytest.mark.parametrize("line, shown", [("bad %s", f"bad {MASK}"), ("100%% of %.3s", "100% of sk-")])
def test_log_lines_are_scrubbed(line, shown):
    record = logging.makeLogRecord({"msg": line, "args": (KEY,)})
    echo.LogScrub(passage().snapshot.vault.redact).filter(record)
    assert record.getMessage() == shown


FRAMED = {"content_type": "application/vnd.amazon.eventstream"}


def test_frames_pass_as_they_are():
    assert echo.stream(answer(**FRAMED), passage()).feed(RECORDED) == RECORDED


def test_frames_end_before_a_key():
    stream = echo.stream(answer(**FRAMED), passage())
    with pytest.raises(WireError, match="sent a real key back"):
        stream.feed(converse("contentBlockDelta", delta={"text": KEY}))
