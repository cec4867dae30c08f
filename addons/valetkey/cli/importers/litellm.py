"""LiteLLM's `config.yaml`: deployments of a `model_name` become the targets of a route, their keys the pool of a provider.

https://docs.litellm.ai/docs/proxy/config_settings
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError
from ...model import ProviderFacts
from ...rules import values
from ...rules.nodes import MAX_BYTES, Document
from ...secrets import Secret, problem
from .draft import Draft, ProviderDraft, RouteDraft, seconds, whole

_DUMMIES = ("sk-dummy*", "sk-ant-dummy*", "dummy*", "sk-1234*", "anything", "fake*", "empty", "EMPTY", "na", "NA")
"""What people write for a server that asks for no key."""
_VARIABLE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_BARE = (
    (re.compile(r"(gpt-|chatgpt-|o[1-9]([-.]|$)|text-embedding-|tts-|whisper-|dall-e-|omni-moderation)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
)
"""Whose a model is that stands without a provider."""
_PRICES = {
    "input_cost_per_token": "input", "output_cost_per_token": "output", "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
}  # fmt: skip
_UNDERSTOOD = frozenset({
    "model", "api_key", "api_base", "base_url", "weight", "order", "organization", "max_parallel_requests", "custom_llm_provider",
    "litellm_credential_name", *_PRICES,
})  # fmt: skip
_PARAMS = {
    "rpm": "limits by the minute have no counterpart yet (rate:, budget:); what a provider says of its limits is heeded",
    "tpm": "limits by the minute have no counterpart yet (rate:, budget:); what a provider says of its limits is heeded",
    "timeout": "time limits are the gateway's, not a target's: gateway.timeouts",
    "stream_timeout": "time limits are the gateway's, not a target's: gateway.timeouts",
    "max_retries": "attempts are the gateway's, not a target's: gateway.attempts",
    "num_retries": "attempts are the gateway's, not a target's: gateway.attempts",
    "api_version": "the agent says it (?api-version=); it is passed on as it comes",
    "extra_headers": "headers are a key's: write them under its headers:",
    "tags": "tags have no counterpart; match on agent or header in a route",
    "aws_access_key_id": "signed calls to Bedrock are not supported yet; a bearer key is (AWS_BEARER_TOKEN_BEDROCK)",
    "aws_secret_access_key": "signed calls to Bedrock are not supported yet; a bearer key is (AWS_BEARER_TOKEN_BEDROCK)",
    "aws_region_name": "the region is part of the provider's upstream:",
    "vertex_credentials": "write the access token as a key: {ref: 'cmd:gcloud auth print-access-token', ttl: 30m}",
    "vertex_project": "the agent says it, in the path",
    "vertex_location": "the agent says it, in the path; elsewhere than global the provider needs an upstream:",
}
_PARAMETER = "parameters of the request: a route's set: would override what agents send, so it was not copied"
_SETTINGS = {
    "master_key": "agents hold no master key here: valetkey agents add NAME makes each a key of its own",
    "database_url": "virtual keys, teams and budgets are in that database: valetkey agents add NAME for each that is in use",
    "max_budget": "budgets are accepted and not enforced yet",
    "budget_duration": "budgets are accepted and not enforced yet",
    "allowed_fails": "what an error means, and how long a key rests, is in the catalogue (docs/pools.md)",
    "allowed_fails_policy": "what an error means, and how long a key rests, is in the catalogue (docs/pools.md)",
    "cooldown_time": "what an error means, and how long a key rests, is in the catalogue (docs/pools.md)",
    "disable_cooldowns": "what an error means, and how long a key rests, is in the catalogue (docs/pools.md)",
    "retry_policy": "what an error means, and how long a key rests, is in the catalogue (docs/pools.md)",
    "content_policy_fallbacks": "an answer that was refused for its content is the provider's word, and is passed on",
    "cache": "answers are not cached", "cache_params": "answers are not cached",
    "callbacks": "each call has a receipt: valetkey flows", "success_callback": "each call has a receipt: valetkey flows",
    "failure_callback": "each call has a receipt: valetkey flows",
    "drop_params": "requests pass as they are; take a parameter out with a route's remove:",
    "set_verbose": "the gateway's log has one line for each call", "json_logs": "write gateway: {log: json}",
    "port": "write gateway: {api: 127.0.0.1:PORT}",
}  # fmt: skip
_NONE = "has no counterpart"
_UNTRANSLATED = "LiteLLM translates; here a target that does not speak the format of the agent's call is passed over"
_NOT_LISTED = (
    "LiteLLM refuses other models; here they go to the provider that they are asked of, unless its models: {allow: […]} or a "
    "last route with deny: refuses them"
)
_ONE_MODEL = "a target is one model, or all: it was left out"
_UNPLACED = "has no address of its own; it was left out"
_LIMITS = {"request_timeout": "whole", "timeout": "whole", "stream_timeout": "first_byte", "retry_after": "retry"}
_STRATEGIES = {"latency-based-routing": 0, "cost-based-routing": 0}
_MOST_ATTEMPTS = 1000
_LARGEST = 1e12
"""Of a weight or of calls by the minute; more is a slip."""


@dataclass
class _Deployment:
    """One entry of the model list that can be called."""

    target: str
    provider: ProviderDraft
    ref: str | None
    weight: float | None
    rpm: float | None
    order: int


@dataclass
class _Group:
    """The deployments of one name."""

    deployments: list[_Deployment] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """Each once, in their order."""
        return list(dict.fromkeys(each.target for each in sorted(self.deployments, key=lambda each: each.order)))


def draft(path: Path, catalog: Mapping[str, ProviderFacts], environ: Mapping[str, str]) -> Draft:
    """Rules that do what the file asks for. `environ` is looked into for addresses only. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text") from None
    document = Document(text, path.name)
    if not isinstance(document.data, dict) or not isinstance(document.data.get("model_list"), list):
        raise ConfigurationError(f"{path} has no model_list; is it a config.yaml of LiteLLM?")
    return _Reader(Draft(path.name, catalog), document, environ).run()


class _Reader:
    def __init__(self, made: Draft, document: Document, environ: Mapping[str, str]) -> None:
        self._draft, self._document, self._environ = made, document, environ
        self._data: dict[str, Any] = document.data
        self._groups: dict[str, _Group] = {}
        self._credentials = {
            str(each.get("credential_name")): _mapping(each.get("credential_values"))
            for each in _listed(self._data.get("credential_list"))
            if isinstance(each, dict)
        }

    def run(self) -> Draft:
        """All of it."""
        for at, entry in enumerate(self._data["model_list"]):
            self._entry(at, entry)
        self._routes()
        self._fallbacks()
        self._router()
        self._settings()
        if self._draft.routes and "*" not in self._groups:
            self._draft.gap("model_list", _NOT_LISTED)
        if any(self._is_mixed(route) for route in self._draft.routes):
            self._draft.gap("formats", _UNTRANSLATED)
        return self._draft

    def _place(self, *path: str | int) -> str:
        """Where something stands, for people."""
        words = ".".join(str(step) for step in path if not isinstance(step, int))
        return f"{self._document.name}:{self._document.line_of(path)} {words}"

    # The model list.

    def _entry(self, at: int, entry: object) -> None:
        params = entry.get("litellm_params") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(params, dict) or not isinstance(params.get("model"), str):
            self._draft.gap(self._place("model_list", at), "is no entry with a model; it was left out")
            return
        credential = self._credentials.get(str(params.get("litellm_credential_name")), {})
        params = {**credential, **params}
        alias = str(entry.get("model_name") or params["model"])
        base, model = self._whose(at, params)
        provider = self._provider(at, base, params) if base else None
        if provider is None or not model:
            return
        ref = self._key(at, base or "", provider, params)
        self._tell(at, params)
        self._prices(at, provider, model, {**_mapping(entry.get("model_info")), **params})
        if model == "*":
            self._wildcard(at, alias, provider, ref)
            return
        if set("*?[") & set(model):
            self._draft.gap(self._place("model_list", at, "litellm_params", "model"), _ONE_MODEL)
            return
        self._add(alias, self._deployment(f"{provider.name}/{model}", provider, ref, params))

    def _whose(self, at: int, params: Mapping[str, Any]) -> tuple[str | None, str]:
        """The catalogue's provider, and the model without it."""
        text = params["model"]
        prefix, slash, rest = text.partition("/")
        given = params.get("custom_llm_provider")
        if isinstance(given, str):
            base, model = self._draft.known(given), text.removeprefix(f"{given}/")
        elif slash and self._draft.known(prefix):
            base, model = self._draft.known(prefix), rest
        elif text == "*":
            base, model = "openai", text
        else:
            base, model = next((name for pattern, name in _BARE if pattern.match(text)), None), text
        if base is None:
            text = "the provider is not in the catalogue; write it under providers: with like: and upstream:, and a route to it"
            self._draft.gap(self._place("model_list", at, "litellm_params", "model"), text)
        return base, model.removeprefix("responses/") if base == "openai" else model

    def _provider(self, at: int, base: str, params: Mapping[str, Any]) -> ProviderDraft | None:
        """Where it is called; None for an address that cannot be used."""
        word = "api_base" if params.get("api_base") else "base_url"
        address, place = params.get(word), self._place("model_list", at, "litellm_params", word)
        if isinstance(address, str) and (variable := _VARIABLE.fullmatch(address)):
            address = self._environ.get(variable[1])
            if address is None:
                self._draft.gap(place, f"the address is in the variable {variable[1]}, which is not set; set it and import again")
                return None
        if not address:
            if self._draft.catalog[base].upstream is None:
                self._draft.gap(self._place("model_list", at, "litellm_params"), f"{base} {_UNPLACED}")
                return None
            return self._draft.provider(base)
        try:
            return self._draft.placed(base, values.upstream(str(address).rstrip("/")), str(address).rstrip("/"))
        except ValueError as error:
            self._draft.gap(place, f"{error}; it was left out")
            return None

    def _key(self, at: int, base: str, provider: ProviderDraft, params: Mapping[str, Any]) -> str | None:
        """The reference of the key; None where the environment is looked through, or no key is needed."""
        value, place = params.get("api_key"), self._place("model_list", at, "litellm_params", "api_key")
        if isinstance(value, str) and (variable := _VARIABLE.fullmatch(value)):
            ref = f"env:{variable[1]}"
        elif value in (None, "") or problem("it", str(value), _DUMMIES) is not None:
            self._without_key(place, base, provider, given=value not in (None, ""))
            return None
        else:
            ref = self._draft.literal(provider.name, Secret(str(value)), place)
        key = provider.key(ref)
        if isinstance(organization := params.get("organization"), str) and not organization.startswith("os.environ/"):
            key.words["organization"] = organization
        if (most := whole(params.get("max_parallel_requests"))) and "concurrency" not in key.words:
            key.words["concurrency"] = most
        return ref

    def _without_key(self, place: str, base: str, provider: ProviderDraft, *, given: bool) -> None:
        local = "upstream" in provider.words and values.is_loopback(values.upstream(provider.words["upstream"]).host)
        if local or not self._draft.catalog[base].keys:
            provider.keyless = True
        elif given:
            self._draft.gap(place, "looks like a dummy, not like a key; it was left out")
        elif provider.name != base:
            self._draft.gap(place, "an address of its own needs a key of its own; name one under keys:")
            provider.keyless = True

    def _tell(self, at: int, params: Mapping[str, Any]) -> None:
        for word in params:
            if word not in _UNDERSTOOD:
                self._draft.gap(self._place("model_list", at, "litellm_params", word), _PARAMS.get(word, _PARAMETER))

    def _prices(self, at: int, provider: ProviderDraft, model: str, info: Mapping[str, Any]) -> None:
        prices = {ours: price for theirs, ours in _PRICES.items() if (price := _per_million(info.get(theirs))) is not None}
        if {"input", "output"} <= prices.keys() and not set("*?[") & set(model):
            provider.words.setdefault("prices", {})[model] = prices
        elif prices:
            self._draft.gap(self._place("model_list", at), "a price has an input and an output; it was left out")

    def _deployment(self, target: str, provider: ProviderDraft, ref: str | None, params: Mapping[str, Any]) -> _Deployment:
        order = whole(params.get("order"))
        return _Deployment(
            target, provider, ref, _number(params.get("weight")), _number(params.get("rpm")), 10**9 if order is None else order
        )  # fmt: skip

    def _add(self, alias: str, deployment: _Deployment) -> None:
        self._groups.setdefault(alias, _Group()).deployments.append(deployment)

    def _wildcard(self, at: int, alias: str, provider: ProviderDraft, ref: str | None) -> None:
        """`*`: the provider with whatever model is asked for. With a provider in front of it no name would fit here."""
        if alias == "*":
            text = "a call goes to the provider it was sent to, with whatever model, and needs no route"
            self._draft.gap(self._place("model_list", at, "model_name"), text)
        elif "/" in alias:
            text = f"agents write the model without {alias.removesuffix('*')}, to the provider's address, and need no route"
            self._draft.gap(self._place("model_list", at, "model_name"), text)
        else:
            self._add(alias, _Deployment(provider.name, provider, ref, None, None, 10**9))

    # Routes.

    def _routes(self) -> None:
        """One for each name; those for one model before those for many."""
        for alias in sorted(self._groups, key=lambda name: ("*" in name, -len(name) if "*" in name else 0)):
            group = self._groups[alias]
            pattern = re.sub(r"[\[?]", lambda found: f"[{found[0]}]", alias)
            route = RouteDraft([pattern], group.targets)
            self._weigh(route, group)
            self._draft.routes.append(route)

    def _weigh(self, route: RouteDraft, group: _Group) -> None:
        """How its targets share the calls: by `order`, by weight (or rpm), else evenly; so do the keys of one target."""
        figures = {True: [each.weight for each in group.deployments], False: [each.rpm for each in group.deployments]}
        chosen = figures[any(weight is not None for weight in figures[True])]
        shares = [1.0 if share is None else share for share in chosen] if any(chosen) else []
        if len(route.to) == 1:
            for deployment, share in zip(group.deployments, shares, strict=False):
                self._weigh_key(deployment, share)
        elif len({each.order for each in group.deployments}) > 1:
            return
        elif shares:
            totals = dict.fromkeys(route.to, 0.0)
            for deployment, share in zip(group.deployments, shares, strict=True):
                totals[deployment.target] += share
            most = max(totals.values())
            scale = 1000 / most if most > 1000 else 1.0
            route.words |= {"order": "weighted", "weights": [_plain(total * scale) for total in totals.values()]}
        else:
            route.words["order"] = "random"

    def _weigh_key(self, deployment: _Deployment, share: float) -> None:
        if deployment.ref is not None and 0 < share <= 1000 and share != 1:
            deployment.provider.key(deployment.ref).words.setdefault("weight", _plain(share))

    def _fallbacks(self) -> None:
        for section in ("litellm_settings", "router_settings"):
            for word, place in (("fallbacks", "exhausted"), ("context_window_fallbacks", "too_long")):
                for name, others in _pairs(self._section(section).get(word)):
                    self._fall_back(self._place(section, word), place, name, others)
            for alias, name in _mapping(self._section(section).get("model_group_alias")).items():
                self._alias(self._place(section, "model_group_alias"), str(alias), name)
        for section in ("litellm_settings", "router_settings"):
            self._fall_back_by_default(self._place(section, "default_fallbacks"), self._section(section).get("default_fallbacks"))

    def _fall_back(self, place: str, word: str, name: str, others: Sequence[object]) -> None:
        route = next((each for each in self._draft.routes if name in each.models), None)
        if route is None:
            self._draft.gap(place, f"{_shown(name)} is no name of the model list")
            return
        self._extend(place, route, word, others)

    def _fall_back_by_default(self, place: str, others: object) -> None:
        for route in self._draft.routes:
            if isinstance(others, list) and not route.exhausted:
                self._extend(place, route, "exhausted", others)

    def _extend(self, place: str, route: RouteDraft, word: str, others: Sequence[object]) -> None:
        """Add the targets of other names, without those that the route has tried by then."""
        found: list[str] = getattr(route, word)
        for other in others:
            group = self._groups.get(str(other))
            if group is None:
                self._draft.gap(place, f"{_shown(other)} is no name of the model list")
            for target in group.targets if group else ():
                if target not in route.to and target not in found:
                    found.append(target)

    def _alias(self, place: str, alias: str, name: object) -> None:
        meant = name.get("model") if isinstance(name, dict) else name
        route = next((each for each in self._draft.routes if meant in each.models), None)
        if route is None or any(alias in each.models for each in self._draft.routes) or set("*?[") & set(alias):
            self._draft.gap(place, f"{_shown(alias)} cannot be another name of {_shown(meant)}")
        else:
            route.models.append(alias)

    def _is_mixed(self, route: RouteDraft) -> bool:
        """Whether a target does not speak what most agents of LiteLLM do."""
        names = {target.partition("/")[0] for target in (*route.to, *route.exhausted, *route.too_long)}
        bases = {self._draft.providers[name].words.get("like", name) for name in names}
        surfaces = [self._draft.catalog[base].surfaces for base in bases]
        return not all(any(e.format == "openai_chat" for each in found for e in each.endpoints) for found in surfaces)

    # Settings.

    def _section(self, name: str) -> dict[str, Any]:
        return _mapping(self._data.get(name))

    def _router(self) -> None:
        strategy = self._section("router_settings").get("routing_strategy")
        if strategy == "least-busy":
            for provider in self._draft.providers.values():
                if len(provider.keys) > 1:
                    provider.words["rotation"] = "least_busy"
        elif isinstance(strategy, str) and strategy in _STRATEGIES:
            text = f"{strategy} has no counterpart: targets are tried as their route says, keys as rotation: does"
            self._draft.gap(self._place("router_settings", "routing_strategy"), text)
        found = {**self._section("litellm_settings"), **self._section("router_settings")}
        longest = max((len(route.to) + len(route.exhausted) for route in self._draft.routes), default=1)
        if (retries := whole(found.get("num_retries"))) is not None:
            self._draft.gateway["attempts"] = min(_MOST_ATTEMPTS, (retries + 1) * max(1, longest))
        for theirs, ours in _LIMITS.items():
            if limit := seconds(found.get(theirs)):
                self._draft.timeouts[ours] = limit

    def _settings(self) -> None:
        understood = {
            "fallbacks", "context_window_fallbacks", "default_fallbacks", "model_group_alias", "routing_strategy", "num_retries",
            *_LIMITS,
        }  # fmt: skip
        for section in ("litellm_settings", "router_settings", "general_settings", "server_settings"):
            for word in self._section(section):
                if section == "general_settings" or word not in understood:
                    self._draft.gap(self._place(section, word), _SETTINGS.get(word, _NONE))
        known = {"model_list", "litellm_settings", "router_settings", "general_settings", "server_settings", "credential_list"}
        for word in self._data:
            if word == "environment_variables":
                self._draft.gap(self._place(word), "set them for the gateway, or in .env beside rules.yaml; none was copied")
            elif word not in known:
                self._draft.gap(self._place(word), _NONE)


def _pairs(found: object) -> Iterator[tuple[str, Sequence[object]]]:
    """`[{name: [other, …]}, …]`, as far as it is that."""
    for each in found if isinstance(found, list) else ():
        for name, others in each.items() if isinstance(each, dict) else ():
            yield str(name), others if isinstance(others, list) else [others]


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _number(value: object) -> float | None:
    """A figure that shares can be made of; None for what is none."""
    is_figure = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    return float(value) if is_figure else None  # type: ignore[arg-type]  # it is a number by then


def _plain(number: float) -> int | float:
    rounded = round(number, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _per_million(value: object) -> Decimal | None:
    """A price for a token as one for a million, exactly."""
    try:
        price = Decimal(str(value)) * 1_000_000
    except ArithmeticError:
        return None
    if not price.is_finite() or not 0 <= price <= 1_000_000:
        return None
    return price.normalize()


def _shown(name: object) -> str:
    """A name, without what could be a key in it."""
    return values.masked(str(name))[:80]
