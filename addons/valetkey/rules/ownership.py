"""Which provider a key belongs to. The binding lives with the key: naming it under another provider does not move it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..model import KeySpec, Provider
from .nodes import Path


class Borrowed(NamedTuple):
    """A key of `owner` that is listed under `provider`, at `path` of the file."""

    path: Path
    spec: KeySpec
    owner: Provider
    provider: Provider

    @property
    def allowed(self) -> bool:
        """Whether it may go there: it was said to be meant, it stays on this machine, or the place is the owner's."""
        return self.spec.share or self.provider.may_get_key_of(self.owner)


def borrowed(providers: Mapping[str, Provider]) -> Iterator[Borrowed]:
    """The keys that are listed under a provider and belong to another.

    A variable belongs to the provider that the catalogue names it for, any other reference to the first provider that lists
    it; those of the catalogue come before those of the rules.
    """
    first: dict[str, Provider] = {}
    for provider in providers.values():
        for at, spec in enumerate(provider.key_specs or ()):
            by_name = next((each for each in (provider, *providers.values()) if each.has_variable(spec.ref)), None)
            owner = by_name or first.setdefault(_same(spec.ref), provider)
            if owner.name != provider.name:
                yield Borrowed(("providers", provider.name, "keys", at), spec, owner, provider)


def _same(reference: str) -> str:
    """One spelling for references that are the same thing, as far as they can be told apart without reading."""
    kind, _, rest = reference.partition(":")
    return f"file:{os.path.normpath(rest)}" if kind == "file" else f"{kind}:{rest.removeprefix('GATEWAY_')}"
