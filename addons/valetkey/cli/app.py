"""The command line's frame: one program, its options, and how it fails.

Exit status: 0 all is well, 1 the thing asked about is not, 2 wrong usage or configuration.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..catalog import load_catalog
from ..errors import ConfigurationError, LedgerError, ValetkeyError
from ..model import ProviderFacts
from ..rules import Snapshot, load_snapshot
from ..secrets import Environment
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What most commands begin with."""

    settings: Settings
    snapshot: Snapshot
    catalog: dict[str, ProviderFacts]


def load(rules: str | None) -> Loaded:
    """Settings, rules and keys. Raises ConfigurationError."""
    catalog = dict(load_catalog())
    settings = Settings.find(rules, Path.cwd(), CHECKOUT)
    environment = Environment.from_process(settings.folder)
    return Loaded(settings, load_snapshot(settings.rules_path, catalog, environment), catalog)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end the process; every error of ours is one line on stderr."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except ConfigurationError as error:
        fail(str(error), 2)
    except (LedgerError, ValetkeyError) as error:
        fail(str(error), 1)
    except BrokenPipeError:
        sys.exit(0)


def fail(message: str, status: int) -> None:
    """End with a message on stderr."""
    sys.stderr.write(f"valetkey: {message}\n")
    sys.exit(status)


def say(text: str) -> None:
    """A line on stdout."""
    sys.stdout.write(text + "\n")


def dump(document: Any) -> None:
    """A document as one line of JSON on stdout."""
    say(json.dumps(document, separators=(",", ":"), default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """A table on stdout; colours only on a terminal."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(made)


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
