"""The wire formats: read, changed in place, and spoken. Bytes in, bytes out; no clock, no network."""

from .bindings import SESSION_HEADERS, Bindings, BindingTap, conversation, may_create, of_request
from .chat_usage import UsageChunkFilter
from .decode import DecodeError, Decoder, decoder
from .encoded import EncodedWatch, decoded
from .errors import error_body, error_event
from .eventstream import EVENT_STREAM, event_frame
from .failures import Failure
from .jsonscan import JsonScanError, Members, Span, pick, scan, value
from .multipart import with_field
from .opening import Opening, read_whole
from .request import FormFacts, RequestFacts, asked_in_form, asked_in_json, read_form_request, read_request
from .results import ResultsTap
from .scrub import LEAST_LENGTH, Scrubber, ScrubStream
from .splice import splice
from .sse import SseEvent, SseParser
from .usage import Unread, Usage, UsageTap, estimate_usage, usage_of

__all__ = [
    "EVENT_STREAM",
    "LEAST_LENGTH",
    "SESSION_HEADERS",
    "BindingTap",
    "Bindings",
    "DecodeError",
    "Decoder",
    "EncodedWatch",
    "Failure",
    "FormFacts",
    "JsonScanError",
    "Members",
    "Opening",
    "RequestFacts",
    "ResultsTap",
    "ScrubStream",
    "Scrubber",
    "Span",
    "SseEvent",
    "SseParser",
    "Unread",
    "Usage",
    "UsageChunkFilter",
    "UsageTap",
    "asked_in_form",
    "asked_in_json",
    "conversation",
    "decoded",
    "decoder",
    "error_body",
    "error_event",
    "estimate_usage",
    "event_frame",
    "may_create",
    "of_request",
    "pick",
    "read_form_request",
    "read_request",
    "read_whole",
    "scan",
    "splice",
    "usage_of",
    "value",
    "with_field",
]
