"""How many failed attempts to be somebody are heard: a bucket of tokens for each address and agent that is claimed.

Only failures cost. An agent that nobody pretends to be is not kept out by what others do at the same address.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

BURST = 10
"""Failures that are heard in one go."""
REFILL = 6.0
"""Seconds until one more is."""
QUIET = 60.0
"""Seconds between two words about failures at one address."""
MOST = 4096
"""Buckets that are kept; then those without a failure for longest go."""


class Guesses:
    """Failures, and whether more are heard. All times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._full: OrderedDict[tuple[str, str], float] = OrderedDict()
        """When a bucket is full again."""
        self._told: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str, claim: str, now: float) -> float:
        """Seconds until an attempt from there to be `claim` is heard; 0.0: it is heard at once."""
        full = self._full.get((network(address), claim), now) if self._full else now
        return max(0.0, full - now - (BURST - 1) * REFILL)

    def failed(self, address: str, claim: str, now: float) -> bool:
        """Note a failure. True when it is to be told, because nothing was told of that address for a minute."""
        place = network(address)
        _keep(self._full, (place, claim), max(self._full.get((place, claim), now), now) + REFILL)
        if now - self._told.get(place, -QUIET) < QUIET:
            return False
        _keep(self._told, place, now)
        return True

    def __len__(self) -> int:
        return len(self._full)


@lru_cache(maxsize=1024)
def network(address: str) -> str:
    """What counts as one address: of IPv6 the network of 64 bits, which one machine may have all of."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((found, 64), strict=False))


def _keep[K](table: OrderedDict[K, float], key: K, value: float) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > MOST:
        table.popitem(last=False)
