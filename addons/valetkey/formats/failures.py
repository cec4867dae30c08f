"""An error that came inside a 200 answer, told as the HTTP error it would have been."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..model import Dialect, Format

ERROR_EVENTS = frozenset({"error", "response.failed", "response.error"})
"""Names and types of events that are an error whatever they hold (`response.error` is OpenRouter's)."""

_PLACES = (("error",), ("response", "error"), ("x_groq", "error"), ("choices", "*", "error"))
"""Where the details of an error stand, in any format; the first that is there counts."""

_SIGNS = (("type", ERROR_EVENTS), ("object", frozenset({"error"})), ("status", frozenset({"failed"})))
"""What makes a whole document an error. `object: error` is Mistral's and vLLM's flat form; `status` that of a Responses body."""

_NUMBERS = ("status_code", "http_status", "StatusCode", "status", "code")
_WORDS = ("code", "type", "status", "message")
_NOT_DETAILS = ("sequence_number", "object", "response")

_STATUS: Mapping[str, int] = {
    word: status
    for status, words in {
        # https://platform.openai.com/docs/guides/error-codes; those of `response.failed`:
        # https://github.com/openai/openai-python/blob/main/src/openai/types/responses/response_error.py
        # https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html
        400: "validationexception servicequotaexceededexception conflictexception "
        "context_length_exceeded invalid_prompt invalid_encrypted_content previous_response_not_found content_filter "
        "content_policy_violation image_content_policy_violation invalid_image invalid_image_format invalid_base64_image "
        "invalid_image_url invalid_image_mode image_too_large image_too_small image_parse_error image_file_too_large "
        "unsupported_image_media_type empty_image_file failed_to_download_image image_file_not_found unsupported_parameter "
        "unsupported_value invalid_value missing_required_parameter string_above_max_length tool_use_failed "
        "json_validate_failed invalid_argument failed_precondition out_of_range",
        401: "invalid_api_key authentication_error invalid_authentication unauthenticated unauthorized account_deactivated "
        "unrecognizedclientexception expiredtokenexception",
        402: "billing_error insufficient_balance insufficient_credits payment_required",
        403: "permission_error permission_denied forbidden unsupported_country_region_territory accessdeniedexception",
        404: "not_found_error not_found model_not_found deploymentnotfound resourcenotfoundexception",
        408: "request_timeout modeltimeoutexception",
        409: "aborted already_exists",
        413: "request_too_large",
        424: "modelerrorexception modelstreamerrorexception",
        # https://docs.mistral.ai/resources/error-glossary: 1300 is a rate limit, 3505 (below) the model's capacity.
        429: "rate_limit_exceeded rate_limit_error rate_limited rate_limit too_many_requests insufficient_quota quota_exceeded "
        "credit_balance_exhausted billing_not_active usage_limit_reached resource_exhausted 1300 "
        "throttlingexception modelnotreadyexception",
        498: "capacity_exceeded",  # https://console.groq.com/docs/errors: flex tier
        499: "cancelled",
        500: "server_error internal_server_error internal_error api_error internal unknown data_loss internalserverexception",
        501: "unimplemented",
        502: "bad_gateway provider_unavailable",
        503: "server_is_overloaded slow_down service_unavailable_error service_unavailable unavailable engine_overloaded "
        "overloaded 3505 "
        "serviceunavailableexception",
        504: "timeout_error gateway_timeout deadline_exceeded vector_store_timeout",
        529: "overloaded_error",  # https://docs.claude.com/en/api/errors
    }.items()
    for word in words.split()
}
"""The status that each provider sends with an error word; Google's (google.rpc.Code) are looked up in lower case."""

_GENERIC = {"invalid_request_error": 400}
"""Words that some errors bear whose message says something else: DeepSeek's lack of money, Mistral's capacity."""

_PHRASES = (
    (re.compile(r"insufficient (?:balance|credits?)\b"), 402),
    (re.compile(r"\brate.?limit|\btoo many requests\b|\bexceeded your current quota\b|\bquota exceeded\b"), 429),
    (re.compile(r"\boverloaded\b|\bcapacity exceeded\b"), 503),
)
"""For errors that only speak, in lower case."""

_UNKNOWN = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that came inside a 200 answer, as it would have looked as an HTTP answer of its own.

    `status` is an HTTP status from 400 to 599. `body` is JSON in the shape of the dialect's error bodies with the provider's own
    details in it, so that its error table reads it (`{"error": {...}}`, Anthropic's with `"type": "error"` before, and the flat
    one of AWS).
    """

    status: int
    body: bytes


def failure_in(format: Format, name: str | None, event: Mapping[str, Any]) -> Failure | None:
    """The error that an event of a stream, or a whole body, is; None when it is none. `name` is the SSE event's."""
    places = [place for place in _PLACES if place[0] in event]
    details = next((found for place in places for found in _reached(event, place) if _tells(found)), None)
    if details is None and (name in ERROR_EVENTS or _is_error(event)):
        details = _flat(event)
    return None if details is None else failure_of(format, details, event)


def may_fail(name: str | None, data: bytes) -> bool:
    """Whether `failure_in` must be asked about an event: all hold one of two words, unless it is written in another way."""
    return b"error" in data or b"failed" in data or b"\\u00" in data or b"\0" in data or name in ERROR_EVENTS


def failure_of(format: Format, details: Mapping[str, Any] | str, around: Mapping[str, Any] | None = None) -> Failure:
    """The failure that `details` describe; a status may stand `around` them too. Without any sign it is 500."""
    named = {"message": details} if isinstance(details, str) else details
    flat = isinstance(details, str) and format.dialect is Dialect.OLLAMA
    document: dict[str, Any] = {"error": details if flat else named or {"message": "The provider reported an error."}}
    if format.dialect is Dialect.ANTHROPIC:
        document = {"type": "error", **document}
    elif format.dialect is Dialect.BEDROCK:
        document = _of_aws(named)
    try:
        body = json.dumps(document, separators=(",", ":")).encode()
    except RecursionError:  # nested just as deep as the parser could still read
        body = b'{"error":{"message":"The provider reported an error."}}'
    return Failure(_status(named, around or {}), body)


def _of_aws(details: Mapping[str, Any]) -> dict[str, Any]:
    """The error as SDKs of AWS read it from a body: the name of the exception as `code`, beside the message."""
    word = str(details.get("type") or "InternalServerException")
    return {"code": word[:1].upper() + word[1:], "message": str(details.get("message") or "The provider reported an error.")}


def reach(document: Any, path: str) -> Iterator[Any]:
    """The values at a dotted path: `*` steps to each item of a list, `^name` to each member of an object but `name`."""
    return iter(_reached(document, _steps(path)))


def holds(document: Any, condition: str) -> bool:
    """Whether any value at a path is something (no null, false, zero, empty text or list), or is, or is something but, a word.

    The three conditions are written `path`, `path=word` and `path!=word`.
    """
    steps, word, equal = _parsed(condition)
    for value in _reached(document, steps):
        if word is None:
            if value or isinstance(value, Mapping):
                return True
        elif value == word if equal else value and value != word:
            return True
    return False


@lru_cache(maxsize=256)
def _parsed(condition: str) -> tuple[tuple[str, ...], str | None, bool]:
    """The steps of a condition's path, its word, and whether that must be equal."""
    path, unequal, word = condition.partition("!=")
    if not unequal:
        path, equal, word = condition.partition("=")
        return _steps(path), word if equal else None, True
    return _steps(path), word, False


@lru_cache(maxsize=256)
def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _reached(document: Any, steps: tuple[str, ...]) -> list[Any]:
    found = [document]
    for name in steps:
        if not found:
            break
        if len(found) == 1:
            value = found[0]
            if type(value) is dict and name[:1] != "^":  # most steps, without a call
                if name not in value:
                    return []
                found = [value[name]]
            else:
                found = _step(value, name)
        else:
            found = [value for each in found for value in _step(each, name)]
    return found


def _step(value: Any, name: str) -> list[Any]:
    if isinstance(value, list):
        return value if name == "*" else []
    if not isinstance(value, dict) and not isinstance(value, Mapping):  # the first is quick, and nearly always true
        return []
    if name.startswith("^"):
        return [member for key, member in value.items() if key != name[1:]]
    return [value[name]] if name in value else []


def _is_error(event: Mapping[str, Any]) -> bool:
    return any(isinstance(found := event.get(name), str) and found in words for name, words in _SIGNS)


def _flat(event: Mapping[str, Any]) -> dict[str, Any]:
    """The details that stand in the event itself; none in one that does not say why, such as a whole Responses body."""
    if "message" not in event and "code" not in event:
        return {}
    kind = event.get("type")
    is_envelope = isinstance(kind, str) and kind in ERROR_EVENTS
    return {key: value for key, value in event.items() if key not in _NOT_DETAILS and not (is_envelope and key == "type")}


def _tells(details: object) -> bool:
    return isinstance(details, Mapping | str) and bool(details)


def _status(details: Mapping[str, Any], around: Mapping[str, Any]) -> int:
    numbers = (_number(place.get(name)) for place in (details, around) for name in _NUMBERS)
    words = [str(details[name]).lower() for name in _WORDS if isinstance(details.get(name), str | int)]
    text = str(details.get("message") or "").lower()
    known = (
        *numbers,
        *(_STATUS.get(word) for word in words),
        *(status for phrase, status in _PHRASES if phrase.search(text)),
        *(_GENERIC.get(word) for word in words),
    )
    return next((status for status in known if status is not None), _UNKNOWN)


def _number(value: object) -> int | None:
    """An HTTP error status, as a number or as digits (Azure); providers' own numbers are none."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None
