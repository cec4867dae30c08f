"""Which provider a destination belongs to, which endpoint a path is, and where that endpoint is at another provider.

Matching is exact on normalised values. Whatever could be read in two ways (dot segments, encoded slashes, odd hosts) is
refused rather than repaired, because the provider might read it in the other way.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote, unquote

from ..model import Dialect, Endpoint, Provider, ProviderFacts, Refusal, Surface
from .authority import parse_host
from .kept import Kept

_ENCODED = r"[01][0-9a-f]|2[3ef5]|3[bf]|5c|7f|[89a-f][0-9a-f]"
"""In hexadecimal: controls, `# . / %`, `; ?`, the backslash and every byte that is not ASCII."""
_TRICKS = re.compile(rf"%(?:{_ENCODED}|(?![0-9a-f]{{2}}))|//|[\\;?#]|[^\x21-\x7e]", re.IGNORECASE)
_DOTS = re.compile(r"(^|/)\.\.?(/|$)")
_PLACE = re.compile(r"\{([a-z_]+)(\*?)\}")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_PART = r"%2f[a-z0-9](?:[a-z0-9._-]|%3a|:)*"
_FIELDS = r"aws[a-z-]*(?:%3a|:)[a-z0-9-]+(?:%3a|:)[a-z0-9-]*(?:%3a|:)\d*(?:%3a|:)"
_ARN = re.compile(rf"(?<=/)arn(?:%3a|:){_FIELDS}[a-z-]+{_PART}(?:{_PART})?", re.IGNORECASE)
"""The name of a resource of AWS, as a segment: slashes belong to it, and AWS's own SDKs write them so. No part begins with a dot.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html"""
TELLING = frozenset({"anthropic-version", "x-api-key"})
"""Headers by which Anthropic's SDK shows itself."""
_SHOWN = 200
"""Characters of a path that a message shows."""


def check_path(path: str) -> Refusal | None:
    """Refuse a path, without its query, that gateway and provider might read differently."""
    if _is_plain(path):
        return None
    text = "the path holds dot segments, doubled or encoded slashes, `;`, `\\` or characters that do not belong there"
    return Refusal(400, "odd_path", f"{text}: {path[:_SHOWN]!r}")


def _is_plain(path: str) -> bool:
    path = _ARN.sub("arn", path) if "/arn" in path else path
    return path.startswith("/") and not _TRICKS.search(path) and not _DOTS.search(path)


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint that a path led to. `path_model` is decoded; `base` and `rest` are the path as it came, cut at the surface's
    base."""

    surface: Surface
    endpoint: Endpoint
    path_model: str | None
    rest: str
    base: str = ""


@dataclass(frozen=True, slots=True)
class Mapped:
    """The same endpoint at a target: its surface and the whole path there, without the query."""

    surface: Surface
    endpoint: Endpoint
    path: str


_LOCATED: Kept[Place] = Kept()
_LOCATED_API: Kept[tuple[str, Place]] = Kept()
_MAPPED: Kept[Mapped] = Kept()
_AT_HOSTS: Kept[Provider] = Kept()


def locate(facts: ProviderFacts, method: str, path: str, open_groups: Collection[str] = ()) -> Place | Refusal:
    """The endpoint that a path of this provider is, if a credential may be used there."""
    key = (id(facts), method, path, tuple(open_groups))
    place = _LOCATED.get(key)
    if place is not None:
        return place
    found = _locate(facts, method, path, open_groups)
    if isinstance(found, Place):
        _LOCATED.put(key, found, facts, path)
    return found


def _locate(facts: ProviderFacts, method: str, path: str, open_groups: Collection[str]) -> Place | Refusal:
    path = _with_one_slash(facts, path)
    refusal = check_path(path)
    if refusal is not None:
        return refusal
    wrong_method: Endpoint | None = None
    for surface, endpoint, base, found in _matches(facts, path):
        if ("GET" if method == "HEAD" else method) not in endpoint.methods:
            wrong_method = endpoint
            continue
        if endpoint.group != "inference" and endpoint.group not in open_groups:
            return _closed(facts, endpoint, path)
        model = found.groupdict().get("model")
        return Place(surface, endpoint, unquote(model) if model else None, path[len(base) :], base)
    if wrong_method is not None:
        return Refusal(
            405,
            "method_not_allowed",
            f"{method} {path[:_SHOWN]} is not allowed; {facts.name} takes {', '.join(wrong_method.methods)}",
        )
    text = f"{path[:_SHOWN]} is not on {facts.name}'s list of endpoints that a key may be used for"
    return Refusal(403, "endpoint_not_allowed", text)


def _with_one_slash(facts: ProviderFacts, path: str) -> str:
    """The path with one slash at its beginning where an SDK of the provider writes two, and only under that base."""
    doubled = path.startswith("//") and any(s.doubled and path.startswith(f"/{s.base}/") for s in facts.surfaces)
    return path[1:] if doubled else path


def _closed(facts: ProviderFacts, endpoint: Endpoint, path: str) -> Refusal:
    text = f"{path[:_SHOWN]} is closed; providers.{facts.name}.open: [{endpoint.group}] in rules.yaml opens it"
    return Refusal(403, "endpoint_closed", text)


def _matches(facts: ProviderFacts, path: str) -> Iterator[tuple[Surface, Endpoint, str, re.Match[str]]]:
    """Every endpoint whose template fits, longest base first, with the base as it came."""
    for surface in sorted(facts.surfaces, key=lambda s: -len(s.base)):
        based = _pattern(surface.base).match(path)
        if based is None or path[based.end() : based.end() + 1] != "/":
            continue
        for endpoint in surface.endpoints:
            found = _pattern(endpoint.path).fullmatch(path, based.end())
            if found:
                yield surface, endpoint, based[0], found


@lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern[str]:
    parts, at = [], 0
    for place in _PLACE.finditer(template):
        parts.append(re.escape(template[at : place.start()]))
        name, many = place.groups()
        glued = many and template[place.start() - 1] != "/"
        inner = "(?:/.+)?" if glued else ".+" if many else "[^/]+"
        parts.append(f"(?P<{name}>{inner})")
        at = place.end()
    return re.compile("".join([*parts, re.escape(template[at:])]))


class HostTable:
    """Which provider a destination belongs to."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._catalogue = {host: name for name, provider in providers.items() for host in provider.facts.hosts}
        placed = {name: provider for name, provider in providers.items() if provider.is_placed}
        self._upstreams = {
            (provider.upstream.scheme, provider.upstream.host, provider.upstream.port): name for name, provider in placed.items()
        }
        self._tenants = {
            tenants.removeprefix("*."): name for name, provider in providers.items() for tenants in provider.facts.tenant_hosts
        }

    def find(self, host: str, port: int, scheme: str) -> str | None:
        """The provider at exactly this destination: its own hosts by https on 443, or a configured upstream.

        A host that tenants register is found too: `unnamed` tells whether the rules know it.
        """
        name = parse_host(host)
        if name is None:
            return None
        secure = scheme == "https" and port == _DEFAULT_PORTS["https"]
        if secure and name in self._catalogue:
            return self._catalogue[name]
        found = self._upstreams.get((scheme, name, port))
        return self._tenants.get(name.partition(".")[2]) if found is None and secure else found

    def downgrade(self, host: str, port: int, scheme: str) -> str | None:
        """The provider whose host is called over plain HTTP, which must be refused."""
        name = parse_host(host)
        if name is None or scheme != "http":
            return None
        return self._catalogue.get(name) or self._tenants.get(name.partition(".")[2])


def unnamed(provider: Provider, host: str) -> Refusal | None:
    """Why a call may not go to a host that a tenant registered: the rules do not name it, and a key is for one of them only."""
    facts = provider.facts
    if not facts.tenant_hosts or parse_host(host) == provider.upstream.host:
        return None
    known = f"the rules name {provider.upstream.host}" if provider.is_placed else f"{provider.name} has no upstream yet"
    fix = f"write providers.{provider.name}.upstream: https://{host}"
    other = f", or another provider with like: {provider.name} and that upstream" if provider.is_placed else ""
    text = f"{host} is not called, because anybody can register such a name and {known}; if it is yours, {fix}{other}"
    return Refusal(403, "unnamed_upstream", text)


def at_host(target: Provider, host: str) -> Provider:
    """The provider at the host that a call names, where each of its hosts is a place of its own and the rules name none."""
    facts = target.facts
    if not facts.stays_at_host or target.upstream.origin != facts.upstream:
        return target
    name = parse_host(host)
    if name is None or name not in facts.hosts:
        return target
    return _AT_HOSTS.get((id(target), name)) or _moved(target, name)


def _moved(target: Provider, host: str) -> Provider:
    """The provider with another host for its own upstream, made once: calls are known by the identity of what they go to."""
    upstream = replace(target.upstream, host=host)
    made = replace(target, upstream=upstream, facts=replace(target.facts, upstream=upstream.origin))
    return _AT_HOSTS.put((id(target), host), made, target, host)


def locate_api(
    providers: Mapping[str, Provider], method: str, path: str, headers: Mapping[str, str]
) -> tuple[str, Place] | Refusal:
    """The provider and endpoint of a path on the base-URL door; `headers` have lower-case names.

    `/groq/openai/v1/chat/completions` names its provider; otherwise the provider that is the default for the path's
    dialect gets it. `/v1/models` belongs to two dialects: Anthropic's SDK shows itself by its headers.
    """
    anthropic_first = not TELLING.isdisjoint(headers)
    key = (id(providers), method, path, anthropic_first)
    place = _LOCATED_API.get(key)
    if place is not None:
        return place
    found = _locate_api(providers, method, path, anthropic_first)
    if not isinstance(found, Refusal):
        _LOCATED_API.put(key, found, providers, path)
    return found


def _locate_api(providers: Mapping[str, Provider], method: str, path: str, anthropic_first: bool) -> tuple[str, Place] | Refusal:
    refusal = check_path(path)
    if refusal is not None:
        return refusal
    first, _, rest = path[1:].partition("/")
    if first in providers and rest:
        return _placed(providers[first], method, "/" + rest)
    useful: Refusal | None = None
    for name, candidate in _candidates(providers, path, anthropic_first):
        found = _placed(providers[name], method, candidate)
        if not isinstance(found, Refusal):
            return found
        if useful is None and found.reason != "endpoint_not_allowed":
            useful = found
    known = "/v1/chat/completions, /v1/messages, /v1beta/models/…, or /PROVIDER/…"
    text = f"{path[:_SHOWN]} is no path of a known provider; use {known}"
    return useful or Refusal(404, "unknown_path", text)


def _placed(provider: Provider, method: str, path: str) -> tuple[str, Place] | Refusal:
    place = locate(provider.facts, method, path, provider.open)
    return place if isinstance(place, Refusal) else (provider.name, place)


def _candidates(providers: Mapping[str, Provider], path: str, anthropic_first: bool) -> Iterator[tuple[str, str]]:
    """Providers and paths to try, in order; a path without `/v1` is tried with the provider's base as well."""
    order = [Dialect.ANTHROPIC, Dialect.OPENAI] if anthropic_first else [Dialect.OPENAI, Dialect.ANTHROPIC]
    for dialect in [*order, Dialect.GEMINI, Dialect.OLLAMA, Dialect.BEDROCK]:
        for name, provider in providers.items():
            if dialect in provider.facts.default_for:
                yield name, path
                yield name, provider.facts.surfaces[0].base + path


def split_model_prefix(model: str, provider: str, providers: Mapping[str, Provider]) -> tuple[str, str] | None:
    """`openrouter/anthropic/x` -> (`openrouter`, `anthropic/x`) when the first part is a provider's name, else None."""
    first, _, rest = model.partition("/")
    return (first, rest) if rest and first in providers else None


def wire_path(target: Provider, place: Place, model: str | None) -> Mapped | None:
    """Where `place` is at `target`, for `model`. None when the target has no such open endpoint, or the model fits no path.

    Within the same provider, and with the same model, the path under the base stays byte for byte.
    """
    key = (id(target), id(place), model)
    mapped = _MAPPED.get(key)
    if mapped is None:
        mapped = _mapped(target, place, model)
        if mapped is not None:
            _MAPPED.put(key, mapped, (target, place), model or "")
    return mapped


def _mapped(target: Provider, place: Place, model: str | None) -> Mapped | None:
    found = _counterpart(target, place)
    if found is None:
        return None
    surface, endpoint = found
    same_model = place.endpoint.model != "path" or model == place.path_model
    same_template = endpoint.path == place.endpoint.path
    rest = place.rest if same_model and same_template else _filled(endpoint.path, place, model)
    base = _base(target, surface, place)
    path = "" if base is None else base + rest
    return Mapped(surface, endpoint, path) if _is_plain(path) else None


def _counterpart(target: Provider, place: Place) -> tuple[Surface, Endpoint] | None:
    """The same endpoint on the same surface or, at another provider, on the first one of its dialect that has it."""
    surfaces = target.facts.surfaces
    if place.surface in surfaces:
        surfaces = (place.surface,)
    for surface in surfaces:
        for endpoint in surface.endpoints:
            if surface.dialect is place.surface.dialect and _is_same(endpoint, place.endpoint) and _is_open(target, endpoint):
                return surface, endpoint
    return None


def _is_same(one: Endpoint, other: Endpoint) -> bool:
    """Format alone does not tell: text is completed around a gap in the format of a chat, but is no chat."""
    return one.name == other.name and one.format is other.format and one.group == other.group


def _is_open(target: Provider, endpoint: Endpoint) -> bool:
    return endpoint.group == "inference" or endpoint.group in target.open


def _filled(template: str, place: Place, model: str | None) -> str:
    values = _pattern(place.endpoint.path).fullmatch(place.rest)
    found = {name: value or "" for name, value in values.groupdict().items()} if values else {}
    if model is not None:
        found["model"] = quote(model, safe="-._~:@" + ("/" if "{model*}" in template else ""))
    return _PLACE.sub(lambda m: found.get(m.group(1), ""), template)


def _base(target: Provider, surface: Surface, place: Place) -> str | None:
    """The base path at the target's upstream. A prefix there takes the place of the primary surface's base.

    A base may have placeholders (a project and its region). The agent fills them by calling that surface, else the rules do by
    the prefix, up to where the placeholders end; None where nobody has.
    """
    prefix, last = target.upstream.prefix, surface.base.rfind("}") + 1
    if last:
        filled = place.base if place.surface == surface else ""
        return prefix + surface.base[last:] if prefix is not None else filled or None
    if prefix is None:
        return surface.base
    primary = target.facts.surfaces[0].base
    below = f"{surface.base}/".startswith(f"{primary}/")
    return prefix + (surface.base[len(primary) :] if below else surface.base)
