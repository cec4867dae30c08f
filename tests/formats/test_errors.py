"""Errors in each dialect: the official SDKs raise their own exception, with our message in it."""

from __future__ import annotations

import importlib
import json

import anthropic
import openai
import pytest
from google import genai

from valetkey.formats.errors import error_body, error_event
from valetkey.formats.eventstream import EventStreamParser
from valetkey.formats.sse import SseParser
from valetkey.model import Dialect, Format

# The HTTP library that the SDKs build on (httpx, or its successor).
http = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
FRAMED = (Format.BEDROCK_CONVERSE, Format.BEDROCK_INVOKE)
MESSAGE = 'no key for "openai"; set OPENAI_API_KEY\n'


def client_for(status, body, kind="application/json"):
    answer = http.Response(status, content=body, headers={"content-type": kind})
    return http.Client(transport=http.MockTransport(lambda request: answer))


def ask_openai(status, body, kind="application/json", **more):
    sdk = openai.OpenAI(api_key="sk-dummy", max_retries=0, http_client=client_for(status, body, kind))
    return sdk.chat.completions.create(model="m", messages=[], **more)


def ask_responses(status, body, kind):
    sdk = openai.OpenAI(api_key="sk-dummy", max_retries=0, http_client=client_for(status, body, kind))
    return sdk.responses.create(model="m", input="hi", stream=True)


def ask_anthropic(status, body, kind="application/json", **more):
    sdk = anthropic.Anthropic(api_key="sk-dummy", max_retries=0, http_client=client_for(status, body, kind))
    return sdk.messages.create(model="m", messages=[], max_tokens=1, **more)


def gemini(status, body, kind="application/json"):
    return genai.Client(api_key="dummy", http_options={"httpx_client": client_for(status, body, kind)}).models


OPENAI = [
    (400, openai.BadRequestError), (401, openai.AuthenticationError), (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError), (413, openai.APIStatusError), (429, openai.RateLimitError),
    (502, openai.InternalServerError), (503, openai.InternalServerError),
]  # fmt: skip
ANTHROPIC = [
    (400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"), (403, "permission_error"),
    (404, "not_found_error"), (413, "request_too_large"), (422, "invalid_request_error"), (429, "rate_limit_error"),
    (500, "api_error"), (502, "api_error"), (503, "api_error"), (504, "timeout_error"), (529, "overloaded_error"),
]  # fmt: skip
GEMINI = [
    (400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND"),
    (413, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED"), (499, "CANCELLED"), (500, "INTERNAL"), (502, "INTERNAL"),
    (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED"),
]  # fmt: skip


@pytest.mark.parametrize("status, exception", OPENAI)
def test_the_openai_sdk_raises_its_own_exception(status, exception):
    with pytest.raises(exception) as caught:
        ask_openai(status, error_body(Dialect.OPENAI, status, "no_key", MESSAGE))
    assert (caught.value.body["message"], caught.value.code) == (MESSAGE, "no_key")


@pytest.mark.parametrize("status, kind", ANTHROPIC)
def test_the_anthropic_sdk_raises_its_own_exception(status, kind):
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask_anthropic(status, error_body(Dialect.ANTHROPIC, status, "no_key", MESSAGE))
    assert (caught.value.status_code, caught.value.body["error"]) == (status, {"type": kind, "message": MESSAGE})


@pytest.mark.parametrize("status, word", GEMINI)
def test_the_gemini_sdk_raises_its_own_exception(status, word):
    with pytest.raises(genai.errors.APIError) as caught:
        gemini(status, error_body(Dialect.GEMINI, status, "no_key", MESSAGE)).generate_content(model="m", contents="hi")
    assert (caught.value.code, caught.value.status, caught.value.message) == (status, word, MESSAGE)


def test_a_gemini_error_says_the_reason_for_programs():
    details = json.loads(error_body(Dialect.GEMINI, 503, "no_key", MESSAGE))["error"]["details"]
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "VALETKEY_NO_KEY", "domain": "valetkey"}
    assert details == [info]


def test_an_ollama_error_is_its_message():
    assert json.loads(error_body(Dialect.OLLAMA, 503, "no_key", MESSAGE)) == {"error": MESSAGE}


def test_an_error_in_a_chat_stream_is_raised():
    event = error_event(Format.OPENAI_CHAT, 502, "upstream_cut", MESSAGE)
    with pytest.raises(openai.APIError) as caught:
        list(ask_openai(200, b'data: {"choices":[]}\n\n' + event, "text/event-stream", stream=True))
    assert caught.value.message == MESSAGE


def test_a_responses_stream_ends_as_failed():
    event = error_event(Format.OPENAI_RESPONSES, 502, "upstream_cut", MESSAGE)
    (last,) = ask_responses(200, event, "text/event-stream")
    assert (last.type, last.response.status, last.response.error.message) == ("response.failed", "failed", MESSAGE)


def test_an_error_in_an_anthropic_stream_is_raised():
    event = error_event(Format.ANTHROPIC_MESSAGES, 529, "upstream_cut", MESSAGE)
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(ask_anthropic(200, event, "text/event-stream", stream=True))
    assert caught.value.body["error"] == {"type": "overloaded_error", "message": MESSAGE}


def test_an_error_in_a_gemini_stream_is_raised():
    event = error_event(Format.GEMINI_GENERATE, 503, "upstream_cut", MESSAGE)
    with pytest.raises(genai.errors.APIError) as caught:
        list(gemini(200, event, "text/event-stream").generate_content_stream(model="m", contents="hi"))
    assert caught.value.message == MESSAGE


def test_an_error_in_an_ollama_stream_is_a_line():
    assert json.loads(error_event(Format.OLLAMA_CHAT, 502, "upstream_cut", MESSAGE).removesuffix(b"\n")) == {"error": MESSAGE}


@pytest.mark.parametrize("format", [f for f in Format if f.dialect is not Dialect.OLLAMA and f not in FRAMED])
def test_an_error_event_is_one_complete_event(format):
    assert len(SseParser().feed(error_event(format, 502, "upstream_cut", MESSAGE))) == 1


@pytest.mark.parametrize("format", FRAMED)
def test_an_error_in_an_event_stream_is_an_exception(format):
    ((name, data),) = EventStreamParser(1 << 20).feed(error_event(format, 502, "upstream_cut", MESSAGE))
    assert (name, json.loads(data)["error"]) == ("error", {"type": "internalServerException", "message": MESSAGE})


AWS = {429: "ThrottlingException", 418: "ValidationException", 502: "InternalServerException"}


@pytest.mark.parametrize("status, code", AWS.items())
def test_sdks_of_aws_find_the_name_of_the_exception(status, code):
    assert json.loads(error_body(Dialect.BEDROCK, status, "x", MESSAGE)) == {"code": code, "message": MESSAGE}


@pytest.mark.parametrize("format", Format)
def test_an_error_event_is_no_end_marker(format):
    assert b"[DONE]" not in error_event(format, 502, "upstream_cut", MESSAGE)
