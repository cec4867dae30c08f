"""`valetkey keys add` and `remove`: real keys in the system's keyring, so that they stand in no file."""

from __future__ import annotations

import getpass
import re
import sys
from typing import Annotated

import typer

from ..errors import ConfigurationError
from ..model import Provider, Rules
from ..rules.explain import near
from ..secrets import Secret, keychain, problem
from .app import RulesOption, harmless, load, say
from .keyring import commands, rules_of

_LONGEST = 64 * 1024
"""Characters of a line on stdin."""
ProviderArgument = Annotated[str, typer.Argument(metavar="PROVIDER", help="A provider of the catalogue or of rules.yaml.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The key's name; its id becomes PROVIDER/NAME.")]


@commands.command()
def add(context: typer.Context, provider: ProviderArgument, name: NameArgument = "main", rules: RulesOption = None) -> None:
    """Store a key in the system's keyring, in place of one of that name. It is asked for without being shown, or read from stdin.

    **Examples:** `valetkey keys add openai` · `valetkey keys add anthropic team < key.txt`
    """
    known = load(rules_of(context, rules)).snapshot.rules
    found, reference = _provider(provider, known), _reference(provider, name)
    value = _asked(f"The key of {provider}/{name} (not shown): ")
    reason = problem("what was entered", value.reveal(), known.gateway.dummy_keys, found.facts.min_key_length)
    if reason is not None:
        raise ConfigurationError(f"{reason}; nothing was stored")
    replaced = keychain.store(reference, value)
    say(f"{provider}/{name} is in the keyring{', in place of the one before' if replaced else ''}.")
    if any(spec.ref == reference for spec in found.key_specs or ()):
        say("rules.yaml names it; a running gateway reads it anew when the provider refuses the old one, or after its ttl.")
        return
    say(f"For rules.yaml, under providers.{provider}.keys:\n\n      - {reference}")


@commands.command()
def remove(context: typer.Context, provider: ProviderArgument, name: NameArgument = "main", rules: RulesOption = None) -> None:
    """Take a key out of the system's keyring. Status 2: there is none of that name.

    **Example:** `valetkey keys remove anthropic team`
    """
    known, reference = load(rules_of(context, rules)).snapshot.rules, _reference(provider, name)
    if not keychain.delete(reference):
        raise ConfigurationError(f"the keyring has no {reference}")
    say(f"{provider}/{name} is out of the keyring; revoke it at the provider if it is not to be used any more.")
    entry = known.providers.get(provider)
    if entry is not None and any(spec.ref == reference for spec in entry.key_specs or ()):
        say(f"{known.path} still names {reference}; take it out there.")


def _reference(provider: str, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise ConfigurationError("the name of a key is up to 64 letters, digits, `.`, `_` and `-`")
    return f"keyring:{keychain.SERVICE}/{provider}/{name}"


def _provider(name: str, rules: Rules) -> Provider:
    if name not in rules.providers:
        hint = near(name, rules.providers) or f"known: {', '.join(sorted(rules.providers))}"
        raise ConfigurationError(f"{harmless(name)} is no provider; {hint}")
    return rules.providers[name]


def _asked(prompt: str) -> Secret:
    """A line, without an echo on a terminal."""
    if sys.stdin.isatty():
        return Secret(getpass.getpass(prompt))
    return Secret(sys.stdin.readline(_LONGEST).removesuffix("\n").removesuffix("\r"))
