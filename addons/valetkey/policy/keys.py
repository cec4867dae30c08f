"""Which key of a provider the next attempt uses."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import Key


def choose(keys: Sequence[Key], turn: int) -> Key | None:
    """The key for call number `turn` of this provider: round robin among the keys of the lowest `priority` number.

    Keys keep the order in which they are given. None when there is no key.
    """
    if not keys:
        return None
    best = min(key.priority for key in keys)
    tier = [key for key in keys if key.priority == best]
    return tier[turn % len(tier)]
