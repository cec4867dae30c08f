"""Ask a gateway that may be running: through its own proxy door, for the host that only a gateway answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import httpx

from ..model import Address
from ..proxy.canaryhost import HOST, SEEN
from .variables import dialled

PATIENCE = 5.0
"""Seconds for the gateway to answer."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Who answers at a door: a gateway (`state` is what it says of itself), something else, or nobody."""

    what: Literal["gateway", "other", "nobody"]
    state: dict[str, Any]

    def is_instance(self, instance: str) -> bool:
        """Whether it is the gateway of these rules."""
        return self.what == "gateway" and self.state.get("instance") == instance


def reach(door: Address) -> Reached:
    """Look who answers at a proxy door."""
    try:
        answer = _get(door, "/")
    except httpx.ConnectError:
        return Reached("nobody", {})
    except (httpx.HTTPError, ValueError):
        return Reached("other", {})
    known = isinstance(answer, dict) and answer.get("gateway") == "valetkey"
    return Reached("gateway", answer) if known else Reached("other", {})


def seen(door: Address, port: int) -> dict[str, float | None]:
    """How many seconds ago a tunnel to the canary's `port`, and a request in it, came; nothing where the gateway is silent."""
    try:
        answer = _get(door, f"{SEEN}{port}")
    except (httpx.HTTPError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _get(door: Address, path: str) -> Any:
    with httpx.Client(proxy=f"http://{dialled(door)}", trust_env=False, timeout=PATIENCE) as client:
        return client.get(f"http://{HOST}{path}").json()
