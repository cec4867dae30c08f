from __future__ import annotations

import asyncio
import socket

import pytest
from mitmproxy import connection
from mitmproxy.net.server_spec import ServerSpec

from support import making
from valetkey.proxy import passthrough

PUBLIC = "93.184.216.34"


def dial(found, host="example.com", port=443, gateway="", via=None, own_ports=()):
    """What becomes of a tunnel to a host that resolves to `found`."""
    runtime = making.runtime(f"version: 1\ngateway: {{{gateway}}}\n")
    runtime.own_ports = frozenset(own_ports)
    server = connection.Server(address=(host, port))
    server.via = via

    async def run():
        async def getaddrinfo(*_, **__):
            if isinstance(found, Exception):
                raise found
            return [(2, 1, 6, "", (ip, port)) for ip in found]

        asyncio.get_running_loop().getaddrinfo = getaddrinfo
        await passthrough.pin(runtime, server)

    asyncio.run(run())
    return server


def test_the_address_that_was_judged_is_dialled():
    assert dial([PUBLIC]).address == (PUBLIC, 443)


def test_a_public_address_is_no_error():
    assert dial([PUBLIC]).error is None


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fd00:ec2::254", "fe80::1%eth0"])
def test_a_name_that_leads_inside_is_refused(ip):
    assert dial([ip]).error


@pytest.mark.parametrize("found", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC]])
def test_one_inside_address_among_others_is_enough(found):
    assert dial(found).error


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(-2, "no such name"), "no such name"), (TimeoutError(), "no answer"), (UnicodeError("label too long"), "too long")],
)
def test_a_name_that_does_not_resolve_is_said(error, words):
    assert words in dial(error).error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 22}, "port 22 is closed"),
        ({"gateway": "egress: deny"}, "gateway.egress is deny"),
        ({"host": "localhost"}, "not reachable"),
        ({"host": "127.1"}, "no plain host"),
    ],
)
def test_the_words_are_judged_as_well_for_modes_without_connect(options, words):
    assert words in dial([PUBLIC], **options).error


def test_a_named_network_may_be_reached():
    assert dial(["10.0.0.1"], gateway="egress_allow: [10.0.0.0/8]").address == ("10.0.0.1", 443)


def test_behind_an_upstream_proxy_the_name_stays():
    assert dial(["127.0.0.1"], via=ServerSpec(("http", ("proxy.test", 3128)))).address == ("example.com", 443)


def test_behind_an_upstream_proxy_the_words_are_judged():
    assert dial([PUBLIC], port=22, via=ServerSpec(("http", ("proxy.test", 3128)))).error


def test_an_own_port_is_closed_on_every_address_of_this_machine(monkeypatch):
    monkeypatch.setattr(passthrough, "is_own", lambda ip: ip == PUBLIC)
    assert dial([PUBLIC], own_ports=(443,)).error == "port 443 of this machine is the gateway's own"


def test_without_an_address_there_is_nothing_to_judge():
    server = connection.Server(address=None)
    asyncio.run(passthrough.pin(making.runtime(), server))
    assert server.error is None


@pytest.mark.parametrize(
    ("ip", "own"), [("127.0.0.1", True), ("127.9.9.9", True), ("93.184.216.34", False), ("2606:4700::1", False)]
)
def test_an_own_address_is_one_that_can_be_bound(ip, own):
    if ":" in ip and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    assert passthrough.is_own(ip) is own
