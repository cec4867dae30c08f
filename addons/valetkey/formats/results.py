"""Answers inside an answer: the results of a batch, line by line or in one document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..model import Format
from .decode import DecodeError
from .lines import LineParser
from .usage import BODY_LIMIT, UsageTap

LINE_LIMIT = 32 * 1024 * 1024
"""Largest line that is read, in bytes: as large as the largest event of a stream."""


class ResultsTap(UsageTap):
    """Fed with a body as it passes; gives each answer in it, with its number, to `take` as soon as it is there.

    `paths` are the dotted paths to the answers, of which the first that leads to any counts: in every line with `lines`, else in
    the document as a whole. Never raises, as its parent; with lines the memory does not grow with the body.
    """

    def __init__(
        self,
        paths: Sequence[str],
        take: Callable[[int, Mapping[str, Any]], None],
        content_encoding: str | None = None,
        limit: int = BODY_LIMIT,
        *,
        lines: bool = True,
    ) -> None:
        super().__init__(Format.OPENAI_OTHER, None, content_encoding, limit)
        self._paths, self._give = paths, take
        self._lines = LineParser(LINE_LIMIT) if lines else None
        self._body = bytearray()
        self._number = 0
        self._has_ended = False

    @property
    def complete(self) -> bool:
        """Whether the answer was seen to its end."""
        return self._has_ended

    def feed(self, data: bytes) -> None:
        """Take a chunk as it came over the wire."""
        if self.problem is not None or self._decoder is None:
            return
        self.saw_content = self.saw_content or bool(data)
        try:
            for piece in self._decoder.feed_iter(data):
                self._read(piece)
        except DecodeError as error:
            self.problem = str(error)

    def end(self) -> None:
        """The answer is over, or nothing more will be seen of it."""
        if self.problem is not None or self._decoder is None or self._has_ended:
            return
        try:
            self._read(self._decoder.end())
        except DecodeError as error:
            self.problem = str(error)
        if self._lines is None:
            self._found(bytes(self._body))
            self._body.clear()
        else:
            for _, line in self._lines.end():
                self._found(line)
            if self._lines.oversized:
                self.problem = self.problem or f"a line is larger than {LINE_LIMIT} bytes"
        self._has_ended = self.problem is None

    def _read(self, data: bytes) -> None:
        if self._lines is None:
            self._body += data
            if len(self._body) > self._limit:
                self.problem = f"the answer is larger than {self._limit} bytes"
                self._body.clear()
            return
        for _, line in self._lines.feed(data):
            self._found(line)

    def _found(self, text: bytes) -> None:
        if not text:
            return
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return  # no result; a file may hold anything
        for answer in inside(document, self._paths):
            self.events += 1
            self._give(self._number, answer)
            self._number += 1


def inside(document: Any, paths: Sequence[str]) -> list[Mapping[str, Any]]:
    """The objects at the first of some dotted paths that leads to any; `*` is any element of a list."""
    for path in paths:
        found = [each for each in _walk(document, path.split(".") if path else []) if isinstance(each, Mapping)]
        if found:
            return found
    return []


def _walk(value: Any, steps: list[str]) -> Iterator[Any]:
    if not steps:
        yield value
    elif steps[0] == "*" and isinstance(value, list):
        for each in value:
            yield from _walk(each, steps[1:])
    elif isinstance(value, Mapping) and steps[0] in value:
        yield from _walk(value[steps[0]], steps[1:])
