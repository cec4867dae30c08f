"""The shape of a provider file. Unknown words are errors; every group of facts names its source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from ..model import Dialect, Format, Outcome, ResetFormat

_TEMPLATE = re.compile(r"(/([A-Za-z0-9_.:-]|\{[a-z_]+\*?\})+)+")
_NO_BRACES = str.maketrans("", "", "{}*")


def _https(value: str) -> str:
    if urlsplit(value).scheme != "https":
        raise ValueError("a source is an https link")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", value):
        raise ValueError("a host is a lower-case name without scheme, port or trailing dot")
    return value


def _template(value: str) -> str:
    if not _TEMPLATE.fullmatch(value):
        raise ValueError("a path begins with / and holds names and {placeholders}")
    return value


def _base(value: str) -> str:
    if value and not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", value):
        raise ValueError("a base is empty or a path without a trailing slash")
    return value


def _unique(what: str, values: Iterable[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {', '.join(twice)} is there twice")


Source = Annotated[str, AfterValidator(_https)]
Header = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
LimitHeader = Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
Seconds = Annotated[float, Field(gt=0, le=31 * 86_400, strict=True)]


class Strict(BaseModel):
    """A mapping in which every word must be known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AuthFacts(Strict):
    """How a credential is carried."""

    header: Header
    prefix: str = ""
    organization_header: Header | None = None
    project_header: Header | None = None
    defaults: dict[Header, str] = {}
    source: Source


class EndpointFacts(Strict):
    """One path that may carry a credential."""

    path: Annotated[str, AfterValidator(_template)]
    name: str | None = None
    methods: tuple[Literal["GET", "POST", "PUT", "PATCH", "DELETE"], ...] = ("POST",)
    format: Format
    model: Literal["body", "path", "none"] = "none"
    stream: Literal["body", "path", "never"] = "never"
    group: str = "inference"
    flavor: str | None = None
    free: StrictBool = False

    @property
    def own_name(self) -> str:
        """The name, which endpoints of several providers share; where none is given it is made of the path."""
        return self.name or self.path.strip("/").replace("/", "_").translate(_NO_BRACES)

    @model_validator(mode="after")
    def _model_in_path(self) -> EndpointFacts:
        if (self.model == "path") != ("{model" in self.path):
            raise ValueError("model: path goes with {model} in the path, and only with it")
        return self


class SurfaceFacts(Strict):
    """A dialect at a base path. `same_as` copies the endpoints of an earlier surface, so names are unique in each."""

    name: str
    dialect: Dialect
    base: Annotated[str, AfterValidator(_base)]
    auth: AuthFacts
    endpoints: tuple[EndpointFacts, ...] = ()
    same_as: str | None = None
    source: Source

    @model_validator(mode="after")
    def _has_endpoints(self) -> SurfaceFacts:
        if bool(self.endpoints) == bool(self.same_as):
            raise ValueError("a surface has endpoints of its own, or same_as; one of the two")
        _unique("endpoint", (e.own_name for e in self.endpoints))
        _unique("method and path", (f"{method} {e.path}" for e in self.endpoints for method in e.methods))
        return self


class ErrorFacts(Strict):
    """One line of the error table."""

    outcome: Outcome
    status: tuple[Annotated[StrictInt, Field(ge=400, le=599)], ...] = ()
    json_: dict[str, str] = Field(default={}, alias="json")
    text: str | None = None
    header: Header | None = None
    without_header: Header | None = None
    rest: Seconds | None = None
    least: Seconds | None = None
    page: StrictBool = False

    @model_validator(mode="after")
    def _says_something(self) -> ErrorFacts:
        if not (self.status or self.json_ or self.text or self.header):
            raise ValueError("a line of the error table needs a status, json, text or header")
        return self


class ErrorTable(Strict):
    """The error table and where it was read."""

    source: Source
    rules: tuple[ErrorFacts, ...]


class LimitEntry(Strict):
    """The headers of one limit."""

    dimension: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    limit: LimitHeader | None = None
    remaining: LimitHeader | None = None
    spent: LimitHeader | None = None
    status: LimitHeader | None = None
    reset: LimitHeader | None = None
    format: ResetFormat | None = None

    @model_validator(mode="after")
    def _says_something(self) -> LimitEntry:
        if not (self.remaining or self.spent or self.status):
            raise ValueError("a limit needs the header of what remains, of the share spent, or of the status")
        if (self.reset is None) != (self.format is None):
            raise ValueError("a reset header goes with its format, and only with it")
        return self


class LimitTable(Strict):
    """The rate-limit headers and where they were read."""

    source: Source
    headers: tuple[LimitEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _dimensions_differ(self) -> LimitTable:
        _unique("dimension", (entry.dimension for entry in self.headers))
        return self


class UsageTable(Strict):
    """Where usage is read and priced; `like: openai/chat` borrows another provider's extractor."""

    extractor: str | None = None
    flavors: dict[str, str] = {}
    prices: str | None = None
    cost_path: str | None = None
    like: str | None = Field(default=None, pattern=r"^[a-z]+/[a-z]+$")
    source: Source


class ProviderFile(Strict):
    """A provider file as a whole."""

    title: str
    hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = ()
    upstream: str
    env: tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], ...] = ()
    keys: StrictBool = True
    default_for: tuple[Dialect, ...] = ()
    include_usage: StrictBool = False
    include_usage_source: Source | None = None
    min_key_length: Annotated[StrictInt, Field(ge=1)] = 16
    surfaces: tuple[SurfaceFacts, ...] = Field(min_length=1)
    usage: UsageTable
    errors: ErrorTable
    limits: LimitTable | None = None

    @model_validator(mode="after")
    def _surfaces_agree(self) -> ProviderFile:
        _unique("surface", (surface.name for surface in self.surfaces))
        for at, surface in enumerate(self.surfaces):
            if surface.same_as is not None and surface.same_as not in [s.name for s in self.surfaces[:at]]:
                raise ValueError(f"surface {surface.name}: same_as: {surface.same_as} is no surface above it")
        return self

    @model_validator(mode="after")
    def _agrees(self) -> ProviderFile:
        parts = urlsplit(self.upstream)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
            raise ValueError("an upstream is https, except on loopback")
        if parts.path or parts.query:
            raise ValueError("an upstream is scheme://host[:port]; paths belong to the surfaces")
        if self.include_usage and self.include_usage_source is None:
            raise ValueError("include_usage needs its source (include_usage_source)")
        if self.keys and not self.env:
            raise ValueError("a provider with keys names the variables that hold them (env)")
        return self
