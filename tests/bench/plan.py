"""What is measured: doors, loads, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Door = Literal["connect", "base"]
DOORS: dict[Door, str] = {"connect": "CONNECT + TLS", "base": "base URL"}
HOST = "api.openai.com"
BARE, STREAMING, GATEWAY, DIRECT = "mitmdump", "mitmdump, streaming", "valetkey", "direct"
OURS = (DIRECT, BARE, STREAMING, GATEWAY)
"""The subjects that every run has; others are peers."""


@dataclass(frozen=True)
class Load:
    """One way to call. `request` in bytes; `events` of a stream (0: a whole answer); `pace` in ms between events."""

    name: str
    connections: int
    request: int = 500
    events: int = 0
    pace: int = 0
    keep_alive: bool = True
    often: int = 1
    """Times as many rounds as the plan says."""

    @property
    def title(self) -> str:
        """What tables call it."""
        return f"{self.name} × {self.connections}"

    @property
    def reference(self) -> str:
        """What the gateway is compared with."""
        return STREAMING if self.events else BARE

    @property
    def subjects(self) -> tuple[str, ...]:
        """Who is measured, in this order."""
        return (DIRECT, self.reference, GATEWAY)


WHOLE = "whole, 0.5 kB"
STREAM = "50 events"
PACED = "50 events, 10 ms apart"
OFTEN = 3
"""For loads that goals are set for: single rounds of a busy machine differ by a third."""
LOADS = (
    Load(WHOLE, 1, often=OFTEN),
    Load(WHOLE, 16, often=OFTEN),
    Load(WHOLE, 256),
    Load("whole, 100 kB", 16, request=100_000),
    Load(STREAM, 1, events=50),
    Load(STREAM, 16, events=50, often=OFTEN),
    Load(STREAM, 256, events=50),
    Load("2,000 events", 4, events=2000),
    Load(PACED, 16, events=50, pace=10, often=OFTEN),
    Load("short-lived, 0.5 kB", 16, keep_alive=False),
)


@dataclass(frozen=True)
class Plan:
    """One run. `seconds` per measurement; `calls`: RSS is read after 1,000, 10,000, … up to as many; `open_streams` for RSS."""

    seconds: float = 1.0
    rounds: int = 3
    calls: int = 10_000
    open_streams: int = 500
    loads: tuple[Load, ...] = LOADS
    doors: tuple[Door, ...] = ("connect", "base")
    peers: bool = False
    quiet: bool = True
    """Whether mitmdump, with and without the gateway, gets `-q`."""
    milestones: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        tens = [10**power for power in range(3, 10) if 10**power < self.calls]
        object.__setattr__(self, "milestones", (*tens, self.calls) if self.calls else ())


TINY = Plan(
    seconds=0.0,
    rounds=1,
    calls=20,
    open_streams=5,
    loads=(
        Load(WHOLE, 1),
        Load("whole, 100 kB", 2, request=100_000),
        Load(STREAM, 2, events=50),
        Load("2,000 events", 1, events=2000),
        Load(PACED, 2, events=5, pace=1),
        Load("short-lived, 0.5 kB", 2, keep_alive=False),
    ),
)
"""Everything once, to see that it works."""
