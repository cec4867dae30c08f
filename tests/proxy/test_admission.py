from __future__ import annotations

import pytest
from mitmproxy.proxy.mode_specs import ProxyMode

from support import making
from valetkey.assembly import assemble_on
from valetkey.proxy import admission
from valetkey.proxy.passage import Arrival


def refused(flow, arrival=None):
    runtime = making.runtime()
    if arrival:
        runtime.passages.arrived(flow, arrival)
    assemble_on(runtime)[1].requestheaders(flow)
    return flow.response.status_code if flow.response else None


def api_flow(**headers):
    flow = making.flow(host="127.0.0.1:8045", **headers)
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:http://valetkey.invalid@127.0.0.1:8045")
    flow.client_conn.sockname = ("127.0.0.1", 8045)
    flow.request.host, flow.request.port, flow.request.scheme = "valetkey.invalid", 80, "http"
    flow.request.headers["host"] = headers.get("host", "127.0.0.1:8045")
    return flow


def test_the_base_url_door_is_known_by_its_mode():
    assert admission.door_of(api_flow().client_conn) == "api"


def test_every_other_mode_is_the_proxy_door():
    assert admission.door_of(making.flow().client_conn) == "proxy"


def test_the_base_url_door_lets_a_call_in():
    assert refused(api_flow()) is None


def test_threat_1_a_host_header_that_differs_from_the_tunnel_is_refused():
    flow = making.flow()
    flow.request.headers["host"] = "evil.test"
    assert refused(flow) in (400, 421)


def test_threat_2_an_sni_that_differs_from_the_tunnel_is_refused():
    flow = making.flow()
    flow.client_conn.sni = "evil.test"
    assert refused(flow) in (400, 421)


def test_threat_9_two_host_headers_are_refused():
    flow = making.flow()
    flow.request.headers.add("host", "evil.test")
    assert refused(flow) == 400


def test_threat_10_plain_http_to_a_provider_is_refused():
    flow = making.flow()
    flow.request.scheme, flow.request.port = "http", 80
    flow.client_conn.timestamp_tls_setup = None
    assert refused(flow, Arrival("absolute", "api.openai.com", False)) == 400


def test_threat_11_origin_form_to_the_proxy_port_is_refused():
    flow = making.flow("example.com")
    flow.request.scheme, flow.request.port = "http", 80
    assert refused(flow, Arrival("origin", "", False)) == 400


@pytest.mark.parametrize("path", ["/v1/chat/../files", "/v1/%2e%2e/files", "/v1//chat/completions", "/v1/chat%2fcompletions"])
def test_threat_17_path_tricks_are_refused(path):
    assert refused(making.flow(path=path)) in (400, 403)


def test_the_user_of_basic_proxy_authorization_is_read():
    assert admission.caller_of_tunnel("Basic YWxpY2U6c2VjcmV0") == "alice"


def test_health_is_no_call():
    flow = api_flow()
    flow.request.path, flow.request.method = "/health", "GET"
    assert refused(flow) == 200
