"""`valetkey flows`, `usage` and `purge`: what the ledger knows."""

from __future__ import annotations

import time
from collections.abc import Generator, Set
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import typer

from ..ledger import GROUPS, Query, Store, Total, open_store, purge_archive, to_dict
from ..model import Receipt
from ..policy.metering import format_usd
from ..settings import resolve_ledger
from .app import JsonOption, Loaded, RulesOption, ago, app, dump, load, say, table, until_the_reader_leaves
from .completing import recorded

Since = Annotated[str | None, typer.Option(help="Only calls since: 1h, 7d, 2026-11-21.")]
Until = Annotated[str | None, typer.Option(help="Only calls before: 1h, 7d, 2026-11-21.")]


def _word(column: str) -> Any:
    """An option for calls that have exactly this in a column of the ledger."""
    return typer.Option(help=f"Only calls with exactly this {column}.", autocompletion=recorded(column))


Agent = Annotated[str | None, _word("agent")]
Project = Annotated[str | None, _word("project")]
Provider = Annotated[str | None, _word("provider")]
Model = Annotated[str | None, _word("model")]
KeyId = Annotated[str | None, _word("key")]
Kind = Annotated[str | None, _word("outcome")]
FOLLOW_EVERY = 0.5
"""Seconds."""
_MOST = 1_000_000_000
_INSIDE = "> "
"""Before the provider of an answer that came over a connection."""
_COLUMNS = ("time", "agent", "provider/model", "key", "status", "outcome", "in", "out", "cost", "seconds")
_WIDTHS = dict(zip(_COLUMNS, (14, 12, 28, 14, 6, 12, 7, 7, 11, 7), strict=True))


def _store(loaded: Loaded, *, readonly: bool = True) -> Store:
    uri = resolve_ledger(loaded.snapshot.rules.gateway.ledger, loaded.settings.folder)
    return open_store(uri, readonly=readonly)


@app.command()
def flows(
    rules: RulesOption = None,
    since: Since = None,
    until: Until = None,
    agent: Agent = None,
    project: Project = None,
    provider: Provider = None,
    model: Model = None,
    key: KeyId = None,
    outcome: Kind = None,
    refused: Annotated[
        bool | None, typer.Option("--refused/--not-refused", help="Only calls the gateway refused, or did not.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, max=_MOST, help="The newest so many; 0 for all.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing new ones.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show receipts, newest last; with --json one per line.

    **Examples:** `valetkey flows --since 1h --agent alice` · `valetkey flows --refused` · `valetkey flows --limit 0 --json`
    """
    query = Query(
        since=ago(since, time.time), until=ago(until, time.time), agent=agent, project=project, provider=provider,
        model=model, key=key, outcome=outcome, refused=refused, limit=limit or None,
    )  # fmt: skip
    with closing(_store(load(rules))) as store, until_the_reader_leaves():
        last = store.last_row()
        shown = _show(_read(store, query), as_json, follow=follow)
        if not (shown or as_json or follow):
            say("no calls")
        while follow:
            time.sleep(FOLLOW_EVERY)
            last, shown = _show_newer(store, replace(query, after=last, limit=None), shown, as_json)


def _show_newer(store: Store, query: Query, shown: Set[str], as_json: bool) -> tuple[int, set[str]]:
    """Show what was written since; give the newest row, and the receipts that may be read again because they came meanwhile."""
    last = store.last_row()
    return last, _show(_read(store, query, shown), as_json, follow=True, header=False)


def _read(store: Store, query: Query, without: Set[str] = frozenset()) -> Generator[Receipt, None, None]:
    return (receipt for receipt in store.receipts(query) if receipt.id not in without)


def _show(receipts: Generator[Receipt, None, None], as_json: bool, *, follow: bool, header: bool = True) -> set[str]:
    """Print receipts; their ids."""
    ids, rows = set(), []
    with closing(receipts):  # before the store is, also when the reader of a long list leaves
        for receipt in receipts:
            ids.add(receipt.id)
            if as_json:
                dump(to_dict(receipt))
            else:
                rows.append(_row(receipt))
    if rows or (follow and header and not as_json):
        table(_COLUMNS, rows, _COLUMNS[-4:], header=header, widths=_WIDTHS if follow else None)
    return ids


def _row(receipt: Receipt) -> list[str]:
    mark = "~" if receipt.usage_source == "estimated" else ""
    counts = [receipt.usage.get("input_tokens"), receipt.usage.get("output_tokens")]
    return [
        datetime.fromtimestamp(receipt.time).astimezone().strftime("%m-%d %H:%M:%S"),
        receipt.agent + (f".{receipt.project}" if receipt.project else ""),
        f"{_INSIDE if receipt.parent else ''}{receipt.provider or '?'}/{receipt.model or '-'}",
        receipt.key or "-",
        str(receipt.status or "-"),
        f"refused: {receipt.refused}" if receipt.refused else receipt.outcome + _contents(receipt),
        *(f"{mark}{count}" if count is not None else "-" for count in counts),
        f"${receipt.cost_usd}" if receipt.cost_usd is not None else "-",
        f"{(receipt.duration_ms or 0) / 1000:.2f}",
    ]


def _contents(receipt: Receipt) -> str:
    """How many answers came over a connection; nothing for what is none."""
    if receipt.answers is None:
        return ""
    return f", {receipt.answers} answer{'' if receipt.answers == 1 else 's'}"


@app.command()
def usage(
    rules: RulesOption = None,
    by: Annotated[str, typer.Option(help=f"Break down by, comma-separated: {', '.join(GROUPS)}.")] = "agent,model",
    since: Since = None,
    until: Until = None,
    agent: Agent = None,
    as_json: JsonOption = False,
) -> None:
    """Show totals: calls, tokens, cost.

    **Examples:** `valetkey usage` · `valetkey usage --by day,provider --since 7d` · `valetkey usage --by key --json`
    """
    groups = [name.strip() for name in by.split(",") if name.strip()]
    query = Query(since=ago(since, time.time), until=ago(until, time.time), agent=agent)
    with closing(_store(load(rules))) as store:
        try:
            totals = store.totals(groups, query)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    if as_json:
        for total in totals:
            dump(_document(total))
    elif totals:
        columns = (*groups, "calls", "refused", "failed", "in", "out", "unpriced", "cost")
        table(columns, [_total_row(total, groups) for total in totals], columns[len(groups) :])
    else:
        say("no calls yet")


def _document(total: Total) -> dict[str, object]:
    numbers = {"calls": total.calls, "refused": total.refused, "failed": total.failed, "unpriced": total.unpriced}
    return {**total.group, **numbers, "usage": dict(total.usage), "cost_usd": format_usd(total.cost_usd)}


def _total_row(total: Total, groups: list[str]) -> list[str]:
    names = [total.group[name] or "-" for name in groups]
    tokens = [str(total.usage.get(name, 0)) for name in ("input_tokens", "output_tokens")]
    counts = [str(total.calls), str(total.refused), str(total.failed)]
    return [*names, *counts, *tokens, str(total.unpriced), f"${format_usd(total.cost_usd)}"]


@app.command()
def purge(
    older_than: Annotated[str, typer.Option("--older-than", help="Delete what is older: 30d, 2026-11-21.")],
    rules: RulesOption = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's receipts (the archive is left alone).")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete old receipts, and with them old days of the archive.

    **Examples:** `valetkey purge --older-than 90d` · `valetkey purge --older-than 30d --agent alice --yes`
    """
    loaded = load(rules)
    before = ago(older_than, time.time)
    assert before is not None
    if not yes:
        typer.confirm(f"Delete receipts older than {older_than}{f' of {agent}' if agent else ''}?", abort=True, err=True)
    with closing(_store(loaded, readonly=False)) as store:
        receipts = store.purge(Query(until=before, agent=agent))
    folder = loaded.snapshot.rules.gateway.archive
    days = purge_archive(loaded.settings.folder / folder, before) if folder and agent is None else 0
    if as_json:
        dump({"receipts": receipts, "archive_days": days})
    else:
        say(f"{receipts} receipts and {days} days of the archive were deleted")
