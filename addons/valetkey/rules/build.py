"""From the file's words to `Rules`: providers resolved against the catalogue, routes named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from ..catalog import like
from ..model import (
    Address,
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
    Upstream,
    Window,
)
from . import values
from .checks import Finding
from .explain import near
from .nodes import Document, Path
from .schema import GatewayEntry, ProviderEntry, RouteEntry, RulesFile

_NOWHERE = Upstream("https", "upstream.invalid", 443)
"""Where a provider is that has no upstream yet. The name exists nowhere (RFC 2606), and nothing is sent there."""
_WHOSE = "the only place where its keys may go"
_KEY_FIX = "give every agent a key (valetkey agents add NAME)"


class Builder:
    """Collects problems while it builds, so that all of them can be shown at once."""

    def __init__(self, document: Document, catalog: Mapping[str, ProviderFacts]) -> None:
        self._document, self._catalog = document, catalog
        self.findings: list[Finding] = []

    def build(self, file: RulesFile) -> Rules:
        """The rules, as far as they can be built; `findings` says what could not."""
        providers = {name: self._unconfigured(name) for name in self._catalog}
        for name, entry in file.providers.items():
            providers[name] = self._provider(name, entry)
        routes = tuple(self._route(at, entry, providers) for at, entry in enumerate(file.routes))
        return Rules(
            path=self._document.name,
            gateway=self._gateway(file),
            providers=providers,
            routes=routes,
            agents=tuple(AgentRule(a.name, a.key, a.models) for a in file.agents),
        )

    def _gateway(self, file: RulesFile) -> GatewayRules:
        """The section, with who is heard: agents that show a key, as soon as there is one."""
        entry, keyed = file.gateway, [agent.key is not None for agent in file.agents]
        known = entry.callers == "known" or (entry.callers is None and any(keyed))
        if known and not any(keyed):
            self._say(("gateway", "callers"), "no agent has a key, so nobody would be known", _KEY_FIX)
        for at, agent in enumerate(file.agents) if known and any(keyed) else ():
            if agent.key is None:
                text = f"agent {agent.name} has no key, and only known callers are heard (gateway.callers)"
                self._say(("agents", at), text, f"valetkey agents add {agent.name}, or set gateway.callers: any")
        for door in ("proxy", "api") if not known else ():
            address: Address = getattr(entry, door)
            if not values.is_loopback(address.host):
                text = f"callers do not authenticate yet, so whoever reaches {address} could spend your keys"
                self._say(("gateway", door), text, f"{_KEY_FIX}; or 127.0.0.1 and a tunnel (ssh -L) for other machines")
        return replace(_gateway(entry), callers="known" if known else "any")

    def _say(self, path: Path, text: str, fix: str = "") -> None:
        self.findings.append(Finding(path, text, fix))

    def _unconfigured(self, name: str) -> Provider:
        """The provider as the catalogue has it. One without an upstream gets no key: it would not be known where that goes."""
        facts = self._catalog[name]
        if facts.upstream is None:
            return Provider(name, facts, _NOWHERE, key_specs=(), keys_needed=True)
        return Provider(name, facts, values.upstream(facts.upstream), keys_needed=facts.keys)

    def _provider(self, name: str, entry: ProviderEntry) -> Provider:
        facts = self._facts(name, entry)
        keys = self._keys(name, entry)
        return Provider(
            name=name,
            facts=facts,
            upstream=entry.upstream or (values.upstream(facts.upstream) if facts.upstream else _NOWHERE),
            key_specs=keys,
            keys_needed=entry.keys != "none" and (facts.keys or keys is not None),
            rotation=entry.rotation,
            quota_groups=tuple(entry.quota_groups.items()),
            concurrency=entry.concurrency.hard,
            soft_concurrency=entry.concurrency.soft,
            spacing=entry.spacing,
            leave_at=entry.leave_at,
            model_tiers=tuple(entry.model_tiers.items()),
            window=Window(entry.window.kind, entry.window.length, entry.window.tolerance),
            allow=entry.models.allow,
            deny=entry.models.deny,
            open=entry.open,
            prices=tuple(
                PriceOverride(pattern, p.input, p.output, p.cache_read, p.cache_write, p.cache_write_1h, p.per)
                for pattern, p in entry.prices.items()
            ),
            configured=True,
        )

    def _facts(self, name: str, entry: ProviderEntry) -> ProviderFacts:
        path: Path = ("providers", name)
        known = self._catalog.get(name)
        if entry.like is None and known is not None:
            self._check_groups(name, entry, known)
            if known.upstream is None and entry.upstream is None:
                self._say(path, f"{known.title} has no address of its own", f"add upstream: {_example(known)}, {_WHOSE}")
            return known
        if entry.like is None:
            self._say(path, f"{name} is no provider of the catalogue", near(name, self._catalog) or "add like: and upstream:")
        elif known is not None:
            self._say(
                (*path, "like"), f"{name} is a provider of the catalogue and is like nothing but itself", "choose another name"
            )
        elif entry.like not in self._catalog:
            self._say((*path, "like"), f"{entry.like} is no provider of the catalogue", near(entry.like, self._catalog))
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
                fix = near(group, groups) or f"groups of {name}: {', '.join(sorted(groups)) or 'none'}"
                self._say(("providers", name, "open", at), f"{group} is no group of endpoints of {name}", fix)

    def _keys(self, name: str, entry: ProviderEntry) -> tuple[KeySpec, ...] | None:
        """The keys as written; None where the environment is to be looked through, or none is needed."""
        if entry.keys is None or isinstance(entry.keys, str):
            return None
        lines = [self._document.line_of(("providers", name, "keys", at)) for at in range(len(entry.keys))]
        return tuple(
            KeySpec(
                ref=key.ref,
                name=key.name,
                priority=key.priority,
                organization=key.organization,
                project=key.project,
                headers=tuple(key.headers.items()),
                weight=key.weight,
                concurrency=key.concurrency,
                share=key.share,
                line=line,
                ttl=key.ttl,
                timeout=key.timeout,
            )
            for key, line in zip(entry.keys, lines, strict=True)
        )

    def _route(self, at: int, entry: RouteEntry, providers: Mapping[str, Provider]) -> RouteRule:
        path: Path = ("routes", at)
        targets, too_long, exhausted = (
            tuple(self._target((*path, *place), text, providers) for text in texts)
            for place, texts in (
                (("to",), entry.to),
                (("fallback", "too_long"), entry.fallback.too_long),
                (("fallback", "exhausted"), entry.fallback.exhausted),
            )
        )
        return RouteRule(
            name=entry.name or f"route-{at + 1}",
            match=_match(entry),
            to=targets,
            deny=entry.deny,
            order=entry.order,
            weights=entry.weights,
            too_long=too_long,
            exhausted=exhausted,
            set_body=tuple(entry.set.items()),
            remove_body=entry.remove,
            line=self._document.line_of(path),
        )

    def _target(self, path: Path, text: str, providers: Mapping[str, Provider]) -> Target:
        name, slash, model = text.partition("/")
        if name not in providers:
            self._say(path, f"{text}: {name!r} is no provider", near(name, providers) or f"known: {', '.join(sorted(providers))}")
        elif not providers[name].is_placed:
            fix = f"add providers.{name}.upstream: {_example(providers[name].facts)}"
            self._say(path, f"{text}: {providers[name].facts.title} has no address of its own", fix)
        elif (slash and not model.strip()) or set("*?[") & set(model):
            self._say(
                path, f"{text}: a target is one model, as in {name}/MODEL", f"{name} alone keeps the model that is asked for"
            )
        return Target(name, model or None)


def _example(facts: ProviderFacts) -> str:
    """An upstream as the rules could name it."""
    tenants = facts.tenant_hosts
    return f"https://{tenants[0].replace('*', 'NAME')}" if tenants else "http://127.0.0.1:8000 (wherever it listens)"


def _match(entry: RouteEntry) -> Match:
    m = entry.match
    hosts = tuple(host.lower() for host in m.host)
    return Match(hosts, m.path, m.format, m.model, m.agent, tuple((n.lower(), v) for n, v in m.header.items()))


def _gateway(entry: GatewayEntry) -> GatewayRules:
    plain = {each.name: getattr(entry, each.name) for each in fields(GatewayRules) if each.name not in ("timeouts", "callers")}
    return GatewayRules(**plain, timeouts=Timeouts(**entry.timeouts.model_dump()))
