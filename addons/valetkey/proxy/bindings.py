"""Names of things that an answer made (responses, files, batches), which only the same key can use later."""

from __future__ import annotations

from mitmproxy import http

from ..formats import BindingTap
from . import heads
from .passage import Passage


def tap(answer: http.Response, passage: Passage) -> BindingTap | None:
    """A tap for an answer, where it matters which key made it."""
    plan, call = passage.plan, passage.call
    if plan is None or plan.key is None or call is None or answer.status_code >= 300:
        return None
    if passage.dispatch is None or not passage.dispatch.has_choice:
        return None
    return BindingTap(call.format, call.path, ", ".join(heads.get_all(answer.headers, b"content-encoding")))


def created(flow: http.HTTPFlow, passage: Passage) -> tuple[str, ...]:
    """What a settled answer made."""
    if passage.pump is not None:
        return passage.pump.bindings.names if passage.pump.bindings is not None else ()
    answer = flow.response
    found = tap(answer, passage) if answer is not None else None
    if found is None or answer is None or not answer.raw_content:
        return ()
    found.feed(answer.raw_content)
    return found.names
