"""The shape of a provider file. Unknown words are errors; every group of facts names its source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, model_validator

from ..model import Dialect, Format, Outcome, ResetFormat

_TEMPLATE = re.compile(r"(/([A-Za-z0-9_.:-]|\{[a-z_]+\*?\})+)+")
_NO_BRACES = str.maketrans("", "", "{}*")


def _https(value: str) -> str:
    if urlsplit(value).scheme != "https":
        raise ValueError("a source is an https link")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"(\{region\})?[a-z0-9-]+(\.([a-z0-9-]+|\{region\}))+", value):
        raise ValueError("a host is a lower-case name without scheme, port or trailing dot")
    return value


def _tenants(value: str) -> str:
    if not re.fullmatch(r"\*(\.[a-z0-9-]+){2,}", value):
        raise ValueError("hosts of tenants are *. and the domain below which each has a name")
    return value


def _template(value: str) -> str:
    if not _TEMPLATE.fullmatch(value):
        raise ValueError("a path begins with / and holds names and {placeholders}")
    return value


def _base(value: str) -> str:
    if value and not re.fullmatch(r"(/([A-Za-z0-9_.-]+|\{[a-z_]+\}))+", value):
        raise ValueError("a base is empty or a path without a trailing slash; a segment may be a {placeholder}")
    return value


def _unique(what: str, values: Iterable[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {', '.join(twice)} is there twice")


Source = Annotated[str, AfterValidator(_https)]
Header = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
LimitHeader = Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
DottedPath = Annotated[str, Field(pattern=r"^[A-Za-z_*][A-Za-z0-9_.*]*$")]
Count = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Positive = Annotated[Decimal, BeforeValidator(str), Field(gt=0)]
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


class ResultsFacts(Strict):
    """Answers of other calls inside an answer."""

    documents: tuple[DottedPath, ...] = ()
    flavors: tuple[str, ...] = Field(min_length=1)
    lines: StrictBool = False
    batch: StrictBool = False
    format: Format | None = None
    when: DottedPath | None = None
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
    results: ResultsFacts | None = None
    deferred: DottedPath | None = None

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
    doubled: StrictBool = False
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
    header_begins: str = ""
    without_header: Header | None = None
    rest: Seconds | None = None
    least: Seconds | None = None
    page: StrictBool = False

    @model_validator(mode="after")
    def _says_something(self) -> ErrorFacts:
        if not (self.status or self.json_ or self.text or self.header):
            raise ValueError("a line of the error table needs a status, json, text or header")
        if self.header_begins and self.header is None:
            raise ValueError("header_begins goes with header, and only with it")
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


class GuessFacts(Strict):
    """A count out of a number that is known."""

    place: DottedPath
    per: Positive


class UnitPriceFacts(Strict):
    """US dollars for one of each count."""

    models: tuple[str, ...] = Field(min_length=1)
    per: dict[Count, Positive] = Field(min_length=1)
    when: dict[str, str] = {}


class UnitPriceTable(Strict):
    """Prices that `genai-prices` does not have, and where they were read."""

    source: Source
    list: tuple[UnitPriceFacts, ...] = Field(min_length=1)


class BatchPrice(Strict):
    """What a batch costs, times the usual price."""

    factor: Positive
    source: Source


class UsageTable(Strict):
    """Where usage is read and priced; `like: openai/chat` borrows another provider's extractor."""

    extractor: str | None = None
    flavors: dict[str, str] = {}
    prices: str | None = None
    cost_path: str | None = None
    like: str | None = Field(default=None, pattern=r"^[a-z]+/[a-z]+$")
    counts: dict[str, dict[Count, tuple[DottedPath, ...]]] = {}
    guesses: dict[str, tuple[dict[Count, GuessFacts], ...]] = {}
    unit_prices: UnitPriceTable | None = None
    batch: BatchPrice | None = None
    source: Source


class ProviderFile(Strict):
    """A provider file as a whole. Without an `upstream` the rules have to name one."""

    title: str
    hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = ()
    regions: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], ...] = ()
    regions_source: Source | None = None
    tenant_hosts: tuple[Annotated[str, AfterValidator(_tenants)], ...] = ()
    upstream: str | None = None
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

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """The hosts by name: `{region}` is each of the regions. No glob, for `NAME.s3.amazonaws.com` is anybody's bucket."""
        regions = self.regions or ("",)
        return tuple(host.replace("{region}", region) for host in self.hosts for region in regions)

    @model_validator(mode="after")
    def _regions_agree(self) -> ProviderFile:
        _unique("region", self.regions)
        if bool(self.regions) != any("{region}" in host for host in self.hosts):
            raise ValueError("regions go with {region} in the hosts, and only with it")
        if self.regions and not all("{region}" in host for host in self.hosts):
            raise ValueError("with regions, every host has {region}")
        if bool(self.regions) != (self.regions_source is not None):
            raise ValueError("regions need their source (regions_source)")
        return self

    @model_validator(mode="after")
    def _agrees(self) -> ProviderFile:
        self._check_upstream()
        if self.include_usage and self.include_usage_source is None:
            raise ValueError("include_usage needs its source (include_usage_source)")
        if self.keys and not self.env:
            raise ValueError("a provider with keys names the variables that hold them (env)")
        return self

    def _check_upstream(self) -> None:
        if self.upstream is None:
            if self.hosts:
                raise ValueError("a provider with hosts of its own has an upstream")
            return
        if self.tenant_hosts:
            raise ValueError("hosts that anybody can register go with no upstream: the rules name the one that keys are for")
        parts = urlsplit(self.upstream)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
            raise ValueError("an upstream is https, except on loopback")
        if parts.path or parts.query:
            raise ValueError("an upstream is scheme://host[:port]; paths belong to the surfaces")
