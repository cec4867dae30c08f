"""The `.env` of LLM-API-Key-Proxy, or a folder of such files.

Every variable whose name holds `_API_KEY` is a credential there, and the provider is what stands before it. The first file that
sets a variable counts, `.env` before all others. https://github.com/Mirrowel/LLM-API-Key-Proxy
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dotenv import dotenv_values

from ...errors import ConfigurationError
from ...model import KeySpec, ProviderFacts
from ...rules import values
from ...secrets import Secret, key_name, problem
from .draft import Draft, ProviderDraft, RouteDraft, seconds, slug, whole

LIMIT = 1024 * 1024
"""Bytes of a file; a larger one is something else."""
_DUMMIES = ("sk-dummy*", "sk-ant-dummy*", "dummy*")
_SECONDS = {
    "TIMEOUT_CONNECT": "connect", "TIMEOUT_READ_STREAMING": "between_events", "TIMEOUT_READ_NON_STREAMING": "whole",
    "STREAM_TTFB_TIMEOUT_SECONDS": "first_byte", "STREAM_STALL_TIMEOUT_SECONDS": "between_events",
    "SMALL_COOLDOWN_RETRY_THRESHOLD": "small_wait", "TRANSIENT_RETRY_DELAY": "retry",
}  # fmt: skip
"""Their time limits, and ours."""
_NO_COUNTERPART = (
    (r"PROXY_API_KEY", "agents hold no shared key here: they send sk-dummy, or a key of their own (valetkey agents add NAME)"),
    (r".*_OAUTH_\d+|.*_(ACCESS|REFRESH)_TOKEN|.*_(CLIENT_ID|CLIENT_SECRET|TOKEN_URI|EXPIRY_DATE)|SKIP_OAUTH.*|OAUTH_.*",
     "accounts with OAuth have no counterpart yet"),
    (r"CONCURRENCY_MULTIPLIER_.*|SEQUENTIAL_FALLBACK_MULTIPLIER_.*",
     "multipliers have no counterpart: give keys a concurrency: and a priority: of their own"),
    (r"CUSTOM_CAP_.*", "caps per key have no counterpart yet; budget: is accepted and not enforced yet"),
    (r"FAIR_CYCLE.*|EXHAUSTION_COOLDOWN_THRESHOLD.*",
     "fair cycles have no counterpart: rotation: balanced evens out what keys serve"),
    (r"SESSION_STICKY_.*|TRUSTED_SESSION_ID_FIELDS", "conversations stay with their key by themselves (rotation: sticky)"),
    (r"ROTATION_TOLERANCE", "write window: {tolerance: NUMBER} under the provider; it was not read there"),
    (r"MODEL_PRICE_.*", "write prices: under the provider; names of models cannot be told from names of variables"),
    (r".+_MODELS", "lists of models come from the providers themselves"),
    (r"OVERRIDE_TEMPERATURE_ZERO", "write a route with set: or remove: for temperature"),
    (r"LLM_PROXY_CONFIG_FILE", "providers in a JSON file are not read; write them under providers:, with like: and upstream:"),
    (r"TIMEOUT_(WRITE|POOL)|TRANSIENT_RETRY_JITTER|STREAM_.*", "has no counterpart"),
)  # fmt: skip
_NOBODYS = "is for no provider that has a key"
_UNPREFIXED = "agents write the model alone (gemini-2.5-pro, not gemini/gemini-2.5-pro), to the provider's address"
_LEFT_ALONE = "is no word of the proxy, and was left alone"


def read(place: Path) -> dict[str, tuple[str, str]]:
    """Variable -> value and file of a `.env` or of all in a folder. Raises ConfigurationError."""
    try:
        files = [place] if not place.is_dir() else sorted(place.glob("*.env"), key=lambda each: (each.name != ".env", each.name))
        found: dict[str, tuple[str, str]] = {}
        for file in files:
            for name, value in _variables(file).items():
                found.setdefault(name, (value, file.name))
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}") from None
    if not files:
        raise ConfigurationError(f"{place} holds no .env file")
    return found


def _variables(file: Path) -> dict[str, str]:
    with file.open("rb") as opened:
        data = opened.read(LIMIT + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8 text") from None
    if len(data) > LIMIT:
        raise ConfigurationError(f"{file} is larger than {LIMIT} bytes")
    found = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value is not None}


def draft(place: Path, catalog: Mapping[str, ProviderFacts], *, in_dotenv: bool) -> Draft:
    """Rules that do what the variables ask for. `in_dotenv`: the gateway will read this `.env` itself.

    Raises ConfigurationError.
    """
    found = read(place)
    source = "a folder of .env files" if place.is_dir() else place.name
    return _Reader(Draft(source, catalog), found, in_dotenv).run()


@dataclass
class _Wish:
    """What the variables say of a provider besides its keys."""

    rotation: str | None = None
    hard: int | None = None
    soft: int | None = None


class _Reader:
    """Goes through the variables: first addresses and keys, so that all later words find their provider."""

    def __init__(self, made: Draft, found: Mapping[str, tuple[str, str]], in_dotenv: bool) -> None:
        self._draft, self._found, self._in_dotenv = made, found, in_dotenv
        self._names: dict[str, str] = {}
        """Their names of providers -> ours."""
        self._done: set[str] = set()

    def run(self) -> Draft:
        """All of it."""
        self._addresses()
        self._keys()
        self._limits()
        self._pools()
        self._models()
        self._groups()
        self._rest()
        return self._draft

    def _value(self, name: str) -> str:
        self._done.add(name)
        return self._found[name][0].strip()

    def _matching(self, pattern: str) -> list[tuple[str, re.Match[str]]]:
        return [(name, match) for name in self._found if name not in self._done and (match := re.fullmatch(pattern, name))]

    # Providers and keys.

    def _addresses(self) -> None:
        for name, match in self._matching(r"(.+)_API_BASE"):
            theirs, address = match[1].lower(), self._value(name).rstrip("/")
            known = self._draft.known(theirs)
            try:
                place = values.upstream(address)
            except ValueError as error:
                self._draft.gap(name, f"{error}; its provider was left out")
                self._names[theirs] = ""
                continue
            own = values.upstream(facts.upstream) if known and (facts := self._draft.catalog[known]).upstream else None
            if own is not None and own.origin == place.origin:
                self._names[theirs] = known or ""
                continue
            ours = known or slug(theirs)
            if not known and ours in self._draft.catalog:
                self._draft.gap(name, f"would be taken for {ours}; its provider was left out")
                self._names[theirs] = ""
                continue
            words = self._draft.provider(ours).words
            words |= {"upstream": address} if known else {"like": "openai", "upstream": address}
            self._names[theirs] = ours

    def _keys(self) -> None:
        for name, match in self._matching(r"(.+?)_API_KEY(.*)"):
            if name == "PROXY_API_KEY":
                continue
            theirs = match[1].lower()
            ours = self._names.get(theirs, self._draft.known(theirs))
            if ours and self._draft.provider(ours) and not self._is_placed(ours):
                self._done.add(name)
                self._draft.providers.pop(ours)
                self._draft.gap(name, f"{ours} has no address of its own; write its upstream: and this key")
            elif ours:
                self._names[theirs] = ours
                self._key(name, ours)
            elif ours is None:
                self._done.add(name)
                self._draft.gap(name, "belongs to no provider that is known; write it with like: and upstream: if it is one")

    def _is_placed(self, ours: str) -> bool:
        facts = self._draft.catalog.get(ours)
        return facts is None or facts.upstream is not None or "upstream" in self._draft.provider(ours).words

    def _key(self, name: str, ours: str) -> None:
        file = self._found[name][1]
        value, provider = self._value(name), self._draft.provider(ours)
        reason = problem(name, value, _DUMMIES)
        if reason is not None:
            # A server of one's own takes anything for a key.
            provider.keyless = self._on_this_machine(provider)
            if not provider.keyless:
                self._draft.gap(name, f"{reason.removeprefix(name).strip()}; it was left out")
            return
        ref = f"env:{name}" if self._in_dotenv and file == ".env" else self._draft.literal(ours, Secret(value), f"{file}: {name}")
        key = provider.key(ref)
        variables = [variable for facts in self._draft.catalog.values() for variable in facts.env]
        own = key_name(KeySpec(ref), variables)
        others = (KeySpec(other.ref, other.words.get("name")) for other in provider.keys if other is not key)
        if any(key_name(other, variables) == own for other in others):
            key.words["name"] = slug(name.lower().replace("_api_key", ""))

    def _on_this_machine(self, provider: ProviderDraft) -> bool:
        address = provider.words.get("upstream")
        return address is not None and values.is_loopback(values.upstream(address).host)

    # How they are used.

    def _limits(self) -> None:
        for name, word in _SECONDS.items():
            if name in self._found:
                self._seconds(name, word)
        if "GLOBAL_TIMEOUT" in self._found:
            if limit := seconds(self._value("GLOBAL_TIMEOUT")):
                self._draft.gateway["deadline"] = limit
            else:
                self._draft.gap("GLOBAL_TIMEOUT", "is no number of seconds above zero")

    def _seconds(self, name: str, word: str) -> None:
        limit = seconds(self._value(name))
        if limit is None:
            self._draft.gap(name, "is no number of seconds above zero")
        else:
            self._draft.timeouts[word] = limit

    def _pools(self) -> None:
        wishes: dict[str, _Wish] = {}
        for name, match in self._matching(r"ROTATION_MODE_(.+)"):
            ours, mode = self._ours(match[1]), self._value(name).lower()
            if ours is None or mode not in ("balanced", "sequential"):
                self._draft.gap(name, _NOBODYS if ours is None else "is neither balanced nor sequential")
            else:
                wishes.setdefault(ours, _Wish()).rotation = mode
        for word in ("MAX", "OPTIMAL"):
            for name, match in self._matching(rf"{word}_CONCURRENT_REQUESTS_PER_KEY_(.+?)(_BALANCED|_SEQUENTIAL)?"):
                self._concurrency(name, word, match, wishes)
        for ours, wish in wishes.items():
            self._apply(ours, wish)

    def _concurrency(self, name: str, word: str, match: re.Match[str], wishes: dict[str, _Wish]) -> None:
        ours, number = self._ours(match[1]), whole(self._value(name).removeprefix("-"))
        if ours is None or number is None:
            self._draft.gap(name, _NOBODYS if ours is None else "is no whole number")
            return
        wish = wishes.setdefault(ours, _Wish())
        mode = (match[2] or "").strip("_").lower()
        if mode and mode != (wish.rotation or "balanced"):
            self._draft.gap(name, "is for a rotation that this provider does not have")
        elif number and not self._found[name][0].strip().startswith("-"):  # zero and less: no limit
            setattr(wish, "hard" if word == "MAX" else "soft", number)

    def _apply(self, ours: str, wish: _Wish) -> None:
        words = self._draft.provider(ours).words
        if wish.rotation:
            words["rotation"] = wish.rotation
        if wish.hard is not None and wish.soft is not None and wish.soft > wish.hard:
            wish.soft = wish.hard
        if wish.soft is not None:
            words["concurrency"] = {"soft": wish.soft, **({"hard": wish.hard} if wish.hard else {})}
        elif wish.hard is not None:
            words["concurrency"] = wish.hard

    def _models(self) -> None:
        ignored = {self._ours(match[1]): name for name, match in self._matching(r"IGNORE_MODELS_(.+)")}
        listed = {self._ours(match[1]): name for name, match in self._matching(r"WHITELIST_MODELS_(.+)")}
        for ours in [*ignored, *(each for each in listed if each not in ignored)]:
            names = [lists[ours] for lists in (ignored, listed) if ours in lists]
            if ours is None:
                for name in names:
                    self._done.add(name)
                    self._draft.gap(name, _NOBODYS)
            elif ours not in ignored:
                self._done.add(listed[ours])
                self._draft.gap(listed[ours], "hid nothing without IGNORE_MODELS; models: {allow: […]} here refuses all others")
            else:
                found = {"deny": self._globs(ignored[ours], ours)}
                if ours in listed:
                    found["allow"] = self._globs(listed[ours], ours)
                self._draft.provider(ours).words["models"] = {word: globs for word, globs in found.items() if globs}
                self._draft.gap(ignored[ours], "models were only hidden from lists there; here calls of them are refused")

    def _globs(self, name: str, ours: str) -> list[str]:
        """Patterns, without the provider in front; `[` is a plain letter there."""
        parts = [part.strip().removeprefix(f"{ours}/") for part in self._value(name).split(",")]
        return [part.replace("[", "[[]") for part in parts if part and part.isprintable()]

    def _groups(self) -> None:
        for name, match in self._matching(r"QUOTA_GROUPS_(.+)"):
            ours, group = self._split(match[1])
            globs = self._globs(name, ours) if ours else []
            if ours is None or not group or not globs:
                self._done.add(name)
                self._draft.gap(name, "is for no provider that has a key, or names no model")
                continue
            self._draft.provider(ours).words.setdefault("quota_groups", {})[group.lower()] = globs
        targets = {match[1]: self._targets(name) for name, match in self._matching(r"FALLBACK_GROUP_((?:(?!_STREAMING).)+?)")
                   if not re.search(r"_(FAILOVER_ON|STOP_ON|STREAMING_POLICY)$", name)}  # fmt: skip
        self._aliases(targets)

    def _targets(self, name: str) -> list[str]:
        found = []
        for part in filter(None, (each.strip() for each in self._value(name).split(","))):
            theirs, _, model = part.partition("/")
            ours = self._ours(theirs)
            if ours is None or not model or set("*?[") & set(model):
                self._draft.gap(name, "names a target that is not here; it was left out")
            else:
                found.append(f"{ours}/{model}")
        return list(dict.fromkeys(found))

    def _aliases(self, groups: Mapping[str, list[str]]) -> None:
        used = set()
        for name, match in self._matching(r"MODEL_ROUTE_(.+)"):
            group = self._value(name).upper()
            if groups.get(group):
                used.add(group)
                self._let_pass(groups[group])
                plain = match[1].lower()
                self._draft.routes.append(RouteDraft(list(dict.fromkeys([plain.replace("_", "-"), plain])), groups[group]))
            else:
                self._draft.gap(name, "leads to no group that is here")
        for group in groups.keys() - used:
            self._draft.gap(f"FALLBACK_GROUP_{group}", "no MODEL_ROUTE leads to it; write a route for the model that it is for")

    def _let_pass(self, targets: list[str]) -> None:
        """Lists hid models there, and did not refuse them: what a route leads to passes."""
        for target in targets:
            ours, _, model = target.partition("/")
            models = self._draft.provider(ours).words.get("models", {})
            denied = any(fnmatchcase(model, glob) for glob in models.get("deny", ()))
            if denied and not any(fnmatchcase(model, glob) for glob in models.get("allow", ())):
                models.setdefault("allow", []).append(model)

    def _split(self, text: str) -> tuple[str | None, str]:
        """`OPENAI_FAST` as our provider and the rest; names of providers may hold `_`."""
        words = text.split("_")
        for count in range(len(words), 0, -1):
            ours = self._ours("_".join(words[:count]))
            if ours is not None:
                return ours, "_".join(words[count:])
        return None, text

    def _ours(self, theirs: str) -> str | None:
        return self._names.get(theirs.lower()) or None

    def _rest(self) -> None:
        for name in self._found:
            if name in self._done:
                continue
            text = next((text for pattern, text in _NO_COUNTERPART if re.fullmatch(pattern, name)), _LEFT_ALONE)
            if re.fullmatch(r"FALLBACK_GROUP.*", name):
                text = "when to fail over is the gateway's to say (docs/pools.md)"
            self._draft.gap(name, text)
        if self._draft.providers:
            self._draft.gap("models", _UNPREFIXED)
