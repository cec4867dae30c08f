from __future__ import annotations

import asyncio
import base64
import hashlib

import pytest
from mitmproxy import http, options
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy import events, layers, server_hooks
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow
from mitmproxy.tls import TlsData

from support import making
from support.hellos import quic_hello, tls_hello
from valetkey.proxy.guard import ClosingLayer
from valetkey.proxy.tunnels import Tunnels, ValetTunnels


def gate(text="version: 1\n"):
    return ValetTunnels(making.runtime(text), Tunnels())


def connect(host, port=443, user=None):
    flow = tflow.tflow()
    flow.request = http.Request.make("CONNECT", f"http://{host}:{port}/")
    flow.request.host, flow.request.port = host, port
    return named(flow, user)


def named(flow, user):
    if user:
        flow.request.headers["proxy-authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    return flow


def status(host, port=443, text="version: 1\n"):
    flow = connect(host, port)
    gate(text).http_connect(flow)
    return flow.response.status_code if flow.response else None


def next_layer(host, port=443):
    one = gate()
    context = Context(tflow.tclient_conn(), options.Options())
    context.server.address = (host, port)
    asked = NextLayer(context)
    one.next_layer(asked)
    return one, asked


def test_a_provider_may_be_reached():
    assert status("api.openai.com") is None


def test_another_host_may_be_reached():
    assert status("example.com") is None


def test_another_host_may_not_where_egress_is_denied():
    assert status("example.com", text="version: 1\ngateway: {egress: deny}\n") == 403


def test_a_provider_may_even_then():
    assert status("api.openai.com", text="version: 1\ngateway: {egress: deny}\n") is None


def test_a_providers_tunnel_is_opened():
    assert next_layer("api.openai.com")[1].layer is None


def test_another_tunnel_is_left_alone():
    assert isinstance(next_layer("example.com")[1].layer, layers.TCPLayer)


def test_the_user_of_a_tunnel_is_remembered():
    one, flow = gate(), connect("api.openai.com", user="alice:x")
    one.http_connect(flow)
    later = tflow.tflow()
    later.client_conn = flow.client_conn
    assert one.tunnels.user(later).tunnel.user == "alice"


def test_the_proxys_password_leaves_the_flow():
    flow = connect("api.openai.com", user="alice:x")
    gate().http_connect(flow)
    assert "proxy-authorization" not in flow.request.headers


def dial(host, found):
    """What becomes of a raw tunnel whose host resolves to `found`."""
    one, asked = next_layer(host)
    server = asked.context.server

    async def run():
        loop = asyncio.get_running_loop()

        async def getaddrinfo(*_, **__):
            if isinstance(found, Exception):
                raise found
            return [(2, 1, 6, "", (ip, 443)) for ip in found]

        loop.getaddrinfo = getaddrinfo
        await one.server_connect(server_hooks.ServerConnectionHookData(server, asked.context.client))

    asyncio.run(run())
    return server


def test_threat_13_the_address_that_was_judged_is_dialled():
    assert dial("example.com", ["93.184.216.34"]).address == ("93.184.216.34", 443)


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fd00:ec2::254"])
def test_threat_49_a_name_that_resolves_inside_is_refused(ip):
    assert dial("example.com", [ip]).error


def test_one_inside_address_among_others_is_enough():
    assert dial("example.com", ["93.184.216.34", "127.0.0.1"]).error


def test_a_name_that_does_not_resolve_is_said():
    assert "cannot be resolved" in dial("example.com", [OSError(-2, "no such name")][0]).error


# Agents with a key.

KEY, OTHER = "sk-dummy-alice-0123456789abcdef", "sk-dummy-bob-fedcba9876543210"
AGENTS = "version: 1\nagents:\n" + "".join(
    f"  - {{name: {name}, key: 'sha256:{hashlib.sha256(key.encode()).hexdigest()}'}}\n"
    for name, key in (("alice", KEY), ("bob", OTHER))
)
ANYBODY = AGENTS + "gateway: {callers: any}\n"


def answer(flow, text=AGENTS, hook="http_connect"):
    one = gate(text)
    getattr(one, hook)(flow)
    return flow.response.status_code if flow.response else None


def plain(host="example.com", user=None):
    flow = tflow.tflow()
    flow.request = http.Request.make("GET", f"http://{host}/")
    return named(flow, user)


@pytest.mark.parametrize(
    ("host", "user", "expected"),
    [
        ("example.com", f"alice:{KEY}", None),
        ("example.com", f"{KEY}:", None),
        ("example.com", None, 407),
        ("example.com", "alice:", 407),
        ("example.com", "alice:wrong", 407),
        ("example.com", f"bob:{KEY}", 407),
        ("api.openai.com", f"alice:{KEY}", None),
        ("api.openai.com", "alice:wrong", 407),
        ("api.openai.com", "zoe:x", 407),
    ],
)
def test_a_tunnel_is_for_agents_that_are_known(host, user, expected):
    assert answer(connect(host, user=user)) == expected


def test_a_providers_tunnel_opens_for_who_says_nothing_and_is_asked_inside():
    assert answer(connect("api.openai.com")) is None


def test_the_refusal_is_a_challenge():
    flow = connect("example.com")
    answer(flow)
    assert flow.response.headers["proxy-authenticate"].startswith("Basic")


@pytest.mark.parametrize(("user", "expected"), [(None, None), ("zoe:x", None), ("alice:wrong", 407), ("alice:", 407)])
def test_where_any_may_call_only_false_names_are_refused(user, expected):
    assert answer(connect("example.com", user=user), ANYBODY) == expected


@pytest.mark.parametrize(("user", "expected"), [(None, 407), ("alice:wrong", 407), (f"alice:{KEY}", None)])
def test_a_request_that_is_no_call_is_for_agents_that_are_known(user, expected):
    assert answer(plain(user=user), hook="requestheaders") == expected


@pytest.mark.parametrize("text", ["version: 1\n", AGENTS])
def test_threat_58_what_was_said_to_the_proxy_is_not_forwarded(text):
    flow = plain(user=f"alice:{KEY}")
    answer(flow, text, "requestheaders")
    assert "proxy-authorization" not in flow.request.headers


def test_a_call_is_left_to_the_way_in():
    assert answer(making.flow(), hook="requestheaders") is None


def test_one_request_does_not_speak_for_the_next():
    one, first, second = gate(AGENTS), plain(user=f"alice:{KEY}"), plain()
    second.client_conn = first.client_conn
    one.requestheaders(first)
    one.requestheaders(second)
    assert second.response.status_code == 407


def test_two_agents_on_one_connection_are_refused():
    one, first, second = gate(AGENTS), connect("a.test", user=f"alice:{KEY}"), connect("b.test", user=f"bob:{OTHER}")
    second.client_conn = first.client_conn
    one.http_connect(first)
    one.http_connect(second)
    assert second.response.headers["x-valetkey-refusal"] == "conflicting_callers"


def test_after_too_many_failures_it_is_said_how_long_to_wait():
    one = gate(AGENTS)
    for _ in range(11):
        one.http_connect(flow := connect("example.com", user="alice:wrong"))
    assert flow.response.status_code == 429


def test_a_key_that_was_taken_back_opens_no_further_tunnel_on_its_connection():
    one, first, second = gate(AGENTS), connect("a.test", user=f"alice:{KEY}"), connect("b.test")
    second.client_conn = first.client_conn
    one.http_connect(first)
    one.runtime.adopt(making.snapshot(AGENTS.replace("alice", "zoe").replace(hashlib.sha256(KEY.encode()).hexdigest(), "0" * 64)))
    one.http_connect(second)
    assert second.response.status_code == 407


@pytest.mark.parametrize(("user", "expected"), [(None, ClosingLayer), (f"alice:{KEY}", layers.TCPLayer)])
def test_nothing_is_passed_on_unread_for_who_is_not_known(user, expected):
    one, flow = gate(AGENTS), connect("example.com", user=user)
    one.http_connect(flow)
    context = Context(flow.client_conn, options.Options())
    context.server.address = ("example.com", 443)
    one.next_layer(asked := NextLayer(context))
    assert isinstance(asked.layer, expected)


# Modes in which clients dial addresses.

ADDRESS = "104.18.6.192"


def by_address(first, address=(ADDRESS, 443), mode="socks5", transport="tcp", text="version: 1\n"):
    """What becomes of a connection to an address whose first bytes are these: the gate, and what it was asked."""
    one = gate(text)
    context = Context(tflow.tclient_conn(), options.Options())
    context.client.proxy_mode, context.client.transport_protocol = ProxyMode.parse(mode), transport
    context.server.address = address
    asked = NextLayer(context)
    asked.events += [events.DataReceived(context.client, piece) for piece in (first if isinstance(first, list) else [first])]
    one.next_layer(asked)
    return one, asked


def test_a_providers_name_takes_the_place_of_the_address():
    _, asked = by_address(tls_hello("api.openai.com"))
    assert (asked.layer, asked.context.server.address) == (None, ("api.openai.com", 443))


@pytest.mark.parametrize("mode", ["wireguard", "local"])
def test_quic_is_named_as_well(mode):
    _, asked = by_address(quic_hello("api.openai.com"), mode=mode, transport="udp")
    assert (asked.layer, asked.context.server.address) == (None, ("api.openai.com", 443))


@pytest.mark.parametrize("mode", ["regular", "upstream:http://corp:3128"])
def test_where_clients_say_names_an_address_stays_one(mode):
    _, asked = by_address(tls_hello("api.openai.com"), mode=mode)
    assert (type(asked.layer), asked.context.server.address) == (layers.TCPLayer, (ADDRESS, 443))


def test_another_name_leaves_the_address_as_it_is():
    _, asked = by_address(tls_hello("example.com"))
    assert (type(asked.layer), asked.context.server.address) == (layers.TCPLayer, (ADDRESS, 443))


DENY = "version: 1\ngateway: {egress: deny, egress_allow: [example.com]}\n"


def test_a_name_is_dialled_where_only_the_name_is_open():
    _, asked = by_address(tls_hello("example.com"), text=DENY)
    assert (type(asked.layer), asked.context.server.address) == (layers.TCPLayer, ("example.com", 443))


def test_datagrams_pass_as_datagrams():
    assert isinstance(by_address(quic_hello("example.com"), mode="local", transport="udp")[1].layer, layers.UDPLayer)


def test_a_name_that_has_not_come_is_waited_for_and_mitmproxy_decides_nothing():
    with pytest.raises(AddonHalt):
        by_address(tls_hello("api.openai.com")[:100])


def test_without_a_name_quic_is_closed():
    assert isinstance(by_address(b"\xc0" * 1200, mode="local", transport="udp")[1].layer, ClosingLayer)


def test_without_a_name_tls_is_opened_to_say_why():
    one, asked = by_address(tls_hello(None))
    flow = plain(ADDRESS)
    flow.client_conn = asked.context.client
    one.requestheaders(flow)
    assert (asked.layer, flow.response.status_code) == (None, 421)


def test_an_address_that_the_rules_open_needs_no_name():
    text = f"version: 1\ngateway: {{egress_allow: [{ADDRESS}]}}\n"
    assert isinstance(by_address(tls_hello(None), text=text)[1].layer, layers.TCPLayer)


def test_a_call_without_tls_is_read_to_be_refused():
    _, asked = by_address(b"GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n", (ADDRESS, 80))
    assert (asked.layer, asked.context.server.address) == (None, ("api.openai.com", 80))


@pytest.mark.parametrize(("mode", "expected"), [("wireguard", type(None)), ("local", layers.UDPLayer)])
def test_wireguards_own_name_server_is_mitmproxy(mode, expected):
    assert isinstance(by_address(b"\x12\x34\x01\x00", ("10.0.0.53", 53), mode, "udp")[1].layer, expected)


def test_what_is_read_only_to_be_refused_is_dialled_nowhere():
    one, asked = by_address(tls_hello(None), ("127.0.0.1", 53))
    assert dialled(one, asked).error


@pytest.mark.parametrize("host", ["canary.valetkey.invalid", "CANARY.valetkey.invalid"])
def test_the_host_that_we_answer_is_dialled_nowhere(host):
    assert dialled(*next_layer(host, 53)).error


def dialled(one, asked):
    asyncio.run(one.server_connect(server_hooks.ServerConnectionHookData(asked.context.server, asked.context.client)))
    return asked.context.server


ENDLESS = b"".join(b"\x16\x03\x01\x00\x01" + each for each in (b"\x01", b"\xff", b"\xff", b"\xff", *[b"\x00"] * 11_000))
"""The first 64 kB of a handshake that claims to have 16 MB."""
ROADS = [
    ("regular", None),
    ("regular", ("api.openai.com", 443)),
    ("socks5", (ADDRESS, 443)),
    ("reverse:http://valetkey.invalid", ("valetkey.invalid", 80)),
]


@pytest.mark.parametrize(("mode", "address"), ROADS)
def test_mitmproxy_gets_no_handshake_that_is_not_whole(mode, address):
    with pytest.raises(AddonHalt):
        by_address(tls_hello("api.openai.com")[:-1], address, mode)


@pytest.mark.parametrize(("mode", "address"), ROADS)
def test_threat_82_a_handshake_without_end_is_closed(mode, address):
    assert isinstance(by_address(ENDLESS, address, mode)[1].layer, ClosingLayer)


@pytest.mark.parametrize(("mode", "address"), ROADS)
def test_a_whole_handshake_is_mitmproxys(mode, address):
    assert by_address(tls_hello("api.openai.com"), address, mode)[1].layer is None


# A proxy in front.


@pytest.mark.parametrize("password", [b"Basic Z3c6cHc=", None])
def test_the_proxy_in_front_is_told_its_password(password):
    one, flow = gate(), tflow.tflow()
    one.runtime.upstream_auth = password
    one.http_connect_upstream(flow)
    assert flow.request.headers.get("proxy-authorization") == (password.decode() if password else None)


@pytest.mark.parametrize(("alpn", "offers"), [(b"h3", (b"h2", b"http/1.1")), (b"h2", ())])
def test_calls_by_http_3_go_out_by_tcp(alpn, offers):
    context = Context(tflow.tclient_conn(), options.Options())
    context.client.alpn = alpn
    context.server.alpn_offers = ()
    gate().tls_start_server(TlsData(context.server, context))
    assert tuple(context.server.alpn_offers) == offers
