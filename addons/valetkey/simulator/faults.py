"""Failing on command: what can go wrong, when, and how it is asked for.

A fault is asked for by a request's own header (`x-simulate: status=429, slow=0.5`), by a person (`valetkey simulate --fault
host=api.openai.com,status=429,times=2`) or over HTTP (`POST /_simulator/faults`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

from . import errors
from .wire_types import Broken, Request

HEADER = "x-simulate"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. `host`, `path`, `model` and `key` must occur in the request; `times` None means always.

    `chance` (0 to 1) is the share of these requests that it happens to. In place of an answer: `reset` breaks the connection,
    `eof` ends it, `headers_stall` keeps it open and silent (over HTTP/2 `reset` means the stream only). `status` answers with
    that error or `kind` (rate_limit, overloaded, server, …) with the provider's words for it, `retry_after_ms` says when to come
    back; `error_whole` sends the error (of that `kind`) as the body of a 200, `error_first` as the first event of a 200 stream.
    `first_stall` sends the head of a stream and then nothing, `noise` so many pieces that mean nothing before its content.
    `slow` waits seconds before the head, `delay` between events; `stall` stops after so many events, `cut` breaks the
    connection there; `malformed` sends nonsense; `empty` nothing; `echo` reflects the credential; `encode` compresses; `words`
    sets the length of the answer. What is about streams leaves whole answers alone.
    """

    host: str | None = None
    path: str | None = None
    model: str | None = None
    key: str | None = None
    times: int | None = None
    chance: float = 1.0
    status: int | None = None
    body: str | None = None
    header: str | None = None
    kind: str | None = None
    retry_after_ms: int | None = None
    reset: bool = False
    eof: bool = False
    headers_stall: bool = False
    first_stall: bool = False
    noise: int | None = None
    slow: float = 0.0
    stall: int | None = None
    cut: int | None = None
    error_first: bool = False
    error_whole: bool = False
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

    @property
    def broken(self) -> Broken | None:
        """What happens to the connection in place of an answer."""
        if self.reset or self.eof:
            return "reset" if self.reset else "eof"
        return "headers_stall" if self.headers_stall else None


_TYPES: dict[str, Any] = {
    field.name: {"int | None": int, "float": float, "bool": bool}.get(str(field.type), str) for field in fields(Fault)
}


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
    if name == "kind" and value not in errors.NAMES:
        raise ValueError(f"kind={value}: known are {', '.join(sorted(errors.NAMES))}")
    try:
        number = _TYPES[name](value)
    except ValueError:
        raise ValueError(f"{name}={value}: this is no {_TYPES[name].__name__}") from None
    if name == "chance" and not 0 <= number <= 1:
        raise ValueError(f"chance={value}: a share is from 0 to 1")
    return number


class Faults:
    """The faults in force. The same `seed` and the same requests in the same order draw the same faults."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._random = Random(seed)  # noqa: S311 - not for secrets; it has to repeat

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def append(self, fault: Fault) -> None:
        """Put a fault in force."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Let everything go well again."""
        self._faults.clear()

    def take(self, request: Request, model: str) -> Fault:
        """The fault for a request: its own header's, else the first in force that matches, each if its chance strikes; else none.

        A fault with `times` is counted down. Raises ValueError for a header that is no fault.
        """
        own = request.header(HEADER)
        if own and self._strikes(fault := parse_fault(own)):
            return fault
        for at, fault in enumerate(self._faults):
            if fault.matches(request, model) and self._strikes(fault):
                self._count_down(at)
                return fault
        return Fault()

    def _strikes(self, fault: Fault) -> bool:
        return fault.chance >= 1 or self._random.random() < fault.chance

    def _count_down(self, at: int) -> None:
        fault = self._faults[at]
        if fault.times is None:
            return
        if fault.times <= 1:
            del self._faults[at]
        else:
            self._faults[at] = replace(fault, times=fault.times - 1)
