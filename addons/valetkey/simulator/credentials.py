"""Which credentials a request carries, and whether this provider would take them."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from .wire_types import Request

_CARRIERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization")


def carried(request: Request) -> list[str]:
    """Every credential of a request, in whatever carrier."""
    found = [value for name, value in request.headers if name.lower() in _CARRIERS]
    query = request.path.partition("?")[2]
    return found + [value for name, value in parse_qsl(query) if name in ("key", "api_key", "access_token")]


def key_of(request: Request, dialect: str) -> str | None:
    """The key in the place where the dialect's provider looks for it."""
    if dialect == "anthropic":
        return request.header("x-api-key") or _bearer(request)
    if dialect == "gemini":
        in_query = dict(parse_qsl(request.path.partition("?")[2])).get("key")
        return request.header("x-goog-api-key") or in_query
    return _bearer(request)


def accepted(key: str | None, known: Collection[str] | None) -> bool:
    """Whether a key is taken: one of the known ones, or, without any, whatever is no dummy."""
    if key is None:
        return False
    return key in known if known is not None else "dummy" not in key


def _bearer(request: Request) -> str | None:
    value = request.header("authorization") or ""
    scheme, _, key = value.partition(" ")
    return key if scheme.lower() == "bearer" and key else None
