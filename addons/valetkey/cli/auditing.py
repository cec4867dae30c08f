"""`valetkey audit`: what the log of key use says, and whether it still is what the gateway wrote."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigurationError
from ..ledger import Head, Place, Verdict, read_key
from ..ledger import entries as read_entries
from ..ledger import verify as check
from ..settings import resolve_ledger
from .app import JsonOption, RulesOption, ago, app, dump, harmless, load, say, until_the_reader_leaves

_MOST = 1_000_000_000
_COLUMNS = ("time", "agent", "key", "host", "class", "outcome", "status", "cost", "receipt")
_WIDTHS = (14, 12, 14, 24, 20, 10, 6, 11, 0)
_encode = json.JSONEncoder(separators=(",", ":")).encode

commands = typer.Typer(no_args_is_help=True)
app.add_typer(commands, name="audit", help="Show and verify the log of key use.")


@commands.command()
def verify(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Files of one log, the oldest first.")] = None,
    rules: RulesOption = None,
    head: Annotated[
        str | None, typer.Option(metavar="SEQ:HASH", help="A head that was kept elsewhere: it must be there.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(metavar="PATH", help="The key of the seals (default: beside the log).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the first line of the log that is not as it was written. Status 1: there is one, or entries are missing.

    **Examples:** `valetkey audit verify` · `valetkey audit verify --head 812:5f…` · `valetkey audit verify FILE --json`
    """
    place = Place.of(files[0]) if files else _place(rules)
    verdict = check(files or place.files(), place, _key(place, key_file), _head(head), whole=not files)
    if as_json:
        dump(asdict(verdict) | {"head": str(verdict.head), "well": verdict.well})
    else:
        _tell(verdict)
    if not verdict.well:
        raise typer.Exit(1)


def _place(rules: str | None) -> Place:
    loaded = load(rules)
    return Place.beside(resolve_ledger(loaded.snapshot.rules.gateway.ledger, loaded.settings.folder), loaded.settings.folder)


def _key(place: Place, named: Path | None) -> bytes | None:
    key = read_key(named or place.key)
    if named is not None and key is None:
        raise ConfigurationError(f"--key-file: there is no file {named}")
    return key


def _head(text: str | None) -> Head | None:
    try:
        return None if text is None else Head.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"--head: {error}") from error


def _tell(verdict: Verdict) -> None:
    for note in verdict.notes:
        say(f"note: {harmless(note)}")
    for found in (*verdict.losses, *filter(None, [verdict.broken])):
        say(harmless(str(found)))
    if verdict.well:
        say(f"{verdict.entries} entries in {verdict.files} files are as they were written; head {verdict.head}")


Word = Annotated[str | None, typer.Option(help="Only entries with exactly this.")]


@commands.command()
def show(
    rules: RulesOption = None,
    agent: Word = None,
    key: Word = None,
    since: Annotated[str | None, typer.Option(help="Only uses since: 1h, 7d, 2026-11-21.")] = None,
    limit: Annotated[int, typer.Option(min=0, max=_MOST, help="The newest so many; 0 for all.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show uses of keys, newest last; with --json one per line. It does not verify them.

    **Examples:** `valetkey audit show --key openai/1 --since 1d` · `valetkey audit show --agent alice --limit 0 --json`
    """
    place, after = _place(rules), ago(since, time.time)
    wanted = {name: value for name, value in (("agent", agent), ("key", key)) if value is not None}
    unread = 0

    def chosen(found: Iterator[dict[str, Any] | None]) -> Iterator[dict[str, Any]]:
        nonlocal unread
        for entry in found:
            if entry is None:
                unread += 1
            elif _is_wanted(entry, wanted, after):
                yield entry

    with closing(read_entries(place.files(), place)) as found, until_the_reader_leaves():
        shown = _show(deque(chosen(found), limit) if limit else chosen(found), as_json)
        if not (shown or as_json):
            say("no uses of keys")
    if unread:
        typer.echo(f"valetkey: {unread} lines are no entries; `valetkey audit verify` tells more", err=True)


def _is_wanted(entry: Mapping[str, Any], wanted: Mapping[str, str], after: float | None) -> bool:
    if any(entry.get(name) != value for name, value in wanted.items()):
        return False
    return after is None or _number(entry.get("time")) >= after


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _show(entries: Iterable[dict[str, Any]], as_json: bool) -> int:
    """Print entries; how many."""
    shown = 0
    for entry in entries:
        if not shown and not as_json:
            sys.stdout.write(_aligned(_COLUMNS))
        sys.stdout.write(_encode(entry) + "\n" if as_json else _aligned(_row(entry)))
        shown += 1
    sys.stdout.flush()
    return shown


def _aligned(cells: Sequence[str]) -> str:
    """A line of a table. One that is made as a whole would take a minute for a long log, and its memory."""
    padded = (harmless(cell).ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return "  ".join(padded).rstrip() + "\n"


def _row(entry: Mapping[str, Any]) -> list[str]:
    project, cost = entry.get("project"), entry.get("cost_usd")
    refused = entry.get("event") == "refused"
    return [
        _moment(_number(entry.get("time"))),
        _cell(entry.get("agent")) + (f".{project}" if project else ""),
        *(_cell(entry.get(name)) for name in ("key", "host", "path_class")),
        f"refused: {entry['reason']}" if refused and "reason" in entry else _cell(entry.get("outcome") or entry.get("event")),
        _cell(entry.get("status")),
        "-" if cost is None else f"${cost}",
        _cell(entry.get("receipt")),
    ]


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):  # the line was not written by us
        return "?"
