"""YAML with positions: plain data, and the line of every value in it."""

from __future__ import annotations

from typing import Any

import yaml

from ..errors import Problem, RulesError

Path = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_NODES = 100_000
"""More values than any real file has; aliases that multiply (a "billion laughs") reach it at once."""
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge")}


class Document:
    """A parsed file. `data` is None for an empty one; `line_of` counts from 1."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self._lines: dict[Path, int] = {}
        self._nodes = 0
        self.problems: list[Problem] = []
        if len(text) > MAX_BYTES:
            raise RulesError([Problem(name, 0, f"the file is larger than {MAX_BYTES} bytes")])
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise RulesError([_syntax(name, error)]) from error
        self.data: Any = self._convert(root, ()) if root is not None else None

    def line_of(self, path: Path) -> int:
        """The line of a value, or of the nearest thing around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)

    def has(self, path: Path) -> bool:
        """Whether something stands at `path`."""
        return path in self._lines

    def _convert(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        line = node.start_mark.line + 1
        if self._nodes > MAX_NODES:
            raise RulesError([Problem(self.name, line, f"the file unfolds to more than {MAX_NODES} values")])
        if node.tag not in _TAGS:
            raise RulesError([Problem(self.name, line, f"the tag {node.tag} has no meaning here", "remove it")])
        self._lines.setdefault(path, line)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [self._convert(child, (*path, at)) for at, child in enumerate(node.value)]
            case _:
                return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in result:
                self.problems.append(Problem(self.name, line, f"{key} is written twice", "keep one"))
                continue
            self._lines[(*path, key)] = line
            result[key] = self._convert(value_node, (*path, key))
        return result


def _scalar(node: yaml.Node) -> Any:
    if node.tag.endswith(":timestamp"):
        return node.value
    return yaml.SafeLoader("").construct_object(node)


def _syntax(name: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error)
    return Problem(name, mark.line + 1 if mark else 0, f"this is no YAML: {text}")
