"""Reading `host[:port]`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.policy import authority
from valetkey.policy.authority import Authority, is_address, parse_authority, parse_host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api.openai.com", Authority("api.openai.com")),
        ("API.OpenAI.com:443", Authority("api.openai.com", 443)),
        ("localhost:8045", Authority("localhost", 8045)),
        ("my_host", Authority("my_host")),
        ("127.0.0.1:1", Authority("127.0.0.1", 1)),
        ("[::1]:8045", Authority("::1", 8045)),
        ("[0:0:0:0:0:0:0:1]", Authority("::1")),
        ("xn--mnchen-3ya.de", Authority("xn--mnchen-3ya.de")),
    ],
)
def test_plain_authorities_have_one_spelling(text: str, expected: Authority) -> None:
    assert parse_authority(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ":443", "host:", "host:0", "host:65536", "host:1:2", "host:١", "user@host", "user:pass@host", "host.", ".host",
        "a..b", "host/path", "host?x", "host#x", "ho st", " host", "host\x00", "host\n", "host%2e", "münchen.de", "ａpi.com",
        "api\u3002com", "::1", "[::1", "[127.0.0.1]", "[nonsense]", "-host", "host-", "a" * 64, "a, b", "\u212a.com",
    ],
)  # fmt: skip
def test_what_has_two_readings_is_not_read(text: str) -> None:
    assert parse_authority(text) is None


@pytest.mark.parametrize("host", ["\u212a.com", "fe80::1%eth0", ".".join(["a" * 60] * 5), "1:2", "[::1]", "host:1"])
def test_a_host_is_a_name_or_a_bare_address(host: str) -> None:
    assert parse_host(host) is None


def test_an_address_of_version_6_has_one_spelling() -> None:
    assert parse_host("FD00:0:0::0005") == "fd00::5"


@given(st.text(max_size=40))
def test_what_is_read_reads_the_same_again(text: str) -> None:
    authority = parse_authority(text)

    assert authority is None or parse_host(authority.host) == authority.host


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("::1", True), ("0x7f.1", False), ("a.com", False)])
def test_an_address_is_known_by_its_usual_spelling(host: str, expected: bool) -> None:
    assert is_address(host) is expected


@pytest.mark.parametrize("text", ["a" * 60_000, "a." * 200 + "test", "[" + "0" * 300 + "]:1"])
def test_nothing_long_is_remembered(text):
    before = authority._authority.cache_info().misses, authority._host.cache_info().misses
    assert (parse_authority(text), parse_host(text)) == (None, None)
    assert (authority._authority.cache_info().misses, authority._host.cache_info().misses) == before
