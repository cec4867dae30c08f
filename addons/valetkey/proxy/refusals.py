"""A refusal, spoken in the client's own format."""

from __future__ import annotations

import math

from mitmproxy import http

from ..formats import error_body
from ..model import Dialect, Refusal

WORTH_WAITING = 60.0
"""Seconds; SDKs wait no longer than a minute by themselves."""
PREFIX = "valetkey: "


def response(refusal: Refusal, dialect: Dialect) -> http.Response:
    """The answer that the client's SDK turns into its own exception, with our message in it."""
    headers = {"content-type": "application/json", "cache-control": "no-store", "x-valetkey-refusal": refusal.reason}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(refusal.retry_after)))
    # SDKs of OpenAI and Anthropic obey this; without it they would ask again for what cannot change.
    worth = refusal.retry_after is not None and refusal.retry_after <= WORTH_WAITING
    headers["x-should-retry"] = "true" if worth else "false"
    body = error_body(dialect, refusal.status, refusal.reason, PREFIX + refusal.message)
    return http.Response.make(refusal.status, body, headers)


def plain(refusal: Refusal) -> http.Response:
    """The answer for something that is no call to a provider: one line of text."""
    return http.Response.make(
        refusal.status, PREFIX + refusal.message + "\n", {"content-type": "text/plain", "x-valetkey-refusal": refusal.reason}
    )
