"""Rules in the making: what an importer has understood, what it has not, and the keys that it found in the open.

Values of keys are never part of the text: a key is a reference, and what it refers to is kept apart until somebody asks for it
to be written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ...model import ProviderFacts, Upstream
from ...rules import values
from ...secrets import Secret

FOLDER = "keys"
"""Where keys that stood in the open go, beside rules.yaml."""
_PLAIN = re.compile(r"[A-Za-z_][\w./@-]*")
_REFERENCE = re.compile(r"(env|file):[A-Za-z_][\w./-]*")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "none"})
_NAME = re.compile(r"[^a-z0-9_-]+")
_SPELLINGS = {
    "azure_ai": "azure", "cohere_chat": "cohere", "custom_openai": "openai", "fireworks_ai": "fireworks",
    "github": "github_models", "google": "gemini", "hosted_vllm": "vllm", "llamafile": "llama_cpp", "nvidia_nim": "nvidia",
    "ollama_chat": "ollama", "openai_like": "openai", "text-completion-openai": "openai", "together_ai": "together",
    "vertex_ai_beta": "vertex_ai", "z_ai": "zai",
}  # fmt: skip
"""LiteLLM's names of providers that are not ours. https://docs.litellm.ai/docs/providers"""


@dataclass
class KeyDraft:
    """A key: its reference, and the words that go with it."""

    ref: str
    words: dict[str, Any] = field(default_factory=dict)
    comment: str = ""


@dataclass
class ProviderDraft:
    """A provider: its words, and its keys; none of them means that the environment is looked through, or that none is needed."""

    name: str
    words: dict[str, Any] = field(default_factory=dict)
    keys: list[KeyDraft] = field(default_factory=list)
    keyless: bool = False

    def key(self, ref: str, comment: str = "") -> KeyDraft:
        """The key with this reference, new if need be."""
        found = next((key for key in self.keys if key.ref == ref), None)
        if found is None:
            self.keys.append(found := KeyDraft(ref, comment=comment))
        return found


@dataclass
class RouteDraft:
    """A route: the models that it is for, and where they go."""

    models: list[str]
    to: list[str]
    words: dict[str, Any] = field(default_factory=dict)
    too_long: list[str] = field(default_factory=list)
    exhausted: list[str] = field(default_factory=list)


class Draft:
    """Rules in the making. `source` is what they are made from, as it is named to people."""

    def __init__(self, source: str, catalog: Mapping[str, ProviderFacts]) -> None:
        self.source, self.catalog = source, catalog
        self.gateway: dict[str, Any] = {}
        self.timeouts: dict[str, Any] = {}
        self.providers: dict[str, ProviderDraft] = {}
        self.routes: list[RouteDraft] = []
        self.literals: dict[str, Secret] = {}
        """Path beside rules.yaml -> a key that stood in the open."""
        self.places: dict[str, str] = {}
        """The same paths -> where the key stood."""
        self._gaps: dict[str, list[str]] = {}

    def gap(self, place: str, text: str) -> None:
        """Note what has no counterpart, or that a person must see to. The same text is said once, with all its places."""
        places = self._gaps.setdefault(text, [])
        if place not in places:
            places.append(place)

    @property
    def gaps(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What was noted: places and text."""
        return ((tuple(places), text) for text, places in self._gaps.items())

    def known(self, name: str) -> str | None:
        """Our name of a provider, by theirs; None for one that the catalogue does not have."""
        found = _SPELLINGS.get(name.lower(), name.lower())
        return next((each for each in (found, found.replace("-", "_")) if each in self.catalog), None)

    def provider(self, name: str) -> ProviderDraft:
        """The provider with this name, new if need be."""
        return self.providers.setdefault(name, ProviderDraft(name))

    def placed(self, base: str, upstream: Upstream, address: str) -> ProviderDraft:
        """The provider that speaks as `base` does and is called at `upstream` (written `address`): itself, or one of your own."""
        facts = self.catalog[base]
        own = values.upstream(facts.upstream) if facts.upstream else None
        if own is not None and _same_place(own, upstream):
            return self.provider(base)
        if own is None and self.providers.get(base, ProviderDraft(base)).words.get("upstream") in (None, address):
            made = self.provider(base)
            made.words["upstream"] = address
            return made
        name = slug(f"{base}-{upstream.host}" + ("" if upstream.port in (80, 443) else f"-{upstream.port}"))
        made = self.provider(name if self._is_free(name, address) else slug(f"{name}-{(upstream.prefix or '/root')[1:]}"))
        made.words |= {"like": base, "upstream": address}
        return made

    def _is_free(self, name: str, address: str) -> bool:
        return name not in self.catalog and self.providers.get(name, ProviderDraft(name)).words.get("upstream") in (None, address)

    def literal(self, provider: str, value: Secret, place: str) -> str:
        """The reference for a key that stands in the open at `place`."""
        path = next((path for path, held in self.literals.items() if held == value), None)
        if path is None:
            count = sum(each.startswith(f"{FOLDER}/{provider}-") for each in self.literals) + 1
            path = f"{FOLDER}/{provider}-{count}"
            self.literals[path], self.places[path] = value, place
        return f"file:{path}"

    def render(self) -> str:
        """The text of rules.yaml."""
        self._say_what_is_shared()
        return "\n".join(self._lines()) + "\n"

    def _say_what_is_shared(self) -> None:
        """A key that belongs to one provider goes to another place only where that is said to be meant."""
        first: dict[str, str] = {}
        for provider in self.providers.values():
            for key in provider.keys:
                owner = self._owner(key.ref) or first.setdefault(key.ref, provider.name)
                if owner != provider.name and not self._is_local(provider):
                    key.words["share"] = True
                    self.gap(key.ref, f"belongs to {owner} by its name or by its first use, and goes to {provider.name} as well")

    def _owner(self, ref: str) -> str | None:
        """The provider that a variable is named for."""
        name = ref.removeprefix("env:").removeprefix("GATEWAY_") + "_"
        named = (facts.name for facts in self.catalog.values() for variable in facts.env if name.startswith(f"{variable}_"))
        return next(named, None) if ref.startswith("env:") else None

    def _is_local(self, provider: ProviderDraft) -> bool:
        address = provider.words.get("upstream")
        return address is not None and values.is_loopback(values.upstream(address).host)

    def _lines(self) -> Iterator[str]:
        source = "".join(letter if letter.isprintable() else "?" for letter in self.source)
        yield f"# Made by `valetkey import` from {source}. `valetkey check` looks it over; docs/rules.md tells all words."
        yield "version: 1"
        if self.gateway or self.timeouts:
            yield "\ngateway:"
            yield from (f"  {name}: {flow(value)}" for name, value in self.gateway.items())
            if self.timeouts:
                yield f"  timeouts: {flow(self.timeouts)}"
        if self.providers:
            yield "\n# Keys are references: no key stands in this file."
            yield "providers:"
            for provider in self.providers.values():
                yield from _provider_lines(provider)
        if self.routes:
            yield "\n# The first route that matches decides; without one, a call goes to the provider it was sent to."
            yield "routes:"
            for route in self.routes:
                yield from _route_lines(route)


def slug(text: str) -> str:
    """A name as rules.yaml takes it for a provider."""
    return _NAME.sub("-", text.lower()).strip("-_")[:64] or "imported"


def seconds(value: object) -> str | None:
    """A number of seconds as a duration; None for what is none, or is zero or less."""
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    return f"{round(number, 3):.10g}s" if math.isfinite(number) and 0.001 <= number < 1e7 else None


def whole(value: object) -> int | None:
    """A whole number that is not negative; None for what is none."""
    text = str(value).strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def flow(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(name)}: {flow(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and (not _PLAIN.fullmatch(value) or value.lower() in _RESERVED):
        is_duration = re.fullmatch(r"[0-9.]+(s|ms|m|h)", value) is not None
        # Not escaped where that can be: JSON writes an emoji as two halves, which YAML does not join.
        return value if is_duration else json.dumps(value, ensure_ascii=not value.isprintable())
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _same_place(one: Upstream, other: Upstream) -> bool:
    """Whether two addresses are the same, by whatever name this machine is called; a base path that is the usual one is none."""
    hosts = {"localhost" if values.is_loopback(each.host) else each.host for each in (one, other)}
    return len(hosts) == 1 and one.port == other.port and other.prefix in (None, "/v1", "/v1beta")


def _provider_lines(provider: ProviderDraft) -> Iterator[str]:
    if not (provider.words or provider.keys or provider.keyless):
        yield f"  {provider.name}: {{}}  # keys are looked for in the environment"
        return
    yield f"  {provider.name}:"
    for name, value in provider.words.items():
        yield f"    {name}: {flow(value)}"
    if provider.keys:
        yield "    keys:"
        yield from (f"      - {_key(key)}{_remark(key.comment)}" for key in provider.keys)
    elif provider.keyless:
        yield "    keys: none"


def _key(key: KeyDraft) -> str:
    if key.words:
        return flow({"ref": key.ref, **key.words})
    return key.ref if _REFERENCE.fullmatch(key.ref) else flow(key.ref)


def _remark(text: str) -> str:
    return f"  # {text}" if text else ""


def _route_lines(route: RouteDraft) -> Iterator[str]:
    yield f"  - match: {{model: {flow(_one_or_many(route.models))}}}"
    yield f"    to: {flow(_one_or_many(route.to))}"
    yield from (f"    {name}: {flow(value)}" for name, value in route.words.items())
    fallback = {"too_long": route.too_long, "exhausted": route.exhausted}
    if any(fallback.values()):
        yield f"    fallback: {flow({name: _one_or_many(to) for name, to in fallback.items() if to})}"


def _one_or_many(texts: Iterable[str]) -> str | list[str]:
    found = list(texts)
    return found[0] if len(found) == 1 else found
