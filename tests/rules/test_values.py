from __future__ import annotations

import pytest

from valetkey.model import Address, Upstream
from valetkey.rules import values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h30m", 5400), ("90 days", 7_776_000), ("30d", 2_592_000), (5, 5), ("7", 7)],
)
def test_durations(text, seconds):
    assert values.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 parsecs", "-1s", True, None, [], "1h!"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="duration"):
        values.duration(text)


@pytest.mark.parametrize(("text", "size"), [("64 MB", 64 * 2**20), ("512kb", 512 * 1024), ("1 GiB", 2**30), (100, 100)])
def test_sizes(text, size):
    assert values.size(text) == size


@pytest.mark.parametrize("text", ["", "big", "0", 0, -1, "64 zb", True, None])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="size"):
        values.size(text)


@pytest.mark.parametrize(("text", "address"), [("127.0.0.1:80", Address("127.0.0.1", 80)), ("[::1]:8080", Address("::1", 8080))])
def test_addresses(text, address):
    assert values.address(text) == address


@pytest.mark.parametrize("text", ["127.0.0.1", "8080", "127.0.0.1:0", "127.0.0.1:99999", 8080, None])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="host:port"):
        values.address(text)


@pytest.mark.parametrize("text", ["0.0.0.0:8080", "192.168.1.2:80", "[::]:80", "example.com:80"])
def test_wider_than_loopback_is_refused_with_the_reason(text):
    with pytest.raises(ValueError, match="do not authenticate yet"):
        values.address(text)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("https://x.test", Upstream("https", "x.test", 443)),
        ("https://X.test:8443/api/v1/", Upstream("https", "x.test", 8443, "/api/v1")),
        ("http://127.0.0.1:8000", Upstream("http", "127.0.0.1", 8000)),
    ],
)
def test_upstreams(text, upstream):
    assert values.upstream(text) == upstream


@pytest.mark.parametrize("text", ["ftp://x.test", "x.test", "https://u:p@x.test", "https://x.test?key=1", "http://x.test", 5])
def test_what_is_no_upstream(text):
    with pytest.raises(ValueError):
        values.upstream(text)
