"""Who is measured: the provider itself, mitmdump by itself, the gateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from support.processes import GATEWAY as SCRIPT
from support.processes import REAL_KEYS, free_ports, wait_for
from valetkey.ledger import Query, open_store
from valetkey.proxy.doors import REQUIRED

from .plan import BARE, DIRECT, GATEWAY, HOST, STREAMING, Door
from .programs import HERE, Mock, program, wait_for_port


@dataclass(frozen=True)
class Subject:
    """Where calls go. `pid` is None where there is nothing between the generator and the provider; `ca` signs what it shows."""

    name: str
    via: Literal["plain", "tls", "connect"]
    port: int
    pid: int | None = None
    ca: Path | None = None
    model: str = "gpt-4o"


@dataclass(frozen=True)
class Scene:
    """One door: a provider behind it, a folder for files, mitmproxy's own authority."""

    door: Door
    folder: Path
    mock: Mock
    quiet: bool = True

    @property
    def confdir(self) -> Path:
        return self.folder / "confdir"

    @property
    def ca(self) -> Path:
        return self.confdir / "mitmproxy-ca-cert.pem"

    @property
    def upstream(self) -> int:
        return self.mock.tls if self.door == "connect" else self.mock.plain

    def mitmdump(self, arguments: Sequence[str]) -> list[str]:
        """mitmdump with the options that the gateway cannot do without, so that both do the same work."""
        options = REQUIRED | {"confdir": self.confdir, "ssl_verify_upstream_trusted_ca": self.mock.ca}
        settings = [word for name, value in options.items() for word in ("--set", f"{name}={_option(value)}")]
        return [sys.executable, "-P", str(HERE / "launch.py"), *(["-q"] if self.quiet else []), *settings, *arguments]

    def environment(self) -> dict[str, str]:
        return {"VALETKEY_TEST_DIAL": f'{{"{HOST}": {self.mock.tls}}}'}


def _option(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def subjects(scene: Scene) -> Iterator[dict[str, Subject]]:
    """All of ours, running."""
    with ExitStack() as stack:
        bare = stack.enter_context(bare_mitmdump(scene, BARE))
        streaming = stack.enter_context(bare_mitmdump(scene, STREAMING, "-s", str(HERE / "streaming.py")))
        gateway = stack.enter_context(gateway_process(scene))
        yield {each.name: each for each in (direct(scene), bare, streaming, gateway)}


def direct(scene: Scene) -> Subject:
    """Nothing in between: what generator and provider can do at most."""
    return Subject(DIRECT, "tls" if scene.door == "connect" else "plain", scene.upstream, None, scene.mock.ca)


@contextmanager
def bare_mitmdump(scene: Scene, name: str, *arguments: str) -> Iterator[Subject]:
    """mitmdump without the gateway."""
    (port,) = free_ports(1)
    mode = (
        f"regular@127.0.0.1:{port}" if scene.door == "connect" else f"reverse:http://127.0.0.1:{scene.upstream}@127.0.0.1:{port}"
    )
    command = scene.mitmdump(["--mode", mode, *arguments])
    with program(command, scene.folder / f"{name}.log", scene.environment()) as process:
        wait_for_port(port, process)
        yield Subject(name, _via(scene), port, process.pid, scene.ca)


@contextmanager
def gateway_process(scene: Scene) -> Iterator[Subject]:
    """The gateway with every feature on."""
    proxy, api = free_ports(2)
    rules = scene.folder / "rules.yaml"
    rules.write_text(_rules(scene, proxy, api))
    modes = ["--mode", f"regular@127.0.0.1:{proxy}", "--mode", f"reverse:http://valetkey.invalid@127.0.0.1:{api}"]
    command = scene.mitmdump([*modes, "-s", str(SCRIPT), "--set", f"rules={rules}"])
    keys = {name: REAL_KEYS[name] for name in ("OPENAI_API_KEY_1", "OPENAI_API_KEY_2")}
    with program(command, scene.folder / f"{GATEWAY}.log", scene.environment() | keys) as process:
        wait_for(lambda: _is_healthy(api), "the gateway's health", process)
        yield Subject(GATEWAY, _via(scene), proxy if scene.door == "connect" else api, process.pid, scene.ca)


def _via(scene: Scene) -> Literal["plain", "connect"]:
    return "connect" if scene.door == "connect" else "plain"


def _rules(scene: Scene, proxy: int, api: int) -> str:
    upstream = f"\n    upstream: http://127.0.0.1:{scene.upstream}/v1" if scene.door == "base" else ""
    return f"""version: 1
gateway:
  proxy: 127.0.0.1:{proxy}
  api: 127.0.0.1:{api}
  ledger: sqlite:///{_ledger(scene)}
  headers: on
  egress_allow: [{HOST}]
providers:
  openai:
    keys: [env:OPENAI_API_KEY_1, env:OPENAI_API_KEY_2]{upstream}
"""


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _ledger(scene: Scene) -> Path:
    return scene.folder / "ledger.db"


def receipts(scene: Scene) -> dict[str, int]:
    """How many there are by outcome, once the gateway has ended."""
    store = open_store(f"sqlite:///{_ledger(scene)}", readonly=True)
    try:
        return {str(total.group["outcome"]): total.calls for total in store.totals(["outcome"], Query())}
    finally:
        store.close()
