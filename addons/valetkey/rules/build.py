"""From the file's words to `Rules`: providers resolved against the catalogue, routes named and checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from fnmatch import fnmatchcase

from ..catalog import like
from ..errors import Problem
from ..model import (
    AgentRule,
    GatewayRules,
    KeySpec,
    Match,
    PriceOverride,
    Provider,
    ProviderFacts,
    RouteRule,
    Rules,
    Target,
    Timeouts,
)
from ..secrets import key_name
from . import values
from .nodes import Document, Path
from .schema import GatewayEntry, MatchEntry, ProviderEntry, RouteEntry, RulesFile


class Builder:
    """Collects problems while it builds, so that all of them can be shown at once."""

    def __init__(self, document: Document, catalog: Mapping[str, ProviderFacts]) -> None:
        self._document, self._catalog = document, catalog
        self.problems: list[Problem] = []

    def build(self, file: RulesFile, notices: tuple[str, ...]) -> Rules:
        """The rules, as far as they can be built; `problems` says what is wrong with them."""
        providers = {name: self._unconfigured(name) for name in self._catalog}
        for name, entry in file.providers.items():
            providers[name] = self._provider(name, entry)
        routes = tuple(self._route(at, entry, providers) for at, entry in enumerate(file.routes))
        self._check_reachable(routes)
        self._check_agents(file)
        return Rules(
            path=self._document.name,
            gateway=_gateway(file.gateway),
            providers=providers,
            routes=routes,
            agents=tuple(AgentRule(a.name, a.key, a.models) for a in file.agents),
            notices=notices,
        )

    def _say(self, path: Path, text: str, fix: str = "") -> None:
        self.problems.append(Problem(self._document.name, self._document.line_of(path), text, fix))

    def _unconfigured(self, name: str) -> Provider:
        facts = self._catalog[name]
        return Provider(name, facts, values.upstream(facts.upstream), keys_needed=facts.keys)

    def _provider(self, name: str, entry: ProviderEntry) -> Provider:
        facts = self._facts(name, entry)
        keys = None if entry.keys is None or entry.keys == "none" else self._keys(name, entry)
        return Provider(
            name=name,
            facts=facts,
            upstream=entry.upstream or values.upstream(facts.upstream),
            key_specs=keys,
            keys_needed=entry.keys != "none" and (facts.keys or keys is not None),
            rotation=entry.rotation,
            allow=entry.models.allow,
            deny=entry.models.deny,
            open=entry.open,
            prices=tuple(
                PriceOverride(pattern, p.input, p.output, p.cache_read, p.cache_write, p.cache_write_1h)
                for pattern, p in entry.prices.items()
            ),
            configured=True,
        )

    def _facts(self, name: str, entry: ProviderEntry) -> ProviderFacts:
        path: Path = ("providers", name)
        known = self._catalog.get(name)
        if entry.like is None and known is not None:
            self._check_groups(name, entry, known)
            return known
        if entry.like is None:
            self._say(path, f"{name} is no provider of the catalogue", _near(name, self._catalog) or "add like: and upstream:")
        elif known is not None:
            self._say(
                (*path, "like"), f"{name} is a provider of the catalogue and is like nothing but itself", "choose another name"
            )
        elif entry.like not in self._catalog:
            self._say((*path, "like"), f"{entry.like} is no provider of the catalogue", _near(entry.like, self._catalog))
        elif entry.upstream is None:
            self._say(path, f"{name} needs an upstream", f"add upstream: https://…, where {name} is reached")
        base = self._catalog.get(entry.like or "", known) or next(iter(self._catalog.values()))
        facts = like(base, name)
        self._check_groups(name, entry, facts)
        return facts

    def _check_groups(self, name: str, entry: ProviderEntry, facts: ProviderFacts) -> None:
        groups = {e.group for s in facts.surfaces for e in s.endpoints} - {"inference"}
        for at, group in enumerate(entry.open):
            if group not in groups:
                fix = _near(group, groups) or f"groups of {name}: {', '.join(sorted(groups)) or 'none'}"
                self._say(("providers", name, "open", at), f"{group} is no group of endpoints of {name}", fix)

    def _keys(self, name: str, entry: ProviderEntry) -> tuple[KeySpec, ...]:
        assert not isinstance(entry.keys, str) and entry.keys is not None
        specs = []
        names: set[str] = set()
        for at, key in enumerate(entry.keys):
            path: Path = ("providers", name, "keys", at)
            headers = tuple(key.headers.items())
            line = self._document.line_of(path)
            spec = KeySpec(key.ref, key.name, key.priority, key.organization, key.project, headers, line)
            if key_name(spec) in names:
                self._say(path, f"two keys are called {name}/{key_name(spec)}", "give one of them another name:")
            names.add(key_name(spec))
            specs.append(spec)
        return tuple(specs)

    def _route(self, at: int, entry: RouteEntry, providers: Mapping[str, Provider]) -> RouteRule:
        path: Path = ("routes", at)
        targets = tuple(self._target((*path, "to"), text, providers, entry.match) for text in entry.to)
        return RouteRule(
            name=entry.name or f"route-{at + 1}",
            match=_match(entry),
            to=targets,
            deny=entry.deny,
            order=entry.order,
            set_body=tuple(entry.set.items()),
            remove_body=entry.remove,
            line=self._document.line_of(path),
        )

    def _target(self, path: Path, text: str, providers: Mapping[str, Provider], match: MatchEntry) -> Target:
        name, _, model = text.partition("/")
        if name not in providers:
            fix = _near(name, providers) or f"known: {', '.join(sorted(providers))}"
            self._say(path, f"{text}: {name!r} is no provider", fix)
            return Target(name, model or None)
        formats = {e.format for s in providers[name].facts.surfaces for e in s.endpoints}
        for wanted in match.format:
            if not any(fnmatchcase(known, wanted) for known in formats):
                self._say(path, f"{text}: {name} does not speak {wanted}", "route it to a provider that does")
        return Target(name, model or None)

    def _check_reachable(self, routes: tuple[RouteRule, ...]) -> None:
        for at, route in enumerate(routes):
            blocker = next((earlier for earlier in routes[:at] if covers(earlier.match, route.match)), None)
            if blocker is not None:
                text = f"route {route.name} is never reached: {blocker.name} (line {blocker.line}) takes all its calls"
                self._say(("routes", at), text, "put the narrower route first")

    def _check_agents(self, file: RulesFile) -> None:
        seen: set[str] = set()
        for at, agent in enumerate(file.agents):
            if agent.name in seen:
                self._say(("agents", at), f"there are two agents called {agent.name}", "keep one")
            seen.add(agent.name)


def covers(wide: Match, narrow: Match) -> bool:
    """Whether every call that `narrow` matches is matched by `wide` as well, as far as globs tell."""
    for each in fields(Match):
        if each.name == "header":
            if not set(wide.header) <= set(narrow.header):
                return False
            continue
        broad, slim = getattr(wide, each.name), getattr(narrow, each.name)
        if broad and not (slim and all(any(_wider(b, s) for b in broad) for s in slim)):
            return False
    return True


def _wider(broad: str, slim: str) -> bool:
    """`gpt-*` is wider than `gpt-4*`: as text, a glob's own marks are matched by `*` and nothing else."""
    return broad == slim or (fnmatchcase(slim, broad) and "?" not in broad and "[" not in broad)


def _match(entry: RouteEntry) -> Match:
    m = entry.match
    return Match(m.host, m.path, m.format, m.model, m.agent, tuple((n.lower(), v) for n, v in m.header.items()))


def _gateway(entry: GatewayEntry) -> GatewayRules:
    plain = {each.name: getattr(entry, each.name) for each in fields(GatewayRules) if each.name != "timeouts"}
    return GatewayRules(**plain, timeouts=Timeouts(**entry.timeouts.model_dump()))


def _near(word: str, known: Mapping[str, object] | set[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]}?" if near else ""
