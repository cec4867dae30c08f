"""The wire formats: read, changed in place, and spoken. Bytes in, bytes out; no clock, no network."""

from .chat_usage import UsageChunkFilter
from .decode import DecodeError, Decoder, decoder
from .errors import error_body, error_event
from .jsonscan import JsonScanError, Members, Span, pick, scan, value
from .request import RequestFacts, read_multipart_model, read_request
from .splice import splice
from .sse import SseEvent, SseParser
from .usage import UsageTap, estimate_usage

__all__ = [
    "DecodeError",
    "Decoder",
    "JsonScanError",
    "Members",
    "RequestFacts",
    "Span",
    "SseEvent",
    "SseParser",
    "UsageChunkFilter",
    "UsageTap",
    "decoder",
    "error_body",
    "error_event",
    "estimate_usage",
    "pick",
    "read_multipart_model",
    "read_request",
    "scan",
    "splice",
    "value",
]
