"""Errors inside a 200, told as the HTTP errors they would have been."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.catalog import load_catalog
from valetkey.formats.failures import failure_in, failure_of, holds, may_fail
from valetkey.model import Format
from valetkey.policy.outcome import classify

CATALOG = load_catalog()
CHAT, RESPONSES, MESSAGES = Format.OPENAI_CHAT, Format.OPENAI_RESPONSES, Format.ANTHROPIC_MESSAGES
GEMINI, OLLAMA = Format.GEMINI_GENERATE, Format.OLLAMA_CHAT


def found(format, event, name=None):
    failure = failure_in(format, name, event)
    assert failure is not None
    return failure


ANTHROPIC_TYPES = {
    "overloaded_error": 529, "rate_limit_error": 429, "api_error": 500, "authentication_error": 401, "permission_error": 403,
    "billing_error": 402, "not_found_error": 404, "request_too_large": 413, "invalid_request_error": 400, "timeout_error": 504,
    "tomorrows_error": 500,
}  # fmt: skip
WORDS = {
    "rate_limit_exceeded": 429, "insufficient_quota": 429, "server_error": 500, "server_is_overloaded": 503, "slow_down": 503,
    "context_length_exceeded": 400, "invalid_api_key": 401, "vector_store_timeout": 504, "invalid_prompt": 400,
    "image_content_policy_violation": 400, "model_not_found": 404, "1300": 429, "3505": 503, "capacity_exceeded": 498,
    "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503, "unheard_of": 500,
}  # fmt: skip


@pytest.mark.parametrize("kind, status", ANTHROPIC_TYPES.items())
def test_a_type_of_anthropic_is_its_status(kind, status):
    assert found(MESSAGES, {"type": "error", "error": {"type": kind, "message": "x"}}).status == status


EXCEPTIONS = {
    "throttlingException": 429, "modelTimeoutException": 408, "internalServerException": 500, "modelStreamErrorException": 424,
    "serviceUnavailableException": 503, "validationException": 400, "tomorrowsException": 500,
}  # fmt: skip


@pytest.mark.parametrize("kind, status", EXCEPTIONS.items())
def test_an_exception_of_aws_is_its_status(kind, status):
    assert found(Format.BEDROCK_CONVERSE, {"error": {"type": kind, "message": "x"}}, "error").status == status


def test_an_exception_is_told_as_sdks_of_aws_read_it():
    failure = found(Format.BEDROCK_INVOKE, {"error": {"type": "throttlingException", "message": "x"}}, "error")
    assert json.loads(failure.body) == {"code": "ThrottlingException", "message": "x"}


@pytest.mark.parametrize("code, status", WORDS.items())
def test_a_code_is_its_status(code, status):
    assert found(CHAT, {"error": {"code": code, "message": "x"}}).status == status


@pytest.mark.parametrize(
    "details, status",
    [
        ({"code": 502}, 502),
        ({"code": "429"}, 429),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, 429),
        ({"code": "credit_balance_exhausted_", "type": "insufficient_quota"}, 429),
        ({"code": "invalid_api_key", "type": "invalid_request_error"}, 401),
        ({"code": None, "type": "tokens", "message": "Rate limit reached for model m. Please try again in 5s"}, 429),
        ({"code": "invalid_request_error", "type": "unknown_error", "message": "Insufficient Balance"}, 402),
        ({"type": "invalid_request_error", "message": "Service tier capacity exceeded for this model."}, 503),
        ({"type": "invalid_request_error", "message": "temperature: too high"}, 400),
        ({"message": "get_overloaded_methods is no tool"}, 500),
        ({"code": 200, "message": "x"}, 500),
        ({"code": True, "type": ["x"], "message": {}}, 500),
        ({"code": "٤٢٩"}, 500),
        ("rate_limit_exceeded", 429),
        ("the model is overloaded", 503),
        ("boom", 500),
    ],
)
def test_the_status_of_details(details, status):
    assert failure_of(CHAT, details).status == status


def test_a_status_may_stand_around_the_details():
    assert found(RESPONSES, {"type": "error", "status": 401, "error": {"message": "x"}}).status == 401


DETAILS = {"code": "server_error", "message": "x"}
SHAPES = [
    pytest.param(CHAT, None, {"error": DETAILS}, id="chat"),
    pytest.param(
        CHAT, None, {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}], "error": DETAILS}, id="openrouter"
    ),
    pytest.param(CHAT, None, {"choices": [{"finish_reason": "error", "error": DETAILS}]}, id="openrouter: choice"),
    pytest.param(CHAT, None, {"choices": [], "x_groq": {"id": "r", "error": DETAILS}}, id="groq"),
    pytest.param(CHAT, "error", DETAILS, id="chat: event"),
    pytest.param(CHAT, None, {"object": "error", **DETAILS}, id="mistral"),
    pytest.param(RESPONSES, "error", {"type": "error", "sequence_number": 3, **DETAILS}, id="responses: flat"),
    pytest.param(RESPONSES, "error", {"type": "error", "error": DETAILS}, id="responses: nested"),
    pytest.param(RESPONSES, None, {"type": "response.failed", "response": {"status": "failed", "error": DETAILS}}, id="failed"),
    pytest.param(RESPONSES, None, {"object": "response", "status": "failed", "error": DETAILS}, id="responses: body"),
    pytest.param(GEMINI, None, {"error": DETAILS}, id="gemini"),
]


@pytest.mark.parametrize("format, name, event", SHAPES)
def test_an_error_keeps_its_details_under_one_name(format, name, event):
    assert json.loads(found(format, event, name).body) == {"error": DETAILS}


@pytest.mark.parametrize(
    "event", [{"type": "response.failed", "response": {"status": "failed", "error": None}}, {"status": "failed", "error": None}]
)
def test_a_failure_without_details_is_500(event):
    failure = found(RESPONSES, event)
    assert (failure.status, list(json.loads(failure.body))) == (500, ["error"])


@pytest.mark.parametrize(
    "format, body",
    [
        (CHAT, {"error": {"message": "boom"}}),
        (MESSAGES, {"type": "error", "error": {"message": "boom"}}),
        (OLLAMA, {"error": "boom"}),
    ],
)
def test_an_error_that_is_a_text_takes_the_shape_of_its_dialect(format, body):
    assert json.loads(found(format, {"error": "boom"}).body) == body


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"error": None},
        {"error": ""},
        {"error": {}},
        {"choices": [{"content_filter_results": {"error": {"code": "content_filter_error"}}}]},
        {"type": "response.created", "response": {"status": "in_progress", "error": None}},
        {"type": "response.output_item.done", "item": {"type": "mcp_call", "error": "no such tool"}},
        {"type": ["error"], "x_groq": 1, "choices": {"error": 1}},
    ],
)
def test_what_is_no_error(event):
    assert failure_in(CHAT, None, event) is None


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}
OUTCOMES = [
    ("openai", CHAT, {"error": {"code": "insufficient_quota", "type": "insufficient_quota", "message": "x"}}, "quota"),
    ("openai", CHAT, {"error": {"code": "invalid_api_key", "message": "Incorrect API key provided"}}, "bad_key"),
    ("openai", CHAT, {"error": {"code": "context_length_exceeded", "message": "x"}}, "too_long"),
    ("openai", RESPONSES, {"type": "error", "code": "rate_limit_exceeded", "message": "Rate limit reached for m"}, "throttled"),
    ("openai", RESPONSES, {"type": "error", "code": "server_is_overloaded", "message": "x"}, "overloaded"),
    ("openai", RESPONSES, {"type": "response.failed", "response": {"error": {"code": "content_filter"}}}, "policy"),
    ("anthropic", MESSAGES, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
    ("anthropic", MESSAGES, {"type": "error", "error": {
        "type": "rate_limit_error", "message": "x", "details": {"error_code": "enforced_spend_limit_reached"}}}, "quota"),
    ("anthropic", MESSAGES, {"type": "error", "error": {
        "type": "invalid_request_error", "message": "Your credit balance is too low to access the API."}}, "quota"),
    ("gemini", GEMINI, {"error": {
        "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "PerMinute", "details": [RETRY]}}, "throttled"),
    ("gemini", GEMINI, {"error": {
        "code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}, "bad_key"),
    ("openrouter", CHAT, {"error": {"code": 402, "message": "x", "metadata": {
        "limit_source": "openrouter_in_flight_budget"}}}, "throttled"),
    ("openrouter", CHAT, {"error": {"code": "server_error", "message": "Provider disconnected"}}, "server"),
    ("mistral", CHAT, {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}, "throttled"),
    ("mistral", CHAT, {"object": "error", "message": "Service tier capacity exceeded for this model.",
                       "type": "invalid_request_error", "code": "3505"}, "overloaded"),
    ("deepseek", CHAT, {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}},
     "quota"),
    ("groq", CHAT, {"x_groq": {"error": "Rate limit reached for model m"}}, "throttled"),
]  # fmt: skip


@pytest.mark.parametrize("provider, format, event, outcome", OUTCOMES)
def test_the_error_table_of_the_provider_reads_it(provider, format, event, outcome):
    failure = found(format, event)
    assert classify(CATALOG[provider], failure.status, {}, failure.body) == outcome


@pytest.mark.parametrize(
    "condition, expected",
    [
        ("a", True),
        ("b", False),
        ("none", False),
        ("none.of.it", False),
        ("list.*.a", True),
        ("list.*.b", False),
        ("list.a", False),
        ("a=x", True),
        ("a=y", False),
        ("a!=x", False),
        ("a!=y", True),
        ("b!=y", False),
        ("object.^role", True),
        ("object.^text", False),
        ("object.empty.^role", False),
        ("object", True),
    ],
)
def test_a_condition(condition, expected):
    document = {"a": "x", "b": "", "list": [1, {"a": "x", "b": []}], "object": {"text": "x", "role": "", "empty": {}}}
    document["object"].pop("empty") if condition == "object.^text" else None
    assert holds(document, condition) is expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["error", "type", "code", "status", "message", "choices", "response", "x_groq"]), inner)
    ),
)


@given(
    st.sampled_from(Format), st.none() | st.sampled_from(["error", "ping"]), st.dictionaries(st.text() | st.just("error"), JSON)
)
def test_any_document_gives_a_failure_or_none(format, name, event):
    failure = failure_in(format, name, event)
    assert failure is None or (400 <= failure.status <= 599 and {"error", "code"} & json.loads(failure.body).keys())


@pytest.mark.parametrize("depth", [500, 2_000, 5_000, 9_000, 50_000])
def test_details_of_any_depth_give_a_body(depth):
    details = {"message": "x", "deep": None}
    inner = details
    for _ in range(depth):
        inner["deep"] = {"deep": None}
        inner = inner["deep"]
    assert failure_of(CHAT, details).body.startswith(b'{"error":{"message":')


WORDS = st.sampled_from(["error", "failed", "response.failed", "response", "type", "object", "status", "choices", "x_groq", "a"])
EVENTS = st.recursive(WORDS | st.none(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=3))


@given(st.none() | WORDS, st.dictionaries(WORDS, EVENTS, max_size=4), st.sampled_from(["", "error", "failed"]))
def test_what_holds_no_word_of_errors_is_none(name, event, escaped):
    data = json.dumps(event).encode()
    if escaped:
        data = data.replace(escaped.encode(), f"\\u{ord(escaped[0]):04x}{escaped[1:]}".encode())
    assert may_fail(name, data) or failure_in(Format.OPENAI_CHAT, name, json.loads(data)) is None


@pytest.mark.parametrize(("name", "data"), [(None, b"{}"), ("message", b'{"choices":[{"delta":{"content":"hi"}}]}')])
def test_most_events_need_not_be_asked_about(name, data):
    assert not may_fail(name, data)
