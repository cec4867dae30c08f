"""Threats 49-53: reaching through the gateway for what is not the agent's. Numbers are those of the threat model."""

from __future__ import annotations

import pytest

from support.samples import rules
from valetkey.model import Refusal
from valetkey.policy.egress import address_refusal, api_door, destination
from valetkey.policy.paths import HostTable

OWN = (8080, 8045, 8081)


def reached(host: str, port: int = 443, **gateway: object) -> Refusal | None:
    return destination(host, port, rules(**{f"gateway_{name}": value for name, value in gateway.items()}), OWN)


# 49. This machine, its network, its metadata.


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "0.0.0.0",
        "::",
        "localhost",
        "LocalHost",
        "anything.localhost",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "169.254.169.254",
        "169.254.170.2",
        "fd00:ec2::254",
        "metadata.google.internal",
        "10.0.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1",
        "2001:0:7f00:1::",
        "fe80::1",
        "ff02::1",
        "255.255.255.255",
    ],
)
@pytest.mark.parametrize("port", [80, 443])
def test_threat_49_what_is_not_public_is_not_reached(host: str, port: int) -> None:
    refusal = reached(host, port)

    assert refusal is not None and refusal.status == 403


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "017700000001", "127.1", "0177.0.0.1", "0x7f.1", "127.0.0.1.", "１２７.1"]
)
def test_threat_49_an_address_in_disguise_is_not_reached(host: str) -> None:
    assert reached(host)


@pytest.mark.parametrize("ip", ["127.0.0.1", "::ffff:10.0.0.1", "169.254.169.254", "fd00::1"])
def test_threat_49_a_public_name_that_resolves_to_it_is_stopped_at_the_dial(ip: str) -> None:
    assert address_refusal(ip, 443, (), "innocent.example", OWN)


def test_threat_49_the_name_in_the_rules_opens_that_name_only() -> None:
    allow = ("db.corp:5432",)

    assert address_refusal("10.0.0.5", 5432, allow, "db.corp", OWN) is None and address_refusal(
        "10.0.0.5", 5432, allow, "x.corp", OWN
    )


# 50. The inspector and the doors.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::ffff:127.0.0.1", "a.localhost"])
@pytest.mark.parametrize("port", OWN)
def test_threat_50_own_ports_are_closed_whatever_the_rules_say(host: str, port: int) -> None:
    assert reached(host, port, egress_allow=(host, f"{host}:{port}", "127.0.0.0/8", "0.0.0.0/0", "::/0"))


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"])
def test_threat_50_own_ports_are_closed_at_the_dial_as_well(ip: str) -> None:
    assert address_refusal(ip, OWN[2], ("innocent.example", ip, "127.0.0.0/8"), "innocent.example", OWN)


def test_threat_50_the_onboarding_host_is_not_reached() -> None:
    assert reached("mitm.it", 80)


# 51. A web page that rebinds a name, or calls across origins.


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8045", "localhost.evil.example:8045", "127.0.0.1.nip.io:8045"])
def test_threat_51_a_rebound_name_does_not_open_the_door(host: str) -> None:
    assert api_door((host,), {}, 8045)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.nip.io"])
def test_threat_51_a_foreign_page_does_not_open_the_door(origin: str) -> None:
    assert api_door(("127.0.0.1:8045",), {"origin": origin}, 8045)


def test_threat_51_a_request_without_an_origin_from_another_site_does_not_open_the_door() -> None:
    assert api_door(("127.0.0.1:8045",), {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 8045)


# 52. Other ports.


@pytest.mark.parametrize("port", [22, 25, 53, 110, 465, 587, 3306, 5432, 6379, 8443, 9200])
@pytest.mark.parametrize("host", ["example.com", "8.8.8.8", "api.openai.com"])
def test_threat_52_only_the_ports_of_the_web_are_reached(host: str, port: int) -> None:
    assert reached(host, port)


# 53. Hosts that are no provider.


def test_threat_53_by_default_they_are_reached_undecrypted_and_are_no_provider() -> None:
    assert reached("example.com") is None and HostTable(rules().providers).find("example.com", 443, "https") is None


def test_threat_53_they_are_closed_when_the_rules_say_so() -> None:
    refusal = reached("example.com", egress="deny")

    assert refusal is not None and (refusal.status, refusal.reason) == (403, "egress_denied")


def test_threat_53_a_closed_gateway_opens_what_the_rules_name_and_nothing_beside() -> None:
    closed = {"egress": "deny", "egress_allow": ("example.com",)}

    assert reached("example.com", **closed) is None and reached("sub.example.com", **closed)
