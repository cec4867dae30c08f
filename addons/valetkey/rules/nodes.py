"""YAML with positions: plain data, and the line of every value in it."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer

from ..errors import Problem, RulesError

Path = tuple[str | int, ...]
MAX_BYTES = 2_000_000
"""Enough for ten thousand routes."""
MAX_NODES = 200_000
"""More values than any real file has; aliases that multiply (a "billion laughs") reach it at once."""
MAX_DEPTH = 32
"""Deeper than any real file; an alias inside the value that it names would go on for ever."""


def _tags(*names: str) -> frozenset[str]:
    return frozenset(f"tag:yaml.org,2002:{name}" for name in names)


_TEXT = _tags("str", "timestamp", "merge", "value")
"""What stays as it is written; a date too, because no word of the rules takes one."""
_TAGS = {
    yaml.MappingNode: _tags("map"),
    yaml.SequenceNode: _tags("seq"),
    yaml.ScalarNode: _TEXT | _tags("int", "float", "bool", "null"),
}


class Document:
    """A parsed file. `data` is None for an empty one; `line_of` counts from 1.

    Raises RulesError for what cannot be read at all; `problems` holds what is wrong with the rest.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self._lines: dict[Path, int] = {}
        self._nodes = 0
        self.problems: list[Problem] = []
        if len(text) > MAX_BYTES:
            raise RulesError([Problem(name, 0, f"the file is larger than {MAX_BYTES} bytes")])
        root = _compose(text, name)
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
        if len(path) > MAX_DEPTH:
            raise RulesError([_too_deep(self.name, line)])
        self._check_tag(node)
        self._lines.setdefault(path, line)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [self._convert(child, (*path, at)) for at, child in enumerate(node.value)]
            case _:
                return self._scalar(node)

    def _check_tag(self, node: yaml.Node) -> None:
        if node.tag not in _TAGS[type(node)]:
            line = node.start_mark.line + 1
            raise RulesError([Problem(self.name, line, f"the tag {node.tag} has no meaning here", "remove it")])

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._key(key_node, line)
            if key is None:
                continue
            if key in result:
                self.problems.append(Problem(self.name, line, f"{key} is written twice", "keep one"))
                continue
            self._lines[(*path, key)] = line
            result[key] = self._convert(value_node, (*path, key))
        return result

    def _key(self, node: yaml.Node, line: int) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self.problems.append(Problem(self.name, line, "a list or mapping stands where a word belongs"))
            return None
        if node.tag == "tag:yaml.org,2002:merge":
            self.problems.append(Problem(self.name, line, "merging (<<) is not supported", "write the words out"))
            return None
        self._check_tag(node)
        return str(node.value)

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag in _TEXT:
            return node.value
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (ValueError, KeyError, IndexError):
            # Only explicit tags (`!!int x`) and absurd numbers get here.
            kind = node.tag.rpartition(":")[2]
            self.problems.append(Problem(self.name, node.start_mark.line + 1, f"this is no {kind}", "put quotes around text"))
            return None


def _loader() -> type[yaml.SafeLoader | yaml.CSafeLoader]:
    if not yaml.__with_libyaml__:
        return yaml.SafeLoader

    class Loader(Composer, yaml.CSafeLoader):
        """Parses in C, four times as fast. Composes in Python, where nesting without end is an exception and no crash."""

        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            Composer.__init__(self)

    return Loader


_LOADER = _loader()


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        return _composed(text)
    except yaml.YAMLError as error:
        raise RulesError([_syntax(name, error)]) from None  # its text quotes the file
    except RecursionError:
        raise RulesError([_too_deep(name, 0)]) from None


def _composed(text: str) -> yaml.Node | None:
    """What the parser in C does not take is shown to the one in Python, which says better what is wrong."""
    try:
        return yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, UnicodeEncodeError):
        return yaml.compose(text, Loader=yaml.SafeLoader)


def _too_deep(name: str, line: int) -> Problem:
    return Problem(name, line, f"the file is nested deeper than {MAX_DEPTH} levels")


def _syntax(name: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error)
    return Problem(name, mark.line + 1 if mark else 0, f"this is no YAML: {text}")
