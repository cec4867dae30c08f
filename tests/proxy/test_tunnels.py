from __future__ import annotations

import asyncio
import base64

import pytest
from mitmproxy import http, options
from mitmproxy.proxy import layers, server_hooks
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.test import tflow

from support import making
from valetkey.proxy.tunnels import Tunnels, ValetTunnels


def gate(text="version: 1\n"):
    return ValetTunnels(making.runtime(text), Tunnels())


def connect(host, port=443, user=None):
    flow = tflow.tflow()
    flow.request = http.Request.make("CONNECT", f"http://{host}:{port}/")
    flow.request.host, flow.request.port = host, port
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
    tunnels, flow = Tunnels(), connect("api.openai.com", user="alice:x")
    tunnels.remember(flow)
    later = tflow.tflow()
    later.client_conn = flow.client_conn
    assert tunnels.user(later) == "alice"


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
