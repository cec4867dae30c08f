"""`python -m attacks`, with addons/ and tests/ on the path: `make attacks`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import canaries, catalogue
from .range import Range, opened
from .report import Line, show

_WIDTH = 200
"""Columns of a table that goes to a file."""
_SETUP = """\
The other proxy must
  - hold these keys: {keys}
  - trust the certificates in {ca} (and verify them)
  - reach {names} at 127.0.0.1:{provider}, any other name (evil.test) at 127.0.0.1:{evil}
  - have its own certificate authority in the file given by --ca
"""


def main(
    only: Annotated[str, typer.Option(help="Only attacks whose id begins with this: C1, C1-06, …")] = "",
    broken: Annotated[bool, typer.Option("--broken", help="Show only what was not defended.")] = False,
    proxy: Annotated[str, typer.Option(help="Attack the proxy at HOST:PORT, in place of the gateway of this tree.")] = "",
    ca: Annotated[Path | None, typer.Option(help="The certificate that clients of that proxy trust.")] = None,
    port: Annotated[int, typer.Option(help="Where the providers' recording server listens; 0 chooses.")] = 0,
    setup: Annotated[bool, typer.Option("--setup", help="Print what that proxy needs, and wait until it is ready.")] = False,
) -> None:
    """Attack the gateway of this tree, or another credential proxy, and show what came of it.

    Exit status: 1 an attack was not defended, 2 it cannot be done (the good call does not pass).
    """
    console = _console()
    address = _address(proxy) if proxy else None
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder, opened(Path(folder), address, port, ca) as here:
        if setup:
            console.print(_wanted(here), highlight=False)
            typer.prompt("Press enter when it is ready", default="", show_default=False)
        if not here.control():
            console.print("The good call does not pass, so no refusal would prove anything.", style="red")
            raise typer.Exit(2)
        chosen = [attack for attack in catalogue.all_attacks() if attack.id.startswith(only)]
        lines = [Line(attack, *here.attempt(attack)) for attack in chosen]
    failed = [line for line in lines if line.verdict.result == "BROKEN"]
    show(failed if broken else lines, console)
    raise typer.Exit(1 if failed else 0)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter("--proxy is HOST:PORT")
    return host, int(port)


def _wanted(here: Range) -> str:
    keys = ", ".join(f"{name}={value}" for name, value in canaries.VARIABLES.items())
    names = ", ".join(canaries.PROVIDERS)
    servers = here.servers
    return _SETUP.format(keys=keys, ca=servers.ca, names=names, provider=servers.provider.port, evil=servers.evil.port)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


if __name__ == "__main__":
    typer.run(main)
