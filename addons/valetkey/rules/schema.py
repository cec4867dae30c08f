"""The shape of rules.yaml, word by word. The JSON Schema for editors is made from it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from ..model import Address, Format, GatewayRules, Timeouts, Upstream
from . import values

DEFAULTS = GatewayRules()
LITERAL_KEY = "this is a literal key; write a reference instead, env:NAME or file:/path (and change the key: it stood in a file)"


def _text(description: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "number"], "description": description, "examples": list(examples)})


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(values.duration), _text("A duration", "10s", "500ms", "2m")]
Size = Annotated[int, BeforeValidator(values.size), _text("A size", "64 MB")]
Listen = Annotated[Address, BeforeValidator(values.address), _text("host:port on loopback", "127.0.0.1:8080")]
Origin = Annotated[Upstream, BeforeValidator(values.upstream), _text("scheme://host[:port][/prefix]", "http://127.0.0.1:8000")]
Globs = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Dollars = Annotated[Decimal, Field(ge=0)]
Switch = Annotated[bool, WithJsonSchema({"enum": [True, False, "on", "off"]})]


def _reference(value: object) -> object:
    if isinstance(value, str) and not re.match(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$", value):
        raise ValueError(LITERAL_KEY)
    return value


Reference = Annotated[str, BeforeValidator(_reference)]


class Strict(BaseModel):
    """A mapping in which every word must be known."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class TimeoutsEntry(Strict):
    """Time limits of one attempt."""

    connect: Duration = Timeouts().connect
    first_byte: Duration = Timeouts().first_byte
    between_events: Duration = Timeouts().between_events
    hold: Duration = Timeouts().hold
    max_wait: Duration = Timeouts().max_wait


class GatewayEntry(Strict):
    """How the gateway itself behaves."""

    proxy: Listen = DEFAULTS.proxy
    api: Listen = DEFAULTS.api
    ledger: str = DEFAULTS.ledger
    ledger_failure: Literal["open", "closed"] = "open"
    retention: Duration | None = None
    dummy_keys: Globs = DEFAULTS.dummy_keys
    foreign_keys: Literal["replace", "reject"] = "replace"
    no_credential: Literal["refuse", "inject"] = "refuse"
    egress: Literal["passthrough", "deny"] = "passthrough"
    egress_allow: Globs = ()
    deadline: Duration = DEFAULTS.deadline
    timeouts: TimeoutsEntry = TimeoutsEntry()
    headers: Switch = True
    max_body: Size = DEFAULTS.max_body
    log: Literal["text", "json"] = "text"
    archive: str | None = None
    max_flows: Annotated[int, Field(gt=0)] = DEFAULTS.max_flows


class KeyEntry(Strict):
    """One key: a reference, and what goes with it."""

    ref: Reference
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    priority: Annotated[int, Field(ge=1)] = 1
    organization: str | None = None
    project: str | None = None
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")]] = {}
    weight: Annotated[float, Field(gt=0)] | None = None
    concurrency: Annotated[int, Field(gt=0)] | None = None
    budget: str | None = None


def _key(value: object) -> object:
    return {"ref": value} if isinstance(value, str) else value


KeyList = Annotated[
    tuple[Annotated[KeyEntry, BeforeValidator(_key)], ...],
    WithJsonSchema({"type": "array", "items": {"anyOf": [{"type": "string", "pattern": "^(env|file):"}, {"type": "object"}]}}),
]
Keys = Annotated[
    Annotated[KeyList, Tag("list")] | Annotated[Literal["none"], Tag("none")],
    Discriminator(lambda value: "none" if isinstance(value, str) else "list"),
]


class ModelLists(Strict):
    """Which models a provider may be called with; a model on `allow` passes even where `deny` matches."""

    allow: Globs = ()
    deny: Globs = ()


class PriceEntry(Strict):
    """US dollars per million tokens."""

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None


class ProviderEntry(Strict):
    """A provider of the catalogue, or one of your own with `like` and `upstream`."""

    like: str | None = None
    upstream: Origin | None = None
    keys: Keys | None = None
    rotation: Literal["balanced", "sequential", "sticky", "round_robin", "least_busy", "hybrid"] = "balanced"
    models: ModelLists = ModelLists()
    open: Globs = ()
    prices: dict[str, PriceEntry] = {}
    quota_groups: dict[str, Globs] = {}
    concurrency: Annotated[int, Field(gt=0)] | None = None


class MatchEntry(Strict):
    """When a route applies: every given condition holds, within one any pattern suffices."""

    host: Globs = ()
    path: Globs = ()
    format: Globs = ()
    model: Globs = ()
    agent: Globs = ()
    header: dict[str, str] = {}

    @model_validator(mode="after")
    def _known_formats(self) -> MatchEntry:
        for text in self.format:
            if not any(mark in text for mark in "*?[") and text not in set(Format):
                raise ValueError(f"{text} is no format; formats are {', '.join(Format)}")
        return self


class RouteEntry(Strict):
    """One route; the first that matches decides."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    match: MatchEntry = MatchEntry()
    to: Globs = ()
    deny: str | None = None
    order: Literal["priority", "random", "weighted"] = "priority"
    set: dict[str, Any] = {}
    remove: Globs = ()

    @model_validator(mode="after")
    def _does_something(self) -> RouteEntry:
        if self.deny is not None and (self.to or self.set or self.remove):
            raise ValueError("a route denies, or it sends and edits; not both")
        if self.deny is None and not (self.to or self.set or self.remove):
            raise ValueError("a route needs to, deny, set or remove")
        return self


class AgentEntry(Strict):
    """A caller known by name. `key` is sha256:HEX of the credential that it sends."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    key: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    models: Globs = ()
    budget: str | None = None
    rate: str | None = None


class RulesFile(Strict):
    """rules.yaml as a whole."""

    version: Literal[1] = 1
    gateway: GatewayEntry = GatewayEntry()
    providers: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], ProviderEntry] = {}
    routes: tuple[RouteEntry, ...] = ()
    agents: tuple[AgentEntry, ...] = ()
