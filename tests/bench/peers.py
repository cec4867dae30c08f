"""Other gateways on the same provider, where their programs are found: they are not installed for this.

Both speak plain HTTP on both sides, and get two keys as the gateway does. LLM-API-Key-Proxy looks for people's credentials at
home: its home is the folder of the run.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.processes import free_ports

from .programs import StartError, program, wait_for_port
from .subjects import Scene, Subject

LITELLM, KEY_PROXY = "LiteLLM", "LLM-API-Key-Proxy"
LITELLM_VARIABLE, KEY_PROXY_VARIABLE = "VALETKEY_BENCH_LITELLM", "VALETKEY_BENCH_KEY_PROXY"
ADVICE = {
    LITELLM: f"python -m venv V && V/bin/pip install 'litellm[proxy]!=1.82.7,!=1.82.8', then {LITELLM_VARIABLE}=V",
    KEY_PROXY: (
        "git clone https://github.com/Mirrowel/LLM-API-Key-Proxy D && python -m venv D/.venv && "
        f"D/.venv/bin/pip install -r D/requirements.txt, then {KEY_PROXY_VARIABLE}=D"
    ),
}
_LITELLM_MODEL = """  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_base: "http://127.0.0.1:{port}/v1", api_key: sk-bench-{number}}}
"""


@dataclass(frozen=True)
class Peer:
    """A program that was found."""

    name: str
    command: tuple[str, ...]


def find_peers() -> list[Peer]:
    """Those that can be run here."""
    return [peer for peer in (_litellm(), _key_proxy()) if peer is not None]


def missing(found: Sequence[Peer]) -> dict[str, str]:
    """How to get those that cannot, by name."""
    return {name: advice for name, advice in ADVICE.items() if name not in {peer.name for peer in found}}


def _litellm() -> Peer | None:
    places = [Path(folder) / "bin" for folder in filter(None, [os.environ.get(LITELLM_VARIABLE)])] + [Path(sys.executable).parent]
    path = next((str(place / "litellm") for place in places if (place / "litellm").exists()), shutil.which("litellm"))
    return Peer(LITELLM, (path,)) if path else None


def _key_proxy() -> Peer | None:
    folder = Path(os.environ.get(KEY_PROXY_VARIABLE) or "/nowhere").absolute()
    script = folder / "src" / "proxy_app" / "main.py"
    pythons = (folder / name / "bin" / "python" for name in (".venv", "venv"))
    python = next((str(path) for path in pythons if path.exists()), sys.executable)
    return Peer(KEY_PROXY, (python, str(script))) if script.exists() else None


@contextmanager
def running_peers(scene: Scene, notes: list[str]) -> Iterator[dict[str, Subject]]:
    """All that were found, on the provider of `scene`. Those that do not start are told in `notes`."""
    with ExitStack() as stack:
        subjects: dict[str, Subject] = {}
        for peer in find_peers():
            try:
                subjects[peer.name] = stack.enter_context(_running(peer, scene))
            except StartError as error:
                notes.append(f"{peer.name} does not start: {error}")
        yield subjects


@contextmanager
def _running(peer: Peer, scene: Scene) -> Iterator[Subject]:
    (port,) = free_ports(1)
    folder = scene.folder / peer.name
    folder.mkdir()
    prepare = _prepare_litellm if peer.name == LITELLM else _prepare_key_proxy
    arguments, env, model = prepare(folder, scene.mock.plain)
    command = [*peer.command, *arguments, "--host", "127.0.0.1", "--port", str(port)]
    with program(command, folder / "output.log", env | {"HOME": str(folder)}) as process:
        wait_for_port(port, process)
        yield Subject(peer.name, "plain", port, process.pid, model=model)


def _prepare_litellm(folder: Path, port: int) -> tuple[list[str], dict[str, str], str]:
    """Arguments, environment and the model's name."""
    config = folder / "config.yaml"
    config.write_text("model_list:\n" + "".join(_LITELLM_MODEL.format(port=port, number=number) for number in (1, 2)))
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the prices that come with it; else it asks GitHub for newer ones
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # on loopback, for as long as the run takes
    }
    return ["--config", str(config), "--telemetry", "False"], env, "gpt-4o"


def _prepare_key_proxy(folder: Path, port: int) -> tuple[list[str], dict[str, str], str]:
    """As above. Providers that it does not know are named by their variables."""
    del folder
    keys = {"BENCH_API_KEY_1": "sk-bench-1", "BENCH_API_KEY_2": "sk-bench-2", "BENCH_API_BASE": f"http://127.0.0.1:{port}/v1"}
    return [], keys | {"PROXY_API_KEY": "sk-dummy", "SKIP_OAUTH_INIT_CHECK": "true"}, "bench/gpt-4o"
