"""What the archive keeps of a message: no credentials, and bodies that are bounded and readable."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from ..policy.credentials import canonical, is_carrier

Redact = Callable[[str], str]
LIMIT = 1024 * 1024
"""Bytes kept of one body."""
HIDDEN = "***"
_TELLING = re.compile(r"authorization|cookie|api-?key|token\b|secret|credential|password|signature", re.IGNORECASE)
_PARAMETER = re.compile(r"([?&;])([^=&;#]*)=[^&;#]*")
_USER = re.compile(r"(?<=://)[^/?#]*@")


def unchanged(text: str) -> str:
    """Redacts nothing."""
    return text


def redacted(message: Mapping[str, Any], redact: Redact) -> dict[str, Any]:
    """A message (headers, body, perhaps a URL) as it may be kept.

    The value of every header or parameter that is named like a credential is hidden, whatever it holds; `redact` is applied to
    all the rest.
    """
    kept = dict(message)
    kept["headers"] = [[name, HIDDEN if _tells(name) else redact(value)] for name, value in message["headers"]]
    if "url" in kept:
        kept["url"] = redact(_url(kept["url"]))
    return kept | _body(message["body"], redact)


def _tells(name: str) -> bool:
    return is_carrier(name) or _TELLING.search(canonical(name)) is not None


def _url(url: str) -> str:
    """The URL with values of telling parameters hidden. Their names count as the server reads them: decoded."""

    def hidden(match: re.Match[str]) -> str:
        separator, name = match.groups()
        word = unquote_plus(name)
        return f"{separator}{name}={HIDDEN}" if canonical(word) == "key" or _tells(word) else match.group()

    return _PARAMETER.sub(hidden, _USER.sub(f"{HIDDEN}@", url))


def _body(body: bytes, redact: Redact) -> dict[str, Any]:
    """Text where it is text, base64 where not; says when it was cut. Secrets go first, lest one be cut in two."""
    cut = {"truncated": len(body)} if len(body) > LIMIT else {}
    text = _text(body)
    if text is not None:
        return {"body": redact(text).encode()[:LIMIT].decode("utf-8", "ignore")} | cut
    clean = redact(body.decode("latin-1")).encode("latin-1", "replace")
    return {"body": base64.b64encode(clean[:LIMIT]).decode(), "encoding": "base64"} | cut


def _text(body: bytes) -> str | None:
    """The body as text, None where it is none. A long one may have been cut within its last character."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        within = len(body) >= LIMIT and error.reason == "unexpected end of data"
        return body[: error.start].decode("utf-8") if within else None
