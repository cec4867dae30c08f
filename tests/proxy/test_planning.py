from __future__ import annotations

import pytest

from support import making
from support.assembling import assembled
from valetkey.model import Refusal
from valetkey.proxy import planning


def passage_of(flow, runtime):
    assembled(runtime).intake.requestheaders(flow)
    return runtime.passages.of(flow)


def read(flow):
    return planning.read(flow, passage_of(flow, making.runtime()))


def test_the_model_is_read_from_the_body():
    assert read(making.flow()).model == "gpt-4o"


def test_the_model_is_read_from_the_path():
    flow = making.flow("generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-flash:generateContent", body=b"{}")
    assert read(flow).model == "gemini-2.5-flash"


def test_duplicate_keys_are_refused():
    assert isinstance(read(making.flow(body=b'{"model":"a","model":"b"}')), Refusal)


@pytest.mark.parametrize("name", [b"Content-Type", b"content-encoding"])
def test_threat_47_two_types_or_encodings_are_refused(name):
    flow = making.flow()
    flow.request.headers.fields += ((name, b"application/json"), (name, b"multipart/form-data; boundary=x"))
    assert isinstance(read(flow), Refusal)


def test_threat_47_json_in_an_odd_charset_is_refused():
    flow = making.flow(body=b'{"model":"cheap","+AG0-odel":"dear"}', content_type="application/json; charset=utf-7")
    assert isinstance(read(flow), Refusal)


def test_a_charset_that_has_all_of_ascii_is_read():
    assert read(making.flow(content_type="application/json; charset=ISO-8859-1")).model == "gpt-4o"


def test_threat_47_the_models_that_openrouter_falls_back_to_are_judged():
    runtime = making.runtime("version: 1\nproviders: {openrouter: {models: {deny: [dear]}}}\n")
    flow = making.flow("openrouter.ai", "/api/v1/chat/completions", body=b'{"model":"cheap","models":["dear"],"messages":[]}')
    intake = assembled(runtime).intake
    intake.requestheaders(flow)
    intake.request(flow)
    assert runtime.passages.of(flow).refusal.reason == "model_not_allowed"


def test_an_unknown_encoding_is_refused():
    assert isinstance(read(making.flow(content_encoding="rot13")), Refusal)


def test_headers_for_the_rules_hold_no_credential():
    flow, runtime = making.flow(x_team="blue"), making.runtime()
    passage = passage_of(flow, runtime)
    call = planning.describe(flow, passage, planning.read(flow, passage))
    assert "authorization" not in call.headers and call.headers["x-team"] == "blue"


def test_a_gemini_stream_is_recognised_by_its_path():
    path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    flow, runtime = making.flow("generativelanguage.googleapis.com", path, body=b"{}"), making.runtime()
    passage = passage_of(flow, runtime)
    assert planning.describe(flow, passage, planning.read(flow, passage)).streamed


def test_targets_without_a_key_are_passed_over():
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, to: [openrouter/x, openai/gpt-4o]}]\n"
    flow, runtime = making.flow(), making.runtime(rules)
    intake = assembled(runtime).intake
    intake.requestheaders(flow)
    intake.request(flow)
    making.attempt(runtime, flow)
    assert runtime.passages.of(flow).plan.provider.name == "openai"


def test_a_target_that_does_not_speak_the_format_is_refused():
    rules = "version: 1\nroutes: [{match: {model: gpt-4o}, to: anthropic/claude-sonnet-4-5}]\n"
    flow, runtime = making.flow(), making.runtime(rules, keys={"anthropic/main": making.REAL})
    intake = assembled(runtime).intake
    intake.requestheaders(flow)
    intake.request(flow)
    making.attempt(runtime, flow)
    assert flow.response.status_code == 400 and "anthropic" in flow.response.text


@pytest.mark.parametrize("name", ["X-Session-Id", "session_id"])
@pytest.mark.parametrize("made", [{}, {"connection": "keep-alive"}], ids=["plain", "kept alive"])
def test_a_header_that_names_a_session_is_seen(name, made):
    runtime = making.runtime(keys={"openai/1": making.REAL, "openai/2": f"{making.REAL}2"})
    flow = making.flow()
    for header, value in ({name: "s-1"} | made).items():
        flow.request.headers[header] = value
    intake = assembled(runtime).intake
    intake.requestheaders(flow)
    intake.request(flow)
    assert len(runtime.passages.of(flow).dispatch._ask.soft) == 1
