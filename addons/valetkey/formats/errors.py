"""Errors in the words of each API, so that the official SDKs raise their own exceptions with our message in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..model import Dialect, Format
from .eventstream import event_frame

_OPENAI_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    429: "rate_limit_error",
}  # fmt: skip
_ANTHROPIC_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_AWS_TYPES = {
    401: "AccessDeniedException", 403: "AccessDeniedException", 404: "ResourceNotFoundException", 408: "ModelTimeoutException",
    429: "ThrottlingException", 503: "ServiceUnavailableException", 504: "ModelTimeoutException",
}  # fmt: skip


def error_body(dialect: Dialect, status: int, reason: str, message: str) -> bytes:
    """The JSON body of an error with an HTTP status, in the dialect's shape. `reason` is a stable word for programs."""
    return _dump(_BODIES[dialect](status, reason, message))


def error_event(format: Format, status: int, reason: str, message: str) -> bytes:
    """The end of a stream that broke after its first byte: an error event where the format has one."""
    body = _BODIES[format.dialect](status, reason, message)
    match format:
        case Format.ANTHROPIC_MESSAGES:
            return b"event: error\ndata: " + _dump(body) + b"\n\n"
        case Format.OPENAI_RESPONSES:
            event = {"type": "response.failed", "sequence_number": 0, "response": _failed_response(message)}
            return b"event: response.failed\ndata: " + _dump(event) + b"\n\n"
        case Format.OLLAMA_CHAT | Format.OLLAMA_GENERATE:
            return _dump(body) + b"\n"
        case Format.BEDROCK_CONVERSE | Format.BEDROCK_INVOKE:
            kind = str(body["code"])
            return event_frame(kind[:1].lower() + kind[1:], _dump({"message": message}), "exception")
        case _:
            return b"data: " + _dump(body) + b"\n\n"


def _failed_response(message: str) -> Mapping[str, Any]:
    """A Response with the members that SDKs read: https://platform.openai.com/docs/api-reference/responses-streaming"""
    return {
        "id": "resp_failed", "object": "response", "created_at": 0, "status": "failed", "model": "", "output": [], "tools": [],
        "error": {"code": "server_error", "message": message}, "incomplete_details": None, "instructions": None, "metadata": {},
        "parallel_tool_calls": False, "temperature": None, "tool_choice": "auto", "top_p": None, "usage": None,
    }  # fmt: skip


def _openai(status: int, reason: str, message: str) -> Mapping[str, Any]:
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": reason}}


def _anthropic(status: int, reason: str, message: str) -> Mapping[str, Any]:
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _gemini(status: int, reason: str, message: str) -> Mapping[str, Any]:
    word = _GOOGLE_STATUS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": f"VALETKEY_{reason.upper()}", "domain": "valetkey"}
    return {"error": {"code": status, "message": message, "status": word, "details": [info]}}


def _ollama(status: int, reason: str, message: str) -> Mapping[str, Any]:
    return {"error": message}


def _bedrock(status: int, reason: str, message: str) -> Mapping[str, Any]:
    """`code` is where SDKs of AWS look for the exception when no header names it."""
    kind = _AWS_TYPES.get(status, "ValidationException" if status < 500 else "InternalServerException")
    return {"code": kind, "message": message}


_BODIES: Mapping[Dialect, Callable[[int, str, str], Mapping[str, Any]]] = {
    Dialect.OPENAI: _openai,
    Dialect.ANTHROPIC: _anthropic,
    Dialect.GEMINI: _gemini,
    Dialect.OLLAMA: _ollama,
    Dialect.BEDROCK: _bedrock,
}


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
