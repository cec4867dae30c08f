"""`valetkey agents`: keys by which the gateway knows its agents."""

from __future__ import annotations

import re
import secrets
from hashlib import sha256
from typing import Annotated

import typer

from ..errors import ConfigurationError
from ..model import Rules
from ..policy import credentials
from .app import JsonOption, RulesOption, app, dump, load, say

BITS = 160
"""Of randomness in a key: nobody guesses it, so its plain hash may stand in rules.yaml."""

commands = typer.Typer(no_args_is_help=True, help="Agents that the gateway knows by a key of their own.")
app.add_typer(commands, name="agents")


@commands.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent's name, as it shall stand in receipts.")],
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key for an agent: the key for the agent, printed once and kept nowhere, and the line for rules.yaml.

    **Examples:** `valetkey agents add alice` · `valetkey agents add ci --json`
    """
    known = load(rules).snapshot.rules
    key = make_key(name, known)
    line = rules_line(name, key)
    if as_json:
        dump({"agent": name, "key": key, "rules": line.strip()})
        return
    say(f"The key of {name}, shown this once; it is what the agent sends in place of an API key:\n\n  {key}\n")
    say(f"{_where(name, known)} (only the hash stands there):\n\n{line}")


def make_key(name: str, rules: Rules) -> str:
    """A new random key that names its agent. Raises ConfigurationError for a name that no agent can have."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise ConfigurationError("the name of an agent is up to 64 letters, digits, `.`, `_` and `-`")
    key = f"sk-dummy-{name}-{secrets.token_hex(BITS // 8)}"
    if not credentials.is_dummy(key, rules):
        raise ConfigurationError("gateway.dummy_keys would take sk-dummy-NAME-… for a real key; add 'sk-dummy*' to it")
    return key


def rules_line(name: str, key: str) -> str:
    """The entry under `agents:`."""
    return f'  - {{name: "{name}", key: "sha256:{sha256(key.encode()).hexdigest()}"}}'


def _where(name: str, rules: Rules) -> str:
    if any(agent.name == name for agent in rules.agents):
        return f"For rules.yaml, in place of the key of {name}, whose old key ends with that"
    return "For rules.yaml, under agents:"
