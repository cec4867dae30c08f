"""The error tables, line by line: golden bodies as the providers send them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import CATALOG
from valetkey.model import ErrorRule, Outcome
from valetkey.policy import outcome as outcome_module
from valetkey.policy.outcome import Verdict, classify, judge

RECORDINGS = Path(os.environ.get("VALETKEY_RECORDINGS") or Path(__file__).resolve().parents[2].parent / "shared" / "recordings")


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


def openrouter(status, limit_source, message="x"):
    if message != "x":
        return {"error": {"code": status, "message": message, "metadata": {"raw": message}}}
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
    ("openai", 403, openai("model_not_found", "Project `p` does not have access to model `gpt-4o`"), "client"),
    ("openai", 401, openai("account_deactivated", "The OpenAI account has been deactivated."), "bad_key"),
    ("openai", 402, openai("insufficient_balance"), "quota"),
    ("openai", 403, openai(None, "Your access was terminated due to violation of our policies."), "bad_key"),
    ("openai", 400, openai("string_above_max_length", "Invalid 'messages': string too long, maximum context length"), "client"),
    ("openai", 400, openai(None, "Your input exceeds the context window of this model."), "too_long"),
    ("openai", 400, openai("moderation_blocked", "Your request was rejected by the safety system."), "policy"),
    ("openai", 400, openai(None, "Your request was rejected as a result of our safety system."), "policy"),
    ("openai", 400, openai("invalid_prompt", "Invalid prompt: flagged as violating our usage policy."), "policy"),
    ("openai", 400, openai("billing_hard_limit_reached", "Billing hard limit has been reached"), "quota"),
    ("openai", 429, openai("billing_hard_limit_reached"), "quota"),
    ("openai", 429, openai("billing_not_active", "Your account is not active"), "quota"),
    ("openai", 429, openai(None, "The engine is currently overloaded, please try again later"), "overloaded"),
    ("openai", 429, openai(None, "Out of quota."), "quota"),
    ("openai", 413, {}, "too_long"),
    ("openai", 422, openai(None), "client"),
    ("openai", 529, {}, "overloaded"),
    ("openai", 500, openai(None), "server"),
    ("openai", 502, {}, "server"),
    ("openai", 503, openai("server_is_overloaded", kind="service_unavailable_error"), "overloaded"),
    ("openai", 503, openai("slow_down"), "overloaded"),
    ("openai", 504, {}, "timeout"),
    ("anthropic", 401, anthropic("authentication_error", "invalid x-api-key"), "bad_key"),
    ("anthropic", 402, anthropic("billing_error"), "quota"),
    ("anthropic", 403, anthropic("permission_error"), "quota"),
    ("anthropic", 404, anthropic("not_found_error"), "client"),
    ("anthropic", 400, anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), "too_long"),
    ("anthropic", 400, anthropic("invalid_request_error", "Your credit balance is too low to access the API."), "quota"),
    ("anthropic", 400, anthropic("invalid_request_error", "You have reached your specified API usage limits."), "quota"),
    ("anthropic", 400, anthropic("invalid_request_error", "messages: Field required"), "client"),
    ("anthropic", 413, anthropic("request_too_large"), "too_long"),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2"),
        "too_long",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "You have reached your specified workspace API usage limits."),
        "quota",
    ),
    ("anthropic", 400, anthropic("invalid_request_error", "This organization has been disabled."), "bad_key"),
    ("anthropic", 400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), "policy"),
    ("anthropic", 403, anthropic("forbidden", "Request not allowed"), "policy"),
    ("anthropic", 429, anthropic("rate_limit_error", "Spend limit reached."), "quota"),
    ("anthropic", 429, anthropic("rate_limit_error", "Quota reached."), "quota"),
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
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "Quota exceeded, limit: 20"), "quota"),
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "Quota exceeded for 'GenerateContent requests per minute'"), "throttled"),
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "Quota exceeded for 'GenerateContent requests per day'"), "quota"),
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."), "quota"),
    ("gemini", 429, gemini("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."), "throttled"),
    ("gemini", 429, {"error": {"code": 429, "message": "Too many requests"}}, "throttled"),
    ("gemini", 400, gemini("INVALID_ARGUMENT", "API key expired. Please renew the API key."), "bad_key"),
    ("gemini", 400, gemini("INVALID_ARGUMENT", "Blocked by safety settings."), "policy"),
    ("gemini", 401, gemini("UNAUTHENTICATED"), "bad_key"),
    ("gemini", 403, gemini("PERMISSION_DENIED", "Your API key was reported as leaked."), "bad_key"),
    ("gemini", 404, gemini("NOT_FOUND", "models/x is not found"), "client"),
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
    ("openrouter", 429, openrouter(429, None, "x:free is temporarily rate-limited upstream."), "overloaded"),
    ("openrouter", 429, openrouter(429, None, "Provider returned error: quota"), "quota"),
    ("openrouter", 429, openrouter(429, "openrouter_key_limit"), "quota"),
    ("openrouter", 403, openrouter(403, None, "Key limit exceeded (daily limit)"), "quota"),
    ("openrouter", 404, {"error": {"code": 404, "message": "No endpoints found"}}, "client"),
    ("openrouter", 500, {"error": {"code": 500}}, "server"),
    ("openrouter", 502, {"error": {"code": 502}}, "overloaded"),
    ("openrouter", 503, {"error": {"code": 503}}, "overloaded"),
    ("groq", 401, openai("invalid_api_key"), "bad_key"),
    ("groq", 413, openai("rate_limit_exceeded", "Request too large for model"), "too_long"),
    ("groq", 429, openai("rate_limit_exceeded", "Rate limit reached for model", "tokens"), "throttled"),
    ("groq", 429, openai("rate_limit_exceeded", "Request too large for model"), "too_long"),
    ("groq", 403, openai("model_permission_blocked_project", "The model is blocked at the project level."), "client"),
    ("groq", 403, openai(None, "Forbidden"), "bad_key"),
    ("groq", 400, openai("organization_restricted", "Organization has been restricted."), "bad_key"),
    ("groq", 400, openai(None, "Your organization reached its spend limit"), "quota"),
    ("groq", 404, openai("model_not_found"), "client"),
    ("groq", 500, {}, "server"),
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
    ("mistral", 429, {"message": "x", "type": "invalid_request_error", "code": "3505"}, "overloaded"),
    ("mistral", 429, {"message": "x", "type": "invalid_request_error", "code": 3505}, "overloaded"),
    ("mistral", 429, {"message": "Monthly quota"}, "quota"),
    ("mistral", 500, {"message": "Internal"}, "server"),
    ("mistral", 401, {"detail": "Unauthorized"}, "bad_key"),
    ("mistral", 503, {"message": "Service tier capacity exceeded for this model.", "code": "3505"}, "overloaded"),
    ("mistral", 400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum"}, "too_long"),
    ("mistral", 422, {"detail": []}, "client"),
    ("deepseek", 401, openai("invalid_request_error", "Authentication Fails"), "bad_key"),
    ("deepseek", 402, openai("invalid_request_error", "Insufficient Balance", "unknown_error"), "quota"),
    ("deepseek", 400, openai("invalid_request_error", "This model's maximum context length is 131072 tokens."), "too_long"),
    ("deepseek", 400, openai("invalid_request_error", "Invalid format"), "client"),
    ("deepseek", 400, openai("invalid_request_error", "Content Exists Risk"), "policy"),
    ("deepseek", 422, {}, "client"),
    ("deepseek", 429, {}, "throttled"),
    ("deepseek", 500, {}, "server"),
    ("deepseek", 503, {}, "overloaded"),
    ("ollama", 404, {"error": "model not found"}, "client"),
    ("ollama", 401, {"error": "unauthorized"}, "bad_key"),
    ("ollama", 400, {"error": "the input length exceeds the context length"}, "too_long"),
    ("ollama", 429, {"error": "you have reached your weekly usage limit"}, "quota"),
    ("ollama", 429, {"error": "too many requests"}, "throttled"),
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


@pytest.mark.parametrize(
    ("value", "expected"), [("Quota:x", "quota"), ("Quot", "throttled"), ("a Quota", "throttled"), (None, "throttled")]
)
def test_the_beginning_of_a_header_can_decide(value, expected):
    rule = ErrorRule(Outcome.QUOTA, (429,), header="x-type", header_begins="Quota")
    facts = replace(CATALOG["openai"], errors=(rule, *CATALOG["openai"].errors))
    assert classify(facts, 429, {} if value is None else {"x-type": value}, b"{}") == expected


BEDROCK = [
    (400, "ValidationException", "Input is too long for requested model.", "too_long"),
    (
        400,
        "ValidationException",
        "The model returned the following errors: prompt is too long: 210000 tokens > 200000 maximum",
        "too_long",
    ),
    (400, "ValidationException", "The provided model identifier is invalid.", "client"),
    (400, "ServiceQuotaExceededException", "x", "quota"),
    (400, "ThrottlingException", "x", "throttled"),
    (403, "AccessDeniedException", "You don't have access to the model with the specified model ID.", "quota"),
    (403, "AccessDeniedException", "User: arn:aws:iam::1:user/x is not authorized to perform: bedrock:InvokeModel", "quota"),
    (403, "AccessDeniedException", "Authentication failed: Please make sure your API Key is valid.", "bad_key"),
    (403, "UnrecognizedClientException", "The security token included in the request is invalid.", "bad_key"),
    (404, "ResourceNotFoundException", "x", "client"),
    (408, "ModelTimeoutException", "x", "timeout"),
    (424, "ModelErrorException", "x", "server"),
    (429, "ThrottlingException", "Too many requests, please wait before trying again.", "throttled"),
    (429, "ThrottlingException", "Too many tokens per day, please wait before trying again.", "quota"),
    (429, "ModelNotReadyException", "x", "overloaded"),
    (500, "InternalServerException", "x", "server"),
    (503, "ServiceUnavailableException", "x", "overloaded"),
]


@pytest.mark.parametrize(("status", "kind", "message", "expected"), BEDROCK)
def test_bedrock(status, kind, message, expected):
    headers = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    assert classify(CATALOG["bedrock"], status, headers, json.dumps({"message": message}).encode()) == expected


def judged(provider, status, body):
    return judge(CATALOG[provider], status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize("name", CATALOG)
def test_a_quota_of_nobody_knows_what_rests_a_minute(name):
    assert judged(name, 429, b'{"error": {"message": "The quota is used up."}}') == Verdict(Outcome.QUOTA, rest=60)


@pytest.mark.parametrize(
    ("provider", "status", "body"),
    [
        ("openai", 429, openai("insufficient_quota", "You exceeded your current quota")),
        ("openai", 401, openai("invalid_api_key", "You can find your key at https://platform.openai.com/account/api-keys.")),
        ("gemini", 429, gemini_quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "0")),
    ],
)
def test_most_lines_add_nothing_to_the_outcome(provider, status, body):
    verdict = judged(provider, status, body)
    assert verdict == Verdict(verdict.outcome)


def test_the_quota_of_a_day_outlasts_the_delay_that_is_stated():
    assert judged("gemini", 429, gemini_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "250")).least == 3600


def test_the_day_decides_when_minute_and_day_are_used_up():
    body = gemini("RESOURCE_EXHAUSTED", "GenerateRequestsPerMinutePerProject, GenerateRequestsPerDayPerProject")
    assert judged("gemini", 429, body).outcome is Outcome.QUOTA


@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": ")])
def test_a_quota_of_nothing_is_found_however_it_is_written(spaces):
    body = json.dumps(gemini_quota("GenerateRequestsPerMinutePerProjectPerModel", "0"), separators=spaces).encode()
    assert judged("gemini", 429, body).outcome is Outcome.QUOTA


@pytest.mark.parametrize(
    ("provider", "status", "body", "outcome", "url"),
    [
        (
            "gemini",
            403,
            gemini(
                "PERMISSION_DENIED", "Enable it by visiting https://console.developers.google.com/apis/x?project=1 then retry."
            ),
            "bad_key",
            "https://console.developers.google.com/apis/x?project=1",
        ),
        (
            "openai",
            404,
            openai("model_not_found", "Your organization must be verified. Go to https://platform.openai.com/settings."),
            "client",
            "https://platform.openai.com/settings",
        ),
        (
            "openai",
            401,
            openai("account_deactivated", "Contact us at https://help.openai.com, if this is in error."),
            "bad_key",
            "https://help.openai.com",
        ),
        ("anthropic", 400, anthropic("invalid_request_error", "This organization has been disabled."), "bad_key", None),
        (
            "openrouter",
            402,
            {"error": {"code": 402, "message": "Insufficient credits. Add more using https://openrouter.ai/settings/credits"}},
            "quota",
            "https://openrouter.ai/settings/credits",
        ),
        (
            "ollama",
            401,
            b'{"signin_url":"https:\\/\\/ollama.com\\/connect?a=1\\u0026b=2"}',
            "bad_key",
            "https://ollama.com/connect?a=1&b=2",
        ),
        ("gemini", 403, b"go to http://insecure.test or https://evil.test/\x1b[2J", "bad_key", "https://evil.test/"),
    ],
)
def test_a_page_where_a_person_must_act_is_found(provider, status, body, outcome, url):
    assert judged(provider, status, body) == Verdict(Outcome(outcome), url=url)


def test_a_star_is_any_element():
    rule = ErrorRule(Outcome.QUOTA, json={"a.*.b": "2"})
    assert classify(replace(CATALOG["openai"], errors=(rule,)), 400, {}, b'{"a": [{"b": 1}, null, {"b": 2}]}') is Outcome.QUOTA


def test_an_answer_that_is_ok_adds_nothing():
    assert judged("openai", 200, b'{"error": {"code": "insufficient_quota"}}') == Verdict(Outcome.OK)


@pytest.mark.parametrize("name", CATALOG)
@given(status=st.integers(400, 599), body=st.binary(max_size=200))
def test_garbage_is_judged_as_it_is_classified(name, status, body):
    assert judge(CATALOG[name], status, {}, body).outcome is classify(CATALOG[name], status, {}, body)


def recorded():
    """The recordings of errors; one of a provider that is no part of the catalogue is read as OpenAI's."""
    for path in sorted(RECORDINGS.glob("*.json")):
        exchange = json.loads(path.read_text())
        if exchange["status"] >= 400:
            yield pytest.param(exchange, id=path.stem)


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS} (set VALETKEY_RECORDINGS to their folder)")
@pytest.mark.parametrize("exchange", recorded())
def test_recorded_errors_are_the_callers_own(exchange):
    """All of them are mistakes in the request: none may cost a key its turn."""
    facts = next((facts for facts in CATALOG.values() if exchange["host"] in facts.hosts), CATALOG["openai"])
    headers = {name.lower(): value for name, value in exchange["headers"].items()}
    assert classify(facts, exchange["status"], headers, exchange["response"].encode()) is Outcome.CLIENT
