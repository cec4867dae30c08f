"""What the pools know survives a restart: kept beside the ledger twice a second, with how the keys are for `valetkey keys`.

Orders of a person (`valetkey keys disable …`) come the same way: through the file, which only its owner can open.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import LedgerError
from ..ledger import Order, StateStore
from ..policy.health import TABLE, Mark, Scope
from .runtime import Runtime

KINDS = ("mark", "use", "affinity", "disabled")
SWEEP_EVERY = 60.0
"""Seconds between two looks for marks that are long over."""


class Memory:
    """Keeps the pools in a store. What cannot be written is kept for the next time; a problem is said once."""

    def __init__(self, runtime: Runtime, path: Path, on_problem: Callable[[str], None]) -> None:
        self._runtime, self._path, self._on_problem = runtime, path, on_problem
        self._store: StateStore | None = None
        self._unsaved: dict[str, dict[str, Any]] = {}
        self._shown: dict[str, Any] = {}
        self._disabled: dict[str, Any] = {}
        self._fingerprints: dict[str, str] = {}
        self._salt = secrets.token_bytes(16)
        self._said: str | None = None
        self._swept = 0.0

    def open(self) -> None:
        """Open the store and take up what was kept. Without a store the gateway works all the same."""
        try:
            self._store = StateStore(self._path)
            kept = {kind: self._store.load(kind) for kind in (*KINDS, "salt", "fingerprint")}
        except LedgerError as error:
            self._say(str(error))
            return
        self._runtime.pools.load(kept, self._runtime.now())
        self._disabled = dict(kept["disabled"])
        self._take_salt(kept["salt"].get("salt"))
        self._fingerprints = {name: value for name, value in kept["fingerprint"].items() if isinstance(value, str)}
        self.check_values()

    def check_values(self) -> None:
        """Forget what was known of keys whose value has changed: a person has acted."""
        vault = self._runtime.snapshot.vault
        for key in vault:
            found, known = vault.fingerprint(key, self._salt), self._fingerprints.get(key)
            if known is not None and known != found:
                self._runtime.pools.forget(key)
            if known != found:
                self._fingerprints[key] = found
                self._unsaved.setdefault("fingerprint", {})[key] = found

    async def sync(self) -> None:
        """Write what has changed, and carry out orders."""
        changes = self._gather()
        orders = await asyncio.to_thread(self._exchange, changes)
        for order in orders:
            self.obey(order)

    def obey(self, order: Order) -> None:
        """Carry out an order of a person."""
        health = self._runtime.pools.health
        match order.verb:
            case "disable":
                health.disable(order.name)
            case "enable":
                health.enable(order.name)
            case "reset":
                health.reset(order.name)

    def close(self) -> None:
        """Write what is left."""
        changes = self._gather()
        for order in self._exchange(changes):
            self.obey(order)
        self._exchange(self._gather())
        if self._store is not None:
            try:
                self._store.close()
            except LedgerError as error:
                self._say(str(error))

    def _take_salt(self, kept: Any) -> None:
        try:
            self._salt = bytes.fromhex(kept)
        except (TypeError, ValueError):
            self._unsaved["salt"] = {"salt": self._salt.hex()}

    def _gather(self) -> Mapping[str, Mapping[str, Any]]:
        """What has changed, with what could not be written before."""
        pools, now = self._runtime.pools, self._runtime.now()
        if now - self._swept > SWEEP_EVERY:
            self._swept = now
            pools.health.sweep(now)
        for kind, changed in pools.changes().items():
            self._unsaved.setdefault(kind, {}).update(changed)
        disabled = pools.health.disabled()
        if disabled != self._disabled:
            gone = dict.fromkeys(self._disabled.keys() - disabled.keys())
            self._unsaved.setdefault("disabled", {}).update(gone | disabled)
            self._disabled = disabled
        shown = {key: document(self._runtime, key, now) for key in self._runtime.snapshot.states}
        fresh = {key: found for key, found in shown.items() if self._shown.get(key) != found}
        if fresh:
            self._shown.update(fresh)
            self._unsaved.setdefault("keys", {}).update({key: found | {"time": now} for key, found in fresh.items()})
        changes, self._unsaved = self._unsaved, {}
        return changes

    def _exchange(self, changes: Mapping[str, Mapping[str, Any]]) -> list[Order]:
        """Write and read; in a thread of its own, since a disk may be slow."""
        try:
            if self._store is None:
                self._store = StateStore(self._path)
            if changes:
                self._store.save(changes)
            orders = self._store.take_orders()
        except LedgerError as error:
            self._keep(changes)
            self._reopen()
            self._say(str(error))
            return []
        self._said = None
        return orders

    def _keep(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        for kind, changed in changes.items():
            self._unsaved[kind] = dict(changed) | self._unsaved.get(kind, {})

    def _reopen(self) -> None:
        """Give the store up; the next exchange opens it again."""
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except LedgerError as error:
                self._say(str(error))

    def _say(self, problem: str) -> None:
        if problem != self._said:
            self._said = problem
            self._on_problem(f"{problem}; cooldowns and affinity are kept in memory only")


def document(runtime: Runtime, key: str, now: float) -> dict[str, Any]:
    """How a key is, for people."""
    pools = runtime.pools
    gauge = pools.gauges.of(key)
    marks = pools.health.marks_of(key)
    whole = next((mark for scope, mark in marks if scope.kind == "key"), None)
    rests = [_rest(scope, mark) for scope, mark in marks if scope.kind == "key_model" and mark.left(now) > 0]
    shown = whole if whole is not None and _counts(whole, now) else None
    return {
        "state": _state(pools.health.is_disabled(key), shown, rests, now),
        "reason": str(shown.reason) if shown else None,
        "until": shown.until if shown and not shown.out else None,
        "raw": shown.raw if shown else None,
        "url": shown.url if shown else next((mark.url for _, mark in marks if mark.url), None),
        "rests": rests,
        "in_flight": pools.slots.active(key),
        "used": gauge.used,
        "remaining": gauge.remaining,
        "remaining_dimension": gauge.dimension,
        "last_used": gauge.last or None,
    }


def _counts(mark: Mark, now: float) -> bool:
    return mark.out or mark.left(now) > 0 or mark.probe > now


def _rest(scope: Scope, mark: Mark) -> dict[str, Any]:
    return {"model": scope.model, "reason": str(mark.reason), "until": mark.until, "raw": mark.raw}


def _state(disabled: bool, mark: Mark | None, rests: list[dict[str, Any]], now: float) -> str:
    if disabled:
        return "disabled"
    if mark is not None:
        return "out" if mark.out else "resting" if mark.left(now) > 0 else "probing"
    return "resting" if rests else "ready"


def upstreams(runtime: Runtime, now: float) -> list[str]:
    """Models and upstreams that are the last choice now, in words."""
    found = []
    for scope, mark in runtime.pools.health.marks():
        if scope.kind in ("model", "upstream") and mark.strikes >= TABLE[mark.reason].after and mark.left(now) > 0:
            name = f"{scope.name}/{scope.model}" if scope.model else scope.name
            found.append(f"{name}: last choice for {mark.left(now):.0f} s ({mark.reason})")
    return found
