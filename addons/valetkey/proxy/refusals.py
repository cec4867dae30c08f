"""A refusal, spoken in the client's own format."""

from __future__ import annotations

from mitmproxy import http

from ..formats import error_body
from ..model import Dialect, Refusal

PREFIX = "valetkey: "


def response(refusal: Refusal, dialect: Dialect) -> http.Response:
    """The answer that the client's SDK turns into its own exception, with our message in it."""
    headers = {"content-type": "application/json", "cache-control": "no-store", "x-valetkey-refused": refusal.reason}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(max(1, round(refusal.retry_after)))
    elif refusal.status >= 500:
        headers["x-should-retry"] = "false"
    body = error_body(dialect, refusal.status, refusal.reason, PREFIX + refusal.message)
    return http.Response.make(refusal.status, body, headers)


def plain(refusal: Refusal) -> http.Response:
    """The answer for something that is no call to a provider: one line of text."""
    return http.Response.make(
        refusal.status, PREFIX + refusal.message + "\n", {"content-type": "text/plain", "x-valetkey-refused": refusal.reason}
    )
