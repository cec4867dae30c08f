"""Providers with many hosts, seen from the flow: a key goes to the resource, and stays in the region, that it is meant for."""

from __future__ import annotations

import json

import pytest
from mitmproxy.connection import ConnectionState, Server

from support import making
from support.assembling import assembled
from valetkey.catalog import load_catalog
from valetkey.errors import RulesError, WireError
from valetkey.proxy import wire
from valetkey.rules import parse_rules
from valetkey.secrets import Environment, resolve_keys

KEY = "0123456789abcdef0123456789abcdef"
TOKEN = "ya29.real-real-real-real-real-real"
TWO = """version: 1
providers:
  azure: {upstream: 'https://a.openai.azure.com'}
  azure-b: {like: azure, upstream: 'https://b.openai.azure.com', keys: [env:AZURE_B_API_KEY]}
"""
NONE = "version: 1\n"
CHAT = "/openai/deployments/prod/chat/completions?api-version=2024-10-21"
VERTEX = "/v1/projects/p/locations/us-east5/publishers/google/models/gemini-2.5-flash:generateContent"


def server(host):
    made = Server(address=(host, 443))
    made.state, made.peername = ConnectionState.OPEN, ("93.184.216.34", 443)
    made.tls, made.timestamp_tls_setup, made.sni = True, 1.0, host
    return made


def passed(host, path, rules, keys, body=b'{"messages":[]}', **headers):
    """The flow after the rules, with its passage and the runtime."""
    runtime, flow = making.runtime(rules, keys=keys), making.flow(host, path, body, **headers)
    intake = assembled(runtime).intake
    intake.requestheaders(flow)
    if flow.response is None:
        intake.request(flow)
        making.attempt(runtime, flow)
    return flow, runtime.passages.of(flow), runtime


def sent(host, path, rules, keys, at=None, **more):
    flow, passage, runtime = passed(host, path, rules, keys, **more)
    assert flow.response is None, flow.response.text
    return wire.request(flow, passage, server(at or host), runtime)


def refused(host, rules, keys):
    flow, _, _ = passed(host, CHAT, rules, keys)
    return flow.response and (flow.response.status_code, json.loads(flow.response.text)["error"]["code"])


def test_a_key_goes_to_its_resource_in_the_header_of_azure():
    copy = sent("a.openai.azure.com", CHAT, TWO, {"azure/main": KEY}, authorization="", api_key="sk-dummy")
    assert (copy.host, copy.headers["api-key"], copy.path) == ("a.openai.azure.com", KEY, CHAT)


def test_each_resource_gets_its_own_key():
    keys = {"azure/main": KEY, "azure-b/main": KEY[::-1]}
    assert sent("b.openai.azure.com", CHAT, TWO, keys).headers["api-key"] == KEY[::-1]


@pytest.mark.parametrize("host", ["mallory.openai.azure.com", "mallory.services.ai.azure.com"])
def test_a_call_to_the_resource_of_somebody_else_is_refused(host):
    assert refused(host, TWO, {"azure/main": KEY}) == (403, "unnamed_upstream")


@pytest.mark.parametrize("host", ["a.openai.azure.com", "mallory.openai.azure.com"])
def test_without_an_upstream_no_resource_is_called(host):
    assert refused(host, NONE, {"azure/main": KEY}) == (403, "unnamed_upstream")


def test_the_wire_refuses_a_connection_to_another_resource():
    with pytest.raises(WireError):
        sent("a.openai.azure.com", CHAT, TWO, {"azure/main": KEY}, at="mallory.openai.azure.com")


@pytest.mark.parametrize(("rules", "found"), [(NONE, set()), (TWO, {"azure"})])
def test_a_key_is_read_when_its_resource_is_known(rules, found, tmp_path):
    environment = Environment({"AZURE_OPENAI_API_KEY": KEY})
    assert {*resolve_keys(making.rules(rules), environment, tmp_path).keys} == found


def test_a_key_that_is_not_read_is_hidden_from_children_all_the_same(tmp_path):
    shell = {"AZURE_OPENAI_API_KEY": KEY}
    resolve_keys(making.rules(), Environment.from_process(tmp_path, shell), tmp_path)
    assert shell == {}


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("providers: {azure: {keys: [env:AZURE_OPENAI_API_KEY]}}", "Azure OpenAI has no address of its own"),
        ("providers: {vllm: {}}", "vLLM has no address of its own"),
        ("routes: [{match: {model: x}, to: azure/prod}]", "azure/prod: Azure OpenAI has no address of its own"),
        (
            "providers: {lab: {like: azure, upstream: 'https://b.openai.azure.com', keys: [env:AZURE_OPENAI_API_KEY]}}",
            "AZURE_OPENAI_API_KEY is a key of azure, and would be sent to https://b.openai.azure.com",
        ),
    ],
)
def test_what_would_send_a_key_nowhere_in_particular_is_an_error(rules, text):
    with pytest.raises(RulesError, match=text):
        parse_rules(f"version: 1\n{rules}\n", "rules.yaml", load_catalog())


def test_an_upstream_that_is_no_resource_of_azure_is_noted():
    noted = making.rules("version: 1\nproviders: {azure: {upstream: 'https://llm.example.com'}}\n").notices
    assert any("keys of azure are sent to https://llm.example.com" in notice for notice in noted)


def test_a_resource_of_azure_is_not_noted():
    assert making.rules(TWO).notices == ()


# The deployment is the model.


def test_a_deployment_is_the_model():
    _, passage, _ = passed("a.openai.azure.com", CHAT, TWO, {"azure/main": KEY})
    assert passage.plan.model == "prod"


def test_the_body_of_a_deployment_stays_as_it_came():
    _, passage, _ = passed("a.openai.azure.com", CHAT, TWO, {"azure/main": KEY}, body=b'{"model":"gpt-4o","messages":[]}')
    assert passage.plan.body is None


def test_a_stream_of_a_deployment_is_asked_for_its_usage():
    _, passage, _ = passed("a.openai.azure.com", CHAT, TWO, {"azure/main": KEY}, body=b'{"messages":[],"stream":true}')
    assert json.loads(passage.plan.body)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("body", [b'{"messages":[]}', b'{"model":"prod","messages":[]}'])
def test_a_deployment_that_is_routed_elsewhere_names_the_model_in_the_body(body):
    rules = TWO + "routes: [{match: {model: prod}, to: openai/gpt-4o}]\n"
    _, passage, _ = passed("a.openai.azure.com", CHAT, rules, {"openai/main": making.REAL}, body=body)
    assert (passage.plan.path.partition("?")[0], json.loads(passage.plan.body)["model"]) == ("/v1/chat/completions", "gpt-4o")


def test_a_call_that_is_routed_to_azure_needs_no_version():
    rules = TWO + "routes: [{match: {model: gpt-4o}, to: azure/prod}]\n"
    _, passage, _ = passed("api.openai.com", "/v1/chat/completions", rules, {"azure/main": KEY}, body=b'{"model":"gpt-4o"}')
    assert (passage.plan.path, json.loads(passage.plan.body)["model"]) == ("/openai/v1/chat/completions", "prod")


# Regions.


@pytest.mark.parametrize("host", ["us-east5-aiplatform.googleapis.com", "aiplatform.googleapis.com"])
def test_a_token_goes_to_the_host_of_the_region(host):
    copy = sent(host, VERTEX, NONE, {"vertex_ai/main": TOKEN}, authorization="Bearer sk-dummy")
    assert (copy.host, copy.headers["authorization"], copy.path) == (host, f"Bearer {TOKEN}", VERTEX)


def test_a_call_to_the_base_url_goes_where_the_rules_say():
    place = "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/europe-west1"
    rules = f"version: 1\nproviders: {{vertex_ai: {{upstream: '{place}'}}}}\nroutes: [{{to: vertex_ai}}]\n"
    path = "/v1beta/models/gemini-2.5-flash:generateContent"
    _, passage, _ = passed("generativelanguage.googleapis.com", path, rules, {"vertex_ai/main": TOKEN})
    assert passage.plan.provider.upstream.origin + passage.plan.path == (
        f"{place}/publishers/google/models/gemini-2.5-flash:generateContent"
    )


def test_a_route_into_no_project_is_refused():
    path = "/v1beta/models/gemini-2.5-flash:generateContent"
    rules = "version: 1\nroutes: [{to: vertex_ai}]\n"
    flow, passage, _ = passed("generativelanguage.googleapis.com", path, rules, {"vertex_ai/main": TOKEN})
    assert passage.plan is None and flow.response.status_code == 400
