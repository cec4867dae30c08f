"""What an answer means: the provider's error table first, then what its status means anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
_LINK = re.compile(r"https://[A-Za-z0-9\-._~:/?#@!$&*+,;=%]{1,2000}")
"""Without quotes, brackets and anything that a terminal could take for a command."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class of an answer, and what its line of the error table adds.

    `rest`: seconds that a key rests when the provider states nothing (None: the outcome's own). `url`: where a person must
    act (verification, ban and billing pages). `least`: seconds that the key rests whatever the provider states.
    """

    outcome: Outcome
    rest: float | None = None
    url: str | None = None
    least: float | None = None


def classify(facts: ProviderFacts, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What `status`, `headers` (lower-case names) and `body` (decoded) mean at this provider."""
    return judge(facts, status, headers, body).outcome


def judge(facts: ProviderFacts, status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
    """As `classify`, with what the line that decided says about the rest of the key and about the page to go to."""
    if status < 400:
        return Verdict(Outcome.OK)
    answer = _Answer(status, headers, body)
    for rule in facts.errors:
        if answer.fits(rule):
            return Verdict(rule.outcome, rule.rest, answer.link() if rule.page else None, rule.least)
    return Verdict(_BY_STATUS.get(status, Outcome.SERVER if status >= 500 else Outcome.CLIENT))


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
            and (rule.header is None or self._has(rule.header, rule.header_begins))
            and (rule.without_header is None or rule.without_header not in self._headers)
            and (rule.text is None or rule.text.lower() in self.text())
            and all(value in self.at(path) for path, value in rule.json.items())
        )

    def _has(self, header: str, beginning: str) -> bool:
        value = self._headers.get(header)
        return value is not None and value.startswith(beginning)

    def text(self) -> str:
        """The body as lower-case text."""
        if self._text is None:
            self._text = self._body.decode("utf-8", "replace").lower()
        return self._text

    def link(self) -> str | None:
        """The first https link of the body, without the full stop of its sentence."""
        text = self._body.decode("utf-8", "replace").replace("\\/", "/").replace("\\u0026", "&")
        found = _LINK.search(text)
        return found[0].rstrip(".,;:!?") if found else None

    def at(self, path: str) -> set[str]:
        """The values at a dotted path, as strings; `*` is any element. Gemini's errors come in a list of one."""
        if self._document is _UNREAD:
            self._document = _parsed(self._body)
        root = self._document[0] if isinstance(self._document, list) and self._document else self._document
        values = [root]
        for part in path.split("."):
            values = [child for value in values for child in _children(value, part)]
        return {str(value) for value in values if value is not None and not isinstance(value, dict | list)}


def _children(value: Any, part: str) -> Iterator[Any]:
    if isinstance(value, dict) and part in value:
        yield value[part]
    elif isinstance(value, list) and part == "*":
        yield from value
    elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
        yield value[int(part)]


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
