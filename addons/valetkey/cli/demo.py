"""`valetkey demo`: the whole thing in under a minute, without any key and without the internet."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import typer
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

from ..errors import StartError
from ..ledger import Query, open_store, to_dict
from ..simulator import Simulator, run_in_thread
from .app import UnusedRulesOption, app, say
from .running import script, tool

REAL = "sk-proj-made-up-for-the-demo-0123456789"
DUMMY = "sk-dummy-alice"
PATIENCE = 30.0
_URL = "https://api.openai.com/v1/chat/completions"
_BODY: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is a valet key?"}]}


@app.command()
def demo(rules: UnusedRulesOption = None) -> None:
    """Show a call with a dummy key: what the provider saw, what the flow holds, the receipt, the cost.

    A simulated provider and a real gateway are started on free ports and ended again. **Example:** `valetkey demo`
    """
    with tempfile.TemporaryDirectory(prefix="valetkey-demo-") as name, run_in_thread() as provider:
        stage = Stage(Path(name), provider)
        with _gateway(stage) as proxy:
            _call(stage, proxy, streamed=False)
            _call(stage, proxy, streamed=True)
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

    @property
    def log(self) -> Path:
        """What the gateway prints."""
        return self.folder / "gateway.log"

    def saved(self) -> list[tuple[str, str]]:
        """Credential and comment of each saved flow to the provider, as mitmproxy reads them."""
        with self.flows.open("rb") as file:
            flows = [flow for flow in FlowReader(file).stream() if isinstance(flow, HTTPFlow) and flow.request.url == _URL]
        return [(flow.request.headers.get("authorization", ""), flow.comment) for flow in flows]

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
def _gateway(stage: Stage) -> Iterator[int]:
    """A real mitmdump with the gateway, on free ports; gives the proxy's."""
    proxy, api = _free_ports()
    rules = stage.folder / "rules.yaml"
    rules.write_text(
        f"version: 1\ngateway: {{proxy: 127.0.0.1:{proxy}, api: 127.0.0.1:{api}}}\n"
        f"providers:\n  openai:\n    upstream: {stage.provider.url}/v1\n    keys: [env:OPENAI_API_KEY]\n"
    )
    command = [str(tool("mitmdump")), "-s", str(script()), "-w", str(stage.flows), "--set", f"rules={rules}"]
    command += ["--set", f"confdir={stage.folder}/ca", "--mode", f"regular@127.0.0.1:{proxy}"]
    command += ["--mode", f"reverse:http://valetkey.invalid@127.0.0.1:{api}"]
    environment = {name: value for name, value in os.environ.items() if "_API_KEY" not in name}
    environment["GATEWAY_OPENAI_API_KEY"] = REAL
    with stage.log.open("wb") as log:
        process = subprocess.Popen(command, cwd=stage.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, api, stage.log)
        say(f"a gateway (mitmdump -s {script().name}) on port {proxy}, a simulated provider on port {stage.provider.port}")
        yield proxy
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], api: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{api}/health", trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise StartError(f"the gateway did not get ready; it said:\n{log.read_text(errors='replace').rstrip()}")


def _call(stage: Stage, proxy: int, *, streamed: bool) -> None:
    """A call as any SDK makes it behind HTTPS_PROXY: the provider's own address, a dummy key."""
    trust = ssl.create_default_context(cafile=str(stage.folder / "ca" / "mitmproxy-ca-cert.pem"))
    try:
        with httpx.Client(proxy=f"http://127.0.0.1:{proxy}", verify=trust, trust_env=False, timeout=PATIENCE) as client:
            answer = client.post(_URL, headers={"authorization": f"Bearer {DUMMY}"}, json=_BODY | {"stream": streamed})
    except httpx.HTTPError as error:
        raise StartError(f"the demo's call got no answer: {error}") from error
    say(f"agent alice, {'streamed' if streamed else 'whole'}: {_URL} with {DUMMY} -> {answer.status_code}")
    if not streamed and answer.status_code == 200:
        say(f"  answer: {answer.json()['choices'][0]['message']['content']}")


def _tell(stage: Stage) -> list[tuple[str, bool]]:
    """Print what was seen; give the promises and whether they were kept."""
    credentials = [value for seen in stage.provider.seen for value in seen.credentials]
    for value in credentials:
        say(f"the provider saw: {value.replace(REAL[14:], '…')}")
    held = stage.saved()
    for credential, comment in held:
        say(f"the flow holds: {credential} ({comment})")
    receipts = stage.receipts()
    for receipt in receipts:
        tokens = {name: receipt["usage"].get(name) for name in ("input_tokens", "output_tokens")}
        kept = {name: receipt[name] for name in ("agent", "provider", "model", "key", "status", "streamed", "cost_usd")}
        say(f"receipt: {json.dumps(kept | tokens)}")
    say(f"the cost: ${sum(Decimal(receipt['cost_usd'] or 0) for receipt in receipts)}")
    artefacts = b"".join(path.read_bytes() for path in stage.folder.rglob("*") if path.is_file())
    return [
        ("the provider got the real key, once per call", credentials == [f"Bearer {REAL}"] * 2),
        ("the saved flows hold the dummy key", [credential for credential, _ in held] == [f"Bearer {DUMMY}"] * 2),
        ("nothing that was written holds the real key", REAL.encode() not in artefacts),
        ("every call has one receipt, with its cost", len(receipts) == 2 and all(r["cost_usd"] for r in receipts)),
    ]


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
