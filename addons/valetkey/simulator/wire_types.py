"""What passes between the simulator's transports and its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .conversations import Conversation

Fields = list[tuple[str, str]]
Broken = Literal["reset", "eof", "headers_stall"]
"""What can happen to a connection in place of an answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a transport read it. Header names keep their case; `host` is Host or :authority."""

    method: str
    path: str
    host: str
    headers: Fields
    body: bytes
    protocol: str
    sni: str | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a body, after a delay in seconds. In their place `cut` breaks the connection, `hold` waits for the client
    to leave."""

    data: bytes = b""
    delay: float = 0.0
    cut: bool = False
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """An answer to be played. `delay` is waited before the head; `whole` bodies get a content-length.

    `broken` is what happens in place of the answer. `trouble` names what goes wrong with it, beyond what its status tells.
    `sent` is called when the last byte has been written. `socket` is what a 101 goes over to.
    """

    status: int
    headers: Fields
    pieces: Iterable[Piece]
    whole: bool = True
    delay: float = 0.0
    broken: Broken | None = None
    trouble: str | None = None
    sent: Callable[[], None] = lambda: None
    socket: Conversation | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the simulator got: the proof of what reached the provider."""

    time: float
    host: str
    sni: str | None
    protocol: str
    method: str
    path: str
    headers: Fields
    body: bytes
    credentials: list[str] = field(default_factory=list)
