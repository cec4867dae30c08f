from __future__ import annotations

import asyncio
import base64
import hashlib

import pytest
from mitmproxy import http, options
from mitmproxy.proxy import layers, server_hooks
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.test import tflow

from support import making
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
