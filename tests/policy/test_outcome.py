"""The error tables, line by line: golden bodies as the providers send them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import CATALOG
from valetkey.model import ErrorRule, Outcome
from valetkey.policy import outcome as outcome_module
from valetkey.policy.outcome import classify


class Unreadable(bytes):
    """A body that must not be looked at."""

    def decode(self, *_args):
        raise AssertionError


def openai(code, message="x", kind="invalid_request_error"):
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind, message="x", **details):
    return {"type": "error", "error": {"type": kind, "message": message, "details": details}}


def gemini(status, message="x", reason=None):
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    return {"error": {"code": 0, "message": message, "status": status, "details": details}}


def gemini_quota(quota, value):
    violations = [{"quotaMetric": "generate_content_requests", "quotaId": quota, "quotaValue": value}]
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"},
    ]
    return {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED", "details": details}}


def openrouter(status, limit_source):
    return {"error": {"code": status, "message": "x", "metadata": {"limit_source": limit_source}}}


CASES = [
    ("openai", 401, openai("invalid_api_key", "Incorrect API key provided: sk-***"), "bad_key"),
    ("openai", 401, openai(None, "You must be a member of an organization to use the API."), "bad_key"),
    ("openai", 403, openai("unsupported_country_region_territory", "Country, region, or territory not supported"), "policy"),
    ("openai", 401, openai("ip_not_authorized", "Your IP is not authorized."), "bad_key"),
    ("openai", 403, openai(None, "Country, region, or territory not supported"), "policy"),
    ("openai", 403, openai(None, "You have insufficient permissions for this operation."), "bad_key"),
    ("openai", 400, openai("content_policy_violation"), "policy"),
    ("openai", 400, openai("content_filter"), "policy"),
    ("openai", 400, openai(None, "This model's maximum context length is 8192 tokens."), "too_long"),
    ("openai", 429, openai("insufficient_quota", "You exceeded your current quota"), "quota"),
    ("openai", 429, openai(None, "You exceeded your current quota, please check your plan."), "quota"),
    ("openai", 429, openai("credit_balance_exhausted", kind="insufficient_quota"), "quota"),
    (
        "openai",
        429,
        openai("rate_limit_exceeded", "Rate limit reached for gpt-4o. Please try again in 6.2s.", "tokens"),
        "throttled",
    ),
    ("openai", 429, openai("rate_limit_exceeded", "Request too large for gpt-4o", "tokens"), "too_long"),
    ("openai", 400, openai("context_length_exceeded", "This model's maximum context length is 128000 tokens"), "too_long"),
    ("openai", 400, openai("invalid_encrypted_content"), "client"),
    ("openai", 404, openai("model_not_found"), "client"),
    ("openai", 500, openai(None), "server"),
    ("openai", 502, {}, "server"),
    ("openai", 503, openai("server_is_overloaded", kind="service_unavailable_error"), "overloaded"),
    ("openai", 503, openai("slow_down"), "overloaded"),
    ("openai", 504, {}, "timeout"),
    ("anthropic", 401, anthropic("authentication_error", "invalid x-api-key"), "bad_key"),
    ("anthropic", 402, anthropic("billing_error"), "quota"),
    ("anthropic", 403, anthropic("permission_error"), "bad_key"),
    ("anthropic", 404, anthropic("not_found_error"), "client"),
    ("anthropic", 400, anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), "too_long"),
    ("anthropic", 400, anthropic("invalid_request_error", "Your credit balance is too low to access the API."), "quota"),
    ("anthropic", 400, anthropic("invalid_request_error", "You have reached your specified API usage limits."), "quota"),
    ("anthropic", 400, anthropic("invalid_request_error", "messages: Field required"), "client"),
    ("anthropic", 413, anthropic("request_too_large"), "too_long"),
    ("anthropic", 429, anthropic("rate_limit_error", "This request would exceed your rate limit"), "throttled"),
    ("anthropic", 429, anthropic("rate_limit_error", error_code="enforced_spend_limit_reached"), "quota"),
    ("anthropic", 500, anthropic("api_error"), "server"),
    ("anthropic", 504, anthropic("timeout_error"), "timeout"),
    ("anthropic", 529, anthropic("overloaded_error", "Overloaded"), "overloaded"),
    ("gemini", 400, gemini("INVALID_ARGUMENT", "API key not valid.", "API_KEY_INVALID"), "bad_key"),
    ("gemini", 400, [gemini("INVALID_ARGUMENT", "API key not valid.", "API_KEY_INVALID")], "bad_key"),
    ("gemini", 400, gemini("FAILED_PRECONDITION", "User location is not supported"), "quota"),
    (
        "gemini",
        400,
        gemini("INVALID_ARGUMENT", "The input token count (2) exceeds the maximum number of tokens allowed (1)."),
        "too_long",
    ),
    ("gemini", 400, gemini("INVALID_ARGUMENT", "Invalid JSON payload received."), "client"),
    ("gemini", 402, gemini("RESOURCE_EXHAUSTED"), "quota"),
    ("gemini", 403, gemini("PERMISSION_DENIED"), "bad_key"),
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "GenerateRequestsPerMinutePerProjectPerModel"), "throttled"),
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "GenerateRequestsPerDayPerProjectPerModel"), "quota"),
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "Quota exceeded, limit: 0"), "quota"),
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "Quota exceeded, limit: 20"), "throttled"),
    ("gemini", 429, gemini_quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "10"), "throttled"),
    ("gemini", 429, gemini_quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "0"), "quota"),
    ("gemini", 429, gemini_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "250"), "quota"),
    ("gemini", 499, gemini("CANCELLED"), "server"),
    ("gemini", 500, gemini("INTERNAL"), "server"),
    ("gemini", 503, gemini("UNAVAILABLE"), "overloaded"),
    ("gemini", 504, gemini("DEADLINE_EXCEEDED"), "timeout"),
    ("openrouter", 401, {"error": {"code": 401, "message": "No auth credentials found"}}, "bad_key"),
    ("openrouter", 402, openrouter(402, "openrouter_credits"), "quota"),
    ("openrouter", 402, openrouter(402, "openrouter_key_limit"), "quota"),
    ("openrouter", 402, openrouter(402, "openrouter_in_flight_budget"), "throttled"),
    ("openrouter", 403, openrouter(403, "openrouter_key_limit"), "quota"),
    ("openrouter", 403, openrouter(403, "openrouter_guardrail_budget"), "quota"),
    ("openrouter", 403, openrouter(403, "openrouter_workspace_budget"), "quota"),
    ("openrouter", 400, {"error": {"code": 400, "message": "This endpoint's maximum context length is 8192"}}, "too_long"),
    ("openrouter", 403, {"error": {"code": 403, "message": "moderation"}}, "policy"),
    ("openrouter", 408, {"error": {"code": 408}}, "timeout"),
    ("openrouter", 429, {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}}, "quota"),
    ("openrouter", 429, {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-min"}}, "throttled"),
    ("openrouter", 502, {"error": {"code": 502}}, "overloaded"),
    ("openrouter", 503, {"error": {"code": 503}}, "overloaded"),
    ("groq", 401, openai("invalid_api_key"), "bad_key"),
    ("groq", 413, openai("rate_limit_exceeded", "Request too large for model"), "too_long"),
    ("groq", 429, openai("rate_limit_exceeded", "Rate limit reached for model", "tokens"), "throttled"),
    ("groq", 498, openai("capacity_exceeded"), "overloaded"),
    ("groq", 422, {}, "client"),
    ("groq", 400, openai("tool_use_failed"), "client"),
    ("groq", 400, openai("json_validate_failed"), "client"),
    ("groq", 400, openai("context_length_exceeded"), "too_long"),
    ("groq", 503, {}, "overloaded"),
    ("mistral", 401, {"message": "Unauthorized"}, "bad_key"),
    ("mistral", 402, {}, "quota"),
    ("mistral", 429, {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}, "throttled"),
    ("mistral", 429, {"message": "Requests rate limit exceeded"}, "throttled"),
    ("mistral", 429, {"message": "Service tier capacity exceeded for this model.", "code": "3505"}, "overloaded"),
    ("mistral", 401, {"detail": "Unauthorized"}, "bad_key"),
    ("mistral", 503, {"message": "Service tier capacity exceeded for this model.", "code": "3505"}, "overloaded"),
    ("mistral", 400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum"}, "too_long"),
    ("mistral", 422, {"detail": []}, "client"),
    ("deepseek", 401, openai("invalid_request_error", "Authentication Fails"), "bad_key"),
    ("deepseek", 402, openai("invalid_request_error", "Insufficient Balance", "unknown_error"), "quota"),
    ("deepseek", 400, openai("invalid_request_error", "This model's maximum context length is 131072 tokens."), "too_long"),
    ("deepseek", 400, openai("invalid_request_error", "Invalid format"), "client"),
    ("deepseek", 422, {}, "client"),
    ("deepseek", 429, {}, "throttled"),
    ("deepseek", 500, {}, "server"),
    ("deepseek", 503, {}, "overloaded"),
    ("ollama", 404, {"error": "model not found"}, "client"),
    ("ollama", 500, {"error": "x"}, "server"),
    ("ollama", 503, {"error": "server busy, please try again. maximum pending requests exceeded"}, "overloaded"),
]


@pytest.mark.parametrize(("provider", "status", "body", "outcome"), CASES)
def test_what_an_error_means(provider, status, body, outcome):
    assert classify(CATALOG[provider], status, {}, json.dumps(body).encode()) == outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, "client"),
        (401, "bad_key"),
        (402, "quota"),
        (403, "bad_key"),
        (404, "client"),
        (408, "timeout"),
        (413, "too_long"),
        (418, "client"),
        (429, "throttled"),
        (500, "server"),
        (503, "overloaded"),
        (504, "timeout"),
        (520, "server"),
        (529, "overloaded"),
    ],
)
def test_a_status_means_something_without_a_table(status, outcome):
    assert classify(replace(CATALOG["openai"], errors=()), status, {}, b"") == outcome


def test_a_body_that_no_line_asks_for_is_not_read():
    with_status_only = replace(CATALOG["openai"], errors=(ErrorRule(Outcome.QUOTA, (429,)),))
    assert classify(with_status_only, 429, {}, Unreadable()) is Outcome.QUOTA


def test_a_body_is_parsed_once(monkeypatch):
    parsed = []
    monkeypatch.setattr(outcome_module.json, "loads", lambda body: parsed.append(body) or {})
    classify(CATALOG["openai"], 400, {}, b"{}")
    assert parsed == [b"{}"]


@pytest.mark.parametrize("body", [b"null", b"[]", b"[[1]]", b'{"error":null}', b'{"error":[]}', b'{"error":{"code":{}}}'])
def test_a_path_that_leads_nowhere_does_not_fit(body):
    rule = ErrorRule(Outcome.QUOTA, json={"error.code": "x", "error.0": "y"})
    assert classify(replace(CATALOG["openai"], errors=(rule,)), 400, {}, body) is Outcome.CLIENT


@pytest.mark.parametrize(("path", "value"), [("error.code", "401"), ("error.details.1.reason", "b")])
def test_paths_reach_numbers_and_lists(path, value):
    rule = ErrorRule(Outcome.QUOTA, json={path: value})
    body = b'{"error": {"code": 401, "details": [{"reason": "a"}, {"reason": "b"}]}}'
    assert classify(replace(CATALOG["openai"], errors=(rule,)), 400, {}, body) is Outcome.QUOTA


@pytest.mark.parametrize("status", [200, 201, 204, 302, 304])
def test_an_answer_is_ok(status):
    assert classify(CATALOG["openai"], status, {}, b"{") is Outcome.OK


@pytest.mark.parametrize("name", CATALOG)
@given(status=st.integers(400, 599), body=st.binary(max_size=200))
def test_garbage_has_a_class(name, status, body):
    assert classify(CATALOG[name], status, {}, body) in Outcome


def test_deep_nesting_has_a_class():
    assert classify(CATALOG["openai"], 429, {}, b"[" * 100_000) is Outcome.THROTTLED


def test_headers_can_decide():
    rule = ErrorRule(Outcome.QUOTA, (429,), without_header="retry-after")
    facts = replace(CATALOG["openai"], errors=(rule, *CATALOG["openai"].errors))
    assert [classify(facts, 429, headers, b"{}") for headers in ({}, {"retry-after": "7"})] == ["quota", "throttled"]
