"""The providers' own words when something is wrong."""

from __future__ import annotations

from collections.abc import Mapping

from . import anthropic, gemini, openai
from .text import dump, sse
from .wire_types import Fields

KINDS: Mapping[int | None, str] = {
    400: "client", 401: "bad_key", 402: "quota", 404: "not_found", 413: "too_long", 429: "rate_limit", 503: "overloaded",
    529: "overloaded",
}  # fmt: skip
_OPENAI = {
    "bad_key": (401, "invalid_api_key", "Incorrect API key provided. You can find your API key on the dashboard."),
    "rate_limit": (
        429,
        "rate_limit_exceeded",
        "Rate limit reached for gpt-4o in organization org-sim. Please try again in 6.2s.",
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
    "rate_limit": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota: PerMinute. Please retry in 36.4s."),
    "quota": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota: GenerateRequestsPerDayPerProjectPerModel."),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "too_long": (400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed (1048576)."),
    "policy": (400, "INVALID_ARGUMENT", "Blocked by safety settings."),
    "not_found": (404, "NOT_FOUND", "The model is not found."),
    "client": (400, "INVALID_ARGUMENT", "Invalid JSON payload received."),
}


def error(dialect: str, relative: str, kind: str) -> tuple[int, bytes, Fields]:
    """Status, body and headers of a kind of error in a dialect; `relative` is a provider with words of its own."""
    wait: Fields = [("retry-after", "7")] if kind in ("rate_limit", "overloaded") else []
    if dialect == "anthropic":
        status, word, message = _ANTHROPIC.get(kind, (500, "api_error", "Internal server error"))
        return status, anthropic.error(word, message), wait
    if dialect == "gemini":
        status, word, message = _GEMINI.get(kind, (500, "INTERNAL", "An internal error has occurred."))
        return status, gemini.error(status, word, message, "API_KEY_INVALID" if kind == "bad_key" else None), []
    if dialect == "ollama":
        return 500, dump({"error": "simulated failure"}), []
    if relative == "mistral" and kind == "rate_limit":
        document = {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "param": None, "code": "1300"}
        return 429, dump(document), wait
    if relative == "deepseek" and kind == "quota":
        return 402, openai.error(402, "invalid_request_error", "Insufficient Balance"), []
    status, code, message = _OPENAI.get(kind, (500, "server_error", "The server had an error while processing your request."))
    return status, openai.error(status, code, message), wait


def event(dialect: str) -> bytes:
    """An error as the first event of a stream that began with 200."""
    if dialect == "anthropic":
        return sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
    if dialect == "gemini":
        return sse({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
    return sse({"error": {"message": "The server is overloaded.", "type": "server_error", "param": None, "code": None}})
