"""Where connections may lead."""

from __future__ import annotations

import pytest

from support.samples import rules
from valetkey.policy.addresses import address_refusal, destination, is_opened

OWN = (8080, 8045)

NOT_PUBLIC = [
    pytest.param("127.0.0.1", id="loopback"),
    pytest.param("127.8.9.10", id="all of 127/8"),
    pytest.param("::1", id="loopback6"),
    pytest.param("0.0.0.0", id="unspecified"),
    pytest.param("::", id="unspecified6"),
    pytest.param("10.1.2.3", id="rfc1918 10"),
    pytest.param("172.16.0.1", id="rfc1918 172"),
    pytest.param("192.168.1.1", id="rfc1918 192"),
    pytest.param("100.64.0.1", id="cgnat"),
    pytest.param("100.100.100.200", id="metadata of Alibaba"),
    pytest.param("169.254.169.254", id="metadata"),
    pytest.param("168.63.129.16", id="metadata of Azure, on a public address"),
    pytest.param("fd00:ec2::254", id="metadata6"),
    pytest.param("fe80::1", id="link-local6"),
    pytest.param("fe80::1%eth0", id="link-local6 with its zone"),
    pytest.param("fec0::1", id="site-local6"),
    pytest.param("fc00::1", id="unique local"),
    pytest.param("224.0.0.1", id="multicast"),
    pytest.param("ff02::1", id="multicast6"),
    pytest.param("ff0e::1", id="global multicast6"),
    pytest.param("240.0.0.1", id="reserved"),
    pytest.param("255.255.255.255", id="broadcast"),
    pytest.param("198.18.0.1", id="benchmarks"),
    pytest.param("192.0.2.1", id="documentation"),
    pytest.param("2001:db8::1", id="documentation6"),
    pytest.param("::ffff:127.0.0.1", id="4in6 loopback"),
    pytest.param("::ffff:169.254.169.254", id="4in6 metadata"),
    pytest.param("::127.0.0.1", id="4-compatible loopback"),
    pytest.param("64:ff9b::7f00:1", id="nat64 loopback"),
    pytest.param("64:ff9b::a9fe:a9fe", id="nat64 metadata"),
    pytest.param("64:ff9b:1::7f00:1", id="local nat64"),
    pytest.param("2002:7f00:1::", id="6to4 loopback"),
    pytest.param("2002:808:808::", id="6to4 at all"),
    pytest.param("2001:0:4136:e378:8000:63bf:80ff:fffe", id="teredo"),
]


@pytest.mark.parametrize("ip", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(ip: str) -> None:
    assert address_refusal(ip, 443, (), None, OWN)


@pytest.mark.parametrize("ip", ["104.18.6.192", "8.8.8.8", "2606:4700::6812:7c0", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_open(ip: str) -> None:
    assert address_refusal(ip, 443, (), None, OWN) is None


@pytest.mark.parametrize("ip", ["", "nonsense", "127.1", "0x7f000001", "2130706433", "127.0.0.1:80", "[::1]"])
def test_what_is_no_address_is_refused(ip: str) -> None:
    assert address_refusal(ip, 443, (), None, OWN)


@pytest.mark.parametrize(
    ("entry", "opened"),
    [
        ("10.1.2.3", True),
        ("10.1.2.3:443", True),
        ("10.1.2.3:444", False),
        ("10.0.0.0/8", True),
        ("10.1.2.3/8", True),
        ("11.0.0.0/8", False),
        ("vllm.corp", True),
        ("VLLM.corp:443", True),
        ("vllm.corp:80", False),
        ("corp", False),
        ("::ffff:10.1.2.3", True),
        ("10.0.0.0/99", False),
        ("", False),
    ],
)
def test_the_rules_open_what_they_name(entry: str, opened: bool) -> None:
    assert (address_refusal("10.1.2.3", 443, (entry,), "vllm.corp", OWN) is None) is opened


@pytest.mark.parametrize("entry", ["fd00::5", "[fd00::5]", "[fd00::5]:443", "fd00::/8"])
def test_the_rules_open_addresses_of_version_6_in_any_spelling(entry: str) -> None:
    assert address_refusal("fd00::5", 443, (entry,), None, OWN) is None


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"])
@pytest.mark.parametrize("port", OWN)
def test_own_ports_are_closed_even_where_the_rules_open_the_address(ip: str, port: int) -> None:
    assert (
        address_refusal(ip, port, (ip, f"localhost:{port}"), "localhost", OWN)
        == f"port {port} of this machine is the gateway's own"
    )


def test_an_own_port_number_elsewhere_is_nothing_special() -> None:
    assert address_refusal("8.8.8.8", 8080, (), None, OWN) is None


def test_the_refusal_names_host_and_address() -> None:
    reason = address_refusal("10.0.0.1", 443, (), "rebound.example", OWN)

    assert reason == "rebound.example (10.0.0.1) is not a public address; name it in gateway.egress_allow if agents may reach it"


@pytest.mark.parametrize("host", [None, "10.0.0.1"])
def test_the_refusal_names_an_address_once(host: str | None) -> None:
    reason = address_refusal("10.0.0.1", 443, (), host, OWN)

    assert reason is not None and reason.startswith("10.0.0.1 is not a public address")


# By name, before anything is resolved.


def reason_for(host: str, port: int = 443, **gateway: object) -> str | None:
    refusal = destination(host, port, rules(**{f"gateway_{name}": value for name, value in gateway.items()}), OWN)
    return refusal.reason if refusal else None


@pytest.mark.parametrize("host", ["example.com", "EXAMPLE.com", "xn--mnchen-3ya.de", "münchen.de", "8.8.8.8", "2606:4700::1"])
def test_a_public_host_may_be_reached(host: str) -> None:
    assert reason_for(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.0.0.1", "127.1", "0177.0.0.1", "127.0.0.0x1", "127.0.0.1.", "1.2.3.4.5", "0x",
        "１２７.1", "user@example.com", "example.com.", "a..b", "a b", "a\x00b", "", "::1%lo", "fe80::1%25eth0",
    ],
)  # fmt: skip
def test_a_host_that_can_be_read_in_two_ways_is_malformed(host: str) -> None:
    assert reason_for(host) == "bad_host"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1", "１２７.0.0.1"])
def test_an_address_that_is_not_public_may_not_be_reached(host: str) -> None:
    assert reason_for(host) == "egress_address"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "a.localhost", "metadata.google.internal", "metadata", "mitm.it"])
def test_names_of_this_machine_and_its_metadata_may_not_be_reached(host: str) -> None:
    assert reason_for(host) == "egress_address"


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.3.3.3", "::1", "0.0.0.0"])
def test_the_doors_cannot_be_reached_through_themselves(host: str) -> None:
    assert reason_for(host, 8080, egress_allow=(host, f"{host}:8080")) == "own_port"


@pytest.mark.parametrize("host", ["example.com", "8.8.8.8"])
def test_the_number_of_an_own_port_is_nothing_special_elsewhere(host: str) -> None:
    assert reason_for(host, 8080) == "egress_port"


@pytest.mark.parametrize("port", [22, 25, 8443, 3306, 1, 65535])
def test_only_the_ports_of_the_web_are_open(port: int) -> None:
    assert reason_for("example.com", port) == "egress_port"


def test_port_80_is_open() -> None:
    assert reason_for("example.com", 80) is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("example.com:22", None),
        ("example.com", "egress_port"),
        ("other.com:22", "egress_port"),
        ("example.com:25", "egress_port"),
    ],
)
def test_another_port_is_open_where_the_rules_name_it_with_the_host(entry: str, expected: str | None) -> None:
    assert reason_for("example.com", 22, egress_allow=(entry,)) == expected


def test_a_local_service_is_open_where_the_rules_name_it() -> None:
    assert reason_for("localhost", 5432, egress_allow=("localhost:5432",)) is None


def test_a_private_network_is_open_where_the_rules_name_it() -> None:
    assert reason_for("10.1.2.3", egress_allow=("10.0.0.0/8",)) is None


def test_egress_deny_closes_public_hosts() -> None:
    assert reason_for("example.com", egress="deny") == "egress_denied"


@pytest.mark.parametrize(("host", "entry"), [("example.com", "example.com"), ("8.8.8.8", "8.8.8.0/24"), ("a.b", "a.b:443")])
def test_egress_deny_leaves_open_what_the_rules_name(host: str, entry: str) -> None:
    assert reason_for(host, egress="deny", egress_allow=(entry,)) is None


def test_a_network_in_the_rules_does_not_open_names() -> None:
    assert reason_for("example.com", egress="deny", egress_allow=("0.0.0.0/0",)) == "egress_denied"


def test_the_refusal_says_what_to_write() -> None:
    refusal = destination("example.com", 22, rules(), OWN)

    assert refusal is not None and "example.com:22 in gateway.egress_allow" in refusal.message


# Patterns on names.


@pytest.mark.parametrize(
    ("host", "port", "entry", "expected"),
    [
        ("api.github.com", 443, "*.github.com", None),
        ("API.GitHub.com", 443, "*.github.COM", None),
        ("a.b.github.com", 80, "*.github.com", None),
        ("api.github.com", 443, "*.github.com:443", None),
        ("api.github.com", 80, "*.github.com:443", "egress_denied"),
        ("github.com", 443, "*.github.com", "egress_denied"),
        ("api.github.com.evil.test", 443, "*.github.com", "egress_denied"),
        ("evilgithub.com", 443, "*.github.com", "egress_denied"),
        ("ci-1.example.com", 443, "ci-*.example.com", None),
        ("ssh.github.com", 22, "*.github.com:22", None),
        ("ssh.github.com", 22, "*.github.com", "egress_port"),
        ("ssh.github.com", 25, "*.github.com:22", "egress_port"),
    ],
)
def test_a_pattern_opens_names_and_ports(host: str, port: int, entry: str, expected: str | None) -> None:
    assert reason_for(host, port, egress="deny", egress_allow=(entry,)) == expected


@pytest.mark.parametrize("host", ["a.localhost", "metadata.google.internal"])
def test_a_pattern_does_not_open_names_of_this_machine_and_its_metadata(host: str) -> None:
    assert reason_for(host, egress_allow=("*.localhost", "*.google.internal", "*.localhost:443")) == "egress_address"


def test_a_pattern_opens_no_address() -> None:
    assert reason_for("8.8.8.8", egress="deny", egress_allow=("*.8",)) == "egress_denied"


def test_what_is_behind_a_pattern_must_be_public() -> None:
    assert address_refusal("10.0.0.1", 443, ("*.corp", "*.corp:443"), "db.corp", OWN)


@pytest.mark.parametrize(
    ("entry", "opened"),
    [("104.18.6.192", True), ("104.18.0.0/16", True), ("104.18.6.192:443", True), ("104.18.6.192:80", False), ("*", False)],
)
def test_an_address_is_opened_by_address_or_network_alone(entry, opened):
    assert is_opened("104.18.6.192", 443, rules(gateway_egress_allow=(entry,))) is opened
