"""From references to usable keys: ids for everyone, values for the wire alone."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

from ..errors import SecretError
from ..formats import Scrubber
from ..model import Key, KeySpec, Provider, Rules
from . import check, commands
from .environment import TWIN, Environment
from .fetching import Fetcher, is_slow
from .references import file_of, resolve
from .secret import Secret


class Vault:
    """Key id -> secret. Each key is bound to one provider; the binding lives here, not in a route."""

    def __init__(self, entries: Mapping[str, Secret], bindings: Mapping[str, str]) -> None:
        self.__entries = dict(entries)
        self._bindings = dict(bindings)
        self.scrubber = _scrubber(frozenset(secret.reveal() for secret in entries.values()))
        """Finds and hides the values in what upstreams send."""

    def reveal(self, key_id: str) -> str:
        """The value of a key. Raises SecretError for an id that is not held."""
        try:
            return self.__entries[key_id].reveal()
        except KeyError:
            raise SecretError(f"there is no key {key_id} in the vault") from None

    def binding(self, key_id: str) -> str:
        """The provider that a key belongs to. Raises SecretError for an id that is not held."""
        try:
            return self._bindings[key_id]
        except KeyError:
            raise SecretError(f"there is no key {key_id} in the vault") from None

    def fingerprint(self, key_id: str, salt: bytes) -> str:
        """Sixteen hex digits by which a changed value is noticed after a restart; of no use without the value."""
        return hmac.new(salt, self.reveal(key_id).encode(), hashlib.sha256).hexdigest()[:16]

    def agrees(self, other: Vault, key_id: str) -> bool:
        """Whether the other vault holds this key with the same value."""
        theirs = other.__entries.get(key_id)
        return theirs is not None and hmac.compare_digest(theirs.reveal().encode(), self.reveal(key_id).encode())

    def redact(self, text: str) -> str:
        """`text` with every held value hidden, in any spelling that the scrubber knows."""
        return self.scrubber.scrub_text(text)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__entries)

    def __len__(self) -> int:
        return len(self.__entries)

    def __repr__(self) -> str:
        return f"<vault of {len(self.__entries)} keys>"


@lru_cache(maxsize=2)
def _scrubber(values: frozenset[str]) -> Scrubber:
    """One for all vaults with the same values: it takes 0.2 s to make for a thousand keys, and most reloads change none."""
    return Scrubber(values)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the references came to. `states` tells for each key id written or found whether it is usable, or why not."""

    keys: Mapping[str, tuple[Key, ...]]
    vault: Vault
    notices: tuple[str, ...] = ()
    states: Mapping[str, str | None] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def key_name(spec: KeySpec, variables: Iterable[str] = ()) -> str:
    """The name of a key: as written, else the suffix of its variable (`main` without one), its file's stem, the last part of its
    entry in the keyring, or the program that prints it. `variables`: the catalogue's names, also those without `_API_KEY`."""
    if spec.name:
        return spec.name
    kind, _, rest = spec.ref.partition(":")
    if kind in ("file", "keyring"):
        return Path(rest).stem if kind == "file" else rest.rpartition("/")[2]
    if kind == "cmd":
        return _program(spec.ref)
    plain = rest.removeprefix(TWIN)
    known = max((name for name in variables if f"{plain}_".startswith(f"{name}_")), key=len, default=None)
    if known is not None:
        return plain[len(known) + 1 :].lower() or "main"
    head, marker, suffix = plain.partition("_API_KEY")
    return suffix.removeprefix("_").lower() or "main" if marker and head else rest.lower()


def _program(reference: str) -> str:
    try:
        return Path(commands.arguments(reference)[0]).stem
    except SecretError:
        return ""


def variables(rules: Rules, environment: Environment) -> set[str]:
    """The variables that hold keys: those that the rules name, and all of the catalogue's. No child of the gateway needs any."""
    specs = [spec.ref for provider in rules.providers.values() for spec in provider.key_specs or ()]
    named = {ref.removeprefix("env:") for ref in specs if ref.startswith("env:")}
    return named | {variant for name in known_variables(rules) for variant in environment.variants(name)}


def known_variables(rules: Rules) -> tuple[str, ...]:
    """Under which names keys are looked for, for all providers."""
    return tuple(name for provider in rules.providers.values() for name in provider.facts.env)


def fetch_keys(rules: Rules, environment: Environment, fetcher: Fetcher, refusal: str | None = None) -> bool:
    """Read the slow keys that are missing or due; true when something changed. With a `refusal` no program is run. Blocks."""
    specs = [spec for provider in rules.providers.values() for spec in provider.key_specs or () if is_slow(spec.ref)]
    return fetcher.fetch(specs, environment.without(variables(rules, environment)) if specs else {}, refusal)


def resolve_keys(rules: Rules, environment: Environment, folder: Path, fetcher: Fetcher | None = None) -> Resolved:
    """Resolve every provider's keys, and take what was found out of the process's environment.

    A reference that fails costs that key, not the start: a notice names it and the fix.
    """
    collector = _Collector(rules, environment, folder, fetcher)
    for provider in rules.providers.values():
        collector.collect(provider)
    environment.hide(variables(rules, environment), lambda value: check.is_dummy(value, rules.gateway.dummy_keys))
    return collector.resolved()


class _Collector:
    """Gathers keys while the providers are walked."""

    def __init__(self, rules: Rules, environment: Environment, folder: Path, fetcher: Fetcher | None) -> None:
        self._dummies, self._environment, self._folder, self._fetcher = rules.gateway.dummy_keys, environment, folder, fetcher
        self._variables = known_variables(rules)
        self._keys: dict[str, list[Key]] = {}
        self._secrets: dict[str, Secret] = {}
        self._owners: dict[str, Provider] = {}
        self._notices: list[str] = [*environment.notices, *(fetcher.problems() if fetcher else ())]
        self._states: dict[str, str | None] = {}
        self._references: dict[str, str] = {}
        self._files: list[Path] = []

    def collect(self, provider: Provider) -> None:
        """Take the keys that the rules name, else the ones found under the catalogue's names."""
        if not provider.keys_needed:
            return
        written = provider.key_specs is not None
        for spec in provider.key_specs if provider.key_specs is not None else self._found(provider):
            self._take(provider, spec, written)

    def _found(self, provider: Provider) -> list[KeySpec]:
        """One key per name. Two variables can give the same one: `GEMINI_API_KEY` and `GOOGLE_API_KEY` are both `gemini/main`."""
        names = [variant for name in provider.facts.env for variant in self._environment.variants(name)]
        specs: dict[str, list[KeySpec]] = {}
        for spec in (KeySpec(f"env:{name}") for name in names):
            specs.setdefault(key_name(spec, self._variables), []).append(spec)
        return [self._best(provider, same) for same in specs.values()]

    def _best(self, provider: Provider, same: list[KeySpec]) -> KeySpec:
        """The first of these that holds a usable key; further ones with another key are said to be left out."""
        usable = [(spec, secret) for spec in same if (secret := self._try(provider, spec)) is not None]
        for spec, secret in usable[1:]:
            if secret != usable[0][1]:
                id = f"{provider.name}/{key_name(spec, self._variables)}"
                text = f"{spec.ref} is left out: {usable[0][0].ref} is {id} already"
                self._notices.append(f"{text}; name both under providers.{provider.name}.keys to use both")
        return usable[0][0] if usable else same[0]

    def _try(self, provider: Provider, spec: KeySpec) -> Secret | None:
        try:
            return self._read(provider, spec)
        except SecretError:
            return None

    def _take(self, provider: Provider, spec: KeySpec, written: bool) -> None:
        name = key_name(spec, self._variables)
        key = Key(
            f"{provider.name}/{name}", provider.name, name, spec.priority, spec.organization,
            spec.project, spec.headers, spec.weight, spec.concurrency,
        )  # fmt: skip
        self._references[key.id] = spec.ref
        if (path := file_of(spec.ref, self._folder)) is not None:
            self._files.append(path)
        try:
            secret = self._read(provider, spec)
            self._bind(provider, spec, secret)
        except SecretError as error:
            self._states[key.id] = str(error)
            self._notices.append(f"key {key.id} is left out: {error}" if written else f"{error}; ignored")
            return
        self._states[key.id] = None
        self._warn_of_twins(key, secret)
        self._secrets[key.id] = secret
        self._owners[key.id] = provider
        self._keys.setdefault(provider.name, []).append(key)

    def _read(self, provider: Provider, spec: KeySpec) -> Secret:
        kind, _, rest = spec.ref.partition(":")
        judge: Callable[[str, str], str | None] = partial(
            check.problem, dummies=self._dummies, min_length=provider.facts.min_key_length
        )
        if kind == "env":
            secret = self._environment.get(rest, lambda value: judge(rest, value) is None)
            secret = secret or resolve(spec.ref, self._environment, self._folder)
        else:
            secret = resolve(spec.ref, self._environment, self._folder, self._fetcher)
        reason = judge(spec.ref if is_slow(spec.ref) else rest, secret.reveal())
        if reason is not None:
            raise SecretError(reason)
        return secret

    def _bind(self, provider: Provider, spec: KeySpec, secret: Secret) -> None:
        """Raise SecretError for another provider's key in disguise (a copied file): the binding lives with the value."""
        if spec.share or provider.has_variable(spec.ref):
            return
        for other, held in self._secrets.items():
            if held == secret and not provider.may_get_key_of(self._owners[other]):
                text = f"it is the same key as {other}, and would be sent to {provider.upstream.origin}"
                raise SecretError(f"{text}; add share: true to it if that is meant")

    def _warn_of_twins(self, key: Key, secret: Secret) -> None:
        for other, held in self._secrets.items():
            if held == secret:
                self._notices.append(f"keys {other} and {key.id} are the same key; its limits are shared, not doubled")

    def resolved(self) -> Resolved:
        """Everything gathered, frozen."""
        pools = {name: tuple(keys) for name, keys in self._keys.items()}
        bindings = {key.id: key.provider for keys in pools.values() for key in keys}
        return Resolved(
            pools, Vault(self._secrets, bindings), tuple(self._notices), self._states, self._references, tuple(self._files)
        )  # fmt: skip
