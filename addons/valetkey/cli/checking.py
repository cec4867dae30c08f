"""`valetkey check`: is the configuration sound, and which providers can be called."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from ..errors import ConfigurationError, Problem, RulesError
from ..rules import Snapshot, json_schema_text
from .app import JsonOption, RulesOption, app, dump, load, say


@app.command()
def check(
    rules: RulesOption = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of rules.yaml and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check rules.yaml and the keys it names. Status 2: the file is wrong. Status 1: no provider can be called.

    **Examples:** `valetkey check` · `valetkey check --rules other.yaml` · `valetkey check --json`
    """
    if schema:
        sys.stdout.write(json_schema_text())
        return
    try:
        loaded = load(rules, slow=True)
    except ConfigurationError as error:
        if as_json:
            problems = error.problems if isinstance(error, RulesError) else [Problem(rules or "", 0, str(error))]
            dump({"problems": [asdict(problem) for problem in problems]})
            raise typer.Exit(2) from None
        raise
    snapshot, gateway = loaded.snapshot, loaded.snapshot.rules.gateway
    callable_providers = sorted(_callable(snapshot))
    if as_json:
        document = {
            "problems": [],
            "rules": str(loaded.settings.rules_path) if loaded.settings.rules_path else None,
            "notices": list(snapshot.notices),
            "providers": {name: [key.id for key in snapshot.keys.get(name, ())] for name in callable_providers},
            "proxy": str(gateway.proxy),
            "api": str(gateway.api),
        }
        dump(document)
    else:
        _print(snapshot, str(loaded.settings.rules_path or "no rules.yaml: defaults"), callable_providers)
    if not callable_providers:
        raise typer.Exit(1)


def _print(snapshot: Snapshot, source: str, providers: list[str]) -> None:
    gateway = snapshot.rules.gateway
    say(f"rules: {source} - fine")
    say(f"doors: HTTPS_PROXY on http://{gateway.proxy}, base URL on http://{gateway.api}")
    for name in providers:
        keys = ", ".join(key.id for key in snapshot.keys.get(name, ())) or "needs no key"
        say(f"{name}: {keys}")
    for notice in snapshot.notices:
        say(f"note: {notice}")
    if not providers:
        say("no provider has a usable key; set e.g. GATEWAY_OPENAI_API_KEY, or name keys in rules.yaml")


def _callable(snapshot: Snapshot) -> set[str]:
    keyless = {name for name, p in snapshot.rules.providers.items() if not p.keys_needed and p.configured}
    return keyless | set(snapshot.keys)
