"""`valetkey providers`: whom the gateway knows, where and in which formats, and whether there is a key for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from ..errors import ConfigurationError
from ..model import Provider, Surface
from ..rules import Snapshot
from ..rules.explain import near
from .app import JsonOption, RulesOption, app, dump, harmless, load, say, table

_MANY = 3
"""More hosts than this (one for each region) are counted in the list; `valetkey providers NAME` names all."""
_COLUMNS = ("provider", "key found", "hosts", "formats at", "variables")


@app.command()
def providers(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One provider, with its endpoints and sources.")] = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the providers: hosts, formats, variables, whether a key was found, and where each fact was read.

    **Examples:** `valetkey providers` · `valetkey providers azure` · `valetkey providers --json`
    """
    snapshot = load(rules).snapshot
    known = snapshot.rules.providers
    if name is not None and name not in known:
        hint = near(name, known) or f"known: {', '.join(sorted(known))}"
        raise ConfigurationError(f"there is no provider {harmless(name)}; {hint}")
    chosen = [known[name]] if name is not None else [known[each] for each in sorted(known)]
    if as_json:
        for provider in chosen:
            dump(_document(provider, snapshot))
    elif name is not None:
        _tell(chosen[0], snapshot)
    else:
        table(_COLUMNS, [_row(provider, snapshot) for provider in chosen])


def _document(provider: Provider, snapshot: Snapshot) -> dict[str, Any]:
    """All that is known, for programs."""
    facts = provider.facts
    return {
        "name": provider.name,
        "title": facts.title,
        "hosts": [*facts.hosts, *facts.tenant_hosts],
        "upstream": provider.upstream.origin if provider.is_placed else None,
        "variables": list(facts.env),
        "keys_needed": provider.keys_needed,
        "keys": [key.id for key in snapshot.keys.get(provider.name, ())],
        "key_found": _has_key(provider, snapshot),
        "surfaces": [_surface(surface) for surface in facts.surfaces],
        "open": list(provider.open),
        "sources": list(facts.sources),
    }


def _surface(surface: Surface) -> dict[str, Any]:
    endpoints = [
        {"path": surface.base + each.path, "methods": list(each.methods), "format": str(each.format), "group": each.group}
        for each in surface.endpoints
    ]
    return {"dialect": str(surface.dialect), "base": surface.base, "header": surface.auth.header, "endpoints": endpoints}


def _has_key(provider: Provider, snapshot: Snapshot) -> bool:
    return bool(snapshot.keys.get(provider.name))


def _row(provider: Provider, snapshot: Snapshot) -> list[str]:
    bases: dict[str, list[str]] = {}
    for surface in provider.facts.surfaces:
        bases.setdefault(str(surface.dialect), []).append(surface.base or "/")
    formats = "; ".join(f"{dialect} {', '.join(dict.fromkeys(paths))}" for dialect, paths in bases.items())
    return [provider.name, _found(provider, snapshot), _hosts(provider), formats, ", ".join(provider.facts.env) or "-"]


def _found(provider: Provider, snapshot: Snapshot) -> str:
    """Yes, no, or why neither can be said."""
    if not provider.is_placed:
        return "no (name its upstream)"
    if not provider.keys_needed:
        return "needs none"
    return "yes" if _has_key(provider, snapshot) else "no"


def _hosts(provider: Provider) -> str:
    facts = provider.facts
    named = [*facts.hosts, *facts.tenant_hosts]
    if len(named) > _MANY:
        return f"{named[0]} and {len(named) - 1} more"
    own = [] if provider.upstream.host in named or not provider.is_placed else [provider.upstream.origin]
    return ", ".join([*named, *own])


def _tell(provider: Provider, snapshot: Snapshot) -> None:
    for line in _lines(_document(provider, snapshot), _found(provider, snapshot)):
        say(harmless(line))


def _lines(document: Mapping[str, Any], found: str) -> Iterator[str]:
    """One provider in full."""
    yield f"{document['name']}: {document['title']}"
    yield f"  hosts: {', '.join(document['hosts']) or 'none of its own'}"
    yield f"  upstream: {document['upstream'] or 'none; write one under providers.' + document['name'] + '.upstream'}"
    yield f"  variables: {', '.join(document['variables']) or 'none'}"
    yield f"  key found: {found}{''.join(f' {id}' for id in document['keys'])}"
    for surface in document["surfaces"]:
        yield f"  {surface['dialect']} at {surface['base'] or '/'}, key in {surface['header']}"
        for each in surface["endpoints"]:
            closed = each["group"] != "inference" and each["group"] not in document["open"]
            note = f"  (closed: {each['group']})" if closed else ""
            yield f"    {'|'.join(each['methods'])} {each['path']}  {each['format']}{note}"
    for source in document["sources"]:
        yield f"  source: {source}"
