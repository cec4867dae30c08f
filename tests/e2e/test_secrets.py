"""Keys from programs, and prices, in a running gateway: read at the start, and anew when they change."""

from __future__ import annotations

import sys

import httpx
import pytest

from support.pricing import GPT, model, published
from support.processes import running, wait_for
from valetkey.ledger import write_prices
from valetkey.simulator import Fault

pytestmark = pytest.mark.e2e
OLD, NEW, THIRD = (f"sk-proj-REALrealREALrealREALreal000{number}" for number in "123")
PRINTS = """
import os, sys
if any("API_KEY" in name for name in os.environ):
    sys.exit(9)
print(open(sys.argv[1]).read())
"""


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    """One whose key a program prints, from a file; a second one fails, and a variable holds a third."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "prints.py").write_text(PRINTS)
    (folder / "current").write_text(OLD)
    command = f"cmd:{sys.executable} prints.py"
    rules = f"""
    providers:
      openai:
        keys:
          - {{ref: '{command} current', name: printed, timeout: 60s}}
          - {{ref: '{command} missing', name: lost, timeout: 60s}}
    """
    with running(lab.gateway(folder, rules, env={"ANTHROPIC_API_KEY": THIRD})) as started:
        yield started


def ask(gateway):
    with gateway.client() as client:
        return client.post(
            "https://api.openai.com/v1/chat/completions",
            json={"model": "gpt-4o-mini", "messages": []},
            headers={"authorization": "Bearer sk-dummy"},
        )


def test_a_key_that_a_program_prints_is_used(gateway):
    assert ask(gateway).status_code == 200


def test_one_that_fails_is_told_and_stops_nothing(gateway):
    assert "openai/lost is left out" in gateway.output() and "ended with status 1" in gateway.output()


def test_a_refused_key_is_read_anew_and_used_at_once(gateway, lab):
    (gateway.folder / "current").write_text(NEW)
    fault = Fault(key=OLD, status=401)
    lab.simulator.faults.append(fault)
    try:
        refused = ask(gateway)
        wait_for(lambda: "keys were read anew" in gateway.output(), "the new key")
        assert (refused.status_code, ask(gateway).status_code) == (503, 200)
    finally:
        lab.simulator.faults.clear()


def test_newer_prices_hold_for_calls_that_come_after_them(gateway):
    old = receipt_of(gateway, ask(gateway))
    dear = {name: price * 1000 for name, price in GPT.items()}
    write_prices(gateway.folder / ".valetkey" / "ledger.prices.json", published(model("gpt-4o-mini", dear)), "x", 0.0)
    wait_for(lambda: "revision 2" in gateway.output(), "the new prices")
    new = receipt_of(gateway, ask(gateway))
    assert float(new["cost_usd"]) > 100 * float(old["cost_usd"]) and old in gateway.receipts()


def receipt_of(gateway, answer):
    id = answer.headers["x-valetkey-id"]
    return wait_for(lambda: next((each for each in gateway.receipts() if each["id"] == id), None), "the receipt")


def test_health_is_answered_all_the_while(gateway):
    assert httpx.get(f"{gateway.api}/health", trust_env=False, timeout=30).status_code == 200


@pytest.mark.parametrize("key", [OLD, NEW, THIRD])
def test_no_key_is_in_the_log(gateway, key):
    assert key not in gateway.output()
