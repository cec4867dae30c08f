"""Listings show what may be called: models that the rules forbid are taken out of a provider's list of models."""

from __future__ import annotations

import json

from mitmproxy import http

from ..formats import JsonScanError, pick, splice
from ..model import Format, Provider
from ..policy.routing import visible_models

_LISTS = {
    Format.OPENAI_MODELS: ("data", "id"),
    Format.ANTHROPIC_MODELS: ("data", "id"),
    Format.GEMINI_MODELS: ("models", "name"),
}
"""Where a listing has its entries, and an entry its name."""


def trim(answer: http.Response, provider: Provider, format: Format) -> bool:
    """Take the forbidden models out of a listing; whether any was. Everything else in the body stays byte for byte.

    An answer that cannot be read stays as it is: a call to a forbidden model is refused all the same.
    """
    if format not in _LISTS or not (provider.allow or provider.deny) or answer.status_code != 200:
        return False
    place, name = _LISTS[format]
    body = answer.get_content(strict=False) or b""
    bare = body.lstrip().startswith(b"[")
    entries = _bare(body) if bare else _entries(body, place)
    if not isinstance(entries, list):
        return False
    names = [str(entry.get(name)) for entry in entries if isinstance(entry, dict)]
    allowed = set(visible_models(provider, names))
    kept = [entry for entry in entries if isinstance(entry, dict) and str(entry.get(name)) in allowed]
    if len(kept) == len(entries):
        return False
    answer.content = json.dumps(kept, separators=(",", ":")).encode() if bare else splice(body, set={place: kept})
    return True


def _entries(body: bytes, place: str) -> object:
    try:
        return pick(body, [place]).get(place)
    except JsonScanError:
        return None


def _bare(body: bytes) -> object:
    """A listing that is the list alone (Together, GitHub Models)."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
