from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from mitmproxy import http
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow

from support import making
from valetkey.proxy import canaryhost
from valetkey.proxy.canaryhost import HOST, KEPT, ValetCanaryHost, is_canary
from valetkey.proxy.intake import ValetIntake
from valetkey.proxy.tunnels import Tunnels, ValetTunnels
from valetkey.settings import Settings, instance_id

KNOWN = 'version: 1\ngateway: {callers: known, egress: deny}\nagents: [{name: alice, key: "sha256:' + "0" * 64 + '"}]\n'


@pytest.fixture
def addon(tmp_path):
    runtime = making.runtime(keys={})
    runtime.settings = Settings(None, tmp_path)
    return ValetCanaryHost(runtime)


@pytest.fixture(autouse=True)
def authority(monkeypatch):
    certificate = SimpleNamespace(fingerprint=lambda: b"\x01\x02")
    with taddons.context() as context:
        monkeypatch.setattr(
            context.master.addons, "get", lambda name: SimpleNamespace(certstore=SimpleNamespace(default_ca=certificate))
        )
        yield


def ask(addon, host=HOST, path="/", port=443, scheme="https", mode=None):
    flow = tflow.tflow(req=http.Request.make("GET", f"{scheme}://{host}:{port}{path}"))
    if mode:
        flow.client_conn.proxy_mode = ProxyMode.parse(mode)
    addon.requestheaders(flow)
    return json.loads(flow.response.content) if flow.response else None


def connect(addon, port, host=HOST):
    flow = tflow.tflow(req=http.Request.make("CONNECT", f"http://{host}:{port}/"))
    flow.request.host, flow.request.port = host, port
    addon.http_connect(flow)
    return flow


def test_it_says_which_gateway_answers(addon, tmp_path):
    assert ask(addon)["instance"] == instance_id(Settings(None, tmp_path))


def test_it_says_which_authority_signs(addon):
    assert ask(addon)["ca"] == "0102"


def test_it_answers_without_any_key(addon):
    assert ask(addon)["keys"] == []


def test_it_tells_why_a_key_is_left_out(addon):
    addon.runtime.adopt(making.snapshot())
    object.__setattr__(addon.runtime.snapshot, "states", {"openai/main": None, "openai/2": "OPENAI_API_KEY_2 looks like a dummy"})
    assert ask(addon)["left_out"] == {"openai/2": "OPENAI_API_KEY_2 looks like a dummy"}


def test_other_machines_are_not_told_of_keys(addon):
    assert "keys" not in ask(addon, mode="regular@0.0.0.0:8080")


@pytest.mark.parametrize(("scheme", "tls"), [("https", True), ("http", False)])
def test_it_says_whether_the_call_came_over_tls(addon, scheme, tls):
    assert ask(addon, scheme=scheme)["tls"] is tls


def test_the_name_counts_in_any_case(addon):
    assert is_canary(HOST.upper())


@pytest.mark.parametrize("host", ["api.openai.com", f"x.{HOST}", "valetkey.invalid"])
def test_another_host_is_left_alone(addon, host):
    assert ask(addon, host=host) is None


def test_the_base_url_door_does_not_know_it(addon):
    assert ask(addon, mode="reverse:http://valetkey.invalid@127.0.0.1:8045") is None


def test_a_flow_that_has_an_answer_keeps_it(addon):
    flow = tflow.tflow(req=http.Request.make("GET", f"https://{HOST}/"))
    flow.response = http.Response.make(418)
    addon.requestheaders(flow)
    assert flow.response.status_code == 418


def test_a_tunnel_is_remembered_by_its_port(addon):
    connect(addon, 23456)
    assert ask(addon, path="/seen/23456", scheme="http") == {"tunnel": 0.0, "request": None}


def test_a_request_in_the_tunnel_is_remembered_as_well(addon):
    connect(addon, 23456)
    ask(addon, port=23456)
    assert ask(addon, path="/seen/23456", scheme="http") == {"tunnel": 0.0, "request": 0.0}


def test_a_request_in_the_clear_proves_no_trust(addon):
    ask(addon, port=23456, scheme="http")
    assert ask(addon, path="/seen/23456", scheme="http")["request"] is None


@pytest.mark.parametrize("port", ["", "x", "%C2%B2", "9" * 400, "-1", "23457"])
def test_nothing_is_known_of_other_ports(addon, port):
    connect(addon, 23456)
    assert ask(addon, path=f"/seen/{port}", scheme="http") == {"tunnel": None, "request": None}


def test_another_hosts_tunnel_is_not_remembered(addon):
    connect(addon, 23456, host="api.openai.com")
    assert ask(addon, path="/seen/23456", scheme="http")["tunnel"] is None


def test_the_oldest_port_is_forgotten(addon):
    for port in range(1, KEPT + 2):
        connect(addon, port)
    assert [ask(addon, path=f"/seen/{port}", scheme="http")["tunnel"] for port in (1, 2)] == [None, 0.0]


def test_nothing_is_read_on_a_connection_after_it(addon):
    flow = tflow.tflow(req=http.Request.make("GET", f"https://{HOST}/"))
    addon.requestheaders(flow)
    assert flow.response.headers["connection"] == "close" and flow.request.stream


def test_it_answers_where_agents_must_prove_who_they_are(tmp_path):
    runtime = making.runtime(KNOWN, keys={})
    gate, host = ValetTunnels(runtime, Tunnels()), ValetCanaryHost(runtime)
    flow = connect(host, 443)
    gate.http_connect(flow)
    assert flow.response is None


def test_it_writes_no_receipt(addon):
    flow = tflow.tflow(req=http.Request.make("GET", f"https://{HOST}/"))
    addon.requestheaders(flow)
    ValetIntake(addon.runtime, Tunnels()).requestheaders(flow)
    assert addon.runtime.passages.of(flow) is None and flow.response.status_code == 200


def test_it_waits_until_the_gateway_is_ready(addon):
    addon.runtime.ready = False
    flow = tflow.tflow(req=http.Request.make("GET", f"https://{HOST}/"))
    addon.requestheaders(flow)
    assert flow.response.status_code == 503


def test_the_name_can_belong_to_nobody():
    assert canaryhost.HOST.endswith(".invalid")
