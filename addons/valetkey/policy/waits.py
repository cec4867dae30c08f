"""When a key may try again, and how much it has left: what providers say in headers, in bodies and in words.

Times are Unix seconds and durations seconds; header names are lower case. Zero, negative values and garbage mean unknown:
nothing here raises on what a provider sends.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from ..model import LimitFacts, ProviderFacts

LONGEST = 31 * 86_400.0
"""The longest rest in seconds. One bad value must not retire a provider for years."""

_RAW = 200
_READ = 65_536
"""Characters of a body that are searched for words."""
_EPOCH, _EPOCH_MS = 1e9, 1e11
"""From here on a bare number is a moment (September 2001), from there on one in milliseconds (March 1973)."""
_UNITS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "msec": 1e-3, "msecs": 1e-3, "millisecond": 1e-3,
    "milliseconds": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "m": 60.0, "min": 60.0,
    "mins": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0,
    "hours": 3600.0, "d": 86_400.0, "day": 86_400.0, "days": 86_400.0, "w": 604_800.0, "week": 604_800.0,
    "weeks": 604_800.0,
}  # fmt: skip
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))
_DIGITS = 18
_NUMBER = rf"[0-9]{{1,{_DIGITS}}}(?:\.[0-9]{{1,{_DIGITS}}})?"
_ONE = rf"{_NUMBER}\s?(?:{_UNIT})(?![a-zµμ])"
_AND = r"(?:,?\s(?:and\s)?)?"
_PARTS = rf"{_ONE}(?:{_AND}{_ONE}){{0,5}}"
_PART = re.compile(rf"{_AND}({_NUMBER})\s?({_UNIT})(?![a-zµμ])", re.IGNORECASE)
_BARE = re.compile(rf"[+-]?{_NUMBER}")
_HTTP_DATE = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6},?\s", re.IGNORECASE)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = rf"(?:{'|'.join(_MONTHS)})[a-z]{{0,6}}\.?\s[0-9]{{1,2}}(?:st|nd|rd|th)?,?\s[0-9]{{4}}"
_NAMED_DAY = re.compile(r"([a-z]{3})[a-z]*\.?\s([0-9]{1,2})(?:st|nd|rd|th)?,?\s([0-9]{4})", re.IGNORECASE)
_CLOCK = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?"
_ZONE = r"(?:\s?(?:utc|gmt|z)\b|\s?[+-][0-9]{2}:?[0-9]{2}\b)?"
_MOMENT = rf"(?:[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}|{_DAY})(?:(?:t|,?\sat\s|,?\s){_CLOCK}{_ZONE})?"
_VERB = r"(?:(?:re)?try(?:ing)?(?:\sagain)?|wait(?:ing)?|resets?|renews?|available(?:\sagain)?|regain(?:\s[a-z]{1,9})?\saccess)"
_WORDS = (
    re.compile(rf"\b{_VERB}\s(?:(?:in|after|for|at\sleast|about|another)\s){{0,3}}({_PARTS})", re.IGNORECASE),
    re.compile(rf"\b{_VERB}\s(?:on|at|after|by|until)\s({_MOMENT})", re.IGNORECASE),
    re.compile(rf"\bretry[ _-]after[\s\"'\\:=]{{1,6}}({_PARTS}|{_NUMBER}(?![0-9a-z-]))", re.IGNORECASE),
    re.compile(rf"\bretry_?delay\W{{1,8}}({_PARTS})", re.IGNORECASE),
    re.compile(r"\blimit reached\|([0-9]{10,13})\b", re.IGNORECASE),
)
"""Phrases of the providers; what is in brackets is a duration, a number of seconds or a moment."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What a provider said about when to come back: `seconds` from now, at most 31 days, and `raw`, its own spelling.

    `source`: "retry-after-ms" | "retry-after" | "body" | "reset-header" | "text".
    """

    seconds: float
    raw: str
    source: str


@dataclass(frozen=True, slots=True)
class Remaining:
    """The scarcest dimension of a provider's rate-limit headers: the `share` (0..1) of its limit that is left.

    `resets_in`: seconds until there is more, as far as the provider says.
    """

    share: float
    dimension: str
    resets_in: float | None


def stated(facts: ProviderFacts, headers: Mapping[str, str], body: bytes, now: float) -> Stated | None:
    """When the provider says to come back, or None; the most exact statement wins, words come last.

    Moments are read by the clock of the answer (its `date`) where it has one, else by `now`.
    """
    clock = _clock(headers, now)
    for source, raw, seconds in _statements(facts, headers, body, clock):
        if seconds is not None:
            return Stated(min(seconds, LONGEST), raw[:_RAW], source)
    return None


def remaining(facts: ProviderFacts, headers: Mapping[str, str], now: float) -> Remaining | None:
    """How much is left of what is scarcest, or None where the answer does not tell. Of equals the later reset counts."""
    shares = []
    for limit in facts.limits:
        # Most answers tell of few limits, many of none.
        if limit.remaining in headers or limit.spent in headers or limit.status in headers:
            share = _share(limit, headers)
            if share is not None:
                shares.append((share, limit))
    if not shares:
        return None
    least = min([share for share, _ in shares])
    clock, found = _clock(headers, now), []
    for limit in [limit for share, limit in shares if share == least]:
        resets_in = _reset(limit, headers, clock)
        found.append(Remaining(least, limit.dimension, None if resets_in is None else min(resets_in, LONGEST)))
    return max(found, key=lambda r: r.resets_in or 0.0)


def duration(text: str, now: float) -> float | None:
    """Seconds from `now`, of any spelling: `7`, `290.9ms`, `1h2m3s`, `2 minutes`, epoch s or ms, RFC 3339, HTTP date.

    None for what is zero, past or unreadable. Not clamped.
    """
    text = text.strip()
    if not text or len(text) > _RAW:
        return None
    if _BARE.fullmatch(text):
        return _positive(_from_number(float(text), now))
    seconds = _compound(text)
    if seconds is None:
        moment = _moment(text)
        seconds = None if moment is None else moment - now
    return _positive(seconds)


def _statements(
    facts: ProviderFacts, headers: Mapping[str, str], body: bytes, clock: float
) -> Iterator[tuple[str, str, float | None]]:
    """Source, spelling and seconds of each statement, in the order of trust; later ones are read only when asked for."""
    for name in ("retry-after-ms", "retry-after"):
        raw = headers.get(name, "")
        number = _number(raw)
        exact = number / 1000 if number is not None and name.endswith("-ms") else None
        yield name, raw, duration(raw, clock) if exact is None else _positive(exact)
    yield from (("body", raw, duration(raw, clock)) for raw in _structures(body))
    yield from _exhausted(facts, headers, clock)
    words = body[:_READ].decode("utf-8", "replace")
    for pattern in _WORDS:
        yield from (("text", found[1], duration(found[1], clock)) for found in pattern.finditer(words))


def _exhausted(facts: ProviderFacts, headers: Mapping[str, str], clock: float) -> Iterator[tuple[str, str, float | None]]:
    """The reset of the dimension that is used up; of several the latest, because each of them must have something left."""
    ends = []
    for limit in facts.limits:
        seconds = _reset(limit, headers, clock)
        if seconds is not None and _share(limit, headers) == 0:
            ends.append((seconds, headers.get(limit.reset or "", "")))
    if ends:
        seconds, raw = max(ends)
        yield "reset-header", raw, seconds


def _structures(body: bytes) -> Iterator[str]:
    """Durations and moments that error bodies carry in fields: Google's details, OpenRouter's copy of the headers.

    https://cloud.google.com/apis/design/errors#error_details,
    https://openrouter.ai/docs/api/reference/errors-and-debugging
    """
    document = _parsed(body)
    if isinstance(document, list) and document:
        document = document[0]
    error = _field(document, "error")
    details = _field(error, "details")
    items = details if isinstance(details, list) else []
    yield from _texts([_field(item, "retryDelay") for item in items])
    for name in ("quotaResetDelay", "quotaResetTimeStamp"):
        yield from _texts([_field(_field(item, "metadata"), name) for item in items])
    copied = _field(_field(error, "metadata"), "headers")
    low = {str(name).lower(): value for name, value in copied.items()} if isinstance(copied, dict) else {}
    yield from _texts([low.get("retry-after"), low.get("x-ratelimit-reset")])


def _texts(values: list[Any]) -> Iterator[str]:
    yield from (str(value) for value in values if isinstance(value, str | int | float) and not isinstance(value, bool))


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _share(limit: LimitFacts, headers: Mapping[str, str]) -> float | None:
    """The share that is left of one limit, 0..1. A limit of 0 is no limit that could be used up; -1 means unknown."""
    if limit.status is not None and headers.get(limit.status, "").strip().lower() == "rejected":
        return 0.0
    spent = _number(headers.get(limit.spent, "")) if limit.spent else None
    if spent is not None and spent >= 1:
        return 0.0
    left, most = _number(headers.get(limit.remaining or "", "")), _number(headers.get(limit.limit or "", ""))
    if left == 0 and most != 0:
        return 0.0
    if spent is not None and spent >= 0:
        return 1.0 - spent
    if left is None or most is None or left < 0 or most <= 0:
        return None
    return min(1.0, left / most)


def _reset(limit: LimitFacts, headers: Mapping[str, str], clock: float) -> float | None:
    """Seconds until a limit has more; the format says what a bare number is, words and dates speak for themselves."""
    raw = headers.get(limit.reset or "", "")
    number = _number(raw)
    if number is None:
        return duration(raw, clock)
    if limit.format == "epoch_ms":
        return _positive(number / 1000 - clock)
    if limit.format == "epoch" and number < _EPOCH_MS:
        return _positive(number - clock)
    return _positive(_from_number(number, clock))


def _clock(headers: Mapping[str, str], now: float) -> float:
    moment = _moment(headers.get("date", ""))
    return now if moment is None else moment


def _number(text: str) -> float | None:
    if text.isdecimal() and text.isascii() and len(text) <= _DIGITS:  # most numbers, found faster than by an expression
        return float(text)
    if not text:
        return None
    text = text.strip()
    return float(text) if len(text) <= _RAW and _BARE.fullmatch(text) else None


def _from_number(number: float, now: float) -> float:
    """A bare number as seconds from `now`; what is too large for a duration is a moment."""
    if number >= _EPOCH_MS:
        return number / 1000 - now
    return number - now if number >= _EPOCH else number


def _positive(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) and seconds > 0 else None


def _compound(text: str) -> float | None:
    """`1h2m3s`, `6.2s`, `3 days and 2 hours`: numbers with units, nothing else."""
    total, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            return None
        total += float(part[1]) * _UNITS[part[2].lower()]
        at = part.end()
    return total


@lru_cache(maxsize=256)  # every answer of a second has the same Date
def _moment(text: str) -> float | None:
    """Unix seconds of an HTTP date, of RFC 3339, or of a date in words (`Aug 1, 2026 at 00:00 UTC`); UTC where none is said."""
    text = text.strip()
    if len(text) > _RAW:
        return None
    try:
        found = parsedate_to_datetime(text) if _HTTP_DATE.match(text) else datetime.fromisoformat(_iso(text))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):  # parsedate raises all of them on some garbage
        return None


def _iso(text: str) -> str:
    """A date as people write it, as ISO 8601."""
    named = _NAMED_DAY.match(text)
    if named is not None and named[1].lower() in _MONTHS:
        month = _MONTHS.index(named[1].lower()) + 1
        text = f"{named[3]}-{month:02}-{int(named[2]):02}{text[named.end() :]}"
    text = re.sub(r"^(\S{10})(?:,?\sat\s|,?\s)(?=[0-9])", r"\1T", text, flags=re.IGNORECASE)
    return re.sub(r"\s?(?:utc|gmt|z)$", "+00:00", text.strip(), flags=re.IGNORECASE)
