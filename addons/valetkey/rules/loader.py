"""rules.yaml -> `Rules`, or every reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from ..errors import Problem, RulesError
from ..model import ProviderFacts, Rules
from . import explain
from .build import Builder
from .nodes import Document
from .schema import RulesFile


def load_rules(path: Path | None, catalog: Mapping[str, ProviderFacts]) -> Rules:
    """Load a file; None stands for an empty one. Raises RulesError with all problems found."""
    if path is None:
        return parse_rules("", "(no rules.yaml)", catalog)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RulesError([Problem(str(path), 0, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise RulesError([Problem(str(path), 0, "is not UTF-8 text")]) from error
    return parse_rules(text, str(path), catalog)


def parse_rules(text: str, name: str, catalog: Mapping[str, ProviderFacts]) -> Rules:
    """Parse text; `name` stands for the file in messages. Raises RulesError with all problems found."""
    document = Document(text, name)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise RulesError([Problem(name, 1, "the file is a mapping: version, gateway, providers, routes, agents")])
    if data and "version" not in data:
        document.problems.append(Problem(name, 1, "version is missing", "begin the file with version: 1"))
    try:
        file = RulesFile.model_validate(data)
    except ValidationError as error:
        found = [*document.problems, *explain.problems(document, error)]
        raise RulesError(sorted(found, key=lambda problem: problem.line)) from None
    builder = Builder(document, catalog)
    rules = builder.build(file, tuple(_not_yet(document, file)))
    if found := document.problems + builder.problems:
        raise RulesError(sorted(found, key=lambda problem: problem.line))
    return rules


def _not_yet(document: Document, file: RulesFile) -> Iterator[str]:
    """What the file asks for and this version does not do yet; said, not swallowed."""
    wanted: list[tuple[str | int, ...]] = [
        ("gateway", word) for word in ("deadline", "timeouts") if document.has(("gateway", word))
    ]
    for name, provider in file.providers.items():
        words = ("quota_groups", "concurrency") + (("rotation",) if provider.rotation != "round_robin" else ())
        wanted += [("providers", name, word) for word in words if document.has(("providers", name, word))]
        count = 0 if provider.keys is None or isinstance(provider.keys, str) else len(provider.keys)
        wanted += [
            ("providers", name, "keys", at, word)
            for at in range(count)
            for word in ("budget", "concurrency", "weight")
            if document.has(("providers", name, "keys", at, word))
        ]
    wanted += [("routes", at, "order") for at, route in enumerate(file.routes) if route.order != "priority"]
    wanted += [
        ("agents", at, word)
        for at in range(len(file.agents))
        for word in ("budget", "rate")
        if document.has(("agents", at, word))
    ]
    for path in wanted:
        place = ".".join(str(step) for step in path)
        yield f"{document.name}:{document.line_of(path)}: {place} is accepted but not enforced yet"
