"""The providers' own words when something is wrong."""

from __future__ import annotations

from collections.abc import Mapping

from . import anthropic, bedrock, gemini, openai
from .text import dump, sse
from .wire_types import Fields

KINDS: Mapping[int | None, str] = {
    400: "client", 401: "bad_key", 402: "quota", 404: "not_found", 413: "too_long", 429: "rate_limit", 503: "overloaded",
    529: "overloaded",
}  # fmt: skip
NAMES = frozenset({*KINDS.values(), "policy", "server"})
"""All kinds of errors."""
_OPENAI = {
    "bad_key": (401, "invalid_api_key", "Incorrect API key provided. You can find your API key on the dashboard."),
    "rate_limit": (
        429,
        "rate_limit_exceeded",
        "Rate limit reached for gpt-4o in organization org-sim. Please try again in {wait}.",
    ),
    "quota": (429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details."),
    "overloaded": (503, "server_is_overloaded", "Our servers are currently overloaded. Please try again later."),
    "too_long": (400, "context_length_exceeded", "This model's maximum context length is 128000 tokens."),
    "policy": (400, "content_policy_violation", "Your request was rejected by our safety system."),
    "not_found": (404, "model_not_found", "The model does not exist or you do not have access to it."),
    "client": (400, "invalid_value", "Invalid value."),
}
_ANTHROPIC = {
    "bad_key": (401, "authentication_error", "invalid x-api-key"),
    "rate_limit": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "quota": (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "too_long": (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
    "policy": (400, "invalid_request_error", "Output blocked by content filtering policy"),
    "not_found": (404, "not_found_error", "Not found"),
    "client": (400, "invalid_request_error", "messages: Field required"),
}
_GEMINI = {
    "bad_key": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "rate_limit": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota: PerMinute. Please retry in {wait}."),
    "quota": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota: GenerateRequestsPerDayPerProjectPerModel."),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "too_long": (400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed (1048576)."),
    "policy": (400, "INVALID_ARGUMENT", "Blocked by safety settings."),
    "not_found": (404, "NOT_FOUND", "The model is not found."),
    "client": (400, "INVALID_ARGUMENT", "Invalid JSON payload received."),
}
_BEDROCK = {
    "bad_key": (403, "AccessDeniedException", "Authentication failed: Please make sure your API Key is valid."),
    "rate_limit": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "quota": (429, "ThrottlingException", "Too many tokens per day, please wait before trying again."),
    "overloaded": (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
    "too_long": (400, "ValidationException", "Input is too long for requested model."),
    "policy": (400, "ValidationException", "The request was blocked by a guardrail."),
    "not_found": (404, "ResourceNotFoundException", "Could not resolve the foundation model from the model identifier."),
    "client": (400, "ValidationException", "The provided model identifier is invalid."),
}
_TABLES = {
    "bedrock": (_BEDROCK, (500, "InternalServerException", "The system encountered an unexpected error."), "7s"),
    "openai": (_OPENAI, (500, "server_error", "The server had an error while processing your request."), "6.2s"),
    "anthropic": (_ANTHROPIC, (500, "api_error", "Internal server error"), "7s"),
    "gemini": (_GEMINI, (500, "INTERNAL", "An internal error has occurred."), "36.4s"),
}


def error(dialect: str, relative: str, kind: str, wait_ms: int | None = None) -> tuple[int, bytes, Fields]:
    """Status, body and headers of a kind of error in a dialect; `relative` is a provider with words of its own.

    `wait_ms` is when to come back, in milliseconds; None: what is usual there.
    """
    wait = _wait(kind, wait_ms)
    if dialect == "ollama":
        return 500, dump({"error": "simulated failure"}), []
    if relative == "mistral" and kind == "rate_limit":
        document = {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "param": None, "code": "1300"}
        return 429, dump(document), wait
    if relative == "deepseek" and kind == "quota":
        return 402, openai.error(402, "invalid_request_error", "Insufficient Balance"), []
    status, word, message = _words(dialect, kind, wait_ms)
    if dialect == "anthropic":
        return status, anthropic.error(word, message), wait
    if dialect == "gemini":
        # Gemini says when to come back in the body, never in a header of its own accord.
        reason = "API_KEY_INVALID" if kind == "bad_key" else None
        return status, gemini.error(status, word, message, reason), wait if wait_ms is not None else []
    if dialect == "bedrock":
        return status, dump({"message": message}), [("x-amzn-errortype", f"{word}:http://internal.amazon.com/coral/bedrock/")]
    return status, openai.error(status, word, message), wait


def event(dialect: str, kind: str | None = None, wait_ms: int | None = None, *, responses: bool = False) -> bytes:
    """An error as the first event of a stream that began with 200; `responses` in the words of OpenAI's Responses API."""
    status, word, message = _words(dialect, kind or usual(dialect), wait_ms)
    if dialect == "anthropic":
        return sse({"type": "error", "error": {"type": word, "message": message}}, "error")
    if dialect == "gemini":
        return sse({"error": {"code": status, "message": message, "status": word}})
    if dialect == "ollama":
        return dump({"error": "simulated failure"}) + b"\n"
    if dialect == "bedrock":
        return bedrock.exception(word, message)
    if responses:
        return sse({"type": "error", "code": word, "message": message, "param": None, "sequence_number": 0}, "error")
    return sse({"error": {"message": message, "type": word, "param": None, "code": None if word == "server_error" else word}})


def usual(dialect: str) -> str:
    """The kind of error that is most often met inside an answer."""
    return "overloaded" if dialect in ("anthropic", "gemini", "bedrock") else "server"


def _words(dialect: str, kind: str, wait_ms: int | None) -> tuple[int, str, str]:
    """Status, word and message of an error."""
    table, unknown, usual_wait = _TABLES.get(dialect, _TABLES["openai"])
    status, word, message = table.get(kind, unknown)
    return status, word, message.replace("{wait}", usual_wait if wait_ms is None else f"{wait_ms}ms")


def _wait(kind: str, wait_ms: int | None) -> Fields:
    if wait_ms is not None:
        return [("retry-after-ms", str(wait_ms))]
    return [("retry-after", "7")] if kind in ("rate_limit", "overloaded") else []
