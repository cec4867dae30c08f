"""Many WebSockets at once with many responses each: every receipt is there, and the books agree with the provider's.

`VALETKEY_SOCKETS=200x50` makes the full number (the default is for everyday); `-s` shows the figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from support.processes import running
from support.soaking import memory_of
from support.talking import opening
from valetkey.simulator import run_in_thread

SOCKETS, ANSWERS = (int(number) for number in os.environ.get("VALETKEY_SOCKETS", "20x5").split("x"))
ALL = SOCKETS * ANSWERS
ROUNDS = 5
"""The answers are asked for in so many rounds; after each the memory is looked at."""
GROWTH = 20 * 1024
"""By so many kB the gateway may grow after the first round, with all connections open."""
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120 + ALL // 10)]


@dataclass
class Soaked:
    """What is left when all is said."""

    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    """Of the gateway, in kB: at the start, after each round, when all connections are closed."""
    texts: Counter[str] = field(default_factory=Counter)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    spent: tuple[int, ...] = ()

    @property
    def answers(self) -> list[dict[str, Any]]:
        return [receipt for receipt in self.receipts if receipt["parent"]]

    def told(self) -> str:
        """The figures in words."""
        megabytes = ", ".join(f"{kilobytes / 1024:.1f}" for kilobytes in self.memory)
        rate = f"{ALL / self.seconds:.0f} answers/s"
        return (
            f"\n{SOCKETS} WebSockets × {ANSWERS} responses in {self.seconds:.1f} s: {rate}; memory of the gateway: {megabytes} MB"
        )


@pytest.fixture(scope="module")
def soaked(lab, tmp_path_factory):
    """By the base-URL door, and without the script that leads names to the simulator: nobody watches, as in earnest."""
    found = Soaked()
    with run_in_thread(record=False) as simulator:
        rules = f'providers: {{openai: {{upstream: "{simulator.url}/v1"}}}}'
        with running(lab.gateway(tmp_path_factory.mktemp("socket-soak"), rules, dial=None, ca=None)) as gateway:
            measure(gateway, found)
        found.spent = simulator.counts.spent
    print(found.told())
    return found


def measure(gateway, found):
    found.memory.append(memory_of(gateway))
    begun = time.monotonic()
    asyncio.run(talk(gateway, found))
    found.seconds = time.monotonic() - begun
    found.memory.append(memory_of(gateway))
    found.receipts = gateway.receipts(ALL + SOCKETS)


async def talk(gateway, found):
    sockets = []
    for _ in range(SOCKETS):
        sockets.append(await opening(gateway, f"{gateway.api.replace('http', 'ws')}/v1/responses"))
    for part in range(ROUNDS):
        numbers = range(ANSWERS * part // ROUNDS, ANSWERS * (part + 1) // ROUNDS)
        await asyncio.gather(*(ask(socket, at, numbers, found) for at, socket in enumerate(sockets)))
        found.memory.append(memory_of(gateway))
    await asyncio.gather(*(socket.close() for socket in sockets))


async def ask(socket, at, numbers, found):
    for number in numbers:
        text = f"socket {at} question {number}"
        await socket.send(json.dumps({"type": "response.create", "model": "gpt-4.1", "input": text}))
        while (event := json.loads(await asyncio.wait_for(socket.recv(), 90)))["type"] != "response.completed":
            pass
        found.texts[event["response"]["output"][0]["content"][0]["text"]] += 1


def test_every_response_came_to_whom_it_was_for(soaked):
    expected = {f"Simulated answer to: socket {at} question {number}" for at in range(SOCKETS) for number in range(ANSWERS)}
    assert soaked.texts == dict.fromkeys(expected, 1)


def test_every_response_has_one_receipt_and_every_connection_one_more(soaked):
    parents = Counter(receipt["parent"] for receipt in soaked.answers)
    assert parents == {receipt["id"]: ANSWERS for receipt in soaked.receipts if not receipt["parent"]}
    assert len(parents) == SOCKETS


def test_every_receipt_says_that_it_went_well(soaked):
    assert Counter(receipt["outcome"] for receipt in soaked.receipts) == {"ok": ALL + SOCKETS}


def test_the_sums_are_the_providers_own(soaked):
    sums = (sum(answer["usage"][name] for answer in soaked.answers) for name in ("input_tokens", "output_tokens"))
    assert soaked.spent == (ALL, *sums)


def test_every_response_has_a_price(soaked):
    assert min(Decimal(answer["cost_usd"] or 0) for answer in soaked.answers) > 0


def test_the_gateways_memory_stays_flat(soaked):
    assert max(soaked.memory[2:]) - soaked.memory[1] < GROWTH
