"""rules.yaml -> `Rules`, or every reason why not."""

from __future__ import annotations

import contextlib
import copy
import functools
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import Problem, RulesError
from ..model import ProviderFacts, Rules
from ..secrets import ownership
from . import checks, explain, nodes, values
from .build import Builder
from .checks import Finding
from .nodes import Document
from .notices import notices
from .schema import RulesFile


def load_rules(path: Path | None, catalog: Mapping[str, ProviderFacts]) -> Rules:
    """Load a file; None stands for an empty one. Raises RulesError with all problems found."""
    if path is None:
        return parse_rules("", "(no rules.yaml)", catalog)
    text, exposure = _read(path)
    rules = parse_rules(text, str(path), catalog)
    if exposure is None:
        return rules
    return replace(rules, notices=(*rules.notices, f"{path} {exposure}: whoever changes it says where keys go"))


def _read(path: Path) -> tuple[str, str | None]:
    """The text, and why others could change it, if they could. No more is read than could be rules. Raises RulesError."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(nodes.MAX_BYTES + 1)
    except OSError as error:
        raise RulesError([Problem(str(path), 0, f"cannot be read: {error.strerror}")]) from error
    if len(data) > nodes.MAX_BYTES:
        raise RulesError([Problem(str(path), 0, f"the file is larger than {nodes.MAX_BYTES} bytes")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RulesError([Problem(str(path), 0, "is not UTF-8 text")]) from error
    return text, ownership.foreign_owner(status) or ownership.writable(status)


def parse_rules(text: str, name: str, catalog: Mapping[str, ProviderFacts]) -> Rules:
    """Parse text; `name` stands for the file in messages. Raises RulesError with all problems found.

    Whatever in a message has the look of a key is masked: it may stand anywhere in the file.
    """
    try:
        return _parse(text, name, catalog)
    except RulesError as error:
        raise RulesError([replace(p, text=values.masked(p.text), fix=values.masked(p.fix)) for p in error.problems]) from None


def _parse(text: str, name: str, catalog: Mapping[str, ProviderFacts]) -> Rules:
    document = Document(text, name)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise RulesError([Problem(name, 1, "the file is a mapping: version, gateway, providers, routes, agents")])
    if data and "version" not in data:
        document.problems.append(Problem(name, 1, "version is missing", "begin the file with version: 1"))
    try:
        file = RulesFile.model_validate(data)
    except ValidationError as error:
        complaints = list(explain.complaints(document, error))
        found = [problem for _, problem in complaints]
        raise _error(document, [*found, *_beside(document, data, catalog, [path for path, _ in complaints])]) from None
    rules, findings = _build(document, file, catalog)
    if findings or document.problems:
        raise _error(document, _problems(document, findings))
    return replace(rules, notices=tuple(notices(document, file, rules.providers, catalog)))


def _build(document: Document, file: RulesFile, catalog: Mapping[str, ProviderFacts]) -> tuple[Rules, list[Finding]]:
    builder = Builder(document, catalog)
    rules = builder.build(file)
    return rules, [*builder.findings, *checks.findings(rules)]


def _beside(document: Document, data: Any, catalog: Mapping[str, ProviderFacts], wrong: list[nodes.Path]) -> Iterator[Problem]:
    """What else is wrong, in the entries that the schema found nothing to complain of, so that it need not be found later."""
    entries = {path[:2] for path in wrong}
    rest = _without(data, wrong)
    try:
        file = RulesFile.model_validate(rest)
    except ValidationError:
        return
    _, findings = _build(document, file, catalog)
    for finding in findings:
        # A route that lost a condition would seem to take the calls of the ones below it.
        if finding.path[:2] not in entries and not finding.follows_from_others:
            yield from _problems(document, [finding])


def _without(data: Any, wrong: Iterable[nodes.Path]) -> Any:
    """A copy in which the wrong values are gone; numbered entries stay, or the others would change their number."""
    rest = copy.deepcopy(data)
    for path in filter(None, wrong):
        with contextlib.suppress(KeyError):  # what is around it went already
            place = functools.reduce(operator.getitem, path[:-1], rest)
            if isinstance(place, dict):
                place.pop(path[-1], None)
    return rest


def _problems(document: Document, findings: Iterable[Finding]) -> list[Problem]:
    return [Problem(document.name, document.line_of(f.path), f.text, f.fix) for f in findings]


def _error(document: Document, found: Iterable[Problem]) -> RulesError:
    return RulesError(sorted([*document.problems, *found], key=lambda problem: problem.line))
