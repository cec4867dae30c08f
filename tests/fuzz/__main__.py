"""`python -m fuzz`, with addons/ and tests/ on the path: `make fuzz`."""

from __future__ import annotations

import secrets
import traceback
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import files, formats, policy
from .corpus import RECORDINGS, recordings
from .engine import TARGETS, Result, run

_MODULES = (formats, policy, files)
"""Importing them has filled the table of targets."""


def main(
    minutes: Annotated[float, typer.Option(min=0.01, help="Time for all targets together.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Try the inputs of another run; chosen and shown when left out.")] = None,
    only: Annotated[str, typer.Option(help="Targets whose name begins so.")] = "",
) -> None:
    """Feed hostile bytes to every parser. Exit status: 1 one of them failed."""
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    seed = secrets.randbits(28) if seed is None else seed
    chosen = [target for name, target in TARGETS.items() if name.startswith(only)]
    if not chosen:
        raise typer.BadParameter(f"there is no such target; there are {', '.join(TARGETS)}")
    seconds = minutes * 60 / len(chosen)
    corpus = f"{len(recordings())} recordings" if recordings() else f"no recordings in {RECORDINGS}"
    console.print(f"seed {seed}, {len(chosen)} targets, {seconds:.1f} s each, {corpus}")
    results = [run(target, seconds, seed) for target in chosen]
    console.print(_table(results))
    for result in results:
        _explain(result, console)
    failed = sum(result.error is not None for result in results)
    console.print(f"{sum(result.inputs for result in results)} inputs tried: {len(results) - failed} passed, {failed} failed")
    raise typer.Exit(1 if failed else 0)


def _table(results: list[Result]) -> Table:
    table = Table(pad_edge=False)
    table.add_column("target")
    for title in ("seeds", "inputs", "bytes", "steps/byte", "allowed"):
        table.add_column(title, justify="right")
    table.add_column("result")
    for result in results:
        target, verdict = result.target, "[bold red]FAILED[/]" if result.error else "[green]held[/]"
        numbers = (len(target.seeds), result.inputs, result.size, f"{result.worst:.0f}", target.steps)
        table.add_row(target.name, *map(str, numbers), verdict)
    return table


def _explain(result: Result, console: Console) -> None:
    """What failed, with the input as a line for `REGRESSIONS` in test_fuzz.py."""
    if result.error is None:
        return
    *_, last = traceback.extract_tb(result.error.__traceback__)
    console.print(f"{last.filename}:{last.lineno}: {type(result.error).__name__}: {str(result.error)[:300]}", markup=False)
    console.print(f'    ("{result.target.name}", {result.failure!r}),', markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
