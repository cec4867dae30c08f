"""The wire formats: read, changed in place, and spoken. Bytes in, bytes out; no clock, no network."""

from .bindings import Bindings, BindingTap, conversation, of_request
from .chat_usage import UsageChunkFilter
from .decode import DecodeError, Decoder, decoder
from .encoded import EncodedWatch, decoded
from .errors import error_body, error_event
from .failures import Failure
from .jsonscan import JsonScanError, Members, Span, pick, scan, value
from .opening import Opening, read_whole
from .request import RequestFacts, read_multipart_model, read_request
from .scrub import LEAST_LENGTH, Scrubber, ScrubStream
from .splice import splice
from .sse import SseEvent, SseParser
from .usage import UsageTap, estimate_usage

__all__ = [
    "LEAST_LENGTH",
    "BindingTap",
    "Bindings",
    "DecodeError",
    "Decoder",
    "EncodedWatch",
    "Failure",
    "JsonScanError",
    "Members",
    "Opening",
    "RequestFacts",
    "ScrubStream",
    "Scrubber",
    "Span",
    "SseEvent",
    "SseParser",
    "UsageChunkFilter",
    "UsageTap",
    "conversation",
    "decoded",
    "decoder",
    "error_body",
    "error_event",
    "estimate_usage",
    "of_request",
    "pick",
    "read_multipart_model",
    "read_request",
    "read_whole",
    "scan",
    "splice",
    "value",
]
