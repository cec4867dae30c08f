"""Event streams of AWS: frames that Bedrock has sent, and ones of our own."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

from valetkey.formats import event_frame

KIND = "application/vnd.amazon.eventstream"

RECORDED = b64decode(
    "AAAAtQAAAFI4YGjVCzpldmVudC10eXBlBwAMbWVzc2FnZVN0YXJ0DTpjb250ZW50LXR5cGUHABBhcHBsaWNhdGlvbi9qc29uDTptZXNzYWdlLXR5cGUHAAVl"
    "dmVudHsicCI6ImFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzIiwicm9sZSI6ImFzc2lzdGFudCJ9gnZ5"
    "VAAAAMsAAABXDujC9As6ZXZlbnQtdHlwZQcAEWNvbnRlbnRCbG9ja0RlbHRhDTpjb250ZW50LXR5cGUHABBhcHBsaWNhdGlvbi9qc29uDTptZXNzYWdlLXR5"
    "cGUHAAVldmVudHsiY29udGVudEJsb2NrSW5kZXgiOjAsImRlbHRhIjp7InRleHQiOiJUaGUifSwicCI6ImFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6QUJD"
    "REVGR0hJSktMTU5PUFFSU1RVIn31qfqTAAAAoQAAAFaqbZ2OCzpldmVudC10eXBlBwAQY29udGVudEJsb2NrU3RvcA06Y29udGVudC10eXBlBwAQYXBwbGlj"
    "YXRpb24vanNvbg06bWVzc2FnZS10eXBlBwAFZXZlbnR7ImNvbnRlbnRCbG9ja0luZGV4IjowLCJwIjoiYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXpBQkMi"
    "fQB8ni8AAACJAAAAUcW4bOgLOmV2ZW50LXR5cGUHAAttZXNzYWdlU3RvcA06Y29udGVudC10eXBlBwAQYXBwbGljYXRpb24vanNvbg06bWVzc2FnZS10eXBl"
    "BwAFZXZlbnR7InAiOiJhYmNkZWZnaCIsInN0b3BSZWFzb24iOiJlbmRfdHVybiJ9YzmvLQAAAO8AAABOXsLj8As6ZXZlbnQtdHlwZQcACG1ldGFkYXRhDTpj"
    "b250ZW50LXR5cGUHABBhcHBsaWNhdGlvbi9qc29uDTptZXNzYWdlLXR5cGUHAAVldmVudHsibWV0cmljcyI6eyJsYXRlbmN5TXMiOjM5MX0sInAiOiJhYmNk"
    "ZWZnaGlqa2xtbm9wcXJzdHV2d3h5eiIsInVzYWdlIjp7ImlucHV0VG9rZW5zIjoxMywib3V0cHV0VG9rZW5zIjo4Miwic2VydmVyVG9vbFVzYWdlIjp7fSwi"
    "dG90YWxUb2tlbnMiOjk1fX2ZXAL0"
)
"""Of an answer of amazon.nova-micro-v1:0 to ConverseStream: begin, the first piece of text, end of the block, end, usage."""


def converse(name: str, **event: Any) -> bytes:
    """A frame of ConverseStream."""
    return event_frame(name, json.dumps(event).encode())


def chunk(**event: Any) -> bytes:
    """A frame of InvokeModelWithResponseStream."""
    return event_frame("chunk", json.dumps({"bytes": b64encode(json.dumps(event).encode()).decode(), "p": "abc"}).encode())


def exception(kind: str, message: str) -> bytes:
    """A frame with an exception."""
    return event_frame(kind, json.dumps({"message": message}).encode(), "exception")


CLAUDE = b"".join([
    chunk(type="message_start", message={"id": "msg_1", "model": "claude", "content": [], "stop_reason": None, "usage": {
        "input_tokens": 12, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2}}}),
    chunk(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
    chunk(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"}),
    chunk(type="content_block_stop", index=0),
    chunk(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}),
    chunk(type="message_stop", **{"amazon-bedrock-invocationMetrics": {"inputTokenCount": 12, "outputTokenCount": 9}}),
])  # fmt: skip
"""A stream of InvokeModelWithResponseStream with Claude behind it."""
