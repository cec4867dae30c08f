"""A call that is over is freed at once: it leaves nothing that only the cyclic garbage collector would find.

What lies about until then costs memory, and a long pause of all calls when it is looked for.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from support.processes import REAL_KEYS, Gateway, running, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal of one's own")]

COLLECTING = Path(__file__).parents[1] / "support" / "collecting.py"
WARM, CALLS = 20, 200
CONSTANT = 20
"""So many objects may be left by what goes on beside the calls. A cycle in each call leaves one object per call at least."""
PATH = "/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello there"}]}
STREAMED = BODY | {"stream": True, "stream_options": {"include_usage": True}}
BEARER = {"authorization": "Bearer sk-dummy"}


@dataclass
class Observed:
    """A gateway that says which objects were left since it was asked before."""

    gateway: Gateway
    report: Path
    round: int = 0
    calls: int = 0

    def left(self) -> dict[str, int]:
        assert self.gateway.process is not None
        self.round += 1
        self.gateway.process.send_signal(signal.SIGUSR1)
        return wait_for(self.read, "the report about cycles", self.gateway.process)["left"]

    def read(self) -> dict | None:
        found = json.loads(self.report.read_text()) if self.report.exists() else {}
        return found if found.get("round") == self.round else None

    def call(self, client: httpx.Client, url: str, body: dict, times: int) -> None:
        """Calls on one connection, until their receipts are written."""
        for _ in range(times):
            answer = client.post(url, json=body, headers=BEARER)
            assert (answer.status_code, "text/event-stream" in answer.headers["content-type"]) == (200, "stream" in body)
        self.calls += times
        self.gateway.receipts(self.calls)


@pytest.fixture(scope="module")
def observed(lab, tmp_path_factory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("cycles")
    report = folder / "cycles.json"
    env = REAL_KEYS | {"VALETKEY_TEST_CYCLES": str(report)}
    with running(lab.gateway(folder, env=env, scripts=[COLLECTING])) as gateway:
        yield Observed(gateway, report)


@pytest.mark.parametrize("body", [BODY, STREAMED], ids=["plain", "streamed"])
@pytest.mark.parametrize("door", ["base URL", "proxy"])
def test_calls_leave_no_cycles(observed, door, body):
    through_proxy = door == "proxy"
    url = f"https://api.openai.com{PATH}" if through_proxy else observed.gateway.api + PATH
    with observed.gateway.client() if through_proxy else httpx.Client(trust_env=False, timeout=30) as client:
        observed.call(client, url, body, WARM)
        observed.left()
        observed.call(client, url, body, CALLS)
        left = observed.left()
    assert sum(left.values()) < CONSTANT, left
