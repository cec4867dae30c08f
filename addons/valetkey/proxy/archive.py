"""What the opt-in archive keeps of a call: the flow as the agent saw it, which holds no real key."""

from __future__ import annotations

from collections.abc import Mapping

from mitmproxy import http

from ..formats import DecodeError, decoder
from ..ledger import Archive
from ..model import Receipt

_LIMIT = 1024 * 1024


def keep(store: Archive, flow: http.HTTPFlow, receipt: Receipt) -> None:
    """Hand request and answer of a settled call to the archive."""
    request: dict[str, object] = {
        "method": flow.request.method,
        "url": flow.request.url,
        "headers": _headers(flow.request.headers),
        "body": plain_body(flow.request),
    }
    response: dict[str, object] | None = None
    if flow.response is not None:
        response = {
            "status": flow.response.status_code,
            "headers": _headers(flow.response.headers),
            "body": plain_body(flow.response),
        }
    store.write(receipt.id, receipt.time, request, response)


def plain_body(message: http.Message) -> bytes:
    """The decoded body, at most a byte more than a megabyte of it (then it was longer); as it came where it cannot be decoded."""
    body = message.raw_content or b""
    encoding = message.headers.get("content-encoding", "")
    if not encoding:
        return body[: _LIMIT + 1]
    plain = bytearray()
    try:
        for piece in decoder(encoding).feed_iter(body):
            plain += piece
            if len(plain) > _LIMIT:
                break
    except DecodeError:
        return body[: _LIMIT + 1]
    return bytes(plain[: _LIMIT + 1])


def _headers(headers: http.Headers) -> list[Mapping[str, str]] | list[list[str]]:
    return [[name, value] for name, value in headers.items(multi=True)]
