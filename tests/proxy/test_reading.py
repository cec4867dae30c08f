"""Our twins of what reads and checks a head, and their originals: the same results, the same errors in the same words."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.net.http import validate
from mitmproxy.net.http.http1 import read

from valetkey.proxy import heads, reading, shortcuts


def told(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return type(error), str(error)


NAMES = st.sampled_from(
    [
        *(
            b"Content-Length",
            b"content-length",
            b"Transfer-Encoding",
            b"transfer-encoding",
            b"host",
            b"a",
            b"a\n",
            b"a b",
            b"",
            b":",
        ),
        *(b"\xff", b"a\x00", b"content-length\n", b"content-length ", b"Connection", b"a(", b"~!#$%&'*+-.^_`|"),
    ]
) | st.binary(max_size=4)
LENGTHS = st.sampled_from([b"0", b"1", b"12", b"012", b"00", b"+1", b"-1", b"1, 1", b"1\n", b" 1", b"", b"1" * 17, b"1" * 40])
HUGE = b"1" * 5000
CODINGS = st.sampled_from([b"chunked", b"Chunked", b"gzip, chunked", b"gzip", b"identity", b"chunked, gzip", b"x", b"\xff", b""])
VALUES = LENGTHS | CODINGS | st.just(HUGE) | st.just("²".encode())
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
ODD = st.lists(
    st.tuples(
        NAMES | st.sampled_from(["content-length", bytearray(b"content-length"), None]), VALUES | st.sampled_from(["5", None])
    )
    | st.sampled_from([[b"content-length", b"5"], (b"a",), (b"a", b"b", b"c"), 5]),
    max_size=3,
)
METHODS = st.sampled_from([b"GET", b"POST", b"HEAD", b"head", b"CONNECT", b"Connect", b"\xff"])
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1\n", b"http/1.1", b"HTTP/11", b""])
STATUSES = st.sampled_from([200, 201, 299, 100, 101, 199, 204, 304, 404, 500, 99, 0, -1, 1000])
KINDS = st.sampled_from([http.Headers] * 8 + [type("Exact", (http.Headers,), {"_kconv": staticmethod(lambda key: key)})])


def headers(kind, fields):
    made = kind()
    made.fields = tuple(fields)
    return made


@st.composite
def requests(draw):
    request = http.Request.make("GET", "http://a/")
    request.data.method, request.data.http_version = draw(METHODS), draw(VERSIONS)
    request.data.headers = headers(draw(KINDS), draw(FIELDS | ODD))
    return request


@st.composite
def responses(draw):
    response = http.Response.make(200)
    response.data.status_code, response.data.http_version = draw(STATUSES), draw(VERSIONS)
    response.data.headers = headers(draw(KINDS), draw(FIELDS | ODD))
    return response


@given(requests(), st.none() | responses())
def test_the_size_of_a_body(request_, response):
    ours = told(reading.expected_http_body_size, request_, response)
    assert ours == told(read.expected_http_body_size, request_, response)


@given(requests() | responses())
def test_a_head_is_checked(message):
    assert told(reading.validate_headers, message) == told(validate.validate_headers, message)


@pytest.mark.parametrize("value", [{"content-length": "5"}, {}, {"content-length": "x"}])
def test_headers_that_are_something_else(value):
    request = http.Request.make("GET", "http://a/")
    request.data.headers = value
    assert told(reading.expected_http_body_size, request) == told(read.expected_http_body_size, request)


LINES = st.sampled_from(
    [
        *(b"a: b", b"a:b", b"a :b", b" a: b", b"\ta", b" more", b":", b": b", b"a", b"", b"\r", b"a:\x0b b \x0c", b"a: b: c"),
        *(b"\xa0a: b", b"a:\xa0b\xa0", b"A: b\r", b"\x0ba: b", b"a\t:b"),
    ]
)
OTHERS = LINES.map(bytearray) | LINES.map(lambda line: line.decode("latin-1")) | st.none()


@given(st.lists(LINES | st.binary(max_size=6), max_size=5))
@example([b"a: b", b" c: d"])
def test_fields_are_read(lines):
    assert told(reading.read_headers, lines) == told(read._read_headers, lines)


@given(st.lists(LINES | OTHERS, max_size=3), st.sampled_from([list, tuple, iter]))
def test_fields_are_read_from_anything(lines, kind):
    assert told(reading.read_headers, kind(lines)) == told(read._read_headers, kind(lines))


FIRST_LINES = st.sampled_from(
    [
        *(b"POST /v1 HTTP/1.1", b"GET / HTTP/1.0", b"GET  /a\tHTTP/1.1 ", b"CONNECT a:443 HTTP/1.1", b"CONNECT /a HTTP/1.1"),
        *(
            b"GET http://a/b HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET /\xff HTTP/1.1",
            b"GET /",
            b" /  HTTP/1.1",
        ),
        *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 404  Not  there ", b"HTTP/1.1\t500\tNo", b"HTTP/1.0 200 OK", b""),
        *(
            b"HTTP/1.1 100 Go on",
            b"HTTP/1.1 +200 OK",
            b"HTTP/1.1 2_00 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 \xb2",
        ),
    ]
)
USUAL = st.sampled_from([b"Host: a", b"content-length: 2", b"Content-Length:3", b"x: \xff", b"transfer-encoding: chunked", b"x:"])


def shown(message):
    """All that a message is, but not when it was read."""
    told = vars(message.data) | {"headers": message.headers.fields, "timestamp_start": 0}
    return list(vars(message)), list(told), told, [type(value) for value in told.values()], vars(message.headers).keys()


@pytest.mark.parametrize(
    ("ours", "original"), [(reading.request_of, read.read_request_head), (reading.response_of, read.read_response_head)]
)
@given(first=FIRST_LINES | st.binary(max_size=20), lines=st.lists(USUAL | LINES | st.binary(min_size=1, max_size=6), max_size=4))
def test_a_plain_head_is_read_as_a_whole(ours, original, first, lines):
    lines = [line.replace(b"\n", b"") or b"a:b" for line in (first, *lines)]
    made = ours(b"\r\n".join([*lines, b"", b""]))
    read_again = b"\r\n".join(lines).split(b"\r\n")
    assert made is None or shown(made) == shown(original(read_again))


@pytest.mark.parametrize("line", [b"POST /v1/models?a=b HTTP/1.1", b"CONNECT /a HTTP/1.1"])
def test_a_plain_request_is_read_here(line):
    assert reading.request_of(line + b"\r\nHost: a\r\nhost: b\r\nc:\r\n\r\n").headers.fields[1:] == ((b"host", b"b"), (b"c", b""))


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not there", b"HTTP/1.1 599 ?"])
def test_a_plain_answer_is_read_here(line):
    assert reading.response_of(line + b"\r\nServer:a\r\n\r\n").data.reason == line.split(b" ", 2)[2]


def test_an_answer_without_a_reason_is_read_here():
    assert reading.response_of(b"HTTP/1.1 200 \r\n\r\n").data.reason == b""


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 100 Go on", b"HTTP/1.1 199 Go on", b"HTTP/1.0 200 OK", b"HTTP/1.1", b"HTTP/1.1 20", b""]
)
def test_another_answer_is_mitmproxys(line):
    assert reading.response_of(line + b"\r\nserver: a\r\n\r\n") is None


@pytest.mark.parametrize(
    "line", [b"GET http://a/ HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT a:443 HTTP/1.1", b"GET / HTTP/1.0", b"x"]
)
def test_another_request_is_mitmproxys(line):
    assert reading.request_of(line + b"\r\nhost: a\r\n\r\n") is None


@given(st.lists(USUAL, max_size=5))
def test_with_the_fields_their_names_are_read(lines):
    headers = reading.request_of(b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])).headers
    shortcuts.install()
    try:
        kept = reading.request_of(b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])).headers
        assert kept.__dict__["_valetkey_by_name"][0] is kept.fields
        assert heads.by_name(kept) == heads.by_name(headers)
    finally:
        shortcuts.uninstall()


@given(VERSIONS | st.binary(max_size=9))
def test_the_version_is_checked(version):
    ours = told(reading.raise_if_http_version_unknown, version)
    assert ours == told(read.raise_if_http_version_unknown, version)


def test_the_characters_of_a_token_are_mitmproxys():
    assert [byte for byte in range(256) if validate._valid_header_name.match(bytes([byte]))] == sorted(reading._TOKEN)
