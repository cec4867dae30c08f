"""Shell completion: `valetkey completion`, and what the shell offers for names in rules.yaml."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # typer does not list it, and has no other way

from ..errors import ValetkeyError
from ..ledger import Query, open_store
from ..settings import resolve_ledger
from .app import Loaded, UnusedRulesOption, app, load, say

RECENT = 14 * 86_400
"""Seconds; older calls are not looked through while somebody waits for a completion."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/:@+-]*")
"""What is offered. Agents choose names, and a shell puts them into the command line as they are, also `x;program`."""


class Shell(StrEnum):
    """Shells that can complete."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"
    powershell = "powershell"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="The shell to write for.")], rules: UnusedRulesOption = None) -> None:
    """Print the script that completes commands, options, and the names of keys, agents and models in a shell.

    `valetkey --install-completion` puts it where the shell of this terminal looks for it.

    **Examples:** `eval "$(valetkey completion bash)"` · `valetkey completion fish > ~/.config/fish/completions/valetkey.fish`
    """
    say(get_completion_script(prog_name="valetkey", complete_var="_VALETKEY_COMPLETE", shell=shell.value))


def key_ids(context: typer.Context, incomplete: str) -> list[str]:
    """The ids of the keys that the rules name or the environment holds, as far as they begin so."""
    return _offered(context, incomplete, lambda loaded: loaded.snapshot.states)


def recorded(column: str) -> Callable[[typer.Context, str], list[str]]:
    """What offers the values that calls of the last days have in a column of the ledger (one of `GROUPS`)."""

    def offer(context: typer.Context, incomplete: str) -> list[str]:
        return _offered(context, incomplete, lambda loaded: _values(loaded, column))

    return offer


def _values(loaded: Loaded, column: str) -> list[str]:
    uri = resolve_ledger(loaded.snapshot.rules.gateway.ledger, loaded.settings.folder)
    with closing(open_store(uri, readonly=True)) as store:
        totals = store.totals([column], Query(since=time.time() - RECENT))
    return sorted(filter(None, (total.group[column] for total in totals)))


def _offered(context: typer.Context, incomplete: str, names: Callable[[Loaded], Iterable[str]]) -> list[str]:
    """Names of the gateway that the command line speaks of; none where it cannot be read, since a shell shows no errors."""
    try:
        return [name for name in names(load(_rules(context))) if name.startswith(incomplete) and _PLAIN.fullmatch(name)]
    except ValetkeyError:
        return []


def _rules(context: typer.Context) -> str | None:
    """`--rules`, after the command's name or before it."""
    return context.params.get("rules") or (context.parent.params.get("rules") if context.parent else None)
