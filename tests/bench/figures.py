"""From measurements to figures: medians over rounds, ratios of measurements that were taken in turn, goals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from .plan import DIRECT, DOORS, GATEWAY, PACED, STREAM, STREAMING, WHOLE, Door, Load

Measurement = Mapping[str, Any]
_PEERS = {"LiteLLM": 8.0, "LLM-API-Key-Proxy": 5.0}
"""How many times as many calls the gateway should make."""
ENOUGH = 0.9
"""From this share of a core on, the generator or the provider may be what was measured."""


@dataclass
class Results:
    """What a run has found."""

    rounds: dict[tuple[Door, Load, str], list[Measurement]] = field(default_factory=dict)
    """By door, load and subject; one measurement per round."""
    memory: dict[tuple[Door, str], dict[str, float]] = field(default_factory=dict)
    """MB by door and subject: `start`, `after N` calls, `open` streams."""
    made: dict[Door, int] = field(default_factory=dict)
    """Calls made through the gateway."""
    receipts: dict[Door, dict[str, int]] = field(default_factory=dict)
    """What the ledger holds of them, by outcome."""
    problems: list[str] = field(default_factory=list)
    """Calls that failed, and receipts that are missing. A run with any is no measurement."""
    notes: list[str] = field(default_factory=list)
    """Calls that failed in a peer."""

    def add(self, door: Door, load: Load, subject: str, found: Measurement) -> None:
        """Keep a measurement."""
        self.rounds.setdefault((door, load, subject), []).append(found)

    def lost(self, door: Door) -> int:
        """Calls without a receipt that says `ok`; negative when there are too many."""
        return self.made[door] - self.receipts[door].get("ok", 0)

    def middle(self, door: Door, load: Load, subject: str, figure: str) -> float | None:
        """The median over the rounds."""
        values = [value for each in self.rounds.get((door, load, subject), ()) if (value := each.get(figure)) is not None]
        return median(values) if values else None

    def share(self, door: Door, load: Load, subject: str, process: str) -> float | None:
        """The share of a core that `load`, `mock` or `proxy` used: the median over the rounds."""
        found = self.rounds.get((door, load, subject), ())
        values = [each["shares"][process] for each in found if process in each.get("shares", {})]
        return median(values) if values else None

    def ratio(self, door: Door, load: Load, figure: str, over: str | None = None) -> float | None:
        """The gateway's figure over that of `over` (default: mitmdump), round by round; the median of these."""
        values = [mine / other for mine, other in self._pairs(door, load, figure, over) if other]
        return median(values) if values else None

    def difference(self, door: Door, load: Load, figure: str) -> float | None:
        """The gateway's figure less that of mitmdump, round by round; the median of these."""
        values = [mine - other for mine, other in self._pairs(door, load, figure, None)]
        return median(values) if values else None

    def _pairs(self, door: Door, load: Load, figure: str, over: str | None) -> list[tuple[float, float]]:
        mine, others = (self.rounds.get((door, load, name), []) for name in (GATEWAY, over or load.reference))
        pairs = ((a.get(figure), b.get(figure)) for a, b in zip(mine, others, strict=False))
        return [(a, b) for a, b in pairs if a is not None and b is not None]

    def doors(self) -> list[Door]:
        """Those that were measured."""
        return list(dict.fromkeys(door for door, _, _ in self.rounds))

    def loads(self, door: Door) -> list[Load]:
        """Those that were measured at `door`, in order."""
        return list(dict.fromkeys(load for at, load, _ in self.rounds if at == door))

    def load(self, door: Door, name: str, connections: int) -> Load | None:
        """The load of this name, if it was measured."""
        return next((each for each in self.loads(door) if (each.name, each.connections) == (name, connections)), None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rounds = [
            {"door": door, "load": asdict(load), "subject": subject, "rounds": found}
            for (door, load, subject), found in self.rounds.items()
        ]
        memory = [{"door": door, "subject": subject, "mb": found} for (door, subject), found in self.memory.items()]
        receipts = [{"door": door, "calls": self.made[door], "receipts": self.receipts[door]} for door in self.made]
        return {"measurements": rounds, "memory": memory, "receipts": receipts, "problems": self.problems, "notes": self.notes}


@dataclass(frozen=True)
class Goal:
    """What a run should show. `most`: the bound is the most that may be, else the least."""

    text: str
    value: float | None
    bound: float
    most: bool
    unit: str = "×"

    @property
    def is_reached(self) -> bool | None:
        """None where it was not measured."""
        if self.value is None:
            return None
        return self.value <= self.bound if self.most else self.value >= self.bound


def goals(results: Results) -> list[Goal]:
    """All, in the order of the issue."""
    found: list[Goal] = []
    for door in results.doors():
        found += [*_speed(results, door), *_delay(results, door), *_memory(results, door)]
        if door in results.made:
            found.append(Goal(f"{DOORS[door]}: receipts lost", abs(results.lost(door)), 0, True, ""))
    return found


def _speed(results: Results, door: Door) -> list[Goal]:
    bounds = ((WHOLE, 1.25 if door == "connect" else 1.3), (STREAM, 1.2))
    return [
        Goal(f"{DOORS[door]}: calls/s over mitmdump, {load.title}", results.ratio(door, load, "rate"), bound, False)
        for name, bound in bounds
        if (load := results.load(door, name, 16))
    ] + _against_peers(results, door)


def _against_peers(results: Results, door: Door) -> list[Goal]:
    load = results.load(door, WHOLE, 16)
    return [
        Goal(f"{DOORS[door]}: calls/s over {peer}, {load.title}", ratio, bound, False)
        for peer, bound in _PEERS.items()
        if load and (ratio := results.ratio(door, load, "rate", peer))
    ]


def _delay(results: Results, door: Door) -> list[Goal]:
    found: list[Goal] = []
    if load := results.load(door, WHOLE, 1):
        found += [
            Goal(f"{DOORS[door]}: {figure} over mitmdump, {load.title}", results.ratio(door, load, figure), bound, True)
            for figure, bound in (("p50", 0.9), ("p99", 1.0))
        ]
    if load := results.load(door, PACED, 16):
        added = results.difference(door, load, "first_content")
        found.append(Goal(f"{DOORS[door]}: added time to the first content event, {load.title}", added, 0.0, True, " ms"))
    return found


def _memory(results: Results, door: Door) -> list[Goal]:
    mine, streaming = (results.memory.get((door, name), {}) for name in (GATEWAY, STREAMING))
    found: list[Goal] = []
    if mine.get("open") and streaming.get("open"):
        found.append(Goal(f"{DOORS[door]}: RSS with open streams over mitmdump", mine["open"] / streaming["open"], 1.3, True))
    after = [name for name in mine if name.startswith("after")]
    if len(after) > 1:
        grown = mine[after[-1]] - mine[after[0]]
        found.append(Goal(f"{DOORS[door]}: RSS growth, {after[0]} to {after[-1]}", grown, 5.0, True, " MB"))
    return found


def warnings(results: Results) -> list[str]:
    """Measurements in which the proxy may not have been the bottleneck."""
    return [text for (door, load, subject) in results.rounds if (text := _warning(results, door, load, subject))]


def _warning(results: Results, door: Door, load: Load, subject: str) -> str:
    if subject == DIRECT or load.pace:
        return ""  # direct shows what generator and provider can do: one of them is its bottleneck
    shares = {name: results.share(door, load, subject, name) or 0.0 for name in ("load", "mock", "proxy")}
    busy = [name for name in ("load", "mock") if shares[name] >= ENOUGH]
    where = f"{DOORS[door]}, {load.title}, {subject}"
    if busy:
        return f"{where}: {' and '.join(busy)} used a whole core and may be what was measured"
    if load.connections >= 16 and 0 < shares["proxy"] < ENOUGH - 0.1:
        return f"{where}: the proxy had only {shares['proxy']:.0%} of a core; the machine was busy, or has too few"
    return ""


def own_share(results: Results, door: Door, load: Load) -> Sequence[float] | None:
    """Milliseconds of p50 that are the provider's and generator's, mitmproxy's, and valetkey's (less than none: saved)."""
    values = [results.middle(door, load, subject, "p50") for subject in (DIRECT, load.reference, GATEWAY)]
    if any(value is None for value in values):
        return None
    direct, reference, gateway = (value or 0.0 for value in values)
    return direct, reference - direct, gateway - reference
