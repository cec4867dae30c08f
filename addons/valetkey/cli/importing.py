"""`valetkey import`: rules from another gateway's configuration, and a report of what has no counterpart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..catalog import load_catalog
from ..errors import ConfigurationError, RulesError, SecretError
from ..rules import parse_rules
from ..secrets import read_file
from .app import JsonOption, app, dump, harmless, say
from .firststeps import write
from .importers import litellm, llm_api_key_proxy
from .importers.draft import FOLDER, Draft

_SHOWN = 4
"""Places that are named for one remark."""

commands = typer.Typer(no_args_is_help=True, help="Make rules.yaml from another gateway's configuration.")
app.add_typer(commands, name="import")
OutOption = Annotated[Path, typer.Option("--out", "--rules", metavar="PATH", help="Where to write the rules.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Write although there is such a file; it is kept as .old.")]
WriteOption = Annotated[
    bool, typer.Option("--write-keys", help=f"Write keys that stand in the open to files in {FOLDER}/, with mode 600.")
]  # fmt: skip


@commands.command("env")
def import_env(
    place: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="The .env of LLM-API-Key-Proxy, or a folder of them.")],
    out: OutOption = Path("rules.yaml"),
    force: ForceOption = False,
    write_keys: WriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take over the .env of LLM-API-Key-Proxy. Rules beside a file named .env refer to its variables; no key is copied.

    **Examples:** `valetkey import env .env` · `valetkey import env ~/proxy --out ~/gateway/rules.yaml --write-keys`
    """
    target = _target(out, force=force)
    file = place / ".env" if place.is_dir() else place
    beside = file.name == ".env" and file.absolute().parent.resolve() == target.parent.resolve()
    _finish(llm_api_key_proxy.draft(place, load_catalog(), in_dotenv=beside), target, write_keys=write_keys, as_json=as_json)


@commands.command("litellm")
def import_litellm(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="LiteLLM's config.yaml.")],
    out: OutOption = Path("rules.yaml"),
    force: ForceOption = False,
    write_keys: WriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take over LiteLLM's config.yaml: models, keys by reference, weights, fallbacks and time limits. No key is copied.

    **Examples:** `valetkey import litellm config.yaml` · `valetkey import litellm config.yaml --out lab.yaml --write-keys`
    """
    target = _target(out, force=force)
    _finish(litellm.draft(config, load_catalog(), os.environ), target, write_keys=write_keys, as_json=as_json)


def _target(out: Path, *, force: bool) -> Path:
    path = out.expanduser().absolute()
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists already; name another with --out, or --force, which keeps the old one")
    return path


def _finish(made: Draft, target: Path, *, write_keys: bool, as_json: bool) -> None:
    """Check, write, and tell. Raises ConfigurationError; then nothing was written."""
    text = made.render()
    try:
        parse_rules(text, target.name, made.catalog)
    except RulesError as error:
        raise ConfigurationError(f"what was read makes no rules that hold; nothing was written:\n{error}") from None
    if write_keys:
        _write_keys(made, target.parent)
    write(target, text)
    remarks = list(_remarks(made, written=write_keys))
    if as_json:
        counts = {"providers": len(made.providers), "keys": _keys(made), "routes": len(made.routes)}
        dump({"rules": str(target), **counts, "remarks": [{"places": list(places), "text": said} for places, said in remarks]})
        return
    say(f"{target}: {len(made.providers)} providers, {_keys(made)} keys, {len(made.routes)} routes")
    if remarks:
        say("to see to, or without a counterpart:")
    for places, said in remarks:
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        say(harmless(f"  {', '.join(places[:_SHOWN])}{more}: {said}"))
    say(f"next: valetkey check --rules {target}")


def _remarks(made: Draft, *, written: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    """First the keys that stood in the open, then all that the importer noted."""
    for path in made.literals:
        where = (made.places[path],)
        if written:
            yield where, f"this key stood in the open and is in {path} now; take it out there, and change it"
        else:
            yield where, f"this key was not copied; write it to {path} (mode 600), or import with --write-keys"
    yield from made.gaps


def _keys(made: Draft) -> int:
    return sum(len(provider.keys) for provider in made.providers.values())


def _write_keys(made: Draft, folder: Path) -> None:
    """One file for each key, which nobody else may read. Raises ConfigurationError before it would overwrite another key."""
    for path, value in made.literals.items():
        file = folder / path
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            if _holds(file, value.reveal()):
                continue
            raise ConfigurationError(f"{file} exists already, with another key; move it away") from None
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from None
        try:
            with os.fdopen(descriptor, "w") as opened:
                opened.write(value.reveal() + "\n")
        except OSError as error:
            file.unlink()
            raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from None


def _holds(file: Path, value: str) -> bool:
    try:
        return read_file(file) == value
    except SecretError:
        return False
