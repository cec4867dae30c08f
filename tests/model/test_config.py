from __future__ import annotations

import pytest

from valetkey.model import Address, GatewayRules, Timeouts, Upstream


@pytest.mark.parametrize(
    ("upstream", "origin"),
    [
        (Upstream("https", "api.openai.com", 443), "https://api.openai.com"),
        (Upstream("https", "x.test", 8443), "https://x.test:8443"),
        (Upstream("http", "127.0.0.1", 80), "http://127.0.0.1"),
        (Upstream("http", "::1", 8000), "http://[::1]:8000"),
    ],
)
def test_an_origin_has_no_default_port(upstream, origin):
    assert upstream.origin == origin


@pytest.mark.parametrize(("address", "text"), [(Address("127.0.0.1", 80), "127.0.0.1:80"), (Address("::1", 80), "[::1]:80")])
def test_an_address_reads_as_it_is_written(address, text):
    assert str(address) == text


def test_the_defaults_are_the_documented_ones():
    rules = GatewayRules()
    assert (str(rules.proxy), str(rules.api), rules.foreign_keys, rules.no_credential, rules.egress, rules.deadline) == (
        "127.0.0.1:8080", "127.0.0.1:8045", "replace", "refuse", "passthrough", 600.0,
    )  # fmt: skip


def test_the_default_time_limits_are_the_documented_ones():
    assert Timeouts() == Timeouts(connect=10, first_byte=120, between_events=300, hold=15, max_wait=120)
