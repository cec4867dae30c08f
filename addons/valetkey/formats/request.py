"""What routing needs from a request's body, without decoding the body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .jsonscan import JsonScanError, Members, scan, scan_inner, value
from .multipart import FormReader, read_form

_ROUTING = frozenset({"model", "stream", "stream_options"})
_FORM_FIELDS = ("model", "stream", "n", "size", "quality")
_CHARSETS = re.compile(r"charset\s*=\s*+[\"']?+(?!utf-?8|us-ascii|ascii|latin|iso-8859-|windows-12)", re.IGNORECASE)
"""Charsets in which the bytes of a name could be another name, as in UTF-7."""
_LONGEST = 40
"""Characters of a size or a quality."""
_MOST_OTHERS = 64
"""Most models that a call may name besides its own: each is judged."""
_MOST = 1000
"""No call asks for more images."""


class RequestFacts(NamedTuple):
    """The members that decide: `include_usage` is what `stream_options` says, None where it says nothing.

    `others` are those in `models`, which OpenRouter calls where the first one fails.
    https://openrouter.ai/docs/guides/routing/model-fallbacks
    """

    model: str | None
    stream: bool
    include_usage: bool | None
    members: Members
    others: tuple[str, ...] = ()


def read_request(body: bytes, content_type: str = "") -> RequestFacts:
    """Read a JSON request. Raises `JsonScanError` for anything that two parsers could read differently."""
    if content_type != "application/json" and _CHARSETS.search(content_type):
        raise JsonScanError("the content type names a charset that is not UTF-8; send the JSON as UTF-8")
    members = scan(body)
    # Servers written in Go match names without regard to case: `Model` there overrides `model`.
    if not _ROUTING.isdisjoint(map(str.casefold, members.spans.keys() - _ROUTING)):
        name = next(name for name in members if name not in _ROUTING and name.casefold() in _ROUTING)
        raise JsonScanError(f"a member at byte {members[name].key_start} is called {name.casefold()!r} in another case")
    spans = members.spans
    model = value(body, spans["model"]) if "model" in spans else None
    if model is not None and not isinstance(model, str):
        raise JsonScanError("the member model is no string")
    _check_model(model)
    others = _others(body, members) if "models" in spans else ()
    stream = "stream" in spans and value(body, spans["stream"]) is True
    usage = _include_usage(body, members) if "stream_options" in spans else None
    return RequestFacts(model, stream, usage, members, others)


@dataclass(frozen=True, slots=True)
class FormFacts:
    """The same of a multipart form (audio, images). `reader` knows where its fields stand."""

    model: str | None
    stream: bool
    reader: FormReader


def read_form_request(body: bytes, content_type: str) -> FormFacts:
    """Read a multipart form. Raises `JsonScanError` for anything that two servers could read differently."""
    reader = read_form(body, content_type, _FORM_FIELDS)
    found = reader.fields.get("model")
    model = found.value.decode("utf-8", "surrogateescape").strip() if found else None
    _check_model(model)
    return FormFacts(model, _text(reader, "stream").lower() == "true", reader)


def asked_in_json(body: bytes, facts: RequestFacts) -> dict[str, int | str]:
    """What a price may depend on, by the words of the catalogue: `characters` (of `input`), `n`, `size`, `quality`."""
    text = _value(body, facts.members, "input")
    words = {name: _value(body, facts.members, name) for name in ("n", "size", "quality")}
    return _asked(words) | ({"characters": len(text)} if isinstance(text, str) else {})


def asked_in_form(facts: FormFacts) -> dict[str, int | str]:
    """The same of a form; `bytes` is the size of its files."""
    reader, count = facts.reader, _text(facts.reader, "n")
    words = {"n": int(count) if count.isdecimal() and len(count) < 5 else None}
    return _asked(words | {name: _text(reader, name) for name in ("size", "quality")}) | {"bytes": reader.file_bytes}


def _asked(words: Mapping[str, object]) -> dict[str, int | str]:
    count = words.get("n")
    found: dict[str, int | str] = {"n": count if type(count) is int and 0 < count <= _MOST else 1}
    texts = {name: words.get(name) for name in ("size", "quality")}
    return found | {name: text for name, text in texts.items() if isinstance(text, str) and 0 < len(text) <= _LONGEST}


def _text(reader: FormReader, name: str) -> str:
    found = reader.fields.get(name)
    return found.value.decode("utf-8", "replace").strip() if found else ""


def _check_model(model: str | None) -> None:
    """Half a surrogate pair is no text, and what ends a line or a string may end the name for one server and not for another."""
    if model is not None and not model.isprintable():
        raise JsonScanError("the model's name holds a character that cannot be printed")


def _others(body: bytes, members: Members) -> tuple[str, ...]:
    found = _value(body, members, "models")
    if not isinstance(found, list):
        return ()
    if len(found) > _MOST_OTHERS or not all(isinstance(model, str) for model in found):
        raise JsonScanError(f"the member models is no list of at most {_MOST_OTHERS} names")
    for model in found:
        _check_model(model)
    return tuple(found)


def _value(body: bytes, members: Members, name: str) -> object:
    span = members.spans.get(name)
    return None if span is None else value(body, span)


def _include_usage(body: bytes, members: Members) -> bool | None:
    inner = scan_inner(body, members.spans["stream_options"])
    found = _value(body, inner, "include_usage") if inner else None
    return found if isinstance(found, bool) else None
