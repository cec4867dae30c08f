"""What the pools know survives a restart: kept beside the ledger twice a second, with how the keys are for `valetkey keys`.

Orders of a person (`valetkey keys disable …`) come the same way: through the file, which only its owner can open.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LedgerError
from ..ledger import Order, StateStore
from ..policy.health import TABLE, Mark, Scope
from .runtime import Runtime

KINDS = ("mark", "use", "affinity", "counted", "disabled")
SWEEP_EVERY = 60.0
"""Seconds between two looks for marks that are long over."""
_SALT = 16
"""Bytes."""

Documents = Mapping[str, Mapping[str, Any]]
"""By kind and name; None: gone."""


@dataclass(eq=False, slots=True)
class _Exchange:
    """One time of writing and reading. A thread carries it out; the event loop sees afterwards what came of it."""

    changes: Documents
    found: Documents | None = None
    """What the file held, where it had to be opened. Then nothing was written yet."""
    orders: list[Order] = field(default_factory=list)
    is_saved: bool = False
    is_over: bool = False
    """Set when it was carried out, or must not be any more."""
    problem: str | None = None


class Memory:
    """Keeps the pools in a store. What cannot be written is kept for the next time; a problem is said once.

    The pools and everything in here belong to the event loop, except the store, which belongs to whoever holds the lock.
    """

    def __init__(self, runtime: Runtime, path: Path, on_problem: Callable[[str], None]) -> None:
        self._runtime, self._path, self._on_problem = runtime, path, on_problem
        self._store: StateStore | None = None
        self._lock = threading.Lock()
        self._running: _Exchange | None = None
        self._kept: dict[str, dict[str, Any]] = {}
        """The documents as the file should have them: it may be deleted, and is then written anew."""
        self._unsaved: dict[tuple[str, str], None] = {}
        """Kind and name of those that it may not have so, the latest change last."""
        self._is_loaded = False
        self._disabled: dict[str, Any] = {}
        self._salt = secrets.token_bytes(_SALT)
        self._has_said = False
        self._swept = 0.0

    def open(self) -> None:
        """Open the store and take up what was kept. Without a store the gateway works all the same."""
        self._exchange()
        self.check_values()

    def check_values(self) -> None:
        """Forget what was known of keys whose value has changed: a person has acted."""
        vault, known = self._runtime.snapshot.vault, self._kept.get("fingerprint", {})
        found = {key: vault.fingerprint(key, self._salt) for key in vault}
        for key in found:
            if key in known and known[key] != found[key]:
                self._runtime.pools.forget(key)
        self._keep("fingerprint", {key: value for key, value in found.items() if known.get(key) != value})

    async def sync(self) -> None:
        """Write what has changed, and carry out orders."""
        exchange = self._begin()
        await asyncio.to_thread(self._carry_out, exchange)
        self._finish(exchange)

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
        """Write what is left, and close the store."""
        problems = 0
        # It may take one time to give up a file that is gone, one to make another, one to write, and one for the orders.
        for _ in range(4):
            exchange = self._exchange()
            problems += exchange.problem is not None
            if problems > 1 or (exchange.is_saved and not (exchange.problem or exchange.orders)):
                break
        with self._lock:
            problem = self._let_go()
        if problem:
            self._say(problem)

    def _exchange(self) -> _Exchange:
        exchange = self._begin()
        self._carry_out(exchange)
        self._finish(exchange)
        return exchange

    def _begin(self) -> _Exchange:
        """The next exchange. One that was given up, because who waited for it was cancelled, is ended before."""
        if self._running is not None:
            with self._lock:
                self._running.is_over = True
            self._finish(self._running)
        self._running = exchange = _Exchange(self._changes())
        return exchange

    def _carry_out(self, exchange: _Exchange) -> None:
        """Write and read; in a thread of its own, since a disk may be slow. Touches nothing but the store and the exchange."""
        with self._lock:
            if exchange.is_over:
                return
            exchange.is_over = True
            try:
                if self._store is None:
                    self._store = StateStore(self._path)
                    exchange.found = {kind: self._store.load(kind) for kind in (*KINDS, "salt", "fingerprint")}
                else:
                    self._store.save(exchange.changes)
                    exchange.is_saved = True
                exchange.orders = self._store.take_orders()
            except LedgerError as error:
                exchange.problem = str(error)
                self._let_go()

    def _let_go(self) -> str | None:
        """Give the store up; the next exchange opens it again. Gives what went wrong."""
        store, self._store = self._store, None
        try:
            if store is not None:
                store.close()
        except LedgerError as error:
            return str(error)
        return None

    def _finish(self, exchange: _Exchange) -> None:
        """Take note of what came of an exchange."""
        self._running = None
        if not exchange.is_saved:
            later = self._unsaved
            self._unsaved = {(kind, name): None for kind, named in exchange.changes.items() for name in named} | later
        if exchange.found is not None:
            self._take_up(exchange.found)
        for order in exchange.orders:
            self.obey(order)
        if exchange.problem is not None:
            self._say(exchange.problem)
        elif exchange.is_saved and exchange.changes:
            self._has_said = False

    def _take_up(self, found: Documents) -> None:
        """The file was opened: the first time, learn what it holds; later on, teach it what it may have lost."""
        if self._is_loaded:
            self._unsaved |= {(kind, name): None for kind, named in self._kept.items() for name in named}
            return
        self._is_loaded = True
        # What happened before the file could be opened is newer than what is in it.
        older = {
            kind: {name: value for name, value in named.items() if (kind, name) not in self._unsaved}
            for kind, named in found.items()
        }
        for kind in KINDS:
            self._kept[kind] = dict(older[kind]) | self._kept.get(kind, {})
        self._runtime.pools.load(older, self._runtime.now())
        self._disabled = self._runtime.pools.health.disabled()
        self._take_salt(found["salt"].get("salt"), found["fingerprint"])

    def _take_salt(self, kept: Any, fingerprints: Mapping[str, Any]) -> None:
        """Go on with the file's salt, which its fingerprints were made with. Without it they tell nothing."""
        salt = _bytes(kept)
        if salt is None:
            self._keep("salt", {"salt": self._salt.hex()})
            return
        self._salt = salt
        self._kept |= {"salt": {"salt": kept}, "fingerprint": dict(fingerprints)}
        self.check_values()

    def _keep(self, kind: str, documents: Mapping[str, Any]) -> None:
        """Note documents that are to be written; None deletes one."""
        kept = self._kept.setdefault(kind, {})
        for name, document in documents.items():
            if document is None:
                kept.pop(name, None)
            else:
                kept[name] = document
            self._unsaved.pop((kind, name), None)
            self._unsaved[kind, name] = None

    def _changes(self) -> Documents:
        """What is to be written: what has changed, with what could not be written before."""
        self._gather()
        unsaved, self._unsaved = self._unsaved, {}
        changes: dict[str, dict[str, Any]] = {}
        for kind, name in unsaved:
            changes.setdefault(kind, {})[name] = self._kept.get(kind, {}).get(name)
        return changes

    def _gather(self) -> None:
        pools, now = self._runtime.pools, self._runtime.now()
        if now - self._swept > SWEEP_EVERY:
            self._swept = now
            pools.health.sweep(now)
        for kind, changed in pools.changes().items():
            self._keep(kind, changed)
        disabled = pools.health.disabled()
        self._keep("disabled", dict.fromkeys(self._disabled.keys() - disabled.keys()))
        self._keep("disabled", {key: value for key, value in disabled.items() if key not in self._disabled})
        self._disabled = disabled
        shown = self._kept.setdefault("keys", {})
        for key, found in documents(self._runtime, now).items():
            if shown.get(key) != found | {"time": shown.get(key, {}).get("time")}:
                self._keep("keys", {key: found | {"time": now}})

    def _say(self, problem: str) -> None:
        if not self._has_said:
            self._has_said = True
            self._on_problem(f"{problem}; cooldowns and affinity are kept in memory only")


def _bytes(text: Any) -> bytes | None:
    """A salt from hex digits; None for what is none."""
    try:
        found = bytes.fromhex(text)
    except (TypeError, ValueError):
        return None
    return found if len(found) == _SALT else None


_Marks = list[tuple[Scope, Mark]]


def documents(runtime: Runtime, now: float) -> dict[str, dict[str, Any]]:
    """How every key of the rules is, by id."""
    marks: dict[str, _Marks] = {key: [] for key in runtime.snapshot.states}
    for scope, mark in runtime.pools.health.marks():
        if scope.kind in ("key", "key_model") and scope.name in marks:
            marks[scope.name].append((scope, mark))
    return {key: _document(runtime, key, marks[key], now) for key in marks}


def document(runtime: Runtime, key: str, now: float) -> dict[str, Any]:
    """How a key is, for people."""
    return _document(runtime, key, runtime.pools.health.marks_of(key), now)


def _document(runtime: Runtime, key: str, marks: _Marks, now: float) -> dict[str, Any]:
    pools = runtime.pools
    gauge = pools.gauges.of(key)
    is_stated = not gauge.resets_at or now < gauge.resets_at
    whole = next((mark for scope, mark in marks if scope.kind == "key"), None)
    rests = [_rest(scope, mark) for scope, mark in marks if scope.kind == "key_model" and mark.left(now) > 0]
    shown = whole if whole is not None and _counts(whole, now) else None
    running = [mark for _, mark in marks if _counts(mark, now)]
    return {
        "state": _state(pools.health.is_disabled(key), shown, rests, now),
        "reason": str(shown.reason) if shown else None,
        "until": shown.until if shown and not shown.out else None,
        "raw": shown.raw if shown else None,
        "url": next((mark.url for mark in (shown, *running) if mark and mark.url), None),
        "rests": rests,
        "in_flight": pools.slots.active(key),
        "used": gauge.used,
        "remaining": gauge.remaining if is_stated else None,
        "remaining_dimension": gauge.dimension if is_stated else None,
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
