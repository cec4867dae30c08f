"""The class of an answer: the provider's error table first, then what its status means anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..model import ErrorRule, Outcome, ProviderFacts

_BY_STATUS = {
    401: Outcome.BAD_KEY,
    402: Outcome.QUOTA,
    403: Outcome.BAD_KEY,
    408: Outcome.TIMEOUT,
    413: Outcome.TOO_LONG,
    429: Outcome.THROTTLED,
    503: Outcome.OVERLOADED,
    504: Outcome.TIMEOUT,
    529: Outcome.OVERLOADED,
}
_UNREAD: Any = object()


def classify(facts: ProviderFacts, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What `status`, `headers` (lower-case names) and `body` (decoded) mean at this provider."""
    if status < 400:
        return Outcome.OK
    answer = _Answer(status, headers, body)
    for rule in facts.errors:
        if answer.fits(rule):
            return rule.outcome
    return _BY_STATUS.get(status, Outcome.SERVER if status >= 500 else Outcome.CLIENT)


class _Answer:
    """An answer whose body is parsed at most once, and only when a rule asks."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._status, self._headers, self._body = status, headers, body
        self._text: str | None = None
        self._document: Any = _UNREAD

    def fits(self, rule: ErrorRule) -> bool:
        """Whether every condition of `rule` holds; cheap ones first."""
        return (
            (not rule.statuses or self._status in rule.statuses)
            and (rule.header is None or rule.header in self._headers)
            and (rule.without_header is None or rule.without_header not in self._headers)
            and (rule.text is None or rule.text.lower() in self.text())
            and all(self.at(path) == value for path, value in rule.json.items())
        )

    def text(self) -> str:
        """The body as lower-case text."""
        if self._text is None:
            self._text = self._body.decode("utf-8", "replace").lower()
        return self._text

    def at(self, path: str) -> str | None:
        """The value at a dotted path, as a string; None when there is none. Gemini's errors come in a list of one."""
        if self._document is _UNREAD:
            self._document = _parsed(self._body)
        value = self._document[0] if isinstance(self._document, list) and self._document else self._document
        for part in path.split("."):
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return None
        return None if value is None or isinstance(value, dict | list) else str(value)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
