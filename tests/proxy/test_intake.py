from __future__ import annotations

import json

import pytest

from support import making
from support.assembling import assembled


def admitted(runtime, flow):
    """The flow after both request hooks."""
    intake = assembled(runtime).intake
    intake.requestheaders(flow)
    intake.request(flow)
    return flow


def answer(rules="version: 1\n", flow=None, **options):
    done = admitted(making.runtime(rules, **options), flow or making.flow())
    return done.response


def plan(rules="version: 1\n", flow=None, **options):
    runtime = making.runtime(rules, **options)
    done = admitted(runtime, flow or making.flow())
    assert done.response is None, done.response.text
    return making.attempt(runtime, done).plan


def test_a_good_call_is_planned():
    assert (plan().provider.name, plan().key.id, plan().path) == ("openai", "openai/main", "/v1/chat/completions")


def test_the_agents_bytes_go_out_when_nothing_changes():
    assert plan().body is None


def test_a_call_without_credential_is_refused():
    assert answer(flow=making.flow(authorization="")).status_code == 401


def test_a_call_without_credential_passes_where_the_rules_say_so():
    assert plan("version: 1\ngateway: {no_credential: inject}\n", making.flow(authorization=""))


def test_a_foreign_key_is_replaced():
    assert plan(flow=making.flow(authorization="Bearer sk-proj-AGENTSown")).key.id == "openai/main"


def test_a_foreign_key_is_masked_in_the_flow():
    flow = admitted(making.runtime(), making.flow(authorization="Bearer sk-proj-AGENTSown"))
    assert "AGENTSown" not in str(flow.get_state())


def test_a_foreign_key_is_masked_in_a_refused_call_too():
    flow = admitted(making.runtime(), making.flow(path="/v1/nowhere", authorization="Bearer sk-proj-AGENTSown"))
    assert flow.response.status_code == 403 and "AGENTSown" not in str(flow.get_state())


def test_a_foreign_key_is_rejected_where_the_rules_say_so():
    rules = "version: 1\ngateway: {foreign_keys: reject}\n"
    assert answer(rules, making.flow(authorization="Bearer sk-proj-AGENTSown")).status_code == 401


def test_the_dummy_stays_in_the_flow():
    assert admitted(making.runtime(), making.flow()).request.headers["authorization"] == "Bearer sk-dummy"


def test_proxy_authorization_leaves_the_flow():
    flow = admitted(making.runtime(), making.flow(proxy_authorization="Basic YWxpY2U6eA=="))
    assert "proxy-authorization" not in flow.request.headers


def test_a_denied_model_is_refused_with_the_rules_words():
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, deny: too expensive}]\n"
    response = answer(rules)
    assert response.status_code == 403 and "too expensive" in response.text


def test_a_route_to_another_provider_maps_the_path():
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, to: openrouter/openai/gpt-4o}]\n"
    made = plan(rules, keys={"openrouter/main": making.REAL})
    assert (made.path, json.loads(made.body)["model"]) == ("/api/v1/chat/completions", "openai/gpt-4o")


def test_a_model_rewrite_changes_only_the_model():
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, to: openai/gpt-4.1}]\n"
    assert plan(rules).body == b'{"model":"gpt-4.1","messages":[]}'


def test_body_parameters_are_set():
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, set: {temperature: 0}}]\n"
    assert json.loads(plan(rules).body)["temperature"] == 0


def test_body_parameters_are_removed():
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, remove: [messages]}]\n"
    assert plan(rules).body == b'{"model":"gpt-4o"}'


def test_a_chat_stream_is_asked_for_usage():
    made = plan(flow=making.flow(body=b'{"model":"gpt-4o","stream":true}'))
    assert json.loads(made.body)["stream_options"] == {"include_usage": True} and made.identity and made.strip_usage_chunk


def test_a_chat_stream_that_asks_for_usage_stays_as_it_is():
    body = b'{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}'
    assert plan(flow=making.flow(body=body)).body is None


def test_mistral_is_never_asked_for_usage():
    flow = making.flow("api.mistral.ai", body=b'{"model":"mistral-small","stream":true}')
    assert plan(flow=flow, keys={"mistral/main": making.REAL}).body is None


def test_no_key_is_a_503_that_names_the_variable():
    response = answer(keys={})
    assert response.status_code == 503 and "OPENAI_API_KEY" in response.text


def test_a_body_that_is_no_json_is_refused():
    assert answer(flow=making.flow(body=b"{")).status_code == 400


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br"])
def test_a_compressed_body_is_read(encoding):
    from mitmproxy.net import encoding as codec

    body = codec.encode(b'{"model":"gpt-4o","messages":[]}', encoding)
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, to: openai/gpt-4.1}]\n"
    made = plan(rules, making.flow(body=body, content_encoding=encoding))
    assert (made.body, made.decoded) == (b'{"model":"gpt-4.1","messages":[]}', True)


def test_a_compression_bomb_is_refused():
    import gzip

    rules = "version: 1\ngateway: {max_body: 1 MB}\n"
    body = gzip.compress(b'{"model":"' + b"x" * 5_000_000 + b'"}')
    assert answer(rules, making.flow(body=body, content_encoding="gzip")).status_code == 400


def test_an_announced_body_beyond_the_limit_is_refused_before_it_is_read():
    flow = making.flow()
    flow.request.headers["content-length"] = str(10**12)
    assert admitted(making.runtime(), flow).response.status_code == 413


def test_a_flow_that_another_addon_answered_is_left_alone():
    from mitmproxy import http

    flow = making.flow()
    flow.response = http.Response.make(418)
    assert admitted(making.runtime(), flow).response.status_code == 418


def test_a_host_that_is_no_provider_is_no_call():
    runtime, flow = making.runtime(), making.flow("example.com")
    admitted(runtime, flow)
    assert runtime.passages.of(flow) is None


def test_a_failing_ledger_stops_calls_when_the_rules_say_so():
    class Failing:
        healthy = False

    runtime = making.runtime("version: 1\ngateway: {ledger_failure: closed}\n")
    runtime.writer = Failing()
    assert admitted(runtime, making.flow()).response.status_code == 503


def malformed(host="api.openai.com", **headers):
    """A flow with a folded line in its head, that hides a real key."""
    flow = making.flow(host, **headers)
    flow.request.headers.fields += ((b"x-a", b"b\r\n x-api-key: sk-proj-AGENTSown"),)
    return flow


def test_threat_41_a_malformed_head_is_refused():
    assert admitted(making.runtime(), malformed()).response.status_code == 400


def test_threat_41_the_answer_to_a_malformed_head_is_the_last():
    assert admitted(making.runtime(), malformed()).response.headers["connection"] == "close"


def test_an_h2_answer_has_no_connection_header():
    flow = malformed()
    flow.request.http_version = "HTTP/2.0"
    assert "connection" not in admitted(making.runtime(), flow).response.headers


def test_the_answer_to_a_malformed_head_does_not_wait_for_the_body():
    assert admitted(making.runtime(), malformed()).request.stream


def test_a_malformed_field_is_not_shown():
    assert "AGENTSown" not in str(admitted(making.runtime(), malformed()).get_state())


def test_a_key_in_a_malformed_head_is_masked():
    flow = malformed(authorization="Bearer sk-proj-OTHERown")
    assert "OTHERown" not in str(admitted(making.runtime(), flow).get_state())


def test_threat_41_a_malformed_head_to_a_host_that_is_no_provider_is_refused():
    response = admitted(making.runtime(), malformed("example.com")).response
    assert (response.status_code, response.headers["connection"]) == (400, "close")


@pytest.mark.parametrize(("host", "status"), [("api.openai.com", 400), ("example.com", None)])
def test_threat_16_a_method_in_small_letters_is_refused_for_providers(host, status):
    flow = making.flow(host)
    flow.request.data.method = b"post"
    response = admitted(making.runtime(), flow).response
    assert (response and response.status_code) == status


def test_threat_46_a_head_that_is_too_large_is_refused():
    assert answer(flow=making.flow(x_a="b" * 70_000)).status_code == 431
