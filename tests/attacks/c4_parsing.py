"""C.4: what two parsers read differently (41-48)."""

from __future__ import annotations

import gzip
import os
import struct
import zlib

import brotli
import zstandard

from .canaries import FOREIGN, GROQ, OPENAI
from .client import BODY, CHAT, call, h2_headers, message
from .evidence import Evidence, all_of, attack, calls_at_most, either, lacks, no_call, one_key, refused
from .range import Range

_SECOND = b"GET /v1/files HTTP/1.1\r\nHost: api.openai.com\r\nAuthorization: Bearer sk-dummy\r\nX-Smuggled: 1\r\n\r\n"
_NOT_SMUGGLED = all_of(calls_at_most(1), lacks(b"x-smuggled", b"/v1/files"))
_CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


# 41. Framing.


@attack(
    41,
    "ambiguous length",
    "400 and closed, nothing is sent",
    refused(400),
    each={
        "CL and TE": call(extra=b"Transfer-Encoding: chunked\r\n", body=b"0\r\n\r\n" + _SECOND),
        "TE and CL": call(length=b"", extra=b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", body=_CHUNKED + _SECOND),
        "two CL": call(extra=b"Content-Length: 3\r\n"),
        "same CL twice": call(extra=b"Content-Length: %d\r\n" % len(BODY)),
        "CL list": call(length=b"32, 32"),
        "CL not a number": call(length=b"abc"),
        "CL signed": call(length=b"+32"),
        "CL negative": call(length=b"-1"),
        "CL hexadecimal": call(length=b"0x20"),
        "CL with a blank": call(length=b"3 2"),
        "CL underscore": call(length=b"3_2"),
        "CL other digits": call(length="\u0663\u0662".encode()),
        "CL empty": call(length=b" "),
        "chunked twice": call(length=b"", extra=b"Transfer-Encoding: chunked, chunked\r\n", body=_CHUNKED),
        "two TE": call(length=b"", extra=b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", body=_CHUNKED),
        "xchunked": call(length=b"", extra=b"Transfer-Encoding: xchunked\r\n", body=_CHUNKED),
        "TE quoted": call(length=b"", extra=b'Transfer-Encoding: "chunked"\r\n', body=_CHUNKED),
        "TE gzip chunked": call(length=b"", extra=b"Transfer-Encoding: gzip, chunked\r\n", body=_CHUNKED),
        "TE identity": call(extra=b"Transfer-Encoding: identity\r\n"),
        "TE and CL, odd name": call(extra=b"Transfer_Encoding: chunked\r\nTransfer-Encoding : chunked\r\n"),
        "TE with space before colon": call(extra=b"Transfer-Encoding : chunked\r\n"),
        "TE folded": call(length=b"", extra=b"Transfer-Encoding:\r\n chunked\r\n", body=_CHUNKED),
        "TE in HTTP/1.0": call(version=b"HTTP/1.0", length=b"", extra=b"Transfer-Encoding: chunked\r\n", body=_CHUNKED),
        "TE case": call(extra=b"tRANSFER-eNCODING: cHUNKED\r\n"),
    },
)
def ambiguous_length(here: Range, data: bytes) -> None:
    here.inside(data)


@attack(
    41,
    "a malformed head",
    "400 and closed, nothing is sent",
    refused(400, 431),
    each={
        "space before colon": call(extra=b"X-A : 1\r\n"),
        "no colon": call(extra=b"X-A\r\n"),
        "empty name": call(extra=b": 1\r\n"),
        "nul in a value": call(extra=b"X-A: a\0b\r\n"),
        "nul in a name": call(extra=b"X\0A: 1\r\n"),
        "bare cr": call(extra=b"X-A: a\rX-Smuggled: b\r\n"),
        "first line folded": call(extra=b"").replace(b"Host:", b" Host:", 1),
        "obs-fold": call(extra=b"X-A: a\r\n b\r\n"),
        "control character": call(extra=b"X-A: a\x01b\r\n"),
        "version": call(version=b"HTTP/1.2"),
        "version 0.9": call(version=b"HTTP/0.9"),
        "version junk": call(version=b"HTTP/1.1 X"),
        "lower version": call(version=b"http/1.1"),
        "brackets in a name": call(extra=b"X(A): 1\r\n"),
        "DEL in a value": call(extra=b"X-A: a\x7fb\r\n"),
    },
)
def malformed_head(here: Range, data: bytes) -> None:
    here.inside(data)


@attack(
    41,
    "a head that is cleaned",
    "400, or one call in the one proper spelling",
    all_of(_NOT_SMUGGLED, either(one_key, refused(400)), lacks(b"\x0b", b"  http/", b"\t", b"http/2.0")),
    each={
        "blank after chunked": call(length=b"", extra=b"Transfer-Encoding:\tchunked\x0b\r\n", body=_CHUNKED),
        "two blanks": call().replace(b" HTTP/1.1", b"  HTTP/1.1", 1),
        "tab in the request line": call().replace(b"POST /", b"POST\t/", 1),
        "version 2.0": call(version=b"HTTP/2.0"),
    },
)
def cleaned(here: Range, data: bytes) -> None:
    here.inside(data)


@attack(
    41,
    "bare line feeds",
    "400, or the head is read in one way: nothing is smuggled",
    all_of(_NOT_SMUGGLED, either(one_key, refused(400))),
    each={
        "everywhere": call().replace(b"\r\n", b"\n"),
        "in one header": call(extra=b"X-A: 1\nX-B: 2\r\n"),
        "before the body": call().replace(b"\r\n\r\n", b"\n\n", 1),
        "mixed": call().replace(b"\r\n\r\n", b"\r\n\n", 1),
    },
)
def bare_lf(here: Range, data: bytes) -> None:
    here.inside(data)


@attack(41, "bare line feeds around chunks", "not read as chunks: nothing is sent", no_call)
def bare_lf_chunks(here: Range) -> None:
    client = here.tunnel()
    client.send(call(length=b"", extra=b"Transfer-Encoding: chunked\r\n", body=_CHUNKED.replace(b"\r\n", b"\n")))
    client.listen()


@attack(
    41,
    "a header that hides a second request",
    "nothing is smuggled",
    _NOT_SMUGGLED,
    each={
        "bare lf": b"X-A: 1\n\nGET /v1/files HTTP/1.1\nX-Smuggled: 1\r\n",
        "bare cr": b"X-A: 1\r\rGET /v1/files HTTP/1.1\rX-Smuggled: 1\r\n",
    },
)
def hidden_request(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra))


@attack(
    41,
    "a head too large",
    "4xx or cut off",
    refused(400, 405, 413, 414, 431),
    each={
        "value": call(extra=b"X-A: " + b"a" * 300_000 + b"\r\n"),
        "many": call(extra=b"X-A: b\r\n" * 30_000),
        "target": call(path=b"/v1/models/" + b"a" * 300_000),
    },
)
def large_head(here: Range, data: bytes) -> None:
    here.inside(data)


# 42. Pipelining.


@attack(
    42,
    "a second request in the pipeline",
    "decided on its own: it does not go out",
    _NOT_SMUGGLED,
    each={
        "closed endpoint": _SECOND,
        "no credential": _SECOND.replace(b"Authorization: Bearer sk-dummy\r\n", b""),
        "other host": call(host=b"evil.test", extra=b"X-Smuggled: 1\r\n"),
        "absolute": call(target=b"https://evil.test/v1/files", extra=b"X-Smuggled: 1\r\n"),
        "other provider": message(extra=b"X-Smuggled: 1\r\n"),
        "garbage": b"\0\x01\x02X-Smuggled\r\n\r\n",
        "CONNECT": b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\nX-Smuggled: 1\r\n\r\n",
    },
)
def pipelined(here: Range, second: bytes) -> None:
    here.inside(call(close=False) + second, count=2)


@attack(
    42,
    "more bytes than the length says",
    "they are a request of their own, or cut off",
    _NOT_SMUGGLED,
    each={"json": BODY, "request": _SECOND},
)
def surplus(here: Range, data: bytes) -> None:
    here.inside(call(close=True) + data)


def _connections(evidence: Evidence) -> str | None:
    return None if len(evidence.providers) == 2 else f"{len(evidence.providers)} connections carried two agents' calls"


@attack(42, "two agents, two tunnels", "no connection that carried a key serves another tunnel", _connections)
def two_tunnels(here: Range) -> None:
    for name in (b"alice", b"bob"):
        here.inside(call(credential=b"Authorization: Bearer sk-dummy-" + name, close=False))


# 43. HTTP/2 to HTTP/1.

_H2_FIELDS = {
    "CRLF in a value": [(b"x-a", b"b\r\nx-smuggled: 1")],
    "LF in a value": [(b"x-a", b"b\nx-smuggled: 1")],
    "CR in a value": [(b"x-a", b"b\rx-smuggled: 1")],
    "NUL in a value": [(b"x-a", b"b\0x-smuggled")],
    "request in a value": [(b"x-a", b"b\r\n\r\nGET /v1/files HTTP/1.1\r\nx-smuggled: 1\r\n\r\n")],
    "CRLF in a name": [(b"x-a\r\nx-smuggled", b"1")],
    "colon in a name": [(b"x-smuggled: 1\r\nx-a", b"1")],
    "blank in a name": [(b"x-smuggled 1", b"1")],
    "transfer-encoding": [(b"transfer-encoding", b"chunked"), (b"x-smuggled", b"1")],
    "connection": [(b"connection", b"authorization"), (b"x-smuggled", b"1")],
    "upper case": [(b"X-Smuggled", b"1")],
    "second length": [(b"content-length", b"0"), (b"x-smuggled", b"1")],
    "upgrade": [(b"upgrade", b"websocket"), (b"x-smuggled", b"1")],
    "te": [(b"te", b"gzip"), (b"x-smuggled", b"1")],
    "late pseudo header": [(b":path", b"/v1/files"), (b"x-smuggled", b"1")],
    "unknown pseudo header": [(b":x-smuggled", b"1")],
    "empty name": [(b"", b"x-smuggled")],
}


@attack(
    43,
    "a malformed h2 field, for an HTTP/1 provider",
    "stream or connection refused: nothing is sent",
    either(refused(400, 421), lacks(b"x-smuggled")),
    each=_H2_FIELDS,
)
def h2_fields(here: Range, extra: list[tuple[bytes, bytes]]) -> None:
    here.h2(h2_headers(extra=extra))


@attack(
    43,
    "a malformed h2 pseudo header",
    "refused: nothing is smuggled",
    _NOT_SMUGGLED,
    each={
        "path": h2_headers(path=CHAT + b" HTTP/1.1\r\nx-smuggled: 1\r\n\r\nGET /v1/files"),
        "path with blank": h2_headers(path=CHAT + b" HTTP/1.1"),
        "method": h2_headers(method=b"GET /v1/files HTTP/1.1\r\nx-smuggled: 1\r\n\r\nPOST"),
        "authority": h2_headers(authority=b"api.openai.com\r\nx-smuggled: 1"),
        "scheme": [(b":scheme", b"http\r\nx-smuggled: 1"), *[f for f in h2_headers() if f[0] != b":scheme"]],
        "empty path": h2_headers(path=b""),
        "no path": [f for f in h2_headers() if f[0] != b":path"],
        "http scheme": [(b":scheme", b"http"), *[f for f in h2_headers() if f[0] != b":scheme"]],
    },
)
def h2_pseudo(here: Range, headers: list[tuple[bytes, bytes]]) -> None:
    here.h2(headers)


@attack(
    43,
    "an h2 length that is not the body's",
    "refused: nothing is smuggled",
    all_of(_NOT_SMUGGLED, either(refused(400), one_key)),
    each={"shorter": b"4", "longer": b"4000", "junk": b"4, 5"},
)
def h2_length(here: Range, length: bytes) -> None:
    headers = [field for field in h2_headers() if field[0] != b"content-length"]
    client = here.tunnel(alpn=("h2",))
    client.h2([*headers, (b"content-length", length)], BODY + _SECOND)


@attack(43, "transfer-encoding in h2, for an h2 provider", "refused", either(refused(400), lacks(b"transfer-encoding")))
def h2_te(here: Range) -> None:
    here.h2(h2_headers(GROQ.encode(), b"/openai/v1/chat/completions", [(b"transfer-encoding", b"chunked")]), GROQ)


# 44. Chunks and trailers.


def _chunks(extension: bytes = b"", trailers: bytes = b"") -> bytes:
    body = b"%x%s\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), extension, BODY, trailers)
    return call(length=b"", extra=b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n", body=body)


@attack(
    44,
    "a trailer with a credential",
    "dropped, or 400",
    all_of(_NOT_SMUGGLED, either(one_key, refused(400))),
    each={
        "authorization": b"Authorization: Bearer " + FOREIGN + b"\r\n",
        "x-api-key": b"X-Api-Key: sk-dummy\r\n",
        "host": b"Host: evil.test\r\n",
        "many": b"X-Smuggled: 1\r\n" * 1000,
    },
)
def trailers(here: Range, lines: bytes) -> None:
    here.inside(_chunks(trailers=lines))


def _both_ended(evidence: Evidence) -> str | None:
    ends = evidence.visible.count(b"\r\n0\r\n\r\n")
    return None if ends == 2 else f"{ends} of two answers came to their end"


@attack(
    44,
    "an answer with trailers",
    "they are dropped, the answer ends, and the connection goes on",
    _both_ended,
    each={"whole": b"application/json", "streamed": b"text/event-stream"},
)
def answer_trailers(here: Range, kind: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    here.script(lambda _: head + b"2\r\n{}\r\n0\r\nX-Debug: {KEY}\r\n\r\n")
    client = here.tunnel()
    for _ in range(2):
        client.send(call(close=False))
        client.listen()


@attack(44, "trailers without end", "cut off, nothing is sent", refused(400, 413, 431))
def endless_trailers(here: Range) -> None:
    client = here.tunnel()
    client.send(_chunks().removesuffix(b"\r\n") + b"X-A: ")
    for _ in range(40):
        client.send(b"a" * 65536)
    client.read()


@attack(
    44,
    "an h2 trailer with a credential",
    "dropped, or refused",
    all_of(either(one_key, refused(400)), lacks(b"sk-dummy")),
    each={f"{name.decode()} for {host}": (host, name) for host in (OPENAI, GROQ) for name in (b"authorization", b"x-api-key")},
)
def h2_trailers(here: Range, what: tuple[str, bytes]) -> None:
    path = b"/openai/v1/chat/completions" if what[0] == GROQ else CHAT
    here.h2(h2_headers(what[0].encode(), path), what[0], trailers=[(what[1], b"Bearer sk-dummy " + FOREIGN)])


@attack(
    44,
    "a chunk extension",
    "read over or refused: not passed on",
    all_of(_NOT_SMUGGLED, either(one_key, refused(400, 413))),
    each={
        "short": b";x-smuggled=1",
        "long": b";a=" + b"b" * 100_000,
        "with LF": b";a\nX-Smuggled: 1",
        "quoted": b';a="\r\n"',
        "blank": b" ",
    },
)
def chunk_extension(here: Range, extension: bytes) -> None:
    here.inside(_chunks(extension))


@attack(
    44,
    "an odd chunk size",
    "400 or cut off",
    refused(400),
    each={
        "negative": b"-1",
        "hexadecimal prefix": b"0x20",
        "blank": b" 20",
        "letters": b"zz",
        "empty": b"",
        "underscore": b"2_0",
        "plus": b"+20",
    },
)
def chunk_size(here: Range, size: bytes) -> None:
    body = size + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
    here.inside(call(length=b"", extra=b"Transfer-Encoding: chunked\r\n", body=body))


@attack(44, "a huge chunk size", "nothing is allocated, nothing is sent", no_call)
def huge_chunk(here: Range) -> None:
    client = here.tunnel()
    client.send(call(length=b"", extra=b"Transfer-Encoding: chunked\r\n", body=b"f" * 17 + b"\r\n" + BODY))
    client.listen()


# 45. Expect and Upgrade.


@attack(
    45,
    "an odd Expect",
    "answered or refused here, never a way around",
    either(one_key, refused(400, 401, 417)),
    each={"100-continue": b"100-continue", "upper case": b"100-CONTINUE", "other": b"200-ok", "list": b"100-continue, x"},
)
def expect(here: Range, value: bytes) -> None:
    client = here.tunnel()
    whole = call(extra=b"Expect: " + value + b"\r\n")
    client.send(whole[: -len(BODY)])
    client.listen(0.1)
    client.send(BODY)
    client.read()


@attack(
    45,
    "Expect on a refused call",
    "refused before the body",
    refused(400, 401, 403, 417),
)
def expect_refused(here: Range) -> None:
    here.inside(call(path=b"/v1/files", extra=b"Expect: 100-continue\r\n", length=b"100000"))


@attack(
    45,
    "an upgrade that is no WebSocket",
    "not passed on, or refused",
    all_of(either(one_key, refused(400, 403, 426)), lacks(b"upgrade:", b"http2-settings:")),
    each={
        "h2c": b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n",
        "h2c and websocket": b"Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n",
        "tls": b"Upgrade: TLS/1.2\r\nConnection: Upgrade\r\n",
        "two": b"Upgrade: h2c\r\nUpgrade: foo\r\nConnection: Upgrade\r\n",
        "connect-udp": b"Upgrade: connect-udp\r\nConnection: Upgrade\r\n",
    },
)
def upgrade(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra, close=False))


@attack(
    45,
    "a 101 that nobody asked for",
    "no raw tunnel to a provider",
    all_of(calls_at_most(1), lacks(b"x-smuggled")),
    each={"plain": b"", "h2c": b"Upgrade: h2c\r\n"},
)
def unsolicited_101(here: Range, extra: bytes) -> None:
    here.script(lambda _: b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" + extra + b"\r\n")
    client = here.tunnel()
    client.send(call(close=False))
    client.listen()
    client.send(_SECOND)
    client.listen()


@attack(
    45,
    "an interim answer with the key",
    "interim answers are dropped or scrubbed; the final one comes",
    lambda evidence: None if evidence.statuses == [200] else f"answered with {evidence.statuses}",
    each={"103": b"103 Early Hints", "102": b"102 Processing"},
)
def interim(here: Range, status: bytes) -> None:
    here.script(lambda _: b"HTTP/1.1 " + status + b"\r\nLink: <{KEY}>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    client = here.tunnel()
    client.send(call())
    client.read()


# 46. Bombs.

_LONG = b'{"model":"gpt-4o","messages":[{"role":"user","content":"' + b"a" * 20_000_000 + b'"}]}'


def _deflated(data: bytes) -> bytes:
    return zlib.compress(data, 9)


_BOMBS = {
    "gzip": gzip.compress(_LONG),
    "br": brotli.compress(_LONG, quality=1),
    "zstd": zstandard.compress(_LONG),
    "deflate": _deflated(_LONG),
    "gzip twice": gzip.compress(gzip.compress(_LONG)),
}


@attack(46, "a compressed bomb", "read up to max_body, then 400 or 413", refused(400, 413, 415), each=_BOMBS)
def bomb(here: Range, data: bytes) -> None:
    encoding = next((name for name, value in _BOMBS.items() if value is data), "gzip").encode()
    encoding = b"gzip, gzip" if b"twice" in encoding else encoding
    here.inside(call(body=data, extra=b"Content-Encoding: " + encoding + b"\r\n"))


@attack(
    46,
    "an encoding that nobody knows",
    "400 or 415",
    refused(400, 415),
    each={name.decode() or "empty": name for name in (b"compress", b"x-evil", b"gzip, x-evil", b"gzip" + b", gzip" * 50)},
)
def unknown_encoding(here: Range, name: bytes) -> None:
    here.inside(call(body=gzip.compress(BODY), extra=b"Content-Encoding: " + name + b"\r\n"))


@attack(
    46,
    "a huge length",
    "refused before anything is allocated",
    refused(400, 413),
    each={
        "10 GB": b"10000000000",
        "2^63": b"9223372036854775808",
        "30 digits": b"9" * 30,
        "5000 digits": b"9" * 5000,
        "2^64 and 32": b"18446744073709551648",
    },
)
def huge_length(here: Range, length: bytes) -> None:
    here.inside(call(length=length, close=False))


@attack(46, "more chunks than max_body", "413 once the limit is passed", refused(400, 413))
def endless_chunks(here: Range) -> None:
    client = here.tunnel()
    client.send(call(length=b"", extra=b"Transfer-Encoding: chunked\r\n", body=b""))
    for _ in range(40):
        client.send(b"10000\r\n" + b"a" * 65536 + b"\r\n")
    client.read()


@attack(46, "slow callers", "others are served meanwhile", one_key, each={"heads": call()[:60], "bodies": call(length=b"100000")})
def slow(here: Range, data: bytes) -> None:
    held = [here.tunnel() for _ in range(30)]
    for client in held:
        client.send(data)
    here.inside(call())


@attack(46, "slow callers at the port", "others are served meanwhile", one_key)
def slow_connect(here: Range) -> None:
    for _ in range(100):
        here.client().send(b"CONNECT api.openai.com:443 HT")
    here.inside(call())


@attack(46, "a head without end", "refused or cut off before it is held", refused(400, 414, 431))
def endless_head(here: Range) -> None:
    client = here.tunnel()
    client.send(call()[:60])
    for _ in range(40):
        client.send(b"a" * 65536)
    client.read()


@attack(46, "a head without end at the port", "refused or cut off before it is held", refused(400, 414, 431))
def endless_connect(here: Range) -> None:
    client = here.client()
    client.send(b"CONNECT api.openai.com:443 HTTP/1.1\r\nX-A: ")
    for _ in range(40):
        client.send(b"a" * 65536)
    client.read()


@attack(46, "a head that stays away", "408 or cut off after 30 s", refused(400, 408))
def slow_heads(here: Range) -> None:
    held = [here.client(), here.tunnel()]
    held[0].send(b"CONNECT api.openai.com:443 HT")
    held[1].send(call()[:60])
    for client in held:
        client.patience = 35.0
        client.read()


@attack(
    46,
    "an answer's head without end",
    "the call fails before it is held",
    lambda evidence: None if all(status in (0, 502) for status in evidence.statuses) else f"answered with {evidence.statuses}",
    each={
        "one": b"HTTP/1.1 200 OK\r\nX-A: ",
        "interim": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000 + b"HTTP/1.1 200 OK\r\nX-A: ",
    },
)
def endless_answer_head(here: Range, start: bytes) -> None:
    here.script(lambda _: start + b"a" * 1_000_000)
    here.inside(call())


# 47. Bodies that are read.

_DEEP = b'{"model":"gpt-4o","messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}"


@attack(
    47,
    "a body that two parsers read differently",
    "400 where the model is read",
    refused(400),
    each={
        "duplicate model": b'{"model":"gpt-4o-mini","messages":[],"model":"gpt-4o"}',
        "escaped name": b'{"model":"gpt-4o-mini","messages":[],"mod\\u0065l":"gpt-4o"}',
        "escaped first": b'{"\\u006dodel":"gpt-4o","messages":[],"model":"gpt-4o-mini"}',
        "other case": b'{"model":"gpt-4o","messages":[],"Model":"gpt-4"}',
        "duplicate max_tokens": b'{"model":"gpt-4o","max_tokens":1,"messages":[],"max_tokens":100000}',
        "duplicate stream": b'{"model":"gpt-4o","stream":false,"messages":[],"stream":true}',
        "duplicate messages": b'{"model":"gpt-4o","messages":[],"messages":[1]}',
        "NaN": b'{"model":"gpt-4o","messages":[],"temperature":NaN}',
        "Infinity": b'{"model":"gpt-4o","messages":[],"max_tokens":-Infinity}',
        "comment": b'{"model":"gpt-4o-mini",/*"*/"model":"gpt-4o","messages":[]}',
        "trailing comma": b'{"model":"gpt-4o","messages":[],}',
        "trailing data": BODY + b'{"model":"gpt-4"}',
        "single quotes": b"{'model':'gpt-4o','messages':[]}",
        "not utf-8": b'{"model":"gpt-4o\xff","messages":[]}',
        "lone surrogate": b'{"model":"gpt-4o\\ud800","messages":[]}',
        "utf-16": BODY.decode().encode("utf-16"),
        "utf-32": BODY.decode().encode("utf-32"),
        "deep": _DEEP,
        "model is a number": b'{"model":1,"messages":[]}',
        "model is a list": b'{"model":["gpt-4o"],"messages":[]}',
        "array": b'[{"model":"gpt-4o"}]',
        "control character": b'{"model":"gpt-4o\n","messages":[]}',
        "nul after": BODY + b"\0",
        "leading zeros": b'{"model":"gpt-4o","max_tokens":01,"messages":[]}',
        "hexadecimal": b'{"model":"gpt-4o","max_tokens":0x10,"messages":[]}',
        "truncated": BODY[:-1],
        "overlong utf-8": b'{"model":"gpt-4o\xc0\xae","messages":[]}',
    },
)
def odd_body(here: Range, body: bytes) -> None:
    here.inside(call(body=body))


@attack(
    47,
    "a body that is read in one way",
    "the bytes go out as they came",
    one_key,
    each={
        "byte order mark": b"\xef\xbb\xbf" + BODY,
        "nested duplicates": b'{"model":"gpt-4o","messages":[],"metadata":{"a":"1","a":"2"}}',
        "large number": b'{"model":"gpt-4o","max_tokens":1e400,"messages":[]}',
    },
)
def plain_body(here: Range, body: bytes) -> None:
    here.inside(call(body=body))


@attack(
    47,
    "another content type around the same body",
    "read as JSON, or refused: duplicates do not pass",
    refused(400, 415),
    each={
        "text": b"text/plain",
        "form": b"application/x-www-form-urlencoded",
        "utf-16": b"application/json; charset=utf-16",
        "utf-7": b"application/json; charset=utf-7",
        "none": b"",
        "octets": b"application/octet-stream",
    },
)
def other_type(here: Range, content_type: bytes) -> None:
    body = b'{"model":"gpt-4o-mini","messages":[],"model":"gpt-4o"}'
    here.inside(call(body=body).replace(b"application/json", content_type))


_PART = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'


@attack(
    47,
    "two models in a form",
    "400",
    refused(400),
    each={
        "twice": _PART % b"whisper-1" + _PART % b"gpt-4o-transcribe" + b"--b--\r\n",
        "odd quotes": _PART % b"whisper-1" + (_PART % b"gpt-4o-transcribe").replace(b'"model"', b"model") + b"--b--\r\n",
        "encoded name": _PART % b"whisper-1"
        + (_PART % b"gpt-4o-transcribe").replace(b'name="model"', b"name*=utf-8''model")
        + b"--b--\r\n",
        "blank before the colon": _PART % b"whisper-1"
        + (_PART % b"gpt-4o-transcribe").replace(b"Disposition:", b"Disposition :")
        + b"--b--\r\n",
        "angle brackets": _PART % b"whisper-1" + (_PART % b"gpt-4o-transcribe").replace(b'"model"', b"<model>") + b"--b--\r\n",
        "single quotes": _PART % b"whisper-1" + (_PART % b"gpt-4o-transcribe").replace(b'"model"', b"'model'") + b"--b--\r\n",
        "JSON": BODY,
        "JSON in front": BODY + b"\r\n" + _PART % b"whisper-1" + b"--b--\r\n",
        "another boundary": (_PART % b"whisper-1").replace(b"--b", b"--c") + b"--c--\r\n",
    },
)
def form(here: Range, body: bytes) -> None:
    data = call(path=b"/v1/audio/transcriptions", body=body)
    here.inside(data.replace(b"application/json", b"multipart/form-data; boundary=b"))


@attack(
    47,
    "two content types",
    "400",
    refused(400),
    each={
        "JSON last": (b"multipart/form-data; boundary=b", b"application/json"),
        "form last": (b"application/json", b"multipart/x"),
    },
)
def two_types(here: Range, kinds: tuple[bytes, bytes]) -> None:
    here.inside(call(extra=b"Content-Type: %s\r\n" % kinds[1]).replace(b"application/json", kinds[0], 1))


@attack(47, "a form around a JSON call", "read as a form, or refused", either(one_key, refused(400, 415)))
def json_as_form(here: Range) -> None:
    body = _PART % b"gpt-4o-mini" + b"--b--\r\n"
    here.inside(call(body=body).replace(b"application/json", b"multipart/form-data; boundary=b"))


# 48. WebSocket.

_HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def _socket_call(extra: bytes = b"") -> bytes:
    return call(
        method=b"GET", path=b"/v1/realtime?model=gpt-realtime", body=b"", length=b"", extra=_HANDSHAKE + extra, close=False
    )


def _frame(
    data: bytes, opcode: int = 1, *, fin: bool = True, rsv: int = 0, masked: bool = True, length: int | None = None
) -> bytes:
    size = len(data) if length is None else length
    mask = os.urandom(4) if masked else b""
    bits, wide = (size, b"") if size < 126 else (126, struct.pack("!H", size)) if size < 65536 else (127, struct.pack("!Q", size))
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)) if masked else data
    return bytes([(0x80 if fin else 0) | rsv | opcode, (0x80 if masked else 0) | bits]) + wide + mask + body


def _no_key_in_frames(evidence: Evidence) -> str | None:
    after = [bytes(record.data).partition(b"\r\n\r\n")[2] for record in evidence.providers]
    return "a key stands in a frame" if any(b"CANARY" in data for data in after) else None


@attack(
    48,
    "frames of a WebSocket",
    "passed on or closed, a dummy in them is not substituted",
    all_of(calls_at_most(1), _no_key_in_frames),
    each={
        "dummy": _frame(b'{"api_key":"sk-dummy"}'),
        "fragments": _frame(b"sk-", fin=False) + _frame(b"dummy", 0),
        "compressed bit": _frame(b"x", rsv=0x40),
        "unmasked": _frame(b"sk-dummy", masked=False),
        "reserved opcode": _frame(b"x", 3),
        "huge length": _frame(b"x", length=2**62),
        "long ping": _frame(b"x" * 200, 9),
        "continuation first": _frame(b"x", 0),
        "not utf-8": _frame(b"\xff\xfe"),
        "close": _frame(b"\x03\xf0", 8),
        "frames after a close": _frame(b"\x03\xe8", 8) + _frame(b'{"type":"response.create"}') + _frame(b"x", 9),
        "empty frames": _frame(b"", fin=False) + _frame(b"", 0, fin=False) * 20_000,
    },
)
def frames(here: Range, data: bytes) -> None:
    client = here.tunnel()
    client.send(_socket_call())
    client.read()
    client.send(data)
    client.listen()


@attack(
    48,
    "a WebSocket handshake with tricks",
    "one key, in its own header",
    all_of(either(one_key, refused(400, 403, 426)), lacks(b"sk-dummy", b"evil-org")),
    each={
        "compression": b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        "key in the subprotocol": b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-dummy\r\n",
        "organization in the subprotocol": b"Sec-WebSocket-Protocol: realtime, openai-organization.evil-org\r\n",
        "two subprotocols": b"Sec-WebSocket-Protocol: realtime\r\nSec-WebSocket-Protocol: OpenAI-Insecure-API-Key.sk-dummy\r\n",
        "no version": b"Sec-WebSocket-Version: 0\r\n",
        "second key": b"Sec-WebSocket-Key: AAAA\r\n",
    },
)
def handshake(here: Range, extra: bytes) -> None:
    here.inside(_socket_call(extra))


@attack(
    48,
    "a WebSocket to a place where there is none",
    "refused",
    refused(400, 403, 405, 426),
    each={"chat": CHAT, "files": b"/v1/files", "anthropic's": b"/v1/messages"},
)
def socket_elsewhere(here: Range, path: bytes) -> None:
    here.inside(call(method=b"GET", path=path, body=b"", length=b"", extra=_HANDSHAKE, close=False))


@attack(48, "a WebSocket on a POST", "no raw tunnel", all_of(calls_at_most(1), lacks(b"x-smuggled")))
def socket_on_post(here: Range) -> None:
    client = here.tunnel()
    client.send(call(extra=_HANDSHAKE, close=False))
    client.listen()
    client.send(_SECOND)
    client.listen()


@attack(48, "a request behind a refused handshake", "decided on its own", _NOT_SMUGGLED)
def behind_handshake(here: Range) -> None:
    refusal = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n"
    here.script(lambda _: refusal)
    here.inside(_socket_call() + _SECOND, count=2)
