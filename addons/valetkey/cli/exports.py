"""`valetkey env`: what an agent's shell needs, for every runtime that an agent may be written in."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigurationError
from ..ledger import state_path
from ..settings import resolve_ledger
from .app import JsonOption, Loaded, RulesOption, app, dump, load, say
from .bundles import Trust, ensure_authority, write_trust
from .recipes import Recipe, named
from .variables import Wanted, dummy_key, wanted

AgentOption = Annotated[str, typer.Option(help="Name the agent: its dummy is sk-dummy-NAME, or its key in VALETKEY_AGENT_KEY.")]
ForOption = Annotated[str | None, typer.Option("--for", metavar="RECIPE", help="Only what this agent needs: claude, codex, …")]
ConfdirOption = Annotated[Path, typer.Option(help="mitmproxy's folder with the CA.")]
JavaOption = Annotated[bool, typer.Option("--java", help="JAVA_TOOL_OPTIONS too; Java then prints a line at each start.")]
CONFDIR = Path("~/.mitmproxy")
_PLAIN = re.compile(r"[\w./:@%+,=\[\]-]*", re.ASCII)
"""Values that mean the same to every reader of a `.env`, without quotes."""
_POWERSHELL_QUOTES = re.compile("['\N{LEFT SINGLE QUOTATION MARK}-\N{SINGLE HIGH-REVERSED-9 QUOTATION MARK}]")
"""PowerShell takes typographic quotes for plain ones."""


class Shell(StrEnum):
    """How variables are written."""

    sh = "sh"
    fish = "fish"
    powershell = "powershell"
    dotenv = "dotenv"
    docker = "docker"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `env` prints, and `exec` and `doctor` work with."""

    loaded: Loaded
    trust: Trust
    wanted: Wanted


@app.command()
def env(
    rules: RulesOption = None,
    shell: Annotated[Shell, typer.Option(help="What to write for; docker is a file for --env-file.")] = Shell.sh,
    agent: AgentOption = "",
    recipe: ForOption = None,
    java: JavaOption = False,
    confdir: ConfdirOption = CONFDIR,
    as_json: JsonOption = False,
) -> None:
    """Print what an agent needs: proxy, trust and dummy keys. Makes the CA and a bundle when they are missing.

    **Examples:** `eval "$(valetkey env)"` · `valetkey env --agent alice --shell dotenv > agent.env`
    """
    environ = dict(os.environ)
    made = prepare(load(rules), environ, agent, named(recipe) if recipe else None, confdir, java=java).wanted
    if as_json:
        dump(made.values)
    else:
        for text in lines(shell, made):
            say(text)
    warn(made.notices)


def prepare(
    loaded: Loaded, environ: Mapping[str, str], agent: str, recipe: Recipe | None, confdir: Path, *, java: bool = False
) -> Prepared:
    """Make the CA and the bundle where they are missing or old, and find the variables. Raises ConfigurationError."""
    rules = loaded.snapshot.rules
    dummy = dummy_key(agent, rules, environ)
    trust = write_trust(ensure_authority(expanded(confdir)), ledger_of(loaded), environ, java=java)
    return Prepared(loaded, trust, wanted(rules.gateway, loaded.catalog.values(), trust, dummy, environ, recipe, java=java))


def ledger_of(loaded: Loaded) -> Path:
    """The file beside which a gateway keeps what is its own."""
    folder = loaded.settings.folder
    state = state_path(resolve_ledger(loaded.snapshot.rules.gateway.ledger, folder), folder)
    return state.with_name(state.name.replace(".state.db", ".db"))


def expanded(confdir: Path) -> Path:
    """mitmproxy's folder without `~`. Raises ConfigurationError."""
    try:
        return confdir.expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"--confdir {confdir}: {error}") from error


def warn(notices: Iterable[str]) -> None:
    """Remarks for people, where no shell evaluates them."""
    for notice in notices:
        sys.stderr.write(f"valetkey: {notice}\n")


def lines(shell: Shell, made: Wanted) -> Iterator[str]:
    """All variables in a shell's words. Raises ConfigurationError for a value that it cannot hold."""
    yield from (unset_line(shell, name) for name in made.unset if shell not in (Shell.dotenv, Shell.docker))
    yield from (line(shell, name, value) for name, value in made.values.items())


def unset_line(shell: Shell, name: str) -> str:
    """Take one variable away, in a shell's words."""
    match shell:
        case Shell.fish:
            return f"set -e {name}"
        case Shell.powershell:
            return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"
        case _:
            return f"unset {name}"


def line(shell: Shell, name: str, value: str) -> str:
    """One variable in a shell's words. Raises ConfigurationError for a value that it cannot hold."""
    match shell:
        case Shell.sh:
            return f"export {name}={shlex.quote(value)}"
        case Shell.fish:
            return f"set -gx {name} '{re.sub(r"([\\'])", r'\\\1', value)}'"
        case Shell.powershell:
            return f"$env:{name} = '{_POWERSHELL_QUOTES.sub(lambda quote: quote[0] * 2, value)}'"
        case Shell.dotenv:
            return f"{name}={_dotenv(name, value)}"
        case Shell.docker:
            return f"{name}={_one_line(name, value)}"


def _dotenv(name: str, value: str) -> str:
    """In single quotes, in which no reader looks for anything, except that all readers disagree about one quote more."""
    if _PLAIN.fullmatch(_one_line(name, value)):
        return value
    if "'" in value or "\\" in value or "${" in value:
        raise ConfigurationError(f"{name}: readers of .env files do not agree on quotes, backslashes and ${{ in {value!r}")
    return f"'{value}'"


def _one_line(name: str, value: str) -> str:
    if re.search(r"[\r\n\0\v\f\x1c-\x1e\x85\u2028\u2029]", value):
        raise ConfigurationError(f"{name}: a value of more than one line cannot be written to this file")
    return value
