from __future__ import annotations

import pytest
from mitmproxy.connection import ConnectionState, Server

from support import making
from support.assembling import assembled
from valetkey.errors import WireError
from valetkey.proxy import wire


def server(address=("api.openai.com", 443), **changes):
    made = Server(address=address)
    made.state = ConnectionState.OPEN
    made.peername = ("93.184.216.34", address[1])
    made.tls = True
    made.timestamp_tls_setup = 1.0
    made.sni = address[0]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def ready(flow=None, rules="version: 1\n"):
    runtime, flow = making.runtime(rules), flow or making.flow()
    intake = assembled(runtime).intake
    intake.requestheaders(flow)
    intake.request(flow)
    making.attempt(runtime, flow)
    return flow, runtime.passages.of(flow), runtime


def sent(flow=None, at=None, rules="version: 1\n"):
    flow, passage, runtime = ready(flow, rules)
    return wire.request(flow, passage, at or server(), runtime)


def test_the_copy_carries_the_real_key():
    assert sent().headers["authorization"] == f"Bearer {making.REAL}"


def test_the_flow_does_not():
    flow, passage, runtime = ready()
    wire.request(flow, passage, server(), runtime)
    assert making.REAL not in str(flow.get_state())


def test_the_key_is_there_once():
    flow = making.flow(x_api_key="sk-dummy", api_key="sk-dummy", cookie="a=b")
    assert sum(making.REAL in value for value in sent(flow).headers.values()) == 1


def test_threat_63_results_are_asked_for_as_a_whole():
    flow = making.flow(path="/v1/files/file-1/content", body=b"", range="bytes=0-9", Range="bytes=10-19", if_range="x")
    flow.request.method = "GET"
    rules = "version: 1\nproviders: {openai: {open: [files]}}\n"
    assert [name for name in sent(flow, rules=rules).headers if "range" in name.lower()] == []


def test_another_call_may_ask_for_a_range():
    assert sent(making.flow(range="bytes=0-9")).headers["range"] == "bytes=0-9"


def test_a_changed_body_has_its_own_length():
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, to: openai/gpt-4.1}]\n"
    assert sent(rules=rules).headers["content-length"] == str(len(b'{"model":"gpt-4.1","messages":[]}'))


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(server(("evil.test", 443)), id="another host"),
        pytest.param(server(("api.openai.com", 8443)), id="another port"),
        pytest.param(server(tls=False), id="no TLS"),
        pytest.param(server(timestamp_tls_setup=None), id="TLS not established"),
        pytest.param(server(sni="evil.test"), id="another SNI"),
        pytest.param(server(peername=("127.0.0.1", 443)), id="an address on this machine"),
        pytest.param(server(peername=("169.254.169.254", 443)), id="the metadata address"),
    ],
)
def test_the_key_is_withheld_from(at):
    with pytest.raises(WireError):
        sent(at=at)


def test_the_key_is_withheld_while_verification_is_off():
    flow, passage, runtime = ready()
    runtime.tls_verified = False
    with pytest.raises(WireError):
        wire.request(flow, passage, server(), runtime)


def test_a_foreign_request_loses_the_proxys_credential_only():
    flow = making.flow("example.com", proxy_authorization="Basic eA==", authorization="Bearer own")
    copy = wire.foreign_request(flow, server(("example.com", 443)), making.runtime())
    assert "proxy-authorization" not in copy.headers and copy.headers["authorization"] == "Bearer own"


@pytest.mark.parametrize(("scheme", "sent"), [("http", "Basic Z3c6cHc="), ("https", None)])
def test_the_proxy_in_front_gets_its_own_credential_with_a_plain_request(scheme, sent):
    flow, runtime = making.flow("example.com", proxy_authorization="Basic eA=="), making.runtime()
    flow.request.scheme, runtime.upstream_auth = scheme, b"Basic Z3c6cHc="
    dialled = server(("example.com", 80))
    dialled.state, dialled.via = ConnectionState.CLOSED, ("http", ("corp.test", 3128))
    assert wire.foreign_request(flow, dialled, runtime).headers.get("proxy-authorization") == sent


@pytest.mark.parametrize("method", ["TRACE", "trace"])
def test_a_request_that_is_sent_back_as_it_was_has_no_credential(method):
    flow, runtime = making.flow("example.com"), making.runtime()
    flow.request.scheme, flow.request.method, runtime.upstream_auth = "http", method, b"Basic Z3c6cHc="
    dialled = server(("example.com", 80))
    dialled.state, dialled.via = ConnectionState.CLOSED, ("http", ("corp.test", 3128))
    assert "proxy-authorization" not in wire.foreign_request(flow, dialled, runtime).headers


def test_a_call_that_was_never_admitted_does_not_leave():
    with pytest.raises(WireError, match="not admitted"):
        wire.foreign_request(making.flow(), server(), making.runtime())


def test_a_foreign_request_does_not_reach_this_machine():
    with pytest.raises(WireError):
        wire.foreign_request(making.flow("example.com"), server(peername=("127.0.0.1", 80)), making.runtime())


def test_the_agents_bytes_go_out_without_a_rule():
    assert wire.body(b"same", None) == b"same"
