"""What the addons of one gateway share: the rules of the moment, the ledger, the passages, and whether it is ready."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mitmproxy import http

from ..ledger import Archive, LedgerWriter
from ..model import ProviderFacts
from ..policy.paths import HostTable
from ..policy.pools import Pools
from ..rules import Snapshot
from ..secrets import Environment, Fetcher
from ..settings import Settings
from .alarms import Alarms
from .passage import Passages

if TYPE_CHECKING:
    from .memory import Memory


@dataclass
class Runtime:
    """The shared state. `snapshot` is replaced as a whole on reload; a call keeps the one it began with."""

    catalog: Mapping[str, ProviderFacts]
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    """A number in [0, 1); not for secrets."""
    pools: Pools = field(default_factory=Pools)
    alarms: Alarms = field(default_factory=Alarms)
    ready: bool = False
    problem: str | None = None
    passages: Passages = field(default_factory=Passages)
    settings: Settings | None = None
    environment: Environment | None = None
    fetcher: Fetcher | None = None
    writer: LedgerWriter | None = None
    archive: Archive | None = None
    memory: Memory | None = None
    own_ports: frozenset[int] = frozenset()
    upstream_auth: bytes | None = None
    """What the proxy in front is told (`upstream_auth`); it never goes through a flow that can be looked at."""
    tls_verified: bool = True
    """False while mitmproxy's `ssl_insecure` is on: then no credential goes out."""
    proving: bool = False
    """While the start canary runs: its call leaves no trace."""
    ending: Callable[[], bool] = lambda: False
    """Whether the process is about to end."""
    later: Callable[[float, Callable[[], None]], object] | None = None
    """Runs a step after so many seconds; after none, when the event loop has handed over what it is busy with. None: somebody may
    look at flows, so that nothing may be put off."""
    is_busy: Callable[[], bool] = lambda: False
    """Whether something has come that waits for its turn."""
    settle: Callable[[http.HTTPFlow], None] = lambda flow: None
    """Writes a call's receipt; set by the assembly, used by the guard when a last hook broke."""

    def __post_init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._hosts: HostTable | None = None
        self._latest = 0.0
        self._behind = 0.0

    @property
    def snapshot(self) -> Snapshot:
        """The rules in force. Raises RuntimeError before the first ones are loaded (the guard then refuses)."""
        if self._snapshot is None:
            raise RuntimeError("no rules are loaded yet")
        return self._snapshot

    @property
    def hosts(self) -> HostTable:
        """Which destination belongs to which provider."""
        if self._hosts is None:
            raise RuntimeError("no rules are loaded yet")
        return self._hosts

    def adopt(self, snapshot: Snapshot) -> None:
        """Put new rules in force for calls that begin from now on."""
        self._hosts = HostTable(snapshot.rules.providers)
        self._snapshot = snapshot

    def doubt(self, key: str) -> None:
        """A provider refused a key: what it is read from slowly may have another by now."""
        if self.fetcher is not None:
            self.fetcher.doubt(self.snapshot.references.get(key, ""))

    def is_provider(self, host: str, port: int) -> bool:
        """Whether a connection to this destination may carry calls."""
        return self.hosts.find(host, port, "https") is not None or self.hosts.find(host, port, "http") is not None

    def now(self) -> float:
        """Unix time that never goes back: when the wall clock is set back, it goes on from where it was.

        Set forward, it follows; rests then end early, and the first call finds out.
        """
        wall = self.clock()
        if wall + self._behind < self._latest:
            self._behind = self._latest - wall
        self._latest = wall + self._behind
        return self._latest

    @property
    def ledger_blocks(self) -> bool:
        """Whether calls must stop because receipts cannot be kept (`ledger_failure: closed`)."""
        if self.writer is None or self.writer.healthy:
            return False
        return self.snapshot.rules.gateway.ledger_failure == "closed"
