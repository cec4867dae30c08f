"""Failing on command: what can go wrong, when, and how it is asked for.

A fault is asked for by a request's own header (`x-simulate: status=429, slow=0.5`), by a person (`valetkey simulate --fault
host=api.openai.com,status=429,times=2`) or over HTTP (`POST /_simulator/faults`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from .wire_types import Request

HEADER = "x-simulate"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. `host`, `path`, `model` and `key` must occur in the request; `times` None means always.

    `status` answers with that error; `slow` waits seconds before the head; `stall` stops after so many events, `cut` breaks
    the connection there; `error_first` sends an error as the first event of a 200 stream; `malformed` sends nonsense; `empty`
    nothing; `echo` reflects the credential; `encode` compresses; `words` sets the length of the answer.
    """

    host: str | None = None
    path: str | None = None
    model: str | None = None
    key: str | None = None
    times: int | None = None
    status: int | None = None
    body: str | None = None
    header: str | None = None
    kind: str | None = None
    slow: float = 0.0
    stall: int | None = None
    cut: int | None = None
    error_first: bool = False
    malformed: bool = False
    empty: bool = False
    echo: bool = False
    encode: str | None = None
    words: int | None = None
    delay: float = 0.0

    def matches(self, request: Request, model: str) -> bool:
        """Whether the fault is meant for this request."""
        credentials = " ".join(value for _, value in request.headers)
        wanted = ((self.host, request.host), (self.path, request.path), (self.model, model), (self.key, credentials))
        return all(word is None or word in place for word, place in wanted)


_TYPES: dict[str, Any] = {
    field.name: {"int | None": int, "float": float, "bool": bool}.get(str(field.type), str) for field in fields(Fault)
}
_BARE = {"malformed", "empty", "echo", "error_first"}


def parse_fault(text: str) -> Fault:
    """`status=429,host=api.openai.com` as a fault. Raises ValueError that names the word."""
    values: dict[str, Any] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, separator, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if name not in _TYPES:
            raise ValueError(f"{name!r} is no fault; known are {', '.join(sorted(_TYPES))}")
        values[name] = _value(name, value.strip() if separator else None)
    return Fault(**values)


def _value(name: str, value: str | None) -> Any:
    if _TYPES[name] is bool:
        return value is None or value.lower() in ("1", "true", "yes", "on")
    if value is None:
        if name == "encode":
            return "gzip"
        raise ValueError(f"{name} needs a value: {name}=…")
    try:
        return _TYPES[name](value)
    except ValueError:
        raise ValueError(f"{name}={value}: this is no {_TYPES[name].__name__}") from None


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def append(self, fault: Fault) -> None:
        """Put a fault in force."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Let everything go well again."""
        self._faults.clear()

    def take(self, request: Request, model: str) -> Fault:
        """The fault for a request: its own header's, else the first in force that matches, counted down; else none."""
        own = request.header(HEADER)
        if own:
            return parse_fault(own)
        for at, fault in enumerate(self._faults):
            if not fault.matches(request, model):
                continue
            if fault.times is not None:
                if fault.times <= 1:
                    del self._faults[at]
                else:
                    self._faults[at] = replace(fault, times=fault.times - 1)
            return fault
        return Fault()
