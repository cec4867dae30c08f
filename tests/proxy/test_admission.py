from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.proxy.mode_specs import ProxyMode

from support import making
from support.assembling import assembled
from valetkey.proxy import admission, heads
from valetkey.proxy.passage import Arrival

NAMES = [
    b"Origin",
    b"origin",
    b"x-api-key",
    b"x-api-\xe2\x84\xaaey",
    b"anthropic-version",
    b"Sec-Fetch-Site",
    b"accept",
    b"x-\xff",
]
"""The fourth has a Kelvin sign, which is a `k` in lower case."""


def refused(flow, arrival=None):
    runtime = making.runtime()
    if arrival:
        runtime.passages.arrived(flow, arrival)
    assembled(runtime).intake.requestheaders(flow)
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


def test_health_is_no_call():
    flow = api_flow()
    flow.request.path, flow.request.method = "/health", "GET"
    assert refused(flow) == 200


# Who calls.

KEY = "sk-dummy-alice-0123456789abcdef"
AGENTS = f"version: 1\nagents: [{{name: alice, key: 'sha256:{hashlib.sha256(KEY.encode()).hexdigest()}'}}]\n"


def admitted(flow, text=AGENTS):
    """The refusal's reason, or the caller."""
    runtime = making.runtime(text)
    assembled(runtime).intake.requestheaders(flow)
    passage = runtime.passages.of(flow)
    return passage.refusal.reason if passage.refusal else passage.caller.agent


def basic(user):
    return "Basic " + base64.b64encode(user.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"authorization": f"Bearer {KEY}"}, "alice"),
        ({"authorization": "", "x_api_key": KEY}, "alice"),
        ({"proxy_authorization": basic(f"alice:{KEY}")}, "alice"),
        ({"proxy_authorization": f"Bearer {KEY}"}, "alice"),
        ({"authorization": "Bearer sk-dummy-alice"}, "unknown_caller"),
        ({"authorization": "Bearer sk-dummy"}, "unknown_caller"),
        ({"authorization": "Bearer sk-proj-foreign"}, "unknown_caller"),
        ({"authorization": ""}, "unknown_caller"),
        ({"cookie": KEY}, "unknown_caller"),
        ({"cookie": f"key={KEY}"}, "unknown_caller"),
        ({"proxy_authorization": basic("alice:")}, "unknown_caller"),
        ({"proxy_authorization": basic(f"bob:{KEY}"), "authorization": "Bearer sk-dummy-alice.web"}, "alice"),
    ],
)
def test_a_call_is_heard_by_its_agents_key(headers, expected):
    assert admitted(making.flow(**headers)) == expected


def test_the_key_is_good_at_the_base_url_door():
    assert admitted(api_flow(authorization=f"Bearer {KEY}")) == "alice"


def test_who_is_not_known_gets_a_401_in_the_providers_words():
    flow = making.flow("api.anthropic.com", "/v1/messages")
    admitted(flow)
    assert (flow.response.status_code, flow.response.json()["error"]["type"]) == (401, "authentication_error")


def test_a_foreign_key_of_somebody_unknown_is_masked_all_the_same():
    flow = making.flow(path="/v1/chat/completions?api_key=sk-proj-foreign", authorization="Bearer sk-proj-foreign")
    admitted(flow)
    assert "sk-proj-foreign" not in repr(flow.get_state())


def test_without_a_key_names_are_believed():
    assert admitted(making.flow(authorization="Bearer sk-dummy-alice"), "version: 1\n") == "alice"


def test_a_replay_did_not_come_by_a_door():
    flow = making.flow()
    flow.client_conn.proxy_mode, flow.is_replay = ProxyMode.parse("regular@0.0.0.0:8080"), "request"
    assert admitted(flow, "version: 1\n") == "default"


def test_a_door_that_others_reach_hears_nobody_without_a_key():
    flow = making.flow()
    flow.client_conn.proxy_mode = ProxyMode.parse("regular@0.0.0.0:8080")
    assert admitted(flow, "version: 1\n") == "unknown_caller"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("gateway.lan", "alice"),
        ("gateway.lan:8045", "alice"),
        ("GATEWAY.lan:8045", "alice"),
        ("forwarded.lan:443", "alice"),
        ("10.0.0.1:8045", "alice"),
        ("10.0.0.1", "alice"),
        ("localhost:8045", "alice"),
        ("gateway.lan:81", "foreign_host"),
        ("forwarded.lan", "foreign_host"),
        ("10.0.0.2:8045", "foreign_host"),
        ("10.0.0.1:81", "foreign_host"),
        ("evil.test:8045", "foreign_host"),
        ("gateway.lan.evil.test", "foreign_host"),
        ("x@gateway.lan", "foreign_host"),
    ],
)
def test_threat_57_the_base_url_door_answers_to_its_own_names(host, expected):
    flow = api_flow(authorization=f"Bearer {KEY}")
    flow.request.headers["host"], flow.client_conn.sockname = host, ("10.0.0.1", 8045)
    assert admitted(flow, AGENTS + "gateway: {hosts: [gateway.lan, 'forwarded.lan:443']}\n") == expected


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([b"", b"http://localhost", b"x"])), max_size=5))
def test_what_a_door_looks_at_is_there_whatever_else_is(fields):
    headers = http.Headers(fields)
    heard, all_of_them = admission._heard(headers), heads.plain(headers)
    assert [heard.get(name) for name in sorted(admission._HEARD)] == [all_of_them.get(name) for name in sorted(admission._HEARD)]
