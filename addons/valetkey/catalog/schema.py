"""The shape of a provider file. Unknown words are errors; every group of facts names its source."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..model import Dialect, Format, Outcome

_TEMPLATE = re.compile(r"(/([A-Za-z0-9_.:-]|\{[a-z_]+\*?\})+)+")


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


Source = Annotated[str, AfterValidator(_https)]
Header = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]


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
    free: bool = False

    @model_validator(mode="after")
    def _model_in_path(self) -> EndpointFacts:
        if (self.model == "path") != ("{model" in self.path):
            raise ValueError("model: path goes with {model} in the path, and only with it")
        return self


class SurfaceFacts(Strict):
    """A dialect at a base path. `same_as` copies the endpoints of an earlier surface."""

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
        return self


class ErrorFacts(Strict):
    """One line of the error table."""

    outcome: Outcome
    status: tuple[int, ...] = ()
    json_: dict[str, str] = Field(default={}, alias="json")
    text: str | None = None
    header: Header | None = None
    without_header: Header | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ErrorFacts:
        if not (self.status or self.json_ or self.text or self.header):
            raise ValueError("a line of the error table needs a status, json, text or header")
        return self


class ErrorTable(Strict):
    """The error table and where it was read."""

    source: Source
    rules: tuple[ErrorFacts, ...]


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
    keys: bool = True
    default_for: tuple[Dialect, ...] = ()
    include_usage: bool = False
    include_usage_source: Source | None = None
    min_key_length: int = 16
    surfaces: tuple[SurfaceFacts, ...] = Field(min_length=1)
    usage: UsageTable
    errors: ErrorTable

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
