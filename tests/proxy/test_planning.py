from __future__ import annotations

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
