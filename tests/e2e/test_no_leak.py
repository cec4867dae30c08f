"""The key canary: after a whole run, no artefact of the gateway holds a real key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.processes import REAL_KEYS, Gateway, running

pytestmark = pytest.mark.e2e

CHAT = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello there"}]}
FOREIGN = "sk-proj-FOREIGNkeyofanagentZZZZZZZZZZZZZZZZ"
CALLS = [
    ({"authorization": "Bearer sk-dummy"}, BODY),
    ({"authorization": "Bearer sk-dummy"}, BODY | {"stream": True}),
    ({"authorization": f"Bearer {FOREIGN}"}, BODY),
    ({"authorization": "Bearer sk-dummy", "x-simulate": "status=429"}, BODY),
    ({"authorization": "Bearer sk-dummy", "x-simulate": "status=401"}, BODY),
    ({"authorization": "Bearer sk-dummy", "x-simulate": "cut=1"}, BODY | {"stream": True}),
    ({"authorization": "Bearer sk-dummy", "x-simulate": "malformed"}, BODY),
    ({}, BODY),
]


@pytest.fixture(scope="module")
def artefacts(lab, tmp_path_factory):
    """A folder with everything that a busy gateway has written, and its child processes' environments."""
    folder = tmp_path_factory.mktemp("artefacts")
    options = ["-w", str(folder / "flows.mitm"), "--set", f"hardump={folder}/dump.har", "--set", "termlog_verbosity=debug"]
    options += ["--set", "flow_detail=4"]
    with running(lab.gateway(folder, gateway="archive: archive\nlog: json", arguments=options)) as gateway:
        _use(gateway)
        (folder / "children.txt").write_bytes(_children(gateway))
        gateway.receipts(len(CALLS))
    return folder


def _use(gateway: Gateway) -> None:
    for headers, body in CALLS:
        with gateway.client() as client:
            try:
                client.post(f"{CHAT}?key={headers.get('authorization', '')[7:]}", json=body, headers=headers)
            except httpx.HTTPError:
                continue


def _children(gateway: Gateway) -> bytes:
    """The environments of the process's children; it has usually none."""
    tasks = Path(f"/proc/{gateway.process.pid}/task").glob("*/children")
    pids = [pid for task in tasks for pid in task.read_text().split()]
    return b"\n".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", REAL_KEYS)
def test_no_artefact_holds_a_real_key(artefacts, name):
    assert [path for path in _files(artefacts) if REAL_KEYS[name].encode() in path.read_bytes()] == []


def test_no_artefact_holds_a_foreign_key(artefacts):
    assert [path for path in _files(artefacts) if FOREIGN.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("name", ["flows.mitm", "dump.har", "gateway.log", ".valetkey/ledger.db"])
def test_the_artefact_was_really_written(artefacts, name):
    assert (artefacts / name).stat().st_size > 100


def test_the_archive_was_really_written(artefacts):
    assert any(path.stat().st_size for path in (artefacts / "archive").rglob("*") if path.is_file())


def test_saved_flows_hold_what_the_agent_sent(artefacts):
    assert b"sk-dummy" in (artefacts / "flows.mitm").read_bytes()


@pytest.mark.parametrize("path", [".valetkey/ledger.db"])
def test_files_are_private(artefacts, path):
    assert (artefacts / path).stat().st_mode & 0o077 == 0


def test_saved_flows_replay(lab, artefacts, tmp_path):
    """A saved flow holds the dummy; replayed through the gateway it gets a real key again."""
    seen = len(lab.simulator.seen)
    gateway = lab.gateway(tmp_path, arguments=["--client-replay", str(artefacts / "flows.mitm")]).start(ready=False)
    gateway.process.wait(60)
    fresh = [seen_call for seen_call in list(lab.simulator.seen)[seen:] if seen_call.path.startswith("/v1/chat")]
    assert fresh and all("dummy" not in str(call.credentials) for call in fresh)


def test_children_of_the_process_do_not_inherit_keys(lab, tmp_path):
    """A program started by another addon sees no real key."""
    script = tmp_path / "child.py"
    script.write_text(
        "import subprocess, sys\n"
        "def running():\n"
        "    pass\n"
        "def client_connected(client):\n"
        "    out = subprocess.run([sys.executable, '-c', 'import os; print(sorted(os.environ.items()))'], capture_output=True)\n"
        f"    open({str(tmp_path / 'child.txt')!r}, 'wb').write(out.stdout)\n"
    )
    with running(lab.gateway(tmp_path, scripts=[script])):
        pass
    printed = (tmp_path / "child.txt").read_text()
    assert "PATH" in printed and not any(key in printed for key in REAL_KEYS.values())


def test_the_demo_passes(tmp_path):
    """`make demo`, as a user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "valetkey", "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=100,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2] / "addons")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
