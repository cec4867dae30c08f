"""`valetkey run`: mitmproxy with the gateway in it and the doors of rules.yaml, nothing else."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import StartError
from ..proxy.doors import api_mode
from .app import CHECKOUT, RulesOption, app, load

WEB_PORT = 8081
"""mitmweb's own default."""
_DOORS = re.compile(r"-[mp].*|--mode\b.*|--listen-.*|(mode|listen_host|listen_port)=.*")
_WEB_PORT = re.compile(r"--web-port\b.*|web_port=.*")
_WEB_HOST = re.compile(r"--web-host\b.*|web_host=.*")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    rules: RulesOption = None,
    web: Annotated[bool, typer.Option("--web", help="Run mitmweb, to look at flows in a browser.")] = False,
) -> None:
    """Start the gateway with the doors of rules.yaml. What follows `--` goes to mitmproxy.

    **Examples:** `valetkey run` · `valetkey run --web` · `valetkey run -- --set flow_detail=0 -w flows.mitm`
    """
    argv = command(rules, web, [argument for argument in context.args if argument != "--"])
    os.execv(argv[0], argv)  # noqa: S606 - no shell is the point


def command(rules: str | None, web: bool, extra: Sequence[str]) -> list[str]:
    """The command line of mitmproxy. Raises ConfigurationError for rules that cannot be used."""
    environ = dict(os.environ)
    loaded = load(rules)
    os.environ.update(environ)  # loading took the keys out; the gateway needs them to do the same
    gateway = loaded.snapshot.rules.gateway
    argv = [str(tool("mitmweb" if web else "mitmdump")), "-s", str(script())]
    if loaded.settings.rules_path is not None:
        argv += ["--set", f"rules={loaded.settings.rules_path}"]
    if not _names(_DOORS, extra):
        argv += ["--mode", f"regular@{gateway.proxy.host}:{gateway.proxy.port}", "--mode", api_mode(gateway.api)]
    argv += ["--set", "connection_strategy=lazy", "--set", "upstream_cert=false"]
    if web:
        argv += _inspector(extra)
    return [*argv, *extra]


def _inspector(extra: Sequence[str]) -> list[str]:
    """mitmweb's options: on loopback, on its usual port or else on a free one, without a browser."""
    options = ["--no-web-open-browser"]
    if not _names(_WEB_HOST, extra):
        options += ["--web-host", "127.0.0.1"]
    if not _names(_WEB_PORT, extra):
        options += ["--web-port", str(_free_port(WEB_PORT))]
    return options


def _names(option: re.Pattern[str], arguments: Sequence[str]) -> bool:
    """Whether the user chose an option himself; then his word counts, and ours is not added to it."""
    return any(option.fullmatch(argument) for argument in arguments)


def _free_port(wanted: int) -> int:
    """The wanted port of loopback, or any that is free."""
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                return int(server.getsockname()[1])
        except OSError:
            continue
    raise StartError("no port of 127.0.0.1 is free for mitmweb")


def tool(name: str) -> Path:
    """mitmproxy's program beside the running Python. Raises StartError."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise StartError(f"{path} does not exist; install valetkey into this Python again (make run does it)")
    return path


def script() -> Path:
    """gateway.py: in the checkout, or in a folder of its own inside an installed package. Raises StartError."""
    package = Path(__file__).resolve().parents[1]
    for path in (package / "script" / "gateway.py", CHECKOUT / "addons" / "gateway.py"):
        if path.exists():
            return path
    raise StartError("gateway.py is missing from this installation; install valetkey again")
