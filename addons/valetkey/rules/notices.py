"""What a person should know about rules that are no errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..model import Provider, ProviderFacts
from . import values
from .nodes import Document, Path
from .schema import ProviderEntry, RulesFile


def notices(
    document: Document, file: RulesFile, providers: Mapping[str, Provider], catalog: Mapping[str, ProviderFacts]
) -> Iterator[str]:
    """Each with file and line, in the file's order of sections."""
    for path, text in (*_not_yet(document, file), *_elsewhere(providers, catalog), *_borrowed(providers, catalog)):
        yield f"{document.name}:{document.line_of(path)}: {text}"


def _not_yet(document: Document, file: RulesFile) -> Iterator[tuple[Path, str]]:
    """What the file asks for and this version does not do yet; said, not swallowed."""
    wanted: list[Path] = [("gateway", word) for word in ("deadline", "timeouts")]
    for name, provider in file.providers.items():
        wanted += _of_provider(("providers", name), provider)
    wanted += [("routes", at, "order") for at, route in enumerate(file.routes) if route.order != "priority"]
    wanted += [("agents", at, word) for at in range(len(file.agents)) for word in ("budget", "rate")]
    for path in filter(document.has, wanted):
        yield path, f"{'.'.join(str(step) for step in path)} is accepted but not enforced yet"


def _of_provider(path: Path, provider: ProviderEntry) -> Iterator[Path]:
    for word in ("quota_groups", "concurrency", *(("rotation",) if provider.rotation != "round_robin" else ())):
        yield (*path, word)
    count = 0 if provider.keys is None or isinstance(provider.keys, str) else len(provider.keys)
    for at in range(count):
        for word in ("budget", "concurrency", "weight"):
            yield (*path, "keys", at, word)


def _elsewhere(providers: Mapping[str, Provider], catalog: Mapping[str, ProviderFacts]) -> Iterator[tuple[Path, str]]:
    """Keys of a known provider that are sent to a place which is not the provider's; hosts below its own are (`eu.` of it)."""
    for name, provider in providers.items():
        own = {values.upstream(catalog[name].upstream).host, *catalog[name].hosts} if name in catalog else set()
        ours = any(f".{provider.upstream.host}".endswith(f".{host}") for host in own)
        if provider.keys_needed and own and not ours and not provider.named_on_loopback:
            yield ("providers", name, "upstream"), f"keys of {name} are sent to {provider.upstream.origin}"


def _borrowed(providers: Mapping[str, Provider], catalog: Mapping[str, ProviderFacts]) -> Iterator[tuple[Path, str]]:
    """A variable that belongs to one provider by its name, used for another."""
    owners = {variable: name for name, facts in catalog.items() for variable in facts.env}
    for name, provider in providers.items():
        for at, spec in enumerate(provider.key_specs or ()):
            owner = next((owner for variable, owner in owners.items() if _is_of(spec.ref, variable)), name)
            if owner != name:
                yield ("providers", name, "keys", at), f"{spec.ref} is a key of {owner} by its name, and is sent to {name}"


def _is_of(reference: str, variable: str) -> bool:
    name = reference.removeprefix("env:").removeprefix("GATEWAY_")
    return name == variable or name.startswith(f"{variable}_")
