"""What rules.yaml is parsed into: frozen, resolved, without a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from .call import Order, Target
from .facts import ProviderFacts

_LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}")
"""The addresses, not names that begin like one (127.example.com)."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds."""

    connect: float = 10.0
    first_byte: float = 120.0
    whole: float = 600.0
    """Until a whole answer begins, which is when all of it has been made."""
    between_events: float = 300.0
    hold: float = 15.0
    max_wait: float = 120.0
    small_wait: float = 10.0
    """A rest of the same key up to this long is waited for, where that keeps a prompt cache."""
    retry: float = 1.0
    """The pause before the same key is tried again; it is jittered."""


@dataclass(frozen=True, slots=True)
class GatewayRules:
    """The `gateway:` section, with its defaults. Durations in seconds, sizes in bytes."""

    proxy: Address = Address("127.0.0.1", 8080)
    api: Address = Address("127.0.0.1", 8045)
    ledger: str = "sqlite:///.valetkey/ledger.db"
    ledger_failure: Literal["open", "closed"] = "open"
    retention: float | None = None
    """Receipts older than this are purged; None keeps them."""
    dummy_keys: tuple[str, ...] = ("sk-dummy*", "sk-ant-dummy*", "dummy*")
    foreign_keys: Literal["replace", "reject"] = "replace"
    no_credential: Literal["refuse", "inject"] = "refuse"
    callers: Literal["known", "any"] = "any"
    """Who is heard: agents that show their key, or any caller."""
    hosts: tuple[str, ...] = ()
    """Names (`host` or `host:port`, in their one spelling) that the base-URL door answers to besides loopback and its address."""
    egress: Literal["passthrough", "deny"] = "passthrough"
    egress_allow: tuple[str, ...] = ()
    """Hosts, host:port or networks that may be reached although they are private (or although `egress: deny`).

    A pattern on names (`*.github.com`) opens no private address."""
    deadline: float = 600.0
    attempts: int = 16
    """The most attempts of one call."""
    retry_empty: bool = False
    """Whether an answer without any content counts as a failure."""
    timeouts: Timeouts = Timeouts()
    headers: bool = True
    """Whether answers carry `x-valetkey-*`."""
    max_body: int = 64 * 1024 * 1024
    log: Literal["text", "json"] = "text"
    archive: str | None = None
    """A folder for redacted requests and answers; None: nothing is kept."""
    max_flows: int = 1000
    """Flows kept in mitmweb and the console."""
    max_flow_bytes: int = 256 * 1024 * 1024
    """Bytes of bodies and messages that these flows hold together."""
    max_connections: int = 4096
    """Connections of clients that are open at once; more are refused."""


@dataclass(frozen=True, slots=True)
class KeySpec:
    """A key as written: a reference, never a value. `name` is None where it follows from the reference."""

    ref: str
    name: str | None = None
    priority: int = 1
    organization: str | None = None
    project: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    weight: float = 1.0
    concurrency: int | None = None
    """The most calls at once; None: as the provider's rules say."""
    share: bool = False
    """Whether it may be used for a provider that it does not belong to."""
    line: int = 0
    ttl: float | None = None
    """Seconds after which a slow reference (keyring, cmd) is read anew; None: when a provider refuses the key."""
    timeout: float = 10.0
    """Seconds that reading a slow reference may take."""


@dataclass(frozen=True, slots=True)
class Key:
    """A usable key without its value; `id` is `provider/name`, the value lives in the vault under that id."""

    id: str
    provider: str
    name: str
    priority: int = 1
    organization: str | None = None
    project: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    weight: float = 1.0
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a provider is really called. `prefix` is None when the provider's own base paths stay."""

    scheme: str
    host: str
    port: int
    prefix: str | None = None

    @property
    def origin(self) -> str:
        """`scheme://host:port`, without default ports."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}.get(self.scheme)
        return f"{self.scheme}://{host}" + ("" if self.port == default else f":{self.port}")


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """US dollars per million tokens for models that match `pattern`. A cache's None falls back to `input`.

    `per`: US dollars for one of another count (`input_characters`, `audio_seconds`, `output_images`); `input` and `output` may
    then be None.
    """

    pattern: str
    input: Decimal | None
    output: Decimal | None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    per: Mapping[str, Decimal] = field(default_factory=dict)


Rotation = Literal["balanced", "sequential", "sticky", "round_robin", "least_busy", "hybrid"]


@dataclass(frozen=True, slots=True)
class Window:
    """Over which time the use of a key is counted. `length` in seconds is for rolling windows; `tolerance` in calls."""

    kind: Literal["rolling", "daily", "weekly", "monthly", "provider"] = "rolling"
    length: float = 86400.0
    tolerance: float = 3.0


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Provider:
    """A provider as configured: the catalogue's facts with the rules of this gateway.

    `keys_needed` False means calls go out without a credential. `allow`/`deny` are globs on the model; the white list wins.
    `named_on_loopback` is True when the rules themselves name a loopback upstream (plain HTTP is then allowed).
    """

    name: str
    facts: ProviderFacts
    upstream: Upstream
    key_specs: tuple[KeySpec, ...] | None = None
    """None: keys are looked for in the environment under the catalogue's names."""
    keys_needed: bool = True
    rotation: Rotation = "balanced"
    quota_groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Name and globs: models that share one quota."""
    concurrency: int | None = None
    """The most calls that one of its keys serves at once, unless the key says otherwise."""
    soft_concurrency: int | None = None
    """Keys that serve fewer calls than this are preferred; None: 1 when balanced, else no preference."""
    spacing: float = 0.0
    """Seconds between two calls of one key."""
    leave_at: float = 0.0
    """The share of a limit (0 to 1) at which a key is left, as long as there are others."""
    model_tiers: tuple[tuple[str, int], ...] = ()
    """Glob on the model and the highest `priority` number of a key that may be used for it."""
    window: Window = Window()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    prices: tuple[PriceOverride, ...] = ()
    configured: bool = False
    """Whether rules.yaml mentions it."""

    @property
    def is_placed(self) -> bool:
        """Whether it is known where it is called: by the catalogue, else by the rules."""
        return self.facts.upstream is not None or self.configured

    @property
    def named_on_loopback(self) -> bool:
        """Whether this upstream is on the machine itself (plain HTTP is allowed only there)."""
        return self.upstream.host in ("localhost", "::1") or _LOOPBACK.fullmatch(self.upstream.host) is not None

    def has_variable(self, reference: str) -> bool:
        """Whether a reference is a variable of this provider by its name, also a numbered one or a twin (`GATEWAY_`)."""
        name = reference.removeprefix("env:").removeprefix("GATEWAY_")
        return reference.startswith("env:") and any(f"{name}_".startswith(f"{variable}_") for variable in self.facts.env)

    def is_at_home(self, upstream: Upstream) -> bool:
        """Whether a place is this provider's own: its hosts and those below them, or the place where the rules call it."""
        if upstream.origin == self.upstream.origin:
            return True
        place = f".{upstream.host.lower()}"
        return (upstream.scheme, upstream.port) == ("https", 443) and any(place.endswith(f".{host}") for host in self.facts.hosts)

    def may_get_key_of(self, owner: Provider) -> bool:
        """Whether a key that belongs to `owner` may go where this provider is called, without being told so.

        On the machine itself it may: there a server is the user's own.
        """
        return self.name == owner.name or self.named_on_loopback or owner.is_at_home(self.upstream)


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions of a route; every given one must hold, within one any pattern suffices. Globs, except `header`."""

    host: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    format: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    header: tuple[tuple[str, str], ...] = ()
    """Lower-case name and glob on the value."""


@dataclass(frozen=True, slots=True)
class RouteRule:
    """One entry of `routes:`. Exactly one of `to`, `deny` or edits without either."""

    name: str
    match: Match
    to: tuple[Target, ...] = ()
    deny: str | None = None
    order: Order = "priority"
    weights: tuple[float, ...] = ()
    too_long: tuple[Target, ...] = ()
    """Where a prompt goes that is too long for `to`."""
    exhausted: tuple[Target, ...] = ()
    """Where a call goes when every key of `to` is used up."""
    set_body: tuple[tuple[str, object], ...] = ()
    remove_body: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class AgentRule:
    """A configured agent. `key` is `sha256:<hex>` of the credential that names it, or None."""

    name: str
    key: str | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Rules:
    """rules.yaml, validated. `providers` holds every catalogue provider and every one the file defines."""

    path: str
    gateway: GatewayRules
    providers: Mapping[str, Provider]
    routes: tuple[RouteRule, ...] = ()
    agents: tuple[AgentRule, ...] = ()
    notices: tuple[str, ...] = field(default=())
    """Things a person should know that are no errors (settings accepted but not enforced yet)."""
