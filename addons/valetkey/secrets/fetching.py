"""Keys that take time to read (`keyring:`, `cmd:`): read side by side, kept while they last, read anew when they may be old.

A key that cannot be read anew keeps the value that it had; one that never could be read is unusable and is tried again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SecretError
from ..model import KeySpec
from . import commands, keychain
from .secret import Secret

AGAIN = 60.0
"""Seconds after which one that failed is tried again, and at least between two readings of one that is doubted twice."""
SLOW = 1.0
"""Seconds after which it is told what is waited for, and again five times as long after that."""
ABREAST = 8
"""The most that are read at the same time."""
_GRACE = 1.0
"""Seconds that all programs have to end when the gateway ends."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What a reference gave last. `problem` tells why the last reading failed, also where an older value is still there."""

    secret: Secret | None
    problem: str | None
    read: float
    due: float
    doubted: bool = False


class Fetcher:
    """The values of slow references. Any thread may ask and doubt; one at a time may `fetch`."""

    def __init__(
        self, folder: Path, say: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._say, self._clock = folder, say or (lambda text: None), clock
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._readers: list[threading.Thread] = []

    def fetch(self, specs: Iterable[KeySpec], env: Mapping[str, str], refusal: str | None = None) -> bool:
        """Read what is missing or due, and drop what is no longer named; true when a value or a problem changed. Blocks.

        `env` is what programs get to see; with a `refusal` none is run.
        """
        wanted = _merged(specs)
        now = self._clock()
        due = [spec for spec in wanted.values() if (held := self._held.get(spec.ref)) is None or held.due <= now]
        found = self._read_all(due, env, refusal)
        with self._lock:
            before = self._held
            new = {s.ref: self._kept(s, found.get(s.ref, "the gateway ends"), before.get(s.ref)) for s in due}
            self._held = {ref: new.get(ref) or before[ref] for ref in wanted}
            return any(_differs(before.get(ref), held) for ref, held in new.items())

    def get(self, reference: str) -> Secret:
        """The value that was read last. Raises SecretError when none was."""
        held = self._held.get(reference)
        if held is None:
            raise SecretError(f"{reference} was not read")
        if held.secret is None:
            raise SecretError(held.problem or f"{reference} was not read")
        return held.secret

    def problems(self) -> tuple[str, ...]:
        """Why values are older than they should be."""
        return tuple(
            f"{held.problem}; the key that was read before stays in use"
            for held in self._held.values()
            if held.secret is not None and held.problem
        )

    @property
    def is_due(self) -> bool:
        """Whether something should be read anew."""
        now = self._clock()
        return any(held.due <= now for held in self._held.values())

    def doubt(self, reference: str) -> None:
        """A provider refused the value: it may have been changed where it comes from. The first time it is read anew at once."""
        with self._lock:
            held = self._held.get(reference)
            if held is not None and held.secret is not None:
                soonest = held.read + AGAIN if held.doubted else self._clock()
                self._held[reference] = _Held(held.secret, held.problem, held.read, min(held.due, soonest), doubted=True)

    def stop(self) -> None:
        """End what is being read."""
        self._stop.set()
        until = time.monotonic() + _GRACE
        for reader in tuple(self._readers):
            reader.join(max(0.0, until - time.monotonic()))

    def _kept(self, spec: KeySpec, found: Secret | str, before: _Held | None) -> _Held:
        """What is known of a reference after it was read."""
        now, ttl = self._clock(), math.inf if spec.ttl is None else spec.ttl
        doubted = before is not None and before.doubted
        if isinstance(found, str):
            return _Held(before.secret if before else None, found, now, now + min(AGAIN, ttl), doubted)
        is_same = before is not None and before.secret is not None and before.secret == found
        return _Held(found, None, now, now + ttl, doubted and is_same)

    def _read_all(self, specs: Sequence[KeySpec], env: Mapping[str, str], refusal: str | None) -> dict[str, Secret | str]:
        """Values or problems by reference."""
        found: dict[str, Secret | str] = {}
        queue, changed = list(reversed(specs)), threading.Condition()

        def work() -> None:
            while True:
                with changed:
                    if not queue or self._stop.is_set():
                        return
                    spec = queue.pop()
                # Whatever happens to this thread, nobody waits for it for ever.
                result: Secret | str = f"{spec.ref} could not be read; that is a defect, please report it"
                try:
                    result = self._read(spec, env, refusal)
                finally:
                    with changed:
                        found[spec.ref] = result
                        changed.notify_all()

        self._readers = readers = []
        for _ in specs[:ABREAST]:
            reader = threading.Thread(target=work, name="valetkey keys", daemon=True)
            reader.start()
            readers.append(reader)  # only now: who ends us meanwhile cannot wait for one that has not begun
        try:
            self._wait(specs, found, changed)
        except KeyboardInterrupt:
            self.stop()  # programs are in sessions of their own, where Ctrl-C does not reach them
            raise
        return dict(found)

    def _wait(self, specs: Sequence[KeySpec], found: Mapping[str, Secret | str], changed: threading.Condition) -> None:
        """Until all are read, or the gateway ends; tells what takes long."""
        begun = time.monotonic()
        told = begun + SLOW
        with changed:
            while len(found) < len(specs) and not self._stop.is_set():
                changed.wait(0.2)
                if time.monotonic() >= told and len(found) < len(specs):
                    told = time.monotonic() + 5 * SLOW
                    names = ", ".join(spec.ref for spec in specs if spec.ref not in found)
                    self._say(f"waiting for {names} ({time.monotonic() - begun:.0f} s)")

    def _read(self, spec: KeySpec, env: Mapping[str, str], refusal: str | None) -> Secret | str:
        try:
            if spec.ref.startswith("keyring:"):
                return Secret(keychain.read(spec.ref, spec.timeout))
            if refusal:
                return f"{spec.ref} is not run: {refusal}"
            return Secret(commands.run(spec.ref, env, self._folder, spec.timeout, self._stop))
        except SecretError as error:
            return str(error)


def is_slow(reference: str) -> bool:
    """Whether reading a reference takes a program or a store that may ask a person."""
    return reference.startswith(("keyring:", "cmd:"))


def _merged(specs: Iterable[KeySpec]) -> dict[str, KeySpec]:
    """One per reference; of two with different lives the shorter holds."""
    found: dict[str, KeySpec] = {}
    for spec in specs:
        other = found.get(spec.ref)
        if is_slow(spec.ref) and (other is None or (spec.ttl or math.inf) < (other.ttl or math.inf)):
            found[spec.ref] = spec
    return found


def _differs(before: _Held | None, after: _Held) -> bool:
    if before is None or before.problem != after.problem or (before.secret is None) != (after.secret is None):
        return True
    return before.secret is not None and before.secret != after.secret
