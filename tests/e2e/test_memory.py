"""What the gateway's process holds in memory: after its start, with streams open, after many calls, after long streams.

Compared with a mitmdump that streams, under the same load. `make bench` measures more, and more exactly.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.orders import Order
from bench.plan import STREAMING
from bench.programs import HERE, Loader, loader, mock
from bench.readings import rss_of
from bench.subjects import Scene, Subject, bare_mitmdump, gateway_process

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc"),
]

STREAMS = 200
WARM = 4000
"""Calls until allocator and caches have the size that they keep."""
CALLS = 3000
GROWTH = 5.0
"""Megabytes."""
KEPT = 0.9
"""Of what the start has needed, at most so much stays. It is 0.79 on Linux, and 1 where no pages of files leave."""


@dataclass
class Load:
    """Orders for one process. Memory is in megabytes (10^6 bytes)."""

    generator: Loader
    subject: Subject
    provider: int

    @property
    def memory(self) -> float:
        return rss_of(self.subject.pid or 0)

    def make(self, connections: int, calls: int, events: int = 0, hold: int = 0) -> float:
        """Make calls, and give the memory: with `hold` while all streams are open, else afterwards."""
        host = f"127.0.0.1:{self.subject.port}"
        pids = {"mock": self.provider, "proxy": self.subject.pid or 0}
        order = Order(
            "plain",
            self.subject.port,
            host,
            "",
            pids,
            connections=connections,
            events=events,
            calls=calls,
            hold=hold,
            seconds=120,
        )
        found = self.generator.carry_out(order)
        assert not found["errors"], found["error"]
        return float(found["rss"]) if hold else self.memory


@dataclass
class Found:
    """Memory in megabytes: after the start, and the most until then; what `STREAMS` open streams add, by subject; after so many
    calls; before and after long streams."""

    start: tuple[float, float]
    added: dict[str, float]
    calls: list[float]
    long: list[float]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Iterator[Found]:
    folder = tmp_path_factory.mktemp("memory")
    with mock(folder) as provider, loader(folder) as generator:
        scene = Scene("base", folder, provider)
        bare, ours = bare_mitmdump(scene, STREAMING, "-s", str(HERE / "streaming.py")), gateway_process(scene)
        added = {}
        with bare as subject:
            added["mitmdump"] = _opened(Load(generator, subject, provider.pid))
        with ours as subject:
            load = Load(generator, subject, provider.pid)
            time.sleep(1.0)  # what follows readiness has its own memory
            start = load.memory, _peak(subject.pid or 0)
            added["valetkey"] = _opened(load)
            calls = [load.make(16, WARM), load.make(16, CALLS)]
            long = [load.make(4, 8, events=100), load.make(4, 8, events=2000)]
            yield Found(start, added, calls, long)


def _opened(load: Load) -> float:
    before = load.memory
    return load.make(STREAMS, STREAMS, events=50, hold=10) - before


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell which pages may leave")
def test_what_only_the_start_needs_does_not_stay(found):
    now, most = found.start
    assert now < KEPT * most


def test_an_open_stream_takes_hardly_more_than_without_the_gateway(found):
    assert found.added["valetkey"] < 1.5 * found.added["mitmdump"]


def test_memory_does_not_grow_with_calls(found):
    warm, after = found.calls
    assert after - warm < GROWTH


def test_memory_does_not_grow_with_the_length_of_a_stream(found):
    short, long = found.long
    assert long - short < GROWTH
