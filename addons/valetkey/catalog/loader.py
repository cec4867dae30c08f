"""Read the catalogue: one YAML file per provider, checked and frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import yaml
from pydantic import ValidationError

from ..errors import CatalogError
from ..formats import LEAST_LENGTH
from ..model import Auth, Endpoint, ErrorRule, Guess, LimitFacts, ProviderFacts, Results, Surface, UnitPrice, UsageFacts
from .schema import (
    AuthFacts,
    EndpointFacts,
    ErrorFacts,
    LimitTable,
    ProviderFile,
    ResultsFacts,
    SurfaceFacts,
    UnitPriceTable,
    UsageTable,
)

FOLDER = Path(__file__).with_name("providers")
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""The one in C takes a seventh of the time, and every command begins by reading the catalogue."""


def load_catalog(folder: Path | None = None) -> Mapping[str, ProviderFacts]:
    """All providers by name (the file's), in alphabetical order. Raises CatalogError, which names file, place and value."""
    folder = folder or FOLDER
    catalog = {path.stem: _load(path) for path in sorted(folder.glob("*.yaml"))}
    if not catalog:
        raise CatalogError(f"{folder}: there is no provider file (*.yaml)")
    _check_unique("host", ((name, host) for name, facts in catalog.items() for host in _hosts(facts)))
    _check_unique("variable", ((name, env) for name, facts in catalog.items() for env in facts.env))
    _check_unique("default dialect", ((name, str(d)) for name, facts in catalog.items() for d in facts.default_for))
    return MappingProxyType(catalog)


def like(facts: ProviderFacts, name: str) -> ProviderFacts:
    """The facts for a server that speaks as another provider does: its endpoints and errors, none of its hosts.

    Its keys are looked for under a name made of its own. Prices are unknown until the rules give some, and
    `include_usage` is not sent to servers that nobody has tried. Its keys may be short, as they are of one's own making, but not
    so short that they could not be told from common words when an answer is searched for them.
    """
    variable = "".join(c if c.isalnum() else "_" for c in name.upper()) + "_API_KEY"
    return replace(
        facts,
        name=name,
        title=f"{name} (like {facts.title})",
        hosts=(),
        tenant_hosts=(),
        env=(variable,),
        usage=replace(facts.usage, prices=None, cost_path=None, unit_prices=(), batch_factor=None),
        include_usage=False,
        keys=True,
        default_for=(),
        min_key_length=LEAST_LENGTH,
    )


def _hosts(facts: ProviderFacts) -> tuple[str, ...]:
    return (*facts.hosts, *facts.tenant_hosts)


def _load(path: Path) -> ProviderFacts:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - both are safe loaders
        return _facts(path.stem, ProviderFile.model_validate(raw))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CatalogError(f"{path}: {error}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        raise CatalogError("\n".join(lines)) from error


def _facts(name: str, file: ProviderFile) -> ProviderFacts:
    surfaces: dict[str, Surface] = {}
    for surface in file.surfaces:
        surfaces[surface.name] = _surface(surface, surfaces)
    return ProviderFacts(
        name=name,
        title=file.title,
        hosts=file.own_hosts,
        stays_at_host=bool(file.regions),
        upstream=file.upstream,
        surfaces=tuple(surfaces.values()),
        env=file.env,
        usage=_usage(file.usage),
        errors=tuple(_error(rule) for rule in file.errors.rules),
        limits=_limits(file.limits),
        include_usage=file.include_usage,
        keys=file.keys,
        min_key_length=file.min_key_length,
        sources=_sources(file),
        default_for=file.default_for,
        tenant_hosts=file.tenant_hosts,
    )


def _sources(file: ProviderFile) -> tuple[str, ...]:
    """Every link of the file, each once."""
    links = [link for surface in file.surfaces for link in (surface.source, surface.auth.source)]
    links += [file.usage.source, file.errors.source]
    links += [e.results.source for surface in file.surfaces for e in surface.endpoints if e.results is not None]
    links += [table.source for table in (file.usage.unit_prices, file.usage.batch) if table is not None]
    if file.limits is not None:
        links.append(file.limits.source)
    links += [link for link in (file.include_usage_source, file.regions_source) if link is not None]
    return tuple(dict.fromkeys(links))


def _surface(surface: SurfaceFacts, before: Mapping[str, Surface]) -> Surface:
    if surface.same_as is None:
        endpoints = tuple(_endpoint(e) for e in surface.endpoints)
    else:
        endpoints = before[surface.same_as].endpoints
    return Surface(surface.name, surface.dialect, surface.base, _auth(surface.auth), endpoints, surface.doubled)


def _endpoint(facts: EndpointFacts) -> Endpoint:
    return Endpoint(
        facts.own_name, facts.methods, facts.path, facts.format, facts.model, facts.stream, facts.group, facts.flavor, facts.free,
        _results(facts.results), facts.deferred,
    )  # fmt: skip


def _results(facts: ResultsFacts | None) -> Results | None:
    if facts is None:
        return None
    return Results(facts.documents or ("",), facts.flavors, facts.lines, facts.batch, facts.format, facts.when)


def _auth(facts: AuthFacts) -> Auth:
    defaults = MappingProxyType(dict(facts.defaults))
    return Auth(facts.header, facts.prefix, facts.organization_header, facts.project_header, defaults)


def _error(rule: ErrorFacts) -> ErrorRule:
    return ErrorRule(
        rule.outcome,
        rule.status,
        MappingProxyType(dict(rule.json_)),
        rule.text,
        rule.header,
        rule.without_header,
        rule.rest,
        rule.least,
        rule.page,
        rule.header_begins,
    )


def _limits(table: LimitTable | None) -> tuple[LimitFacts, ...]:
    return tuple(LimitFacts(**entry.model_dump()) for entry in table.headers) if table is not None else ()


def _usage(table: UsageTable) -> UsageFacts:
    extractor, flavors = table.extractor, dict(table.flavors)
    if table.like is not None:
        extractor, flavor = table.like.split("/")
        flavors = {"*": flavor}
    guesses = {
        flavor: tuple({name: Guess(each.place, each.per) for name, each in counts.items()} for counts in sets)
        for flavor, sets in table.guesses.items()
    }
    return UsageFacts(
        extractor, MappingProxyType(flavors), table.prices, table.cost_path, MappingProxyType(table.counts),
        MappingProxyType(guesses), _unit_prices(table.unit_prices), table.batch.factor if table.batch else None,
    )  # fmt: skip


def _unit_prices(table: UnitPriceTable | None) -> tuple[UnitPrice, ...]:
    """One line per pattern, in the order of the file."""
    lines = table.list if table is not None else ()
    return tuple(UnitPrice(pattern, MappingProxyType(dict(e.per)), e.when) for e in lines for pattern in e.models)


def _check_unique(what: str, pairs: Iterable[tuple[str, str]]) -> None:
    owners: dict[str, str] = {}
    for name, value in pairs:
        if value in owners:
            raise CatalogError(f"{what} {value} is claimed by {owners[value]} and by {name}; it can belong to one only")
        owners[value] = name
