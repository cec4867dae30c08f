"""`valetkey exec` with real processes: what the command sees, what comes of its calls, and what is left afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support.processes import GATEWAY, REAL_KEYS, wait_for

pytestmark = pytest.mark.e2e
CALL = """
import json, os, urllib.request as u
body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}).encode()
head = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
answer = u.urlopen(u.Request("https://api.openai.com/v1/chat/completions", body, head), timeout=30)
print(answer.status, answer.headers["x-valetkey-id"])
"""


def execute(gateway, *words, env=None, rules=None):
    kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name and "proxy" not in name.lower()}
    command = [
        sys.executable,
        "-m",
        "valetkey",
        "exec",
        "--rules",
        str(rules or gateway.rules),
        "--confdir",
        str(gateway.confdir),
    ]
    return subprocess.run(
        [*command, *words], env=kept | {"PYTHONPATH": str(GATEWAY.parent)} | (env or {}), cwd=gateway.folder, capture_output=True,
        text=True, timeout=90,
    )  # fmt: skip


@pytest.fixture(scope="module")
def called(shared):
    """A call of a program that knows nothing of the gateway, in a shell that holds real keys."""
    return execute(shared, "--agent", "alice.exec", "--", sys.executable, "-c", CALL, env=REAL_KEYS)


def test_a_program_that_knows_nothing_of_it_calls_through_the_gateway(called):
    assert called.stdout.startswith("200 "), called.stderr


def test_the_receipt_names_the_agent(shared, called):
    call = called.stdout.split()[1]
    found = wait_for(lambda: [each for each in shared.receipts() if each["id"] == call], "the receipt")
    assert (found[0]["agent"], found[0]["project"]) == ("alice", "exec")


def test_the_command_sees_no_real_key(shared):
    shown = execute(shared, "--", "env", env=REAL_KEYS).stdout
    assert "OPENAI_API_KEY=sk-dummy" in shown and not [value for value in REAL_KEYS.values() if value in shown]


def test_a_gateway_of_its_own_ends_with_the_command(lab, shared, tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "version: 1\ngateway: {proxy: 127.0.0.1:1, api: 127.0.0.1:2}\nproviders: {openai: {upstream: 'http://127.0.0.1:9'}}\n"
    )
    show = "import json, os, urllib.request as u; print(json.dumps([os.environ['HTTPS_PROXY'], json.load(u.urlopen('http://canary.valetkey.invalid/'))]))"
    done = execute(shared, "--start", "--", sys.executable, "-c", show, env=REAL_KEYS, rules=tmp_path / "rules.yaml")
    proxy, state = json.loads(done.stdout or "[null, null]")
    assert state and "openai/1" in state["keys"], done.stderr
    assert subprocess.run(["curl", "-s", "-m", "5", proxy], capture_output=True).returncode == 7
