"""The shape of rules.yaml, word by word. The JSON Schema for editors is made from it, with the docstrings as help."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    WithJsonSchema,
    model_validator,
)

from ..model import Address, Format, GatewayRules, Timeouts, Upstream
from ..secrets import is_slow
from . import values

DEFAULTS = GatewayRules()
LITERAL_KEY = "this is a literal key; write a reference instead, env:NAME or file:/path (and change the key: it stood in a file)"
_REFERENCE = r"env:[A-Za-z_][A-Za-z0-9_]*|(?:file:|cmd:|keyring:[^\x00-\x1f\x7f/]+/)[^\x00-\x1f\x7f]+"
_KINDS = ("env", "file", "keyring", "cmd")
_VALUE = re.compile(r"\b(?:sk|gsk|xai|hf|pplx|nvapi|AIza)[-_]?[A-Za-z0-9_-]{20,}")
"""A key, as it could stand among the arguments of a command."""
_NAME = r"^[A-Za-z0-9._-]{1,64}$"


def _notation(description: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "number"], "description": description, "examples": list(examples)})


def _one_or_many(value: object) -> object:
    """Text as a list of one. YAML reads `no` and `4.1` as something else than text."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise ValueError("a text or a list of texts is meant here; put quotes around it")
    return found


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    """An empty list of conditions would hold for everything, the opposite of what it looks like."""
    if not value:
        raise ValueError("an empty list says nothing; leave the word out, or write what is meant")
    return value


def _section(value: object) -> object:
    """A word with nothing after it, as when all of a section is commented out."""
    return {} if value is None else value


def _sequence(value: object) -> object:
    return [] if value is None else value


_WORDS = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
_SOME_WORDS = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]})

Duration = Annotated[float, BeforeValidator(values.duration), _notation("A duration", "10s", "500ms", "2m")]
Limit = Annotated[float, BeforeValidator(values.time_limit), _notation("A duration, not zero", "10s", "500ms", "2m")]
Retention = Annotated[float, BeforeValidator(values.retention), _notation("A duration", "90 days")]
Size = Annotated[int, BeforeValidator(values.size), _notation("A size", "64 MB")]
Listen = Annotated[Address, BeforeValidator(values.address), _notation("host:port", "127.0.0.1:8080")]
Origin = Annotated[
    Upstream, BeforeValidator(values.upstream), _notation("scheme://host[:port][/prefix]", "http://127.0.0.1:8000")
]
Budget = Annotated[tuple[Decimal, str], BeforeValidator(values.budget), _notation("An amount per period", "20 USD/month")]
Rate = Annotated[tuple[int, str], BeforeValidator(values.rate), _notation("A count per period", "60/minute")]
Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), _WORDS]
Glob = Annotated[str, AfterValidator(values.pattern)]
Globs = Annotated[tuple[Glob, ...], BeforeValidator(_one_or_many), _WORDS]
Conditions = Annotated[tuple[Glob, ...], AfterValidator(_some), BeforeValidator(_one_or_many), _SOME_WORDS]
Destinations = Annotated[tuple[Annotated[str, AfterValidator(values.destination)], ...], BeforeValidator(_one_or_many), _WORDS]
Name = Annotated[str, Field(pattern=_NAME)]
ProviderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=12)]
Switch = Annotated[bool, WithJsonSchema({"enum": [True, False, "on", "off"]})]


def _reference(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(_REFERENCE, value) or values.looks_like_key(value.partition(":")[2]):
        raise ValueError(LITERAL_KEY)
    if value.startswith("cmd:") and _VALUE.search(value):
        raise ValueError("a key stands among the arguments of this command; let the command find it")
    return value


_KIND_PATTERN = f"^({'|'.join(_KINDS)}):"
Reference = Annotated[str, BeforeValidator(_reference), WithJsonSchema({"type": "string", "pattern": _KIND_PATTERN})]


class Strict(BaseModel):
    """A mapping in which every word must be known."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)


class TimeoutsEntry(Strict):
    """Time limits of one attempt."""

    connect: Limit = Timeouts().connect
    """Until the connection stands."""
    first_byte: Limit = Timeouts().first_byte
    """Until a streamed answer begins."""
    whole: Limit = Timeouts().whole
    """Until an answer that is not streamed begins, which is when all of it has been made."""
    between_events: Limit = Timeouts().between_events
    """Between two pieces of a streamed answer."""
    hold: Limit = Timeouts().hold
    """How long the headers of a stream are held until its first event shows that it went well. A stream that has sent nothing
    at all by then is given up."""
    max_wait: Duration = Timeouts().max_wait
    """How long a call may wait in all for keys that rest or are busy."""
    small_wait: Duration = Timeouts().small_wait
    """How long a call waits in all for the key with its prompt cache, rather than taking another."""
    retry: Duration = Timeouts().retry
    """The pause before the same key is tried again after the provider failed; half as much again is added at random."""


class GatewayEntry(Strict):
    """How the gateway itself behaves."""

    proxy: Listen = DEFAULTS.proxy
    """The address for HTTPS_PROXY; wider than loopback only with callers: known."""
    api: Listen = DEFAULTS.api
    """The address for base URLs; wider than loopback only with callers: known."""
    ledger: Annotated[str, AfterValidator(values.ledger)] = DEFAULTS.ledger
    """Where receipts are kept; four slashes for an absolute path."""
    ledger_failure: Literal["open", "closed"] = "open"
    """When receipts cannot be written: open lets calls go on, closed refuses them."""
    retention: Retention | None = None
    """Receipts older than this are deleted; without it they are kept."""
    dummy_keys: Globs = DEFAULTS.dummy_keys
    """What agents may send as a key."""
    foreign_keys: Literal["replace", "reject"] = "replace"
    """What happens to a key that is no dummy; it is masked in the flow either way."""
    no_credential: Literal["refuse", "inject"] = "refuse"
    """What happens to a provider call without any credential."""
    callers: Literal["known", "any"] | None = None
    """Who is heard: known, agents that show their key; any, also callers without one. Default: known once an agent has a key."""
    hosts: Annotated[tuple[Annotated[str, AfterValidator(values.own_host)], ...], BeforeValidator(_one_or_many), _WORDS] = ()
    """Names (host or host:port) under which agents on other machines use the base-URL door."""
    egress: Literal["passthrough", "deny"] = "passthrough"
    """What happens to hosts that are no provider: passed through undecrypted, or denied."""
    egress_allow: Destinations = ()
    """Hosts, host:port, addresses or networks that may be reached although they are private, or although egress is denied.
    A pattern such as *.github.com (also with a port) opens public hosts only."""
    deadline: Limit = DEFAULTS.deadline
    """No attempt begins, and no waiting goes on, later than this; never cuts an attempt that is on its way."""
    attempts: Annotated[int, Field(ge=1, le=1000)] = DEFAULTS.attempts
    """The most attempts of one call, at all its keys and targets."""
    retry_empty: Switch = False
    """Whether an answer without any content counts as a failure of the provider and is asked for again."""
    timeouts: TimeoutsEntry = TimeoutsEntry()
    """How long each step of an attempt may take."""
    headers: Switch = True
    """Whether answers carry x-valetkey-* headers."""
    max_body: Size = DEFAULTS.max_body
    """The most that is held of a body."""
    log: Literal["text", "json"] = "text"
    """The form of the one line that is logged per call."""
    archive: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None
    """A folder for requests and answers, credentials redacted; without it nothing is kept."""
    max_flows: Annotated[int, Field(gt=0)] = DEFAULTS.max_flows
    """Flows kept in mitmweb and the console."""
    max_flow_bytes: Size = DEFAULTS.max_flow_bytes
    """What the bodies and messages of these flows hold together; the newest flow stays in any case."""
    max_connections: Annotated[int, Field(gt=0)] = DEFAULTS.max_connections
    """Connections of clients that are open at once; more are refused."""

    @model_validator(mode="after")
    def _two_doors(self) -> GatewayEntry:
        if self.proxy == self.api:
            raise ValueError(f"proxy and api are both at {self.api}; give them different ports")
        return self


def _key(value: object) -> object:
    """A reference alone is a key. `env: NAME` with a blank is a mapping to YAML, and a frequent slip."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _KINDS:
        raise ValueError("a reference has no blank after its colon: env:NAME, file:PATH")
    return {"ref": value} if isinstance(value, str) else value


class KeyEntry(Strict):
    """One key: a reference, and what goes with it."""

    ref: Reference
    """env:NAME, file:PATH, keyring:SERVICE/NAME or cmd:PROGRAM ARGUMENT …"""
    name: Name | None = None
    """The key's id is provider/name; without it the name follows from the reference."""
    priority: Annotated[int, Field(ge=1)] = 1
    """The keys of the lowest number that has a usable one are used."""
    organization: str | None = None
    """The organisation that is billed, for providers that know such a header."""
    project: str | None = None
    """The project that is billed, for providers that know such a header."""
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")]] = {}
    """Further headers that are sent with this key; no credentials."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Its share of the calls, compared with other keys of its priority; for the rotations balanced and least_busy."""
    concurrency: Annotated[int, Field(gt=0)] | None = None
    """The most calls that it serves at once, in place of the provider's concurrency; more wait in line."""
    share: Switch = False
    """Whether it may be sent to this provider although it belongs to another, by its variable or because it is listed there."""
    ttl: Limit | None = None
    """For keyring: and cmd: - after which time it is read anew; without it, when a provider refuses the key."""
    timeout: Limit = 10.0
    """For keyring: and cmd: - how long reading it may take."""
    budget: Budget | None = None
    """Not enforced yet."""

    @model_validator(mode="after")
    def _is_slow(self) -> KeyEntry:
        given = {"ttl", "timeout"} & self.model_fields_set
        if given and not is_slow(self.ref):
            words = " and ".join(sorted(given))
            raise ValueError(f"{words} is for keyring: and cmd: only; env: and file: are read when they change")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """For editors: a reference alone will do."""
        return {"anyOf": [{"type": "string", "pattern": _KIND_PATTERN}, handler(core_schema)]}


def _keys(value: object) -> object:
    if value == []:
        raise ValueError("an empty list of keys; write none, or leave keys out to look in the environment")
    return [value] if isinstance(value, str) and value != "none" else value


KeyList = tuple[Annotated[KeyEntry, BeforeValidator(_key)], ...]
NoKeys = Annotated[Literal["none"], WithJsonSchema({"type": "string", "pattern": f"^(none$|{':|'.join(_KINDS)}:)"})]
Keys = Annotated[
    Annotated[KeyList, Tag("list")] | Annotated[NoKeys, Tag("none")],
    Discriminator(lambda value: "none" if value == "none" else "list"),
    BeforeValidator(_keys),
]


class ModelLists(Strict):
    """Which models a provider may be called with; a model on `allow` passes even where `deny` matches."""

    allow: Conditions = ()
    """Globs; alone, every other model is refused."""
    deny: Conditions = ()
    """Globs of models that are refused."""


class PriceEntry(Strict):
    """US dollars per million tokens, and for one of what is not counted in tokens."""

    input: Dollars | None = None
    output: Dollars | None = None
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None
    per: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], Dollars] = {}
    """US dollars for one of another count: input_characters, audio_seconds, output_images."""

    @model_validator(mode="after")
    def _says_enough(self) -> PriceEntry:
        if (self.input is None) != (self.output is None) or (self.input is None and not self.per):
            raise ValueError("a price has input and output, or per")
        return self


def _concurrency(value: object) -> object:
    """A number alone is the hard limit."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"hard": value}
    if not isinstance(value, dict | ConcurrencyEntry):
        raise ValueError("a number of calls is meant here, or {soft: NUMBER, hard: NUMBER}")
    return value


class ConcurrencyEntry(Strict):
    """Limits on the calls that a key serves at once."""

    hard: Annotated[int, Field(gt=0)] | None = None
    """More wait in line."""
    soft: Annotated[int, Field(gt=0)] | None = None
    """Keys with fewer calls are preferred; without it 1 for the rotation balanced."""

    @model_validator(mode="after")
    def _soft_comes_first(self) -> ConcurrencyEntry:
        if self.hard is not None and self.soft is not None and self.soft > self.hard:
            raise ValueError(f"soft ({self.soft}) is larger than hard ({self.hard}) and would never be reached; make it smaller")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """For editors: a number alone will do."""
        return {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, handler(core_schema)]}


class WindowEntry(Strict):
    """Over which time the use of a key is counted."""

    kind: Literal["rolling", "daily", "weekly", "monthly", "provider"] = "rolling"
    """rolling begins with the first call; daily, weekly (Sunday) and monthly begin at 03:00 UTC; provider ends when the provider
    says that its limit is reset."""
    length: Limit = 86400.0
    """Of a rolling window, and of one whose end the provider does not say."""
    tolerance: Annotated[float, Field(ge=0, le=1000)] = 3.0
    """How many calls a key may be ahead before that counts much; 0 always takes the least used key."""


class ProviderEntry(Strict):
    """A provider of the catalogue, or one of your own with `like` and `upstream`."""

    like: str | None = None
    """The provider whose formats, paths and errors a server of your own shares."""
    upstream: Origin | None = None
    """Takes the place of the provider's address; plain HTTP on loopback only."""
    keys: Keys | None = None
    """References (env:NAME, file:PATH, keyring:SERVICE/NAME, cmd:PROGRAM …), or none for a server that needs no key; without it
    the environment is looked through."""
    rotation: Literal["balanced", "sequential", "sticky", "round_robin", "least_busy", "hybrid"] = "balanced"
    """How a key is chosen among those of the best priority: the least used, one after the other, one per conversation, in turn,
    the least busy, or by a score of all of that."""
    models: ModelLists = ModelLists()
    """Which models may be called."""
    open: Texts = ()
    """Groups of endpoints that are closed by default (files, batches, …)."""
    prices: dict[Glob, PriceEntry] = {}
    """Glob on the model: US dollars per million tokens."""
    quota_groups: dict[str, Conditions] = {}
    """Name: globs of models that share one quota, and therefore rest together."""
    concurrency: Annotated[ConcurrencyEntry, BeforeValidator(_concurrency)] = ConcurrencyEntry()
    """The most calls that each of its keys serves at once, more wait in line; or soft and hard limits."""
    spacing: Duration = 0.0
    """Time between two calls of one key."""
    leave_at: Annotated[float, BeforeValidator(values.share), _notation("A share", "10%")] = 0.0
    """What is left of a key's limit, as the provider says, when other keys are preferred."""
    model_tiers: dict[Glob, Annotated[int, Field(ge=1)]] = {}
    """Glob on the model: the highest priority number of keys that may be used for it."""
    window: WindowEntry = WindowEntry()
    """Over which time the use of a key is counted, for the rotation balanced."""


class MatchEntry(Strict):
    """When a route applies: every given condition holds, within one any pattern suffices."""

    host: Conditions = ()
    """Globs on the host that the call was sent to."""
    path: Conditions = ()
    """Globs on the path, without the query."""
    format: Conditions = ()
    """Globs on the wire format (openai_chat, anthropic_messages, …)."""
    model: Conditions = ()
    """Globs on the model."""
    agent: Conditions = ()
    """Globs on the agent's name."""
    header: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], Glob] = {}
    """Header name: glob on its value."""

    @model_validator(mode="after")
    def _known_formats(self) -> MatchEntry:
        for text in self.format:
            if not any(fnmatchcase(known, text) for known in Format):
                raise ValueError(f"{text} is no format; formats are {', '.join(Format)}")
        return self


def _json_value(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("JSON has no such number")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _json_value(inner)
    return value


Parameter = Annotated[str, Field(pattern=r"^[^.]+(\.[^.]+)*$")]


def _no_model(names: Any) -> Any:
    """The lists of models are held against the target, which the body must not contradict."""
    if "model" in names:
        raise ValueError("the model of a call is chosen with to: provider/model")
    return names


class FallbackEntry(Strict):
    """Targets for calls that the targets of a route cannot take."""

    too_long: Texts = ()
    """For a prompt that is too long for them."""
    exhausted: Texts = ()
    """When all their keys rest or have failed."""


class RouteEntry(Strict):
    """One route; the first that matches decides."""

    name: Name | None = None
    """For receipts; else route-1, route-2, …"""
    match: MatchEntry = MatchEntry()
    """When the route applies; without it, always."""
    to: Texts = ()
    """provider or provider/model, or a list: tried in order until one gives an answer."""
    deny: Annotated[str, Field(min_length=1)] | None = None
    """Refuse with this text."""
    order: Literal["priority", "random", "weighted"] = "priority"
    """In which order targets are tried: as they stand, at random, or at random by weights."""
    weights: tuple[Annotated[float, Field(ge=0, le=1000)], ...] = ()
    """One for each target, with order: weighted; a target of weight 0 comes last."""
    fallback: FallbackEntry = FallbackEntry()
    """Where a call goes when the targets cannot take it."""
    set: Annotated[dict[Parameter, Annotated[Any, AfterValidator(_json_value)]], AfterValidator(_no_model)] = {}
    """Parameters of the JSON body; dotted names reach inside."""
    remove: Annotated[tuple[Parameter, ...], AfterValidator(_no_model), BeforeValidator(_one_or_many), _WORDS] = ()
    """Parameters that are taken out of the JSON body; dotted names reach inside."""

    @model_validator(mode="after")
    def _does_something(self) -> RouteEntry:
        if self.deny is not None and (self.to or self.set or self.remove or self.fallback != FallbackEntry()):
            raise ValueError("a route denies, or it sends and edits; not both")
        if self.deny is None and not (self.to or self.set or self.remove or self.fallback != FallbackEntry()):
            raise ValueError("a route needs to, fallback, deny, set or remove")
        if both := {*self.set} & {*self.remove}:
            raise ValueError(f"{min(both)} is set and removed")
        return self

    @model_validator(mode="after")
    def _weighs_its_targets(self) -> RouteEntry:
        weighted, targets, weights = self.order == "weighted", len(self.to), len(self.weights)
        if weights and not weighted:
            raise ValueError(f"weights are for order: weighted (it is {self.order}); add that, or remove the weights")
        if weighted and weights != targets:
            raise ValueError(f"order: weighted wants one weight for each target of to; there are {weights} for {targets}")
        if weighted and not any(self.weights):
            raise ValueError("all weights are 0; give at least one target a weight")
        return self


class AgentEntry(Strict):
    """A caller known by its key, or by name alone. `key` is sha256:HEX of the credential that it sends."""

    name: Name
    """As in its dummy key, sk-dummy-NAME."""
    key: Annotated[str, AfterValidator(values.digest)] | None = None
    """sha256: and the hash of the credential that this agent shows; `valetkey agents add NAME` makes both."""
    models: Conditions = ()
    """Globs on the models that this agent may call."""
    budget: Budget | None = None
    """Not enforced yet."""
    rate: Rate | None = None
    """Not enforced yet."""


class RulesFile(Strict):
    """rules.yaml as a whole."""

    version: Literal[1] = 1
    """The version of this notation."""
    gateway: Annotated[GatewayEntry, BeforeValidator(_section)] = GatewayEntry()
    """How the gateway itself behaves."""
    providers: Annotated[dict[ProviderName, Annotated[ProviderEntry, BeforeValidator(_section)]], BeforeValidator(_section)] = {}
    """Providers of the catalogue, and your own."""
    routes: Annotated[tuple[RouteEntry, ...], BeforeValidator(_sequence)] = ()
    """Where calls go; the first route that matches decides."""
    agents: Annotated[tuple[AgentEntry, ...], BeforeValidator(_sequence)] = ()
    """Callers known by name."""
