"""Which provider a destination belongs to, which endpoint a path is, and where that endpoint is at another provider.

Matching is exact on normalised values. Whatever could be read in two ways (dot segments, encoded slashes, odd hosts) is
refused rather than repaired, because the provider might read it in the other way.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from ..model import Dialect, Endpoint, Provider, ProviderFacts, Refusal, Surface
from .authority import parse_host

_TRICKS = re.compile(r"%2e|%2f|%5c|%00|%25|%0[ad]|//|\\|;|[^\x21-\x7e]", re.IGNORECASE)
_DOTS = re.compile(r"(^|/)\.\.?(/|$)")
_PLACE = re.compile(r"\{([a-z_]+)(\*?)\}")
_DEFAULT_PORTS = {"https": 443, "http": 80}


def check_path(path: str) -> Refusal | None:
    """Refuse a path that gateway and provider might read differently."""
    if not path.startswith("/") or _TRICKS.search(path) or _DOTS.search(path):
        text = "the path holds dot segments, doubled or encoded slashes, `;`, `\\` or characters that do not belong there"
        return Refusal(400, "odd_path", f"{text}: {path[:200]!r}")
    return None


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint that a path led to. `path_model` is decoded; `rest` is the path under the surface's base, as it came."""

    surface: Surface
    endpoint: Endpoint
    path_model: str | None
    rest: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """The same endpoint at a target: its surface and the whole path there, without the query."""

    surface: Surface
    endpoint: Endpoint
    path: str


def locate(facts: ProviderFacts, method: str, path: str, open_groups: Collection[str] = ()) -> Place | Refusal:
    """The endpoint that a path of this provider is, if a credential may be used there."""
    refusal = check_path(path)
    if refusal is not None:
        return refusal
    wrong_method: Endpoint | None = None
    for surface, endpoint, found in _matches(facts, path):
        if ("GET" if method == "HEAD" else method) not in endpoint.methods:
            wrong_method = endpoint
            continue
        if endpoint.group != "inference" and endpoint.group not in open_groups:
            return _closed(facts, endpoint, path)
        model = found.groupdict().get("model")
        return Place(surface, endpoint, unquote(model) if model else None, path[len(surface.base) :])
    if wrong_method is not None:
        return Refusal(
            405, "method_not_allowed", f"{method} {path} is not allowed; {facts.name} takes {', '.join(wrong_method.methods)}"
        )
    text = f"{path} is not on {facts.name}'s list of endpoints that a key may be used for"
    return Refusal(403, "endpoint_not_allowed", text)


def _closed(facts: ProviderFacts, endpoint: Endpoint, path: str) -> Refusal:
    text = f"{path} is closed; providers.{facts.name}.open: [{endpoint.group}] in rules.yaml opens it"
    return Refusal(403, "endpoint_closed", text)


def _matches(facts: ProviderFacts, path: str) -> Iterator[tuple[Surface, Endpoint, re.Match[str]]]:
    """Every endpoint whose template fits, longest base first."""
    for surface in sorted(facts.surfaces, key=lambda s: -len(s.base)):
        if not path.startswith(surface.base + "/"):
            continue
        rest = path[len(surface.base) :]
        for endpoint in surface.endpoints:
            found = _pattern(endpoint.path).fullmatch(rest)
            if found:
                yield surface, endpoint, found


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
        self._upstreams = {
            (provider.upstream.scheme, provider.upstream.host, provider.upstream.port): name
            for name, provider in providers.items()
        }

    def find(self, host: str, port: int, scheme: str) -> str | None:
        """The provider at exactly this destination: its own hosts by https on 443, or a configured upstream."""
        name = parse_host(host)
        if name is None:
            return None
        if scheme == "https" and port == _DEFAULT_PORTS["https"] and name in self._catalogue:
            return self._catalogue[name]
        return self._upstreams.get((scheme, name, port))

    def downgrade(self, host: str, port: int, scheme: str) -> str | None:
        """The provider whose host is called over plain HTTP, which must be refused."""
        name = parse_host(host)
        return self._catalogue.get(name) if name is not None and scheme == "http" else None


def locate_api(
    providers: Mapping[str, Provider], method: str, path: str, headers: Mapping[str, str]
) -> tuple[str, Place] | Refusal:
    """The provider and endpoint of a path on the base-URL door; `headers` have lower-case names.

    `/groq/openai/v1/chat/completions` names its provider; otherwise the provider that is the default for the path's
    dialect gets it. `/v1/models` belongs to two dialects: Anthropic's SDK shows itself by its headers.
    """
    refusal = check_path(path)
    if refusal is not None:
        return refusal
    first, _, rest = path[1:].partition("/")
    if first in providers and rest:
        return _placed(providers[first], method, "/" + rest)
    found = [_placed(providers[name], method, candidate) for name, candidate in _candidates(providers, path, headers)]
    good = next((each for each in found if not isinstance(each, Refusal)), None)
    if good is not None:
        return good
    useful = next((each for each in found if isinstance(each, Refusal) and each.reason != "endpoint_not_allowed"), None)
    text = f"{path} is no path of a known provider; use /v1/chat/completions, /v1/messages, /v1beta/models/…, or /PROVIDER/…"
    return useful or Refusal(404, "unknown_path", text)


def _placed(provider: Provider, method: str, path: str) -> tuple[str, Place] | Refusal:
    place = locate(provider.facts, method, path, provider.open)
    return place if isinstance(place, Refusal) else (provider.name, place)


def _candidates(providers: Mapping[str, Provider], path: str, headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Providers and paths to try, in order; a path without `/v1` is tried with the provider's base as well."""
    anthropic_first = "anthropic-version" in headers or "x-api-key" in headers
    order = [Dialect.ANTHROPIC, Dialect.OPENAI] if anthropic_first else [Dialect.OPENAI, Dialect.ANTHROPIC]
    for dialect in [*order, Dialect.GEMINI, Dialect.OLLAMA]:
        for name, provider in providers.items():
            if dialect in provider.facts.default_for:
                yield name, path
                yield name, provider.facts.surfaces[0].base + path


def split_model_prefix(model: str, provider: str, providers: Mapping[str, Provider]) -> tuple[str, str] | None:
    """`openrouter/anthropic/x` -> (`openrouter`, `anthropic/x`) when the first part is a provider's name, else None."""
    first, _, rest = model.partition("/")
    return (first, rest) if rest and first in providers else None


def wire_path(target: Provider, place: Place, model: str | None) -> Mapped | None:
    """Where `place` is at `target`, for `model`. None when the target has no such endpoint.

    Within the same provider, and with the same model, the path under the base stays byte for byte.
    """
    surface, endpoint = _counterpart(target.facts, place)
    if surface is None or endpoint is None:
        return None
    same_model = place.endpoint.model != "path" or model == place.path_model
    same_template = endpoint.path == place.endpoint.path
    rest = place.rest if same_model and same_template else _filled(endpoint.path, place, model)
    return Mapped(surface, endpoint, _base(target, surface) + rest)


def _counterpart(facts: ProviderFacts, place: Place) -> tuple[Surface | None, Endpoint | None]:
    """The surface of the same dialect and, on it, the endpoint of the same name, else of the same format and kind."""
    if place.surface in facts.surfaces:
        return place.surface, place.endpoint
    surfaces = [s for s in facts.surfaces if s.dialect is place.surface.dialect]
    for fits in (_same_name, _same_kind):
        for surface in surfaces:
            endpoint = next((e for e in surface.endpoints if fits(e, place.endpoint)), None)
            if endpoint is not None:
                return surface, endpoint
    return None, None


def _same_name(one: Endpoint, other: Endpoint) -> bool:
    return one.name == other.name and one.format is other.format and one.group == other.group


def _same_kind(one: Endpoint, other: Endpoint) -> bool:
    metered = one.flavor is not None and other.flavor is not None
    return metered and one.format is other.format and one.stream == other.stream


def _filled(template: str, place: Place, model: str | None) -> str:
    values = _pattern(place.endpoint.path).fullmatch(place.rest)
    found = {name: value or "" for name, value in values.groupdict().items()} if values else {}
    if model is not None:
        found["model"] = quote(model, safe="-._~:@" + ("/" if "{model*}" in template else ""))
    return _PLACE.sub(lambda m: found.get(m.group(1), ""), template)


def _base(target: Provider, surface: Surface) -> str:
    """The base path at the target's upstream. A prefix there takes the place of the primary surface's base."""
    prefix = target.upstream.prefix
    if prefix is None:
        return surface.base
    primary = target.facts.surfaces[0].base
    return prefix + (surface.base[len(primary) :] if surface.base.startswith(primary) else surface.base)
