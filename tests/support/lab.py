"""Fixtures: one simulator and one gateway for most end-to-end tests; a test that breaks things starts its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.processes import PROVIDER_HOSTS, Gateway, running
from valetkey.simulator import Simulator, TlsFiles, make_authority, run_in_thread


@dataclass
class Lab:
    """The world of the tests: the simulator under the providers' names, its CA, a shared mitmproxy CA."""

    simulator: Simulator
    ca: Path
    confdir: Path

    @property
    def dial(self) -> dict[str, int]:
        return dict.fromkeys(PROVIDER_HOSTS, self.simulator.port)

    def gateway(self, folder: Path, rules: str = "", **options: object) -> Gateway:
        """A gateway whose provider names lead to the simulator; not started yet."""
        merged: dict[str, object] = {"dial": self.dial, "ca": self.ca, "confdir": self.confdir} | options
        return Gateway(folder, rules=rules, **merged)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    files = make_authority(folder, PROVIDER_HOSTS)
    with run_in_thread(tls=TlsFiles(files.cert, files.key)) as simulator:
        yield Lab(simulator, files.ca, folder / "confdir")


@pytest.fixture(scope="session")
def shared(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that only sees well-behaved calls; tests look at their own receipts by id."""
    with running(lab.gateway(tmp_path_factory.mktemp("shared"))) as gateway:
        yield gateway
