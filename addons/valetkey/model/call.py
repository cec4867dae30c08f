"""One call, from what the agent asked to where the rules send it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from .formats import Format

Door = Literal["proxy", "api"]
Order = Literal["priority", "random", "weighted"]
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

# What is made anew for each call is a named tuple where it has many fields: a frozen dataclass costs a call for each of them.


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call. `source` says how we know: proxy_auth, dummy, agent_key or default."""

    agent: str = "default"
    project: str | None = None
    source: str = "default"


class Call(NamedTuple):
    """What the agent asked, read once from the flow. Holds no credential.

    `host` is the normalised name of the provider (never taken from a Host header alone); `path` is without the query;
    `provider`, `surface` and `endpoint` name the catalogue entry that the destination matched. `model` is as the client wrote it,
    without a `provider/` prefix that chose the provider; `requested_model` keeps it. `headers` has lower-case names
    and no credential carriers (for `match.header`).
    """

    id: str
    time: float
    caller: Caller
    door: Door
    method: str
    scheme: str
    host: str
    port: int
    path: str
    query: str
    provider: str
    surface: str
    endpoint: str
    format: Format
    model: str | None
    requested_model: str | None
    streamed: bool
    headers: Mapping[str, str] = _NO_HEADERS
    client: str = ""
    """The User-Agent's product, for the receipt (`claude-cli/2.1`)."""
    path_model: str | None = None
    """The model as it stands in the path (percent-decoded), when the endpoint has it there."""


class Target(NamedTuple):
    """Where a route may send a call: a provider and the model name to use there (None: as asked)."""

    provider: str
    model: str | None = None

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


class Route(NamedTuple):
    """What the rules chose. `name` is the rule's name, or `default`; edits apply to the JSON body."""

    name: str
    targets: tuple[Target, ...]
    order: Order = "priority"
    weights: tuple[float, ...] = ()
    """One for each target, where `order` is weighted."""
    too_long: tuple[Target, ...] = ()
    exhausted: tuple[Target, ...] = ()
    set_body: tuple[tuple[str, object], ...] = ()
    remove_body: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The gateway says no: an HTTP status, a stable `reason` word for the receipt, and a message that says what to do."""

    status: int
    reason: str
    message: str
    retry_after: float | None = None
    """Seconds, when waiting helps."""
