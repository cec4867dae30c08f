"""Rules that are well formed and still cannot be meant: routes that never apply, targets that never answer, headers that leak."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import NamedTuple

from ..model import Key, KeySpec, Match, Provider, RouteRule, Rules, Target
from ..policy import credentials, routing
from ..policy.routetable import RouteTable
from ..secrets import key_name, known_variables
from .globs import wider
from .nodes import Path
from .ownership import borrowed

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NEVER_SET = frozenset({credentials.COOKIE, credentials.PROXY_AUTHORIZATION})


class Finding(NamedTuple):
    """What is wrong, where in the file, and what to do."""

    path: Path
    text: str
    fix: str = ""
    follows_from_others: bool = False
    """Whether it is what other routes say that makes this one wrong."""


def findings(rules: Rules) -> Iterator[Finding]:
    """Everything wrong with rules whose words and types are right."""
    variables = known_variables(rules)
    for provider in rules.providers.values():
        yield from _of_keys(provider, variables)
        yield from _of_tiers(provider)
    yield from _of_owners(rules)
    table = RouteTable(routing.conditions(route.match) for route in rules.routes)
    for at, route in enumerate(rules.routes):
        yield from _unreachable(at, rules.routes, table)
        yield from _of_targets(at, route, rules)
        yield from _of_headers(at, route.match)
    yield from _twice("routes", "routes", [route.name for route in rules.routes])
    yield from _twice("agents", "agents", [agent.name for agent in rules.agents])
    yield from _twice("agents", "agents with the same key,", [agent.key for agent in rules.agents])


def covers(wide: Match, narrow: Match) -> bool:
    """Whether every call that `narrow` matches is matched by `wide` as well, as far as globs tell."""
    for each in fields(Match):
        if each.name == "header":
            if not set(wide.header) <= set(narrow.header):
                return False
            continue
        broad, slim = getattr(wide, each.name), getattr(narrow, each.name)
        if broad and not (slim and all(any(wider(b, s) for b in broad) for s in slim)):
            return False
    return True


def _unreachable(at: int, routes: Sequence[RouteRule], table: RouteTable) -> Iterator[Finding]:
    """Of the routes above, only those are looked at whose globs match one of this route's in every field, read as a text."""
    route = routes[at]
    number = table.first(routing.conditions(route.match), lambda earlier: covers(routes[earlier].match, route.match), at)
    if number is not None:
        blocker = routes[number]
        text = f"route {route.name} is never reached: {blocker.name} (line {blocker.line}) takes all its calls"
        yield Finding(("routes", at), text, "put the narrower route first", follows_from_others=True)


def _of_targets(at: int, route: RouteRule, rules: Rules) -> Iterator[Finding]:
    """Targets that can never be called. Those that name no provider are told of where they are read."""
    path: Path = ("routes", at)
    yield from _of_list((*path, "to"), route.to, route.match, rules)
    yield from _of_list((*path, "fallback", "too_long"), route.too_long, route.match, rules)
    yield from _of_list((*path, "fallback", "exhausted"), route.exhausted, route.match, rules)
    yield from _of_fallbacks((*path, "fallback"), route)


def _of_list(path: Path, targets: Sequence[Target], match: Match, rules: Rules) -> Iterator[Finding]:
    known = [(target, rules.providers[target.provider]) for target in targets if target.provider in rules.providers]
    for target, provider in known:
        if target.model is not None and not routing.visible_models(provider, [target.model]):
            yield Finding(
                path, f"{target}: the lists of {provider.name} forbid this model", f"see providers.{provider.name}.models"
            )
        if match.format and not any(_speaks(provider, wanted) for wanted in match.format):
            text = f"{target}: {provider.name} does not speak {', '.join(match.format)}"
            yield Finding(path, text, "route it to a provider that does")
    for wanted in match.format if len(known) > 1 else ():
        if not any(_speaks(provider, wanted) for _, provider in known):
            yield Finding(path, f"none of the targets speaks {wanted}", "add one that does, or take the format out of match")


def _of_fallbacks(path: Path, route: RouteRule) -> Iterator[Finding]:
    """A fallback to where the call has just come from."""
    for target in route.exhausted:
        if target in route.to:
            yield Finding(
                (*path, "exhausted"), f"{target} is among the targets of to, which have failed by then", "remove it here"
            )
    if route.to and {*route.to} <= {*route.too_long}:
        yield Finding((*path, "too_long"), f"{route.to[0]} has just found the prompt too long", "name a target that takes more")


def _speaks(provider: Provider, wanted: str) -> bool:
    return any(fnmatchcase(e.format, wanted) for surface in provider.facts.surfaces for e in surface.endpoints)


def _of_headers(at: int, match: Match) -> Iterator[Finding]:
    for name, _ in match.header:
        if credentials.is_carrier(name) or credentials.canonical(name) in _NEVER_SET:
            text = f"header {name} carries a credential, which routes do not see"
            yield Finding(("routes", at, "match", "header"), text, "match on agent instead")


def _of_keys(provider: Provider, variables: Sequence[str]) -> Iterator[Finding]:
    names = [key_name(spec, variables) for spec in provider.key_specs or ()]
    for at, spec in enumerate(provider.key_specs or ()):
        path: Path = ("providers", provider.name, "keys", at)
        if not _NAME.fullmatch(names[at]):
            yield Finding(path, "no name for this key follows from its reference", "give it one, with name:")
        elif names[at] in names[:at]:
            text = f"two keys are called {provider.name}/{names[at]}"
            yield Finding(path, text, "give one of them another name:")
        yield from _of_extras(path, provider, spec)


def _of_owners(rules: Rules) -> Iterator[Finding]:
    """Keys of one provider that would be sent to the place of another."""
    for found in borrowed(rules.providers):
        if not found.allowed:
            ref, origin = found.spec.ref, found.provider.upstream.origin
            text = f"{ref} is a key of {found.owner.name}, and would be sent to {origin}"
            fix = f"give {found.provider.name} a key of its own; if it is meant, write {{ref: '{ref}', share: true}}"
            yield Finding(found.path, text, fix)


def _of_tiers(provider: Provider) -> Iterator[Finding]:
    """Models that no key may be used for, because all of them have a higher priority number."""
    best = min((spec.priority for spec in provider.key_specs or ()), default=None)
    for pattern, tier in provider.model_tiers:
        if best is not None and best > tier:
            path: Path = ("providers", provider.name, "model_tiers", pattern)
            text = f"{pattern} may use keys of priority {tier} at most, and {provider.name} has none below {best}"
            yield Finding(path, text, f"write {best} or more here, or give a key priority: {tier}")


def _of_extras(path: Path, provider: Provider, spec: KeySpec) -> Iterator[Finding]:
    """What is sent along with a key: no second credential, nothing that could not be sent, nothing that is dropped."""
    for name, _ in spec.headers:
        if credentials.is_carrier(name) or credentials.canonical(name) in _NEVER_SET:
            yield Finding((*path, "headers"), f"header {name} would carry a second credential", "remove it; ref is the key")
    auths = [surface.auth for surface in provider.facts.surfaces]
    for word, value, known in (
        ("organization", spec.organization, any(auth.organization_header for auth in auths)),
        ("project", spec.project, any(auth.project_header for auth in auths)),
    ):
        if value is not None and not known:
            yield Finding((*path, word), f"{provider.name} knows no {word} header", "write the header it takes under headers")
    probe = Key("probe", provider.name, "probe", 1, spec.organization, spec.project, spec.headers)
    try:
        for auth in auths:
            credentials.apply((), auth, probe, "probe")
    except ValueError as error:
        yield Finding(path, str(error).removeprefix("key probe: "))


def _twice(section: str, what: str, words: Sequence[str | None]) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    for at, word in enumerate(words):
        if word is not None and counts[word]:
            yield Finding((section, at), f"there are two {what} called {word}", "keep one, or rename it")
        counts.update([word] if word is not None else [])
