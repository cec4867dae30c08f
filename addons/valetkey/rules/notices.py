"""What a person should know about rules that are no errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..model import Provider, ProviderFacts
from . import values
from .globs import overlap, wider
from .nodes import Document, Path
from .ownership import borrowed
from .schema import RulesFile


def notices(
    document: Document, file: RulesFile, providers: Mapping[str, Provider], catalog: Mapping[str, ProviderFacts]
) -> Iterator[str]:
    """Each with file and line, in the file's order of sections."""
    found = (*_not_yet(document, file), *_elsewhere(providers, catalog), *_borrowed(providers), *_shared(providers))
    for path, text in found:
        yield f"{document.name}:{document.line_of(path)}: {text}"


def _not_yet(document: Document, file: RulesFile) -> Iterator[tuple[Path, str]]:
    """What the file asks for and this version does not do yet; said, not swallowed."""
    wanted: list[Path] = []
    for name, provider in file.providers.items():
        count = 0 if provider.keys is None or isinstance(provider.keys, str) else len(provider.keys)
        wanted += [("providers", name, "keys", at, "budget") for at in range(count)]
    wanted += [("agents", at, word) for at in range(len(file.agents)) for word in ("budget", "rate")]
    for path in filter(document.has, wanted):
        yield path, f"{'.'.join(str(step) for step in path)} is accepted but not enforced yet"


def _elsewhere(providers: Mapping[str, Provider], catalog: Mapping[str, ProviderFacts]) -> Iterator[tuple[Path, str]]:
    """Keys of a known provider that are sent to a place which is not the provider's; hosts below its own are (`eu.` of it)."""
    for name, provider in providers.items():
        known, host = catalog.get(name), provider.upstream.host
        if known is None or not provider.keys_needed or provider.named_on_loopback:
            continue
        own = {values.upstream(known.upstream).host} if known.upstream else {tenants[2:] for tenants in known.tenant_hosts}
        ours = any(f".{host}".endswith(f".{each}") for each in (*own, *known.hosts))
        if own and not ours and provider.is_placed:
            yield ("providers", name, "upstream"), f"keys of {name} are sent to {provider.upstream.origin}"


def _borrowed(providers: Mapping[str, Provider]) -> Iterator[tuple[Path, str]]:
    """A key that belongs to one provider and is used for another."""
    for found in borrowed(providers):
        yield found.path, f"{found.spec.ref} is a key of {found.owner.name}, and is sent to {found.provider.name} as well"


def _shared(providers: Mapping[str, Provider]) -> Iterator[tuple[Path, str]]:
    """Models that two quota groups claim. A narrower group before a wider one is how an exception is written."""
    for name, provider in providers.items():
        for at, (group, globs) in enumerate(provider.quota_groups):
            found = ((first, mine, yours) for first, others in provider.quota_groups[:at] for mine in others for yours in globs)
            for first, mine, yours in found:
                if _collide(mine.lower(), yours.lower()):
                    text = f"models of {name} that match both {mine} and {yours} are of the quota group {first}, which is first"
                    yield ("providers", name, "quota_groups", group), values.masked(text)


def _collide(first: str, second: str) -> bool:
    return overlap(first, second) and (first == second or not wider(second, first))
