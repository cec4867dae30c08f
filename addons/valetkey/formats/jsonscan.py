"""The members of a JSON object, found in its bytes without decoding them.

The values of a body of ordinary size are passed over by the standard library's parser, which is the fastest; what it makes of
them is dropped. A larger one costs one pass of a compiled pattern and no copy: 64 MB become no objects. The grammar is RFC 8259
without leniency, because what the gateway reads must be what the provider reads: no NaN, no comments, no trailing commas, no
second member of the same name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import ValetkeyError

MAX_DEPTH = 200
"""Deepest nesting of arrays and objects that is read. Real requests stay below 30; parsers give up between 128 and 1000."""

MAX_STEPS = 1_000_000
"""Most steps of Python per body, a few seconds. Only members, the containers of a parsed value, and values nested deeper than
`_LEVELS` in one that is not parsed take steps: a real body of 64 MB needs some 100,000, one made of brackets would hold up
every other call."""

PARSED = 1024 * 1024
"""Largest body in bytes whose values are parsed: as objects they take for a moment ten times as much memory, at worst thirty."""

_COUNTED = 16 * 1024
"""Longest value in bytes whose brackets are counted, which tells how deep it is at most; for others a walk is faster."""


class JsonScanError(ValetkeyError):
    """The bytes are not one JSON object that every parser reads alike. The message names the offset, never the content."""


# Possessive quantifiers keep memory constant and rule out backtracking, however long a string is.
_WS = rb"[ \t\n\r]*+"
_PLAIN = rb'[^"\\\x00-\x1f]*+'
_STRING = rb'"' + _PLAIN + rb'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})' + _PLAIN + rb')*+"'
_NUMBER = rb"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"
_SCALAR = rb"(?:" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)"
_KEY = _STRING + _WS + rb":" + _WS

_LEVELS = 4
"""How many levels of nesting the pattern for a value takes in one match. It doubles with each."""


def _containers_of(item: bytes) -> bytes:
    """A pattern for a scalar, or for an array or object of `item`s."""
    follow = _WS + rb"(?:," + _WS + rb"(?![\]}])|(?=[\]}]))"
    array = rb"\[" + _WS + rb"(?:" + item + follow + rb")*+\]"
    members = rb"\{" + _WS + rb"(?:" + _KEY + item + follow + rb")*+\}"
    return rb"(?:" + _SCALAR + rb"|" + array + rb"|" + members + rb")"


def _nested(levels: int) -> bytes:
    return _containers_of(_nested(levels - 1)) if levels else _SCALAR


_spaces = re.compile(_WS)
_opening = re.compile(rb"\{" + _WS + rb"(\})?+")
_key = re.compile(_KEY)
_scalar = re.compile(_SCALAR)
_shallow = re.compile(_nested(_LEVELS))
_follow = re.compile(_WS + rb"(?P<next>[,\]}])" + _WS)
_plain = re.compile(
    rb'"([^"\\\x00-\x1f\x80-\xff]*+)"' + _WS + rb":" + _WS
    + rb'(?:("[^"\\\x00-\x1f]{0,64}+"|' + _NUMBER + rb"|true|false|null)" + _WS + rb"(?P<next>[,}])" + _WS + rb")?+"
)  # fmt: skip
"""A plain name with its colon and, where the value is short, that and what follows it: most members are such."""

_CLOSER = {b"[": b"]", b"{": b"}"}
_BOM = b"\xef\xbb\xbf"


class Span(NamedTuple):
    """Byte offsets of one member: its quoted name begins at `key_start`, its value is `[value_start, value_end)`."""

    key_start: int
    value_start: int
    value_end: int


@dataclass(frozen=True, slots=True)
class Members(Mapping[str, Span]):
    """The members of one object in the order they stand; the object itself is `[start, end)`."""

    start: int
    end: int
    spans: Mapping[str, Span] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Span:
        return self.spans[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.spans)

    def __len__(self) -> int:
        return len(self.spans)


def scan(body: bytes) -> Members:
    """Find the members of the object that `body` is. A UTF-8 byte order mark and white space around are tolerated.

    Raises `JsonScanError`: not an object, a syntax error anywhere in it, a name twice at the top level, nesting deeper than
    `MAX_DEPTH`, more than `MAX_STEPS`, or not UTF-8.
    """
    start = len(_BOM) if body.startswith(_BOM) else 0
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in body[start : start + 4]:
        raise JsonScanError("the JSON is not UTF-8 (it looks like UTF-16 or UTF-32); send it as UTF-8")
    scanner = _Scanner(body)
    members = scanner.members(start if body.startswith(b"{", start) else scanner.spaces(start), 1)
    if members.end != len(body) and (rest := scanner.spaces(members.end)) != len(body):
        raise JsonScanError(f"unexpected data after the JSON object, at byte {rest}")
    return members


def scan_inner(body: bytes, span: Span) -> Members | None:
    """The members of the object at `span` of a body that was scanned; None where the value is no object.

    Raises `JsonScanError` for a name twice in it.
    """
    if body[span.value_start : span.value_start + 1] != b"{":
        return None
    return _Scanner(body).members(span.value_start, 1)


def value(body: bytes, span: Span) -> Any:
    """Decode the one value at `span`. Raises `JsonScanError` where Python cannot hold it (bad UTF-8, a number too long)."""
    raw = body[span.value_start : span.value_end]
    try:
        text = raw.decode("utf-8")
        return text[1:-1] if text[0] == '"' and "\\" not in text else json.loads(text)
    except ValueError as error:
        raise JsonScanError(f"the value at byte {span.value_start} cannot be decoded") from error


def pick(body: bytes, names: Collection[str], within: Sequence[str] = ()) -> dict[str, Any]:
    """Decode only the members called `names` of the object, or of the object that the path `within` leads to.

    Absent members are absent in the result; a path that leads to no object gives an empty one. Raises `JsonScanError`.
    """
    members: Members | None = scan(body)
    for step in within:
        span = members.get(step) if members else None
        members = scan_inner(body, span) if span else None
    return {name: value(body, span) for name, span in members.items() if name in names} if members else {}


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


# Objects become lists of pairs, so that a member which stands twice hides nothing from `_containers`.
_parser = json.JSONDecoder(object_pairs_hook=list, parse_constant=_refuse)


def _containers(parsed: Any) -> tuple[int, int]:
    """How deep a parsed value is, 0 for a scalar, and how many containers it has."""
    level, depth, count = [parsed] if type(parsed) is list else [], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        members = (inner for container in level for inner in container)
        level = [each for inner in members for each in (inner if type(inner) is tuple else (inner,)) if type(each) is list]
    return depth, count


class _Scanner:
    """Walks one body. Offsets in, offsets out; every way out that is not the end of a value raises `JsonScanError`."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._steps = 0
        self._can_parse = len(body) <= PARSED
        self._text: str | None = None

    def spaces(self, at: int) -> int:
        match = _spaces.match(self._body, at)
        return match.end() if match else at

    def members(self, start: int, depth: int) -> Members:
        """The members of the object that begins at `start`, `depth` levels deep (1 for the outermost)."""
        opening = _opening.match(self._body, start)
        if opening is None:
            raise JsonScanError(f"expected a JSON object at byte {start}")
        spans: dict[str, Span] = {}
        at = opening.end()
        if opening[1]:
            return Members(start, at, spans)
        while True:
            match = _plain.match(self._body, at)
            value_start = match.end() if match is not None else self._key(at)
            name = match[1].decode() if match is not None else self._name(at, value_start)
            if name in spans:
                raise JsonScanError(f"a member appears twice in the JSON object, again at byte {at}")
            if match is not None and match["next"]:
                self._step(at)
                value_start, value_end = match.span(2)
            else:
                value_end = self._parsed(value_start, depth) or self._value(value_start, depth)
                match = self._after(value_end, b"}")
            spans[name] = Span(at, value_start, value_end)
            if match["next"] == b"}":
                return Members(start, match.end("next"), spans)
            at = match.end()

    def _name(self, start: int, value_start: int) -> str:
        """The name at `start`, its escapes resolved: `"mod\\u0065l"` is `model`."""
        try:
            quoted = self._body[start : self._body.rindex(b'"', start, value_start) + 1].decode("utf-8")
        except UnicodeDecodeError as error:
            raise JsonScanError(f"a member's name at byte {start} is not UTF-8") from error
        return str(json.loads(quoted)) if "\\" in quoted else quoted[1:-1]

    def _parsed(self, at: int, depth: int) -> int | None:
        """The offset after the value at `at`, found by the parser; None where that cannot tell, or says no: `_value` knows why.

        Read as Latin-1, a byte is a character; outside of strings JSON has nothing else, and inside nobody looks.
        """
        if not self._can_parse:
            return None
        if self._text is None:
            self._text = self._body.decode("latin-1")
        try:
            parsed, end = _parser.raw_decode(self._text, at)
        except (ValueError, RecursionError):
            self._can_parse = False  # what is wrong once would be parsed in vain again
            return None
        self._step(at)
        if end - at <= _COUNTED:
            brackets = self._body.count(b"[", at, end) + self._body.count(b"{", at, end)
            if depth + brackets <= MAX_DEPTH:
                return end
        deepest, containers = _containers(parsed)
        self._steps += containers
        return end if depth + deepest <= MAX_DEPTH and self._steps <= MAX_STEPS else None

    def _value(self, at: int, depth: int) -> int:
        """The offset after the value at `at`, which stands in a container `depth` levels deep."""
        closers: list[bytes] = []
        while True:
            self._step(at)
            pattern = _shallow if depth + len(closers) + _LEVELS <= MAX_DEPTH else _scalar
            if match := pattern.match(self._body, at):
                at = match.end()
            else:
                at, closer = self._open(at, depth + len(closers) + 1)
                closers.append(closer)
                if self._body[at : at + 1] != closer:
                    at = self._key(at) if closer == b"}" else at
                    continue
                closers.pop()
                at += 1
            at = self._close(at, closers)
            if not closers:
                return at
            at = self._key(at) if closers[-1] == b"}" else at

    def _close(self, at: int, closers: list[bytes]) -> int:
        """After a value: take off every container that ends here; where the next item begins, or, with none left, the end."""
        while closers:
            match = self._after(at, closers[-1])
            if match["next"] == b",":
                return match.end()
            closers.pop()
            at = match.end("next")
        return at

    def _open(self, at: int, depth: int) -> tuple[int, bytes]:
        """Step into the container at `at`: where its content begins, and what closes it."""
        closer = _CLOSER.get(self._body[at : at + 1])
        if closer is None:
            raise JsonScanError(f"expected a JSON value at byte {at}")
        if depth > MAX_DEPTH:
            raise JsonScanError(f"the JSON nests deeper than {MAX_DEPTH} levels at byte {at}")
        return self.spaces(at + 1), closer

    def _after(self, at: int, closer: bytes) -> re.Match[bytes]:
        """What follows a value: a comma or the closer as the group `next`, and the white space after it."""
        match = _follow.match(self._body, at)
        if match is None or match["next"] not in (b",", closer):
            raise JsonScanError(f"expected , or {closer.decode()} in the JSON at byte {self.spaces(at)}")
        return match

    def _key(self, at: int) -> int:
        """The offset of the value whose name and colon begin at `at`."""
        if match := _key.match(self._body, at):
            return match.end()
        raise JsonScanError(f"expected a member's name and a colon in the JSON at byte {at}")

    def _step(self, at: int) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise JsonScanError(f"the JSON holds too many nested values to be read, at byte {at}")
