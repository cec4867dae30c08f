from __future__ import annotations

from decimal import Decimal

import pytest

from support.making import CATALOG
from valetkey.model import Address, Provider, Upstream
from valetkey.rules import values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h30m", 5400), ("90 days", 7_776_000), ("30d", 2_592_000), (5, 5), ("7", 7)],
)
def test_durations(text, seconds):
    assert values.duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "10 parsecs",
        "-1s",
        True,
        None,
        [],
        "1h!",
        "5 5",
        float("inf"),
        float("nan"),
        -1,
        10**400,
        "9" * 400,
        "1000 weeks 9999999 days",
    ],
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="duration"):
        values.duration(text)


@pytest.mark.parametrize(("text", "size"), [("64 MB", 64 * 2**20), ("512kb", 512 * 1024), ("1 GiB", 2**30), (100, 100)])
def test_sizes(text, size):
    assert values.size(text) == size


@pytest.mark.parametrize("text", ["", "big", "0", 0, -1, "64 zb", "0.1", True, None])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="size"):
        values.size(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("[::1]:8080", Address("::1", 8080)),
        ("LocalHost:1", Address("localhost", 1)),
        ("[0:0:0:0:0:0:0:1]:1", Address("::1", 1)),
    ],
)
def test_addresses(text, address):
    assert values.address(text) == address


@pytest.mark.parametrize("text", ["127.0.0.1", "8080", "127.0.0.1:0", "127.0.0.1:99999", 8080, None])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="host:port"):
        values.address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Gateway.LAN", "gateway.lan"), ("gateway.lan:8045", "gateway.lan:8045"), ("[FD00::1]:80", "[fd00::1]:80")],
)
def test_a_name_of_the_gateway_has_one_spelling(text, expected):
    assert values.own_host(text) == expected


@pytest.mark.parametrize("text", ["", "*.lan", "http://gateway.lan", "user@gateway.lan", "gateway.lan:0"])
def test_what_is_no_name_of_the_gateway(text):
    with pytest.raises(ValueError, match="host or host:port"):
        values.own_host(text)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("https://x.test", Upstream("https", "x.test", 443)),
        ("https://X.test:8443/api/v1/", Upstream("https", "x.test", 8443, "/api/v1")),
        ("http://127.0.0.1:8000", Upstream("http", "127.0.0.1", 8000)),
        ("http://[0:0:0:0:0:0:0:1]:8000", Upstream("http", "::1", 8000)),
        ("https://x.test/openai/v1beta", Upstream("https", "x.test", 443, "/openai/v1beta")),
    ],
)
def test_upstreams(text, upstream):
    assert values.upstream(text) == upstream


@pytest.mark.parametrize(
    "text",
    [
        "ftp://x.test",
        "x.test",
        "https://u:p@x.test",
        "https://x.test?key=1",
        "http://x.test",
        5,
        "https://x.test:0",
        "https://x.test:99999",
        "https://x.test:sk-secret",
        "https://x te st",
        "https://x.test.",
        "https://exämple.test",
        "https://127.1",
        "https://[::1",
        "https://x.test/a/../b",
        "https://x.test//a",
        "https://x.test/%2e%2e",
        "https://x.test/a;b",
        "http://[::ffff:127.0.0.1]",
        "http://127.evil.test",
        "http://localhost.evil.test",
    ],
)
def test_what_is_no_upstream(text):
    with pytest.raises(ValueError, match="upstream") as raised:
        values.upstream(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("text", ["http://127.0.0.1", "http://[::1]", "http://localhost", "http://127.9.9.9"])
def test_what_is_loopback_here_is_loopback_on_the_wire(text):
    made = values.upstream(text)
    assert Provider("lab", CATALOG["openai"], made).named_on_loopback


@pytest.mark.parametrize("text", ["example.com", "example.com:8443", "10.0.0.1", "10.0.0.0/8", "fd00::/8", "::1", "[::1]:80"])
def test_destinations(text):
    assert values.destination(text) == text


@pytest.mark.parametrize("text", ["*.example.com", "*.github.com:22", "*.co", "ci-*.example.com", "a.*.example.com", "*.x1"])
def test_patterns_of_destinations(text):
    assert values.destination(text) == text


@pytest.mark.parametrize(
    "text",
    ["*", "*:443", "example.*", "*.*", "10.0.0.*", "*.1", "*.com:0", "*.com:99999", "*.com:", "https://*.com", "*.com/x", "*.a]"],
)
def test_what_is_no_pattern_of_destinations(text):
    with pytest.raises(ValueError, match="destination"):
        values.destination(text)


@pytest.mark.parametrize("text", ["https://example.com", "10.0.0.0/99", "", "a b", "example.com:0"])
def test_what_is_no_destination(text):
    with pytest.raises(ValueError, match="destination"):
        values.destination(text)


@pytest.mark.parametrize("text", ["a", "*", "gpt-[45]*", "[]a]", "[!]a]x", "a]"])
def test_patterns(text):
    assert values.pattern(text) == text


@pytest.mark.parametrize("text", ["", "gpt-[4", "a[", "[]", "a\nb"])
def test_what_is_no_pattern(text):
    with pytest.raises(ValueError, match="pattern"):
        values.pattern(text)


def test_a_digest_is_in_lower_case():
    assert values.digest("sha256:" + "AB" * 32) == "sha256:" + "ab" * 32


@pytest.mark.parametrize("text", ["sk-secret", "sha256:", "sha256:" + "g" * 64, "md5:" + "0" * 64, "sha256:" + "0" * 65])
def test_what_is_no_digest(text):
    with pytest.raises(ValueError, match="sha256sum"):
        values.digest(text)


def test_a_budget_is_an_amount_and_a_period():
    assert values.budget("20.50 USD/month") == (Decimal("20.50"), "month")


@pytest.mark.parametrize("text", ["20", "20 USD", "20 EUR/month", "USD/day", "20 USD/fortnight", 20, None])
def test_what_is_no_budget(text):
    with pytest.raises(ValueError, match="budget"):
        values.budget(text)


def test_a_rate_is_a_count_and_a_period():
    assert values.rate("60/minute") == (60, "minute")


@pytest.mark.parametrize("text", ["60", "60/fortnight", "0/minute", "-1/minute", "many/day", 60, None])
def test_what_is_no_rate(text):
    with pytest.raises(ValueError, match="rate"):
        values.rate(text)


@pytest.mark.parametrize(
    "text", ["ledger.db", "sqlite:", "", "://x", "sqlite:///", "sqlite:////", "sqlite:///here/", "sqlite:///.."]
)
def test_what_is_no_ledger(text):
    with pytest.raises(ValueError, match="ledger"):
        values.ledger(text)


@pytest.mark.parametrize("value", [0, "0s", "0 days", "soon"])
def test_what_is_no_retention(value):
    with pytest.raises(ValueError, match=r"kept|duration"):
        values.retention(value)


def test_a_retention_is_a_duration():
    assert values.retention("90 days") == 7_776_000


@pytest.mark.parametrize("value", [0, "0s", 0.0])
def test_what_is_no_limit(value):
    with pytest.raises(ValueError, match="no time"):
        values.time_limit(value)


@pytest.mark.parametrize("value", ["soon", -1, None, float("nan")])
def test_a_limit_is_a_duration(value):
    with pytest.raises(ValueError, match="a duration is a number with a unit"):
        values.time_limit(value)


@pytest.mark.parametrize(
    ("value", "share"), [("10%", 0.1), ("10 %", 0.1), (" 2.5% ", 0.025), ("0%", 0), ("100%", 1), (0.1, 0.1), (0, 0), (1, 1)]
)
def test_shares(value, share):
    assert values.share(value) == share


@pytest.mark.parametrize(
    "value",
    [
        10,
        1.01,
        -0.1,
        "101%",
        "-1%",
        "ten",
        "10",
        "0.1",
        "%",
        "",
        "10%%",
        "1e1%",
        "٣%",
        True,
        None,
        [],
        float("nan"),
        float("inf"),
    ],
)
def test_what_is_no_share(value):
    with pytest.raises(ValueError, match=r"a share is meant here, such as 10% or 0\.1"):
        values.share(value)


KEYS = [
    pytest.param("sk-proj-REALrealREALrealREALreal0001", id="marks before"),
    pytest.param("gskREALrealREALrealREALreal0001_tail", id="marks after"),
    pytest.param("sk-0123456789abcdef0123456789abcdef", id="hexadecimal"),
    pytest.param("0123456789abcdef0123", id="shortest"),
]


@pytest.mark.parametrize("key", KEYS)
def test_what_has_the_look_of_a_key_is_masked_whole(key):
    assert values.masked(f"openai/{key}: bad") == "openai/…: bad"


@pytest.mark.parametrize(
    "text",
    [
        "anthropic/claude-sonnet-4-5-20250929",
        "openrouter/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "gpt-4o-audio-preview-2024-12-17",
        "OPENAI_API_KEY_10 and GATEWAY_ANTHROPIC_API_KEY_2",
        "anthropic_count_tokens",
        "12345678901234567890",
        "a" * 50,
    ],
)
def test_names_of_models_and_variables_are_not_masked(text):
    assert values.masked(text) == text


def test_masking_takes_no_longer_for_long_words():
    """A file may be one million characters of one word."""
    assert values.masked("a" * 1_000_000) == "a" * 1_000_000


@pytest.mark.parametrize("text", ["sqlite:///a\0b", "sqlite:///a\nb"], ids=["NUL", "line break"])
def test_a_ledger_that_no_file_can_be_is_refused(text):
    with pytest.raises(ValueError, match="ledger"):
        values.ledger(text)
