"""How many connections of clients may be open at once: each costs memory and descriptors, whatever is said on it."""

from __future__ import annotations

import logging
import resource

from mitmproxy import connection

from .guard import guarded
from .runtime import Runtime

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two lines about refused connections."""
PER_CONNECTION = 2
"""Descriptors: the client's, and the provider's or the tunnel's."""
RESERVED = 128
"""Descriptors for the ledger, logs, files and connections to come."""
_AMPLE = 65536
"""As many descriptors as are ever asked for."""
TOO_MANY = "too many connections are open (gateway.max_connections)"


class ValetConnections:
    """Counts open connections and refuses the ones beyond `gateway.max_connections`."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._open: set[str] = set()
        self._descriptors = 0
        self._refused = 0
        self._said: float | None = None

    def running(self) -> None:
        """Take as many descriptors as the system allows; every connection needs two."""
        self._descriptors = most_descriptors()

    @guarded
    def client_connected(self, client: connection.Client) -> None:
        """Let a connection in while there is room."""
        if len(self._open) >= self._limit():
            client.error = TOO_MANY
            self._refuse()
            return
        self._open.add(client.id)

    @guarded
    def client_disconnected(self, client: connection.Client) -> None:
        """Make room; also called for connections that were refused."""
        self._open.discard(client.id)

    def _limit(self) -> int:
        wanted = self.runtime.snapshot.rules.gateway.max_connections
        if not self._descriptors:
            return wanted
        return max(1, min(wanted, (self._descriptors - RESERVED) // PER_CONNECTION))

    def _refuse(self) -> None:
        self._refused += 1
        now = self.runtime.monotonic()
        if self._said is not None and now - self._said < EVERY:
            return
        logger.warning(
            "valetkey: %d connections are open, as many as may be (gateway.max_connections %d, %s descriptors); refused: %d",
            len(self._open), self.runtime.snapshot.rules.gateway.max_connections, self._descriptors or "unlimited", self._refused,
        )  # fmt: skip
        self._said, self._refused = now, 0


def most_descriptors() -> int:
    """Raise the soft limit on open files to the hard one where that works; what it is then, 0 for no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 0
    wanted = _AMPLE if hard == resource.RLIM_INFINITY else min(hard, _AMPLE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    except (ValueError, OSError):  # macOS allows less than its hard limit says
        return soft
    return max(soft, wanted)
