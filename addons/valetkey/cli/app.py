"""The command line's frame: one program, its options, and how it fails.

Exit status: 0 all is well, 1 the thing asked about is not, 2 wrong usage or configuration.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from .. import __version__
from ..catalog import load_catalog
from ..errors import ConfigurationError, ValetkeyError
from ..model import ProviderFacts
from ..rules import Snapshot, load_snapshot
from ..secrets import Environment, Fetcher
from ..settings import Settings

CHECKOUT = Path(__file__).resolve().parents[3]
app = typer.Typer(
    name="valetkey",
    help="Agents call any LLM provider through this gateway without ever holding a key.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
RulesOption = Annotated[
    str | None, typer.Option("--rules", metavar="PATH", help="The rules file (default: rules.yaml here, else beside addons/).")
]
UnusedRulesOption = Annotated[str | None, typer.Option("--rules", metavar="PATH", help="Taken as everywhere; not needed here.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _version(wanted: bool) -> None:
    if wanted:
        say(f"valetkey {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Agents call any LLM provider through this gateway without ever holding a key."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What most commands begin with."""

    settings: Settings
    snapshot: Snapshot
    catalog: dict[str, ProviderFacts]


def load(rules: str | None, *, slow: bool = False) -> Loaded:
    """Settings, rules and keys. Raises ConfigurationError.

    `slow`: also the keys whose reading takes a program or a store that may ask a person; without it they count as unusable.
    """
    catalog = dict(load_catalog())
    settings = Settings.find(rules, Path.cwd(), CHECKOUT)
    environment = Environment.from_process(settings.folder)
    fetcher = Fetcher(settings.folder, lambda text: typer.echo(f"valetkey: {text}", err=True)) if slow else None
    return Loaded(settings, load_snapshot(settings.rules_path, catalog, environment, fetcher=fetcher), catalog)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end the process; every error of ours is one line on stderr."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except ConfigurationError as error:
        fail(str(error), 2)
    except ValetkeyError as error:
        fail(str(error), 1)


def fail(message: str, status: int) -> None:
    """End with a message on stderr."""
    sys.stderr.write(f"valetkey: {message}\n")
    sys.exit(status)


def say(text: str) -> None:
    """A line on stdout, at once: who reads it may be a program that follows."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def dump(document: Any) -> None:
    """A document as one line of JSON on stdout."""
    say(json.dumps(document, separators=(",", ":"), default=str))


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[str] = (),
    *,
    header: bool = True,
    widths: Mapping[str, int] | None = None,
) -> None:
    """A table on stdout; colours only on a terminal. `widths` are the least ones, for tables that are printed in parts."""
    made = Table(box=None, pad_edge=False, show_header=header, header_style="bold")
    for column in columns:
        justify: Literal["right", "left"] = "right" if column in numbers else "left"
        made.add_column(column, justify=justify, overflow="fold", min_width=(widths or {}).get(column))
    for row in rows:
        made.add_row(*map(harmless, row))
    # No markup: agents choose names of models, and a wrong tag would be an error.
    Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False, highlight=False).print(made)


def harmless(text: str) -> str:
    """The text without what a terminal would obey. Agents choose names of models."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


@contextmanager
def until_the_reader_leaves() -> Iterator[None]:
    """Ctrl-C, and the end of a program that reads us (`| head`), are ends in order."""
    try:
        yield
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # What is still buffered would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ago(text: str | None, now: Callable[[], float]) -> float | None:
    """`1h`, `7d` or an ISO date as Unix seconds; None stays None. Raises typer.BadParameter."""
    from datetime import UTC, datetime

    from ..rules import duration

    if text is None:
        return None
    if re.fullmatch(r"\d{4}-\d\d-\d\d.*", text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise typer.BadParameter(f"{text} is no date") from error
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    try:
        return now() - duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}, or a date such as 2026-11-21") from error
