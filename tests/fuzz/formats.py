"""Targets in formats/: what agents send and what providers answer."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import brotli
import zstandard

from support.frames import CLAUDE, RECORDED, chunk, converse, exception
from support.making import rules
from valetkey.formats import (
    EVENT_STREAM,
    BindingTap,
    DecodeError,
    JsonScanError,
    Opening,
    SseParser,
    UsageChunkFilter,
    UsageTap,
    conversation,
    decoder,
    of_request,
    read_form_request,
    read_request,
    read_whole,
    scan,
    splice,
    value,
)
from valetkey.formats.decode import PIECE
from valetkey.formats.elements import ElementParser
from valetkey.formats.encodings import variants
from valetkey.formats.eventstream import EventStreamParser
from valetkey.formats.failures import Failure, failure_in
from valetkey.formats.lines import LineParser
from valetkey.formats.scrub import Scrubber, ScrubStream
from valetkey.model import Format
from valetkey.policy import metering

from .corpus import recorded
from .engine import cuts, target

FORMATS = list(Format)
_PROVIDERS = rules().providers
_JSON = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b'\\"', b"\\u0065", b"\\ud800", b"null", b"true", b"-0", b"1e999", b"NaN", b"0.1",
    b'"model"', b'"mod\\u0065l"', b'"Model"', b'"stream"', b'"stream_options"', b'{"include_usage":true}', b'"gpt-4o"', b'"a":',
    b'{"a":', b"[[", b"/*",
)  # fmt: skip
_REQUESTS = [
    b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":false}}',
    b'\xef\xbb\xbf {"a" : [1, {"b": null}], "model": "x"} ',
    b'{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"a"}]}',
    b'{"previous_response_id":"resp_1","input":[{"type":"reasoning","encrypted_content":"gAAAA"}],"prompt_cache_key":"k"}',
    b'{"contents":[{"parts":[{"fileData":{"fileUri":"https://x/v1beta/files/abc"}}]}],"cachedContent":"cachedContents/1"}',
    *(body for _, body in recorded("request")),
]


def _loaded(body: bytes) -> list[tuple[str, Any]] | None:
    """The members of the object that `json` reads, as they stand; None where it reads none, or is lenient."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        text = body.removeprefix(b"\xef\xbb\xbf").decode()
        return _Pairs.of(json.loads(text, object_pairs_hook=_Pairs, parse_constant=refuse))
    except (ValueError, RecursionError):
        return None


class _Pairs(list):  # type: ignore[type-arg]
    """An object, told from an array by its type."""

    @staticmethod
    def of(document: object) -> list[tuple[str, Any]] | None:
        return list(document) if isinstance(document, _Pairs) else None


def _depth(document: Any) -> int:
    depth, level = 0, [document]
    while level := [each for each in level if isinstance(each, list)]:
        depth += 1
        level = [inner for each in level for inner in ([pair[1] for pair in each] if isinstance(each, _Pairs) else each)]
    return depth


@target("jsonscan", _REQUESTS, _JSON)
def jsonscan(data: bytes) -> None:
    """It reads what `json` reads, and refuses what has two readings."""
    expected = _loaded(data)
    try:
        members = scan(data)
    except JsonScanError as error:
        assert len(str(error)) < 200
        unique = expected is not None and max(Counter(name for name, _ in expected).values(), default=1) == 1
        assert not unique or _depth(_Pairs(expected)) > 200 or b"\0" in data[:4], f"refused, but it is JSON: {error}"
        return
    if expected is None:
        with suppress(UnicodeDecodeError, ValueError):  # bytes that are no UTF-8, or a number of 5000 digits, stay unread
            data.decode()
            json.loads(data.removeprefix(b"\xef\xbb\xbf"))
            raise AssertionError("read, but json does not")
        return
    assert list(members) == [name for name, _ in expected]
    assert data[members.start : members.start + 1] + data[members.end - 1 : members.end] == b"{}"
    for name, found in expected:
        with suppress(JsonScanError):
            assert json.dumps(value(data, members[name])) == json.dumps(_plain(found))


def _plain(document: Any) -> Any:
    if isinstance(document, _Pairs):
        return {name: _plain(inner) for name, inner in document}
    return [_plain(inner) for inner in document] if isinstance(document, list) else document


@target("request", _REQUESTS, _JSON)
def request(data: bytes) -> None:
    """The model is the one that any parser finds: first or last of a name, with or without regard to case."""
    try:
        facts = read_request(data)
    except JsonScanError:
        return
    expected = _loaded(data)
    if expected is None:
        return
    models = [found for name, found in expected if name.casefold() == "model"]
    assert models in ([], [None], [facts.model]), "another model than another parser's"
    streams = [found for name, found in expected if name.casefold() == "stream"]
    assert facts.stream == (streams == [True] and streams[0] is True)


_FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n\xff\xfb\r\n--B--\r\n'
)
_FORM_WORDS = (
    b"--B",
    b"--B--",
    b"--B\r\n",
    b"\r\n\r\n",
    b"Content-Disposition: form-data; ",
    b'name="model"',
    b"name=model",
    b"--",
)


@target("multipart", [_FORM, _FORM.replace(b"\r\n", b"\n")], _FORM_WORDS)
def multipart(data: bytes) -> None:
    """One name of bounded length, which stands in the form; a second field of that name is refused."""
    try:
        model = read_form_request(data, "multipart/form-data; boundary=B").model
    except JsonScanError:
        return
    if model is None:
        return
    assert len(model) <= 1024
    assert model.encode() in data or "\ufffd" in model
    if data.endswith(b"\r\n--B--\r\n") and data.count(b"--B--") == 1:
        doubled = data.removesuffix(b"--B--\r\n") + _FORM
        with suppress(JsonScanError):
            read_form_request(doubled, "multipart/form-data; boundary=B")
            raise AssertionError("a form with two models is read")
    with suppress(JsonScanError):
        read_form_request(_FORM, "multipart/form-data; boundary=" + data[:80].decode("latin-1"))


@target("splice", _REQUESTS, _JSON)
def spliced(data: bytes) -> None:
    """What is set is there, what is removed is gone, and the rest is as it was."""
    set_, removed = {"model": "m", "stream_options.include_usage": True}, ("stream", "metadata.user_id")
    try:
        out = splice(data, set_, removed)
    except JsonScanError:
        return
    assert splice(out, set_, removed) == out
    before, after = _loaded(data), dict(_loaded(out) or ())
    if before is None:
        return
    assert after["model"] == "m" and dict(after["stream_options"])["include_usage"] is True and "stream" not in after
    untouched = [name for name, _ in before if name not in ("model", "stream", "stream_options", "metadata")]
    members, made = scan(data), scan(out)
    for name in untouched:
        was, now = members[name], made[name]
        assert data[was.value_start : was.value_end] == out[now.value_start : now.value_end]


# Streams.

_STREAMS = [
    b'data: {"id":"1","model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"id":"1","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    b'data: {"id":"1","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\ndata: [DONE]\n\n',
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude","usage":{"input_tokens":3}}}\n\n'
    b'event: ping\ndata: {"type":"ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}\n\n',
    b'event: response.completed\r\ndata: {"type":"response.completed","response":{"id":"r","usage":{"input_tokens":1}}}\r\n\r\n',
    b'event: error\rdata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\r\r',
    b": comment\n\ndata: a\ndata: b\nid: 1\nretry: 5\n\n\xef\xbb\xbf",
    *(body for exchange, body in recorded("response") if body.startswith((b"data:", b"event:"))),
]
_SSE = (
    b"\n\n",
    b"\r\n\r\n",
    b"\r\r",
    b"data: ",
    b"data",
    b"event: error\n",
    b":",
    b"data: [DONE]\n\n",
    b"event: message\n",
    *_JSON,
)
_BODIES = [
    b'{"model":"m","usage":{"prompt_tokens":1,"completion_tokens":2},"choices":[{"message":{"content":"hi"}}]}',
    b'{"error":{"message":"no","type":"server_error","code":429}}',
    b'[{"candidates":[{"content":{"parts":[{"text":"hi"}]}}]},\n{"usageMetadata":{"promptTokenCount":4}}]',
    b'{"model":"l","message":{"content":"a"},"done":false}\n{"model":"l","done":true,"eval_count":3,"prompt_eval_count":1}\n',
    *(body for _, body in recorded("response")),
]
_ANSWERS = (
    *_SSE, b'"usage":', b'"usage":{"prompt_tokens":-1}', b'"usage":null', b'"usageMetadata":', b'"error":',
    b'"error":{"code":1e400}', b'"choices":[]', b'"content":', b'"type":"error"', b"1" * 400, b"-1", b"1e308",
    b'"status":"failed"',
)  # fmt: skip


@target("sse", _STREAMS, _SSE, steps=1000)
def sse(data: bytes) -> None:
    """No byte is lost, and events do not depend on chunks; also where some are too large."""
    for limit in (1 << 20, 100):
        whole = SseParser(limit)
        events = [*whole.feed(data), *whole.end()]
        assert b"".join(event.raw for event in events) == data
        for pieces in cuts(data):
            parser, names = SseParser(limit), SseParser(limit)
            found = [event for piece in pieces for event in parser.feed(piece)] + parser.end()
            assert b"".join(event.raw for event in found) == data
            assert [e[:2] for e in found if e.data or e.event] == [e[:2] for e in events if e.data or e.event]
            plain = [pair for piece in pieces for pair in names.feed_data(piece)] + [e[:2] for e in names.end()]
            assert [pair for pair in plain if pair[0] or pair[1]] == [e[:2] for e in events if e.data or e.event]


_FRAMES = [
    RECORDED,
    CLAUDE,
    exception("throttlingException", "no"),
    chunk(generation="a") + converse("contentBlockDelta", delta={"text": "hi"}) + exception("validationException", "no")[:-1],
]
_FRAME_WORDS = (
    *(bytes((1, ord("x"), kind)) for kind in range(11)), b"\x0b:event-type\7\0\5chunk", b"\0\0\0\x10", b"\0\0\0\xff", bytes(8),
    *_JSON,
)  # fmt: skip


def _mended(data: bytes) -> bytes:
    """The same with right sums as far as its lengths allow, so that what is changed within a frame is looked at."""
    out, at = bytearray(data), 0
    while at + 16 <= len(out):
        total = int.from_bytes(out[at : at + 4])
        if total < 16 or at + total > len(out):
            break
        out[at + 8 : at + 12] = zlib.crc32(out[at : at + 8]).to_bytes(4)
        at += total
        out[at - 4 : at] = zlib.crc32(out[at - total : at - 4]).to_bytes(4)
    return bytes(out)


@target("event stream", _FRAMES, _FRAME_WORDS, steps=1000)
def event_stream(data: bytes) -> None:
    """Nothing raises, and what is read, opened and counted does not depend on chunks."""
    for sent in (data, _mended(data)):
        for limit in (1 << 20, 100):
            whole = EventStreamParser(limit)
            expected = [*whole.feed(sent), *whole.end()]
            for pieces in cuts(sent):
                parser = EventStreamParser(limit)
                found = [event for piece in pieces for event in parser.feed(piece)] + parser.end()
                assert (found, parser.lost, parser.oversized) == (expected, whole.lost, whole.oversized)
        for format in (Format.BEDROCK_CONVERSE, Format.BEDROCK_INVOKE):
            selected = format, EVENT_STREAM, None, sent
            for pieces in cuts(sent):
                assert _seen(_tapped(selected, pieces)) == _seen(_tapped(selected, [sent]))
                assert _opened(selected, pieces) == _opened(selected, [sent])


@target("lines and elements", _BODIES, _ANSWERS, steps=400)
def pieces_of_json(data: bytes) -> None:
    """Lines and elements do not depend on chunks, nor does how many were too large."""
    makers: list[Callable[[], LineParser | ElementParser]] = []
    for limit in (1 << 20, 50):
        makers += [lambda limit=limit: LineParser(limit), lambda limit=limit: ElementParser(limit)]
    for make in makers:
        whole = make()
        expected = [*whole.feed(data), *whole.end()]
        for pieces in cuts(data):
            parser = make()
            found = [each for piece in pieces for each in parser.feed(piece)] + parser.end()
            assert (found, parser.oversized) == (expected, whole.oversized)


@target("chat usage", _STREAMS, _ANSWERS, steps=400)
def chat_usage(data: bytes) -> None:
    """What passes is part of what came, in its order, and does not depend on chunks."""
    whole = UsageChunkFilter()
    expected = whole.feed(data) + whole.end()
    at = 0
    for line in expected.splitlines(keepends=True):
        at = data.find(line.strip(b"\r\n"), at)
        assert at >= 0, "something that did not come"
    for pieces in cuts(data):
        cut = UsageChunkFilter()
        assert b"".join(map(cut.feed, pieces)) + cut.end() == expected


_ENCODINGS = ("gzip", "deflate", "br", "zstd", "gzip, br", "identity", "x-gzip", "gzip, gzip, gzip, gzip, gzip", "compress")
_PLAIN = b"data: hello hello hello hello\n\n" * 20
_ENCODED = [
    b"\0" + gzip.compress(_PLAIN, mtime=0),
    b"\1" + zlib.compress(_PLAIN),
    b"\1" + zlib.compressobj(wbits=-15).compress(_PLAIN) + b"",
    b"\2" + brotli.compress(_PLAIN),
    b"\3" + zstandard.compress(_PLAIN),
    b"\3" + zstandard.compress(bytes(200_000)),
    b"\4" + brotli.compress(gzip.compress(_PLAIN, mtime=0)),
    b"\0" + gzip.compress(bytes(200_000), mtime=0) + gzip.compress(b"second", mtime=0),
]
_MOST = 1 << 20
"""Bytes that are unpacked, at most."""


def _decoded(encoding: str, pieces: list[bytes]) -> bytes | None:
    """All of it, up to a limit; None for data that is not what it says."""
    out = bytearray()
    try:
        made = decoder(encoding)
        for piece in pieces:
            for part in made.feed_iter(piece):
                assert 0 < len(part) <= 2 * PIECE, f"a piece of {len(part)} bytes"
                out += part
                if len(out) > _MOST:
                    return bytes(out[:_MOST])
        out += made.end()
    except DecodeError:
        return None
    return bytes(out)


@target("decode", _ENCODED, (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x78\x9c", b"\x0b", b"\xff" * 8, bytes(16)), steps=500)
def decoded(data: bytes) -> None:
    """Bounded pieces, the same however it is cut, and nothing but DecodeError."""
    encoding, body = _ENCODINGS[data[0] % len(_ENCODINGS)] if data else "gzip", data[1:]
    expected = _decoded(encoding, [body])
    for pieces in cuts(body):
        assert _decoded(encoding, pieces) == expected


_TYPES = ("text/event-stream", "application/json", "application/x-ndjson", "text/html; charset=x", "")


def _selected(data: bytes) -> tuple[Format, str, str | None, bytes]:
    """A format, a content type and an encoding out of the first two bytes, and the rest."""
    head = data[:2].ljust(2, b"\0")
    encoding = "gzip" if head[1] & 0x40 else None
    return FORMATS[head[0] % len(FORMATS)], _TYPES[head[1] % len(_TYPES)], encoding, data[2:]


def _numbered(bodies: list[bytes]) -> list[bytes]:
    """Each body in each of the formats that stream, and in three that do not, as its own content type."""
    made = []
    for number, body in enumerate(bodies):
        kind = 0 if body.startswith((b"data", b"event", b":")) else 1 + number % 2
        made += [bytes((FORMATS.index(format), kind)) + body for format in _STREAMING[number % 2 :: 2]]
        made.append(bytes((FORMATS.index(_STREAMING[number % 7]), kind + 0x40 // 5 * 5)) + gzip.compress(body, mtime=0))
    return made


_STREAMING = [
    Format.OPENAI_CHAT, Format.OPENAI_RESPONSES, Format.ANTHROPIC_MESSAGES, Format.GEMINI_GENERATE, Format.OLLAMA_CHAT,
    Format.OLLAMA_GENERATE, Format.OPENAI_COMPLETIONS, Format.OPENAI_EMBEDDINGS, Format.GEMINI_EMBED,
]  # fmt: skip


def _tapped(selected: tuple[Format, str, str | None, bytes], pieces: list[bytes]) -> UsageTap:
    tap = UsageTap(*selected[:3])
    for piece in pieces:
        tap.feed(piece)
    tap.end()
    return tap


def _seen(tap: UsageTap) -> dict[str, Any]:
    names = ("document", "error", "complete", "problem", "output_chars", "events", "saw_content", "response_id")
    return {name: repr(getattr(tap, name)) for name in names}


@target("usage", _numbered([*_STREAMS, *_BODIES]), _ANSWERS, steps=400)
def usage(data: bytes) -> None:
    """What is read does not depend on chunks; counts are counts, and money is never negative."""
    selected = _selected(data)
    whole = _tapped(selected, [selected[3]])
    for pieces in cuts(selected[3]):
        assert _seen(_tapped(selected, pieces)) == _seen(whole)
    for name, flavor in (("openai", "chat"), ("anthropic", "messages"), ("gemini", "generate"), ("openrouter", "chat")):
        meter = metering.measure(whole.document, _PROVIDERS[name], flavor, "gpt-4o", 1.7e9)
        assert all(isinstance(n, int) and 0 <= n <= metering.LIMIT for n in meter.usage.values())
        assert meter.cost_usd is None or (meter.cost_usd.is_finite() and meter.cost_usd >= 0)
        assert len(metering.format_usd(meter.cost_usd) or "") < 100


def _opened(selected: tuple[Format, str, str | None, bytes], pieces: list[bytes]) -> Failure | bool:
    opening = Opening(*selected[:3], limit=1024)
    for piece in pieces:
        if (decision := opening.feed(piece)) is not False:
            return decision
    return opening.end()


def _check_failure(found: Failure | bool | None) -> None:
    if isinstance(found, Failure):
        assert 400 <= found.status <= 599
        assert isinstance(json.loads(found.body), Mapping)


@target("opening", _numbered([*_STREAMS, *_BODIES]), _ANSWERS, steps=400)
def opening(data: bytes) -> None:
    """The decision does not depend on chunks; an error has a status and a body."""
    selected = _selected(data)
    whole = _opened(selected, [selected[3]])
    _check_failure(whole)
    _check_failure(read_whole(*selected))
    for pieces in cuts(selected[3]):
        assert _opened(selected, pieces) == whole


@target("failures", _numbered(_BODIES), _ANSWERS)
def failures(data: bytes) -> None:
    """Any object at all is judged."""
    format, _, _, body = _selected(data)
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(event, Mapping):
        _check_failure(failure_in(format, None, event))
        _check_failure(failure_in(format, "error", event))


_BINDING_WORDS = (
    b'"file_id":"file-1"', b'"file_ids":["a","b"]', b'"container":{"id":"c"}', b'"encrypted_content":"gAAA"', b'"id":"resp_2"',
    b'"metadata":{"user_id":"u"}', b'"name":"files/x"', b'"conversation":', b'\\"', *_JSON,
)  # fmt: skip


@target("bindings", _numbered([*_REQUESTS, *_STREAMS]), _BINDING_WORDS, steps=400)
def bound(data: bytes) -> None:
    """Few and short names, the same however an answer is cut."""
    format, _, _, body = _selected(data)
    path = "/v1/responses/" + body[:20].decode("latin-1")
    found = of_request(format, path, {"session_id": body[:30].decode("latin-1")}, body)
    conversation(format, "agent", body)
    for names in (found.hard, found.soft):
        assert len(names) <= 32 and all(len(name) <= 120 and name.isprintable() for name in names)
    whole = BindingTap(format, path)
    whole.feed(body)
    assert len(whole.names) <= 32 and all(len(name) <= 120 and name.isprintable() for name in whole.names)
    for pieces in cuts(body):
        tap = BindingTap(format, path)
        for piece in pieces:
            tap.feed(piece)
        assert tap.names == whole.names


_KEYS = (
    "sk-proj-Aa0_CANARY1-openai/AAAA+BBBB",
    "gsk_CANARY2groqCCCCCCCCCCCC",
    "sk-proj-Aa0_CANARY1-open",
    'odd"key\\with&marks%41x',
)
_SCRUBBER = Scrubber(_KEYS)
_SPELLED = sorted({text for key in _KEYS for text in variants(key)})
_ESCAPED = [
    b"".join(b"\\u%04x" % byte for byte in _KEYS[0].encode()),
    b"".join(b"%%%02x" % byte for byte in _KEYS[0].encode()),
    b"".join(b"&#%d;" % byte for byte in _KEYS[1].encode()),
    _KEYS[0].replace("/", "\\/").encode(),
    b"\\\\u0073" + _KEYS[0][1:].encode(),
]


@target(
    "scrub",
    [b'data: {"content":"' + text + b'"}\n\n' for text in (*_SPELLED, *_ESCAPED)],
    (*_SPELLED, *_ESCAPED, *(text[: len(text) // 2] for text in _SPELLED), b"\\", b"%25", b"&#", b"\\u00", b"*", b"sk-proj-"),
    steps=1000,
)
def scrubbed(data: bytes) -> None:
    """No spelling of a key is left, nothing else is changed, and the cut leaves no trace."""
    out = _SCRUBBER.scrub(data)
    assert len(out) == len(data)
    assert not any(text in out for text in _SPELLED if len(text) >= 16)
    assert all(now in (was, 0x2A) for was, now in zip(data, out, strict=True))
    assert not _SCRUBBER.finds(out) and (out == data) == (not _SCRUBBER.finds(data))
    for pieces in cuts(data):
        stream = ScrubStream(_SCRUBBER)
        assert b"".join(map(stream.feed, pieces)) + stream.end() == out
