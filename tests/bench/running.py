"""One run: doors one after the other, at each the memory of fresh processes, then rounds of all loads, each subject in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .figures import Results
from .orders import Order
from .peers import running_peers
from .plan import BARE, GATEWAY, HOST, OURS, STREAMING, Door, Load, Plan
from .programs import Loader, end_all, loader, mock
from .readings import rss_of
from .subjects import Scene, Subject, receipts, subjects

Say = Callable[[str], None]
_PEERS_LOADS = ((0, 1), (0, 16), (50, 1), (50, 16))
"""Events and connections: peers are slow, and are compared by little."""


def run(plan: Plan, folder: Path, say: Say) -> Results:
    """Everything in `plan`, with the files of the programs in `folder`. Whatever happens, the programs are ended."""
    results = Results()
    try:
        with mock(folder) as provider, loader(folder) as generator:
            for door in plan.doors:
                place = folder / door
                place.mkdir()
                _Run(plan, Scene(door, place, provider, plan.quiet), generator, results, say).run()
    finally:
        end_all()
    return results


class _Run:
    """One door."""

    def __init__(self, plan: Plan, scene: Scene, generator: Loader, results: Results, say: Say) -> None:
        self._plan, self._scene, self._generator, self._results, self._say = plan, scene, generator, results, say
        self._door: Door = scene.door

    def run(self) -> None:
        """Memory, rounds, receipts."""
        self._results.made[self._door] = 0
        with ExitStack() as stack:
            running = stack.enter_context(subjects(self._scene))
            if self._plan.peers and self._door == "base":
                running |= stack.enter_context(running_peers(self._scene, self._results.notes))
            self._memory(running)
            for load in self._plan.loads:
                self._rounds(load, running)
        self._count()

    def _memory(self, running: Mapping[str, Subject]) -> None:
        for name in (BARE, GATEWAY):
            self._after_calls(running[name])
        for name in (STREAMING, GATEWAY):
            self._with_open_streams(running[name])

    def _after_calls(self, subject: Subject) -> None:
        found = self._results.memory.setdefault((self._door, subject.name), {})
        found["start"], made = self._rss(subject), 0
        for milestone in self._plan.milestones:
            self._say(f"{self._door}: {subject.name}, RSS after {milestone:,} calls")
            order = self._order(subject, connections=16, calls=milestone - made, seconds=float(milestone))
            made += int(self._make(subject, order, "calls for RSS")["calls"])
            found[f"after {milestone:,} calls"] = self._rss(subject)

    def _with_open_streams(self, subject: Subject) -> None:
        if not self._plan.open_streams:
            return
        self._say(f"{self._door}: {subject.name}, RSS with {self._plan.open_streams} open streams")
        order = self._order(subject, connections=self._plan.open_streams, events=50, hold=10)
        found = self._make(subject, order, "open streams")
        if found.get("open") == self._plan.open_streams:
            self._results.memory.setdefault((self._door, subject.name), {})["open"] = found["rss"]

    def _rss(self, subject: Subject) -> float:
        return rss_of(subject.pid or 0)

    def _rounds(self, load: Load, running: Mapping[str, Subject]) -> None:
        names = [name for name in running if name in load.subjects or self._is_for_peer(name, load)]
        for number in range(count := self._plan.rounds * load.often):
            # There and back: who is measured late in one round is measured early in the next.
            for name in names if number % 2 == 0 else reversed(names):
                self._say(f"{self._door}: {load.title}, round {number + 1} of {count}, {name}")
                self._results.add(self._door, load, name, self._measure(running[name], load))

    def _is_for_peer(self, name: str, load: Load) -> bool:
        simple = load.keep_alive and not load.pace and load.request <= 500
        return name not in OURS and simple and (load.events, load.connections) in _PEERS_LOADS

    def _measure(self, subject: Subject, load: Load) -> dict[str, Any]:
        order = self._order(
            subject,
            connections=load.connections,
            request=load.request,
            events=load.events,
            pace=load.pace,
            keep_alive=load.keep_alive,
            seconds=self._plan.seconds,
            calls=0 if self._plan.seconds else load.connections,
        )
        return self._make(subject, order, load.title)

    def _order(self, subject: Subject, **what: Any) -> Order:
        pids = {"mock": self._scene.mock.pid} | ({"proxy": subject.pid} if subject.pid else {})
        host = f"127.0.0.1:{subject.port}" if subject.via == "plain" else HOST
        return Order(subject.via, subject.port, host, str(subject.ca or ""), pids, subject.model, **what)

    def _make(self, subject: Subject, order: Order, what: str) -> dict[str, Any]:
        found = self._generator.carry_out(order)
        if subject.name == GATEWAY:
            self._results.made[self._door] += found["calls"]
        if found["errors"]:
            text = f"{self._door}, {what}, {subject.name}: {found['errors']} failed: {found['error']}"
            (self._results.problems if subject.name in OURS else self._results.notes).append(text)
        return found

    def _count(self) -> None:
        self._results.receipts[self._door] = receipts(self._scene)
        if self._results.lost(self._door):
            made, kept = self._results.made[self._door], self._results.receipts[self._door]
            self._results.problems.append(f"{self._door}: {made} calls were made, the ledger holds {kept}")
