"""Turn what the schema rejects into problems that name the line, the value and the nearest right word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import Problem
from . import schema
from .nodes import Document, Path

_SECRET_PLACES = {"keys", "ref", "key", "header", "headers", "upstream", "ledger"}
_TOKEN = re.compile(r"[A-Za-z0-9+/=_-]{16,}")
"""What has the look of a key, wherever it stands: no word of the rules is that long."""
_PLAIN = {
    "tuple_type": "a list is meant here",
    "dict_type": "a mapping (word: value) is meant here",
    "model_type": "a mapping (word: value) is meant here",
    "string_type": "text is meant here; put quotes around it",
}
"""The schema's words for Python programmers, in words for everybody."""
_WORDS: tuple[tuple[tuple[str, ...], type[BaseModel]], ...] = (
    ((), schema.RulesFile),
    (("gateway",), schema.GatewayEntry),
    (("gateway", "timeouts"), schema.TimeoutsEntry),
    (("providers", "*"), schema.ProviderEntry),
    (("providers", "*", "keys", "*"), schema.KeyEntry),
    (("providers", "*", "models"), schema.ModelLists),
    (("providers", "*", "prices", "*"), schema.PriceEntry),
    (("providers", "*", "concurrency"), schema.ConcurrencyEntry),
    (("providers", "*", "window"), schema.WindowEntry),
    (("routes", "*"), schema.RouteEntry),
    (("routes", "*", "match"), schema.MatchEntry),
    (("routes", "*", "fallback"), schema.FallbackEntry),
    (("agents", "*"), schema.AgentEntry),
)


def complaints(document: Document, error: ValidationError) -> Iterator[tuple[Path, Problem]]:
    """What the schema complains of and where, in its order."""
    for entry in error.errors(include_url=False):
        path = _path(document, entry)
        yield path, _problem(document, path, entry)


def near(word: str, known: Iterable[str]) -> str:
    """`did you mean …?`, empty when nothing is near."""
    found = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {found[0]}?" if found else ""


def _path(document: Document, entry: Any) -> Path:
    """Where in the file a complaint belongs: the schema's own steps (names of union members) are left out."""
    path: Path = ()
    for step in entry["loc"]:
        if document.has((*path, step)):
            path = (*path, step)
    return (*path, entry["loc"][-1]) if entry["type"] == "missing" else path


def _problem(document: Document, path: Path, entry: Any) -> Problem:
    line, place = document.line_of(path), _place(path)
    if entry["type"] == "extra_forbidden":
        return Problem(document.name, line, *_unknown(path))
    if entry["type"] == "missing":
        return Problem(document.name, line, f"{place} is missing")
    message = _PLAIN.get(entry["type"]) or entry["msg"].removeprefix("Value error, ")
    if message == schema.LITERAL_KEY:
        return Problem(document.name, line, f"{_place(path[:2])}: {message}")
    return Problem(document.name, line, f"{place}: {message}{_shown(path, entry['input'])}", _near_value(entry))


def _place(path: Path) -> str:
    return ".".join(str(step) for step in path) or "the file"


def _unknown(path: Path) -> tuple[str, str]:
    word, known = str(path[-1]), _known_words(path[:-1])
    shown = "" if _TOKEN.search(word) else f" {word!r}"
    return f"unknown word{shown} in {_place(path[:-1])}", near(word, known) or f"known words here: {', '.join(known)}"


def _shown(path: Path, value: object) -> str:
    """The offending value, unless it could be a secret."""
    hidden = _SECRET_PLACES & set(path) or isinstance(value, dict | list | BaseModel)
    return "" if hidden or _TOKEN.search(str(value)) else f" (it is {value!r})"


def _near_value(entry: Any) -> str:
    if entry["type"] != "literal_error":
        return ""
    options = [option.strip(" '\"") for option in entry["ctx"]["expected"].replace(" or ", ", ").split(",")]
    return near(str(entry["input"]), options)


def _known_words(parent: Path) -> list[str]:
    for pattern, model in _WORDS:
        if len(pattern) == len(parent) and all(p in ("*", s) for p, s in zip(pattern, parent, strict=True)):
            return sorted(model.model_fields)
    return sorted({name for _, model in _WORDS for name in model.model_fields})
