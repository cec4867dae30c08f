"""What the catalogue knows about a provider, parsed and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
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
class Results:
    """What an answer holds that other calls have made: the results of a batch, a response that was made in the background.

    `documents` are dotted paths to the answers (`response.body`, `*` is any element of a list; empty: the document itself), of
    which the first that leads to any counts: in every line with `lines`, else in the whole document. `flavors` are tried in turn.
    With `format` the document may as well come as a stream. `when` is the dotted path of a member that must be true. `batch`
    answers are charged at the batch price. Each is counted once, however often it is fetched.
    """

    documents: tuple[str, ...]
    flavors: tuple[str, ...]
    lines: bool = False
    batch: bool = False
    format: Format | None = None
    when: str | None = None


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
    results: Results | None = None
    deferred: str | None = None
    """Dotted path of a member that is true in an answer which has no usage yet, because it goes on in the background."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A dialect at a base path (`/v1`), with its own authentication and endpoints.

    `doubled`: the provider's own SDK writes the base with two slashes at its beginning. It goes out with one.
    """

    name: str
    dialect: Dialect
    base: str
    auth: Auth
    endpoints: tuple[Endpoint, ...]
    doubled: bool = False


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One line of an error table; every given condition must hold, the first line that holds wins.

    `json` maps a dotted path in the body (`error.code`, `error.details.0.reason`; `*` is any element of a list) to an exact
    value; `text` is searched case-insensitively in the body; `header` must be present, with a value that begins with
    `header_begins`, and `without_header` absent.

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
    header_begins: str = ""


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
class Guess:
    """A count for answers that report none: the number at `place` over `per` (bytes of sound, and bytes per second)."""

    place: str
    per: Decimal


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What `genai-prices` has no unit for, or no price: US dollars for one of each count, for models that match `pattern`.

    Every condition of `when` (a member of the request: `size`, `quality`) must hold. The first that fits is the price.
    """

    pattern: str
    per: Mapping[str, Decimal]
    when: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageFacts:
    """Where usage extraction and prices come from: a `genai-prices` provider id for each.

    `cost_path` is the dotted path of a cost in US dollars that the provider itself reports in the body
    (OpenRouter: `usage.cost`).
    """

    extractor: str | None = None
    flavors: Mapping[str, str] = field(default_factory=dict)
    """Renames an endpoint's flavor to the extractor's own (`messages` -> `default`), or to one of another extractor
    (`anthropic/default`)."""
    prices: str | None = None
    cost_path: str | None = None
    counts: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """By flavor and count, where it stands if no extractor finds any usage: the first of some dotted paths in the answer, or in
    what was asked for (`request.characters`)."""
    guesses: Mapping[str, tuple[Mapping[str, Guess], ...]] = field(default_factory=dict)
    """By flavor, what is assumed where nothing is reported that has a price: the first set of counts that has one."""
    unit_prices: tuple[UnitPrice, ...] = ()
    batch_factor: Decimal | None = None
    """Times the usual price, for models without a batch price of their own."""


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """One provider of the catalogue.

    `hosts` are exact names; `upstream` is the origin called (`https://api.openai.com`), None where the rules have to name one.
    `tenant_hosts` (`*.openai.azure.com`) are names that anybody can register: a call to one is known for what it is, and is
    made only where the rules name it as an upstream. `env` are the exact names of variables that hold its keys.
    `include_usage`: chat streams accept `stream_options.include_usage`. `keys` is False where the provider needs none (a local
    server). `surfaces[0]` is the primary one.
    """

    name: str
    title: str
    hosts: tuple[str, ...]
    upstream: str | None
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
    tenant_hosts: tuple[str, ...] = ()
    stays_at_host: bool = False
    """Each of `hosts` is a place of its own: a call that names one goes there, unless the rules name an upstream."""
