"""Turn what the schema rejects into problems that name the line, the value and the nearest right word."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import Problem
from . import schema
from .nodes import Document, Path

_SECRET_PLACES = {"keys", "ref"}
_WORDS: tuple[tuple[tuple[str, ...], type[BaseModel]], ...] = (
    ((), schema.RulesFile),
    (("gateway",), schema.GatewayEntry),
    (("gateway", "timeouts"), schema.TimeoutsEntry),
    (("providers", "*"), schema.ProviderEntry),
    (("providers", "*", "keys", "*"), schema.KeyEntry),
    (("providers", "*", "models"), schema.ModelLists),
    (("providers", "*", "prices", "*"), schema.PriceEntry),
    (("routes", "*"), schema.RouteEntry),
    (("routes", "*", "match"), schema.MatchEntry),
    (("agents", "*"), schema.AgentEntry),
)


def problems(document: Document, error: ValidationError) -> Iterator[Problem]:
    """One problem per complaint of the schema, in the file's order."""
    for entry in error.errors(include_url=False):
        path = _path(document, entry["loc"])
        yield _problem(document, path, entry)


def _path(document: Document, loc: tuple[int | str, ...]) -> Path:
    """Where in the file a complaint belongs: the schema's own steps (names of union members) are left out."""
    path: Path = ()
    for step in loc:
        if document.has((*path, step)):
            path = (*path, step)
    return path if not loc or loc[-1] == "[key]" or path[-1:] == (loc[-1],) else (*path, loc[-1])


def _problem(document: Document, path: Path, entry: Any) -> Problem:
    line = document.line_of(path)
    place = ".".join(str(step) for step in path) or "the file"
    word = str(path[-1]) if path else ""
    if entry["type"] == "extra_forbidden":
        known = _known_words(path[:-1])
        near = difflib.get_close_matches(word, known, 1)
        fix = f"did you mean {near[0]}?" if near else f"known words here: {', '.join(known)}"
        return Problem(document.name, line, f"unknown word {word!r} in {'.'.join(map(str, path[:-1])) or 'the file'}", fix)
    if entry["type"] == "missing":
        return Problem(document.name, document.line_of(path[:-1]), f"{place} is missing")
    message = entry["msg"].removeprefix("Value error, ")
    if message == schema.LITERAL_KEY:
        owner = ".".join(str(step) for step in path[:2])
        return Problem(document.name, line, f"{owner}: {message}")
    return Problem(document.name, line, f"{place}: {message}{_shown(path, entry)}", _near_value(entry))


def _shown(path: Path, entry: Any) -> str:
    """The offending value, unless it could be a secret."""
    if _SECRET_PLACES & set(path) or isinstance(entry["input"], dict | list):
        return ""
    return f" (it is {entry['input']!r})"


def _near_value(entry: Any) -> str:
    if entry["type"] != "literal_error":
        return ""
    options = [option.strip(" '\"") for option in entry["ctx"]["expected"].replace(" or ", ", ").split(",")]
    near = difflib.get_close_matches(str(entry["input"]), options, 1)
    return f"did you mean {near[0]}?" if near else ""


def _known_words(parent: Path) -> list[str]:
    for pattern, model in _WORDS:
        if len(pattern) == len(parent) and all(p in ("*", s) for p, s in zip(pattern, parent, strict=True)):
            return sorted(model.model_fields)
    return sorted({name for _, model in _WORDS for name in model.model_fields})
