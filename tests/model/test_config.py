from __future__ import annotations

import pytest

from valetkey.model import Address, GatewayRules, Provider, ProviderFacts, Timeouts, Upstream


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


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("127.example.com", False),
        ("10.0.0.1", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host, loopback):
    facts = ProviderFacts("x", "X", (), "https://x.test", ())
    assert Provider("x", facts, Upstream("http", host, 80)).named_on_loopback is loopback


def test_the_default_dummies_are_the_documented_ones():
    assert GatewayRules().dummy_keys == ("sk-dummy*", "sk-ant-dummy*", "dummy*")


def test_the_default_ledger_is_the_documented_one():
    assert GatewayRules().ledger == "sqlite:///.valetkey/ledger.db"
