"""Listings show what may be called: models that the rules forbid are taken out of a provider's list of models."""

from __future__ import annotations

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
    try:
        entries = pick(body, [place]).get(place)
    except JsonScanError:
        return False
    if not isinstance(entries, list):
        return False
    names = [str(entry.get(name)) for entry in entries if isinstance(entry, dict)]
    allowed = set(visible_models(provider, names))
    kept = [entry for entry in entries if isinstance(entry, dict) and str(entry.get(name)) in allowed]
    if len(kept) == len(entries):
        return False
    answer.content = splice(body, set={place: kept})
    return True
