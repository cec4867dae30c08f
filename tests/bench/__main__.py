"""`python -m bench`, with tests/ on the path: `make bench` and `make bench-peers`."""

from __future__ import annotations

import resource
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .figures import Results
from .peers import find_peers, missing
from .plan import TINY, Plan
from .programs import StartError
from .report import markdown, show, write_json, write_markdown
from .running import run

_WIDTH = 130
"""Columns of a table that goes to a file."""
_FILES = 8192
"""Open files that 500 streams need in every process, with room."""


def main(
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = Plan.seconds,
    rounds: Annotated[int, typer.Option(help="In each of them every subject is measured once.")] = Plan.rounds,
    calls: Annotated[int, typer.Option(help="RSS is read after 1,000, 10,000, … up to as many.")] = Plan.calls,
    streams: Annotated[int, typer.Option(help="Open at the same time when RSS is read.")] = Plan.open_streams,
    only: Annotated[str, typer.Option(help="Only loads whose title holds this.")] = "",
    door: Annotated[str, typer.Option(help="Only this one: connect or base.")] = "",
    peers: Annotated[bool, typer.Option("--peers", help="Other gateways too, where they are installed.")] = False,
    loud: Annotated[bool, typer.Option("--loud", help="Without mitmdump's -q: both write lines for each call.")] = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="Everything once, to see that it works.")] = False,
    json: Annotated[Path, typer.Option(help="Where all figures go.")] = Path(".valetkey-bench.json"),
    docs: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A Markdown page whose figures are replaced.")
    ] = None,
) -> None:
    """Measure the gateway against mitmdump, in turn on this machine.

    Exit status: 1 a call failed or a receipt is missing, 2 it cannot be done.
    """
    base = TINY if tiny else Plan(seconds, rounds, calls, streams)
    loads = tuple(load for load in base.loads if only in load.title)
    doors = tuple(each for each in base.doors if door in ("", each))
    if not loads or not doors:
        raise typer.BadParameter("nothing is left to measure")
    console = _console()
    results = _carry_out(plan := replace(base, loads=loads, doors=doors, peers=peers, quiet=not loud), console)
    show(results, console)
    write_json(json, results, plan)
    console.print(f"All figures are in {json}.", highlight=False)
    if docs is not None:
        write_markdown(docs, markdown(results, plan))
    raise typer.Exit(1 if results.problems else 0)


def _carry_out(plan: Plan, console: Console) -> Results:
    if plan.peers:
        for name, advice in missing(find_peers()).items():
            console.print(f"{name} is not installed: {advice}", markup=False, highlight=False)
    _allow_open_files()
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="valetkey-bench-") as folder, console.status("starting") as status:
        # In a file or a pipeline there is no status line; then nothing is said until the end.
        try:
            return run(plan, Path(folder), status.update)
        except StartError as error:
            console.print(f"cannot measure: {error}", style="red", markup=False, highlight=False)
            raise typer.Exit(2) from None


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def _interrupt(number: int, frame: object) -> None:
    """As Ctrl-C: the programs are ended."""
    raise KeyboardInterrupt


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    typer.run(main)
