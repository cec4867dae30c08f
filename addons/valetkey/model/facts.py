"""What the catalogue knows about a provider, parsed and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .formats import Dialect, Format
from .outcome import Outcome

ModelPlace = Literal["body", "path", "none"]
StreamPlace = Literal["body", "path", "never"]
ResetFormat = Literal["duration", "seconds", "rfc3339", "epoch", "epoch_ms"]


@dataclass(frozen=True, slots=True)
class Auth:
    """How a credential is carried: `header: prefix + key`. Organisation and project headers are None where unknown.

    `defaults` are headers that the provider requires and that are added only when the client sent none
    (`anthropic-version`).
    """

    header: str
    prefix: str = ""
    organization_header: str | None = None
    project_header: str | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path under a surface's base that may carry a credential.

    `path` is a template (`/models/{model}:generateContent`); one `{name}` matches one path segment, `{name*}` the rest.
    `group` other than `inference` must be opened by the rules (`providers.openai.open: [files]`).
    `flavor` names the usage extractor (`chat`), None when the endpoint bears no usage. `free` endpoints cost nothing.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    format: Format
    model: ModelPlace = "body"
    stream: StreamPlace = "never"
    group: str = "inference"
    flavor: str | None = None
    free: bool = False


@dataclass(frozen=True, slots=True)
class Surface:
    """A dialect at a base path (`/v1`), with its own authentication and endpoints."""

    name: str
    dialect: Dialect
    base: str
    auth: Auth
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One line of an error table; every given condition must hold, the first line that holds wins.

    `json` maps a dotted path in the body (`error.code`, `error.details.0.reason`; `*` is any element of a list) to an exact
    value; `text` is searched case-insensitively in the body; `header` must be present, `without_header` absent.

    `rest`: seconds that a key rests where the provider states nothing (None: the outcome's own). `least`: seconds that it
    rests whatever the provider states (Gemini states the delay of the minute when the day is used up). `page`: the first
    https link of the body leads to where a person must act.
    """

    outcome: Outcome
    statuses: tuple[int, ...] = ()
    json: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    header: str | None = None
    without_header: str | None = None
    rest: float | None = None
    least: float | None = None
    page: bool = False


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """The headers (lower-case names) in which a provider tells of one of its limits (`requests`, `input-tokens`).

    `limit` and `remaining` carry counts, `spent` the share that is used (0..1), `status` the word `rejected` when nothing
    is left, `reset` the moment or the seconds until there is more, written as `format` says.
    """

    dimension: str
    limit: str | None = None
    remaining: str | None = None
    spent: str | None = None
    status: str | None = None
    reset: str | None = None
    format: ResetFormat | None = None


@dataclass(frozen=True, slots=True)
class UsageFacts:
    """Where usage extraction and prices come from: a `genai-prices` provider id for each.

    `cost_path` is the dotted path of a cost in US dollars that the provider itself reports in the body
    (OpenRouter: `usage.cost`).
    """

    extractor: str | None = None
    flavors: Mapping[str, str] = field(default_factory=dict)
    """Renames an endpoint's flavor to the extractor's own (`messages` -> `default`)."""
    prices: str | None = None
    cost_path: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """One provider of the catalogue.

    `hosts` are exact names; `upstream` is the origin called (`https://api.openai.com`). `env` are the exact names of
    variables that hold its keys. `include_usage`: chat streams accept `stream_options.include_usage`.
    `keys` is False where the provider needs none (a local server). `surfaces[0]` is the primary one.
    """

    name: str
    title: str
    hosts: tuple[str, ...]
    upstream: str
    surfaces: tuple[Surface, ...]
    env: tuple[str, ...] = ()
    usage: UsageFacts = field(default_factory=UsageFacts)
    errors: tuple[ErrorRule, ...] = ()
    limits: tuple[LimitFacts, ...] = ()
    include_usage: bool = False
    keys: bool = True
    min_key_length: int = 16
    sources: tuple[str, ...] = ()
    default_for: tuple[Dialect, ...] = ()
    """The dialects whose paths lead here on the base-URL door, when nothing else names a provider."""
