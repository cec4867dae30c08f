from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from support.hellos import quic_hello, tls_hello
from valetkey.proxy import naming
from valetkey.proxy.naming import Said


def client(transport="tcp", mode="socks5"):
    made = tflow.tclient_conn()
    made.transport_protocol, made.proxy_mode = transport, ProxyMode.parse(mode)
    return made


HELLO = tls_hello("API.openai.com")
HEAD = b"GET /v1/models HTTP/1.1\r\nAccept: */*\r\nHost: api.openai.com:80\r\n\r\n"


def said(*data, transport="tcp"):
    return naming.name_of(client(transport), data)


@pytest.mark.parametrize("first", [HELLO, HEAD], ids=["tls", "http"])
def test_a_name_is_read(first):
    assert said(first) == "api.openai.com"


@pytest.mark.parametrize("first", [HELLO, HEAD], ids=["tls", "http"])
def test_a_name_is_waited_for_byte_by_byte(first):
    assert {said(first[:count]) for count in range(1, len(first))} == {Said.MORE}


def test_pieces_are_one_stream():
    assert said(HELLO[:7], HELLO[7:100], HELLO[100:]) == "api.openai.com"


def test_a_handshake_without_a_name_is_told_from_what_needs_none():
    assert (said(tls_hello(None)), said(b"SSH-2.0-x\r\n")) == (Said.NAMELESS, Said.NOTHING)


@pytest.mark.parametrize(
    "first",
    [
        b"\x00\x01\x02",
        b"EHLO me\r\n",
        b"get / http/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 104.18.6.192\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n",
    ],
)
def test_what_names_no_host_or_two_names_nothing(first):
    assert said(first) is Said.NOTHING


def test_a_head_without_end_is_not_waited_for_for_ever():
    assert said(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000) is Said.NOTHING


def test_quic_names_a_host():
    assert said(*quic_hello("api.openai.com"), transport="udp") == "api.openai.com"


@pytest.mark.parametrize(("first", "expected"), [(b"\x12\x34\x01\x00", Said.NOTHING), (b"\xc0" * 1200, Said.NAMELESS)])
def test_datagrams_that_cannot_be_read(first, expected):
    assert said(first, transport="udp") is expected


@given(st.binary(max_size=200), st.sampled_from(["tcp", "udp"]))
def test_garbage_names_nothing_and_breaks_nothing(data, transport):
    assert isinstance(said(data, transport=transport), str | Said)


@given(st.integers(0, len(HELLO) - 1), st.binary(min_size=1, max_size=4))
def test_a_broken_handshake_breaks_nothing(at, put):
    assert isinstance(said(HELLO[:at] + put + HELLO[at + len(put) :]), str | Said)


@pytest.mark.parametrize(
    ("transport", "first", "expected"), [("tcp", HELLO, "https"), ("tcp", HEAD, "http"), ("udp", b"\xc0", "https")]
)
def test_the_scheme_is_told_from_the_first_bytes(transport, first, expected):
    assert naming.scheme_of(client(transport), [first]) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("regular", False),
        ("upstream:http://corp:3128", False),
        ("reverse:https://api.openai.com", False),
        ("socks5", True),
        ("transparent", True),
        ("wireguard", True),
        ("local", True),
    ],
)
def test_modes_in_which_addresses_are_dialled(mode, expected):
    assert naming.dials_addresses(client(mode=mode)) is expected


@pytest.mark.parametrize(
    "blanks", [b"Host:" + b" " * 60_000 + b"\rx", b"Host: a" + b" " * 60_000 + b"b"], ids=["before", "between"]
)
def test_a_host_of_blanks_is_read_at_once(blanks):
    begun = time.perf_counter()
    named = said(b"GET / HTTP/1.1\r\n" + blanks + b"\r\n\r\n")
    assert named is Said.NOTHING and time.perf_counter() - begun < 5


def test_blanks_around_a_host_do_not_count():
    assert said(HEAD.replace(b": api.openai.com:80", b":\t api.openai.com:80 \t")) == "api.openai.com"


@pytest.mark.parametrize(
    ("transport", "first", "expected"),
    [
        ("tcp", HELLO[:-1], Said.ENDLESS),
        ("tcp", HEAD[:-1], Said.NOTHING),
        ("tcp", b"GET", Said.NOTHING),
        ("udp", quic_hello("api.openai.com")[0][:600], Said.NAMELESS),
    ],
)
def test_pieces_without_end_are_not_waited_for(transport, first, expected):
    count = naming.MOST_PIECES[transport] - 1
    assert said(first, *[b""] * count, transport=transport) is expected
