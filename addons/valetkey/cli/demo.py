"""`valetkey demo`: the whole thing in under a minute, without any key and without the internet."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import typer

from ..errors import StartError
from ..ledger import Query, open_store, to_dict
from ..simulator import Simulator, run_in_thread
from .app import app, say
from .running import script, tool

REAL = "sk-proj-made-up-for-the-demo-0123456789"
PATIENCE = 30.0
_BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is a valet key?"}]}


@app.command()
def demo() -> None:
    """Show a call with a dummy key: what the provider saw, what the flow holds, the receipt, the cost.

    A simulated provider and a real gateway are started on free ports and ended again. **Example:** `valetkey demo`
    """
    with tempfile.TemporaryDirectory(prefix="valetkey-demo-") as name, run_in_thread() as provider:
        folder = Path(name)
        stage = Stage(folder, provider)
        with _gateway(stage):
            _call(stage, streamed=False)
            _call(stage, streamed=True)
            stage.wait_for_receipts(2)
        promises = _tell(stage)
    for promise, kept in promises:
        say(f"  {'kept  ' if kept else 'BROKEN'}  {promise}")
    if not all(kept for _, kept in promises):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Stage:
    """The demo's folder and its provider."""

    folder: Path
    provider: Simulator

    @property
    def flows(self) -> Path:
        """Where the gateway's flows are saved."""
        return self.folder / "flows.mitm"

    def receipts(self) -> list[dict[str, Any]]:
        """What the ledger has."""
        path = self.folder / ".valetkey" / "ledger.db"
        with closing(open_store(f"sqlite:///{path}", readonly=True)) as store:
            return [to_dict(receipt) for receipt in store.receipts(Query())]

    def wait_for_receipts(self, count: int) -> None:
        """The writer takes a quarter of a second."""
        deadline = time.monotonic() + PATIENCE
        while len(self.receipts()) < count and time.monotonic() < deadline:
            time.sleep(0.05)


@contextmanager
def _gateway(stage: Stage) -> Iterator[None]:
    """A real mitmdump with the gateway, on free ports."""
    proxy, api = _free_ports()
    rules = stage.folder / "rules.yaml"
    rules.write_text(
        f"version: 1\ngateway: {{proxy: 127.0.0.1:{proxy}, api: 127.0.0.1:{api}}}\n"
        f"providers:\n  openai:\n    upstream: {stage.provider.url}/v1\n    keys: [env:OPENAI_API_KEY]\n"
    )
    command = [str(tool("mitmdump")), "-q", "-s", str(script()), "-w", str(stage.flows), "--set", f"rules={rules}"]
    command += ["--set", f"confdir={stage.folder}/ca", "--mode", f"regular@127.0.0.1:{proxy}"]
    command += ["--mode", f"reverse:http://valetkey.invalid@127.0.0.1:{api}"]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    process = subprocess.Popen(command, cwd=stage.folder, env=environment | {"GATEWAY_OPENAI_API_KEY": REAL})
    try:
        _wait_until_ready(process, api)
        say(f"a gateway (mitmdump -s {script().name}) on port {proxy}, a simulated provider on port {stage.provider.port}")
        (stage.folder / "proxy").write_text(str(proxy))
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def _wait_until_ready(process: subprocess.Popen[bytes], api: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{api}/health", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise StartError("the gateway did not get ready; what it printed stands above")


def _call(stage: Stage, *, streamed: bool) -> None:
    """A call as any SDK makes it behind HTTPS_PROXY: the provider's own address, a dummy key."""
    import ssl

    proxy = (stage.folder / "proxy").read_text()
    trust = ssl.create_default_context(cafile=str(stage.folder / "ca" / "mitmproxy-ca-cert.pem"))
    with httpx.Client(proxy=f"http://127.0.0.1:{proxy}", verify=trust, trust_env=False) as client:
        answer = client.post(
            "https://api.openai.com/v1/chat/completions",
            headers={"authorization": "Bearer sk-dummy-alice"},
            json=_BODY | ({"stream": True} if streamed else {}),
        )
    say(f"agent alice, {'streamed' if streamed else 'whole'}: sk-dummy-alice -> {answer.status_code}")
    if not streamed and answer.status_code == 200:
        say(f"  answer: {answer.json()['choices'][0]['message']['content']}")


def _tell(stage: Stage) -> list[tuple[str, bool]]:
    """Print what was seen; give the promises and whether they were kept."""
    credentials = [value for seen in stage.provider.seen for value in seen.credentials]
    say(f"the provider saw: {', '.join(value.replace(REAL[14:], '…') for value in credentials)}")
    saved = stage.flows.read_bytes()
    dummies, reals = saved.count(b"sk-dummy-alice"), saved.count(REAL.encode())
    say(f"the saved flows hold: sk-dummy-alice {dummies} times, the real key {reals} times")
    receipts = stage.receipts()
    for receipt in receipts:
        tokens = {name: receipt["usage"].get(name) for name in ("input_tokens", "output_tokens")}
        kept = {name: receipt[name] for name in ("agent", "provider", "model", "key", "status", "cost_usd")}
        say(f"receipt: {json.dumps(kept | tokens)}")
    artefacts = b"".join(path.read_bytes() for path in stage.folder.rglob("*") if path.is_file())
    return [
        ("the provider got the real key, once per call", credentials == [f"Bearer {REAL}"] * 2),
        ("nothing that was written holds the real key", REAL.encode() not in artefacts),
        ("every call has one receipt, with its cost", len(receipts) == 2 and all(r["cost_usd"] for r in receipts)),
    ]


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
