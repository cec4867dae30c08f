"""`valetkey init`: from nothing to a rules.yaml that works, in a minute and with few questions."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from ..catalog import load_catalog
from ..errors import ConfigurationError
from ..model import Address, GatewayRules, ProviderFacts
from ..rules import Snapshot, load_snapshot
from ..secrets import Environment, ownership, problem
from ..secrets.probe import Trial, free_places, probe_id, shell_client
from ..settings import FILE
from .app import CHECKOUT, app, say
from .rulestext import compose

_NEARBY = 20
"""Ports that are tried after one that is taken."""
_LOCAL_PATIENCE = 1.0
"""Seconds that a server on this machine has to show that it is there."""
_CA = Path("~/.mitmproxy/mitmproxy-ca-cert.pem")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is written, and what is said of it. `keys`: provider -> ids."""

    path: Path
    keys: Mapping[str, tuple[str, ...]]
    keyless: tuple[str, ...]
    proxy: Address
    api: Address


@app.command()
def init(
    folder: Annotated[
        Path, typer.Option("--dir", metavar="PATH", help="The folder of rules.yaml, `.env` and the ledger.")
    ] = Path(),
    rules: Annotated[Path | None, typer.Option("--rules", metavar="PATH", help="The file to write, in place of --dir.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; also without a terminal.")] = False,
    test: Annotated[bool, typer.Option(help="Ask each provider, at no cost, whether it takes the key.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there; it is kept as rules.yaml.old.")] = False,
) -> None:
    """Write a commented rules.yaml for the keys that are found in the environment and in `.env`, and say what comes next.

    Keys are tested with the providers' free endpoints and never shown; rules.yaml holds references to them only.

    **Examples:** `valetkey init` · `valetkey init --yes --no-test` · `valetkey init --dir ~/gateway`
    """
    path = (rules or folder / FILE).expanduser().absolute()
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists already; see `valetkey check`, or --force, which keeps the old one")
    asks = not yes and is_terminal()
    found = look(path.parent)
    if asks and not found.keys and _ask_for_key(path.parent):
        found = look(path.parent)
    gateway = found.rules.gateway
    proxy = free_door(gateway.proxy)
    plan = Plan(path, _chosen(found, asks), tuple(_keyless(found)), proxy, free_door(gateway.api, but=proxy.port))
    write(path, compose(_references(found, plan.keys), plan.keyless, plan.proxy, plan.api, schema_file()))
    _report(plan, found, gateway, test=test)
    for line in next_steps(plan, found):
        say(line)


def is_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def look(folder: Path) -> Snapshot:
    """The keys that a gateway without rules would find with `folder` as its place."""
    return load_snapshot(None, dict(load_catalog()), Environment.from_process(folder, dict(os.environ)))


def write(path: Path, text: str) -> None:
    """Write the file in one go; one that was there is kept as `.old`, or `.old2` and so on. Raises ConfigurationError."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # What stands there may be a link to another file.
        fresh.unlink(missing_ok=True)
        with fresh.open("x", encoding="utf-8") as file:
            file.write(text)
        if path.exists():
            path.replace(_aside(path))
        fresh.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def _aside(path: Path) -> Path:
    """The first free name for the file that makes room; an older one is not lost for it."""
    names = (path.with_name(f"{path.name}.old{number if number > 1 else ''}") for number in count(1))
    return next(name for name in names if not name.exists() and not name.is_symlink())


def schema_file() -> Path | None:
    """The JSON Schema of rules.yaml: in an installed package, or in the checkout."""
    places = (Path(__file__).resolve().parents[1] / "rules" / "rules.schema.json", CHECKOUT / "docs" / "rules.schema.json")
    return next((place for place in places if place.is_file()), None)


def free_door(wanted: Address, but: int = 0) -> Address:
    """The wanted address, or one with a port a little above that nothing listens on (and that is not `but`)."""
    for port in range(wanted.port, wanted.port + _NEARBY):
        with suppress(OSError):
            if port != but:
                socket.create_server((wanted.host, port)).close()
                return Address(wanted.host, port)
    raise ConfigurationError(f"the ports from {wanted.port} on are all taken on {wanted.host}; write others into {FILE} yourself")


# What is used.


def _chosen(found: Snapshot, asks: bool) -> dict[str, tuple[str, ...]]:
    """The ids of the keys to use. Several keys of a provider are only pooled by a person who may do that."""
    chosen = {}
    for name, pool in found.keys.items():
        ids = tuple(key.id for key in pool)
        question = f"{name} has {len(ids)} keys ({', '.join(ids)}). Use them all? Most terms forbid several accounts"
        chosen[name] = ids[:1] if asks and len(ids) > 1 and not typer.confirm(question, default=True) else ids
    return chosen


def _references(found: Snapshot, keys: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {name: [found.references[id] for id in ids] for name, ids in keys.items()}


def _keyless(found: Snapshot) -> Iterator[str]:
    """The servers of the catalogue that need no key and answer on this machine."""
    for name, provider in found.rules.providers.items():
        if provider.keys_needed or provider.facts.upstream is None or not provider.named_on_loopback:
            continue
        place = next(free_places(provider), None)
        if place is not None and _answers(provider.upstream.origin + place[1]):
            yield name


def _answers(url: str) -> bool:
    """Whether something lists models there; a server of another kind on the same port does not."""
    try:
        answer = httpx.get(url, timeout=_LOCAL_PATIENCE, trust_env=False)
        return answer.is_success and isinstance(answer.json(), dict)
    except (httpx.HTTPError, ValueError):
        return False


def _placeless(folder: Path) -> Iterator[str]:
    """Keys that are there, of providers whose address only their user knows."""
    environment = Environment.from_process(folder, dict(os.environ))
    for name, facts in load_catalog().items():
        variables = [variant for variable in facts.env for variant in environment.variants(variable)]
        if facts.upstream is None and variables:
            yield f"{', '.join(variables)}: {name} is called at an address of your own; name it as providers.{name}.upstream"


# Questions.


def _ask_for_key(folder: Path) -> bool:
    """Ask for one key and put it into `.env`; False when there is none at hand."""
    catalog = {name: facts for name, facts in load_catalog().items() if facts.keys and facts.env and facts.upstream}
    say(f"No key was found in the environment or in {folder / '.env'}. Providers: {', '.join(catalog)}.")
    name = typer.prompt("Whose key do you have (empty: none yet)", default="", show_default=False).strip().lower()
    if name not in catalog:
        if name:
            say(f"there is no provider {name}; rules.yaml is written without keys")
        return False
    return _keep(folder, catalog[name], typer.prompt(f"The key of {name} (not shown)", hide_input=True).strip())


def _keep(folder: Path, facts: ProviderFacts, value: str) -> bool:
    """Add a key to `.env`, which nobody else can read; False when it cannot be one."""
    complaint = problem("what you typed", value, GatewayRules().dummy_keys, facts.min_key_length)
    if complaint or set("'\"\\$#`") & set(value):
        say(f"{complaint or 'what you typed holds a character that no key has'}; rules.yaml is written without it")
        return False
    path = folder / ".env"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            _take_for_ourselves(path, descriptor)
            whole = not (text := file.readall()) or text.endswith(b"\n")
            file.write(f"{'' if whole else '\n'}{facts.env[0]}={value}\n".encode())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    say(f"kept in {path}; keep that file out of version control")
    return True


def _take_for_ourselves(path: Path, descriptor: int) -> None:
    """See to it that a file with keys is read by nobody else. Raises ConfigurationError for one that is another user's."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path} is no regular file; nothing was kept")
    if owner := ownership.foreign_owner(status):
        raise ConfigurationError(f"{path} {owner}; nothing was kept")
    if status.st_mode & 0o077:
        os.fchmod(descriptor, 0o600)
        say(f"{path} could be read by others; its mode is 0600 now")


# What is said.


def _report(plan: Plan, found: Snapshot, gateway: GatewayRules, *, test: bool) -> None:
    say(f"wrote {plan.path}")
    for door, wanted in ((plan.proxy, gateway.proxy), (plan.api, gateway.api)):
        if door.port != wanted.port:
            say(f"  port {wanted.port} is taken; {door} is used")
    for notice in (*found.notices, *_placeless(plan.path.parent)):
        say(f"  note: {notice}")
    for name in plan.keyless:
        say(f"  {name}  answers on this machine and needs no key")
    ids = [id for pool in plan.keys.values() for id in pool]
    for id in () if test else ids:
        say(f"  {id}  {found.references[id]}")
    trials = list(_trials(ids, found)) if test else []
    if any(not trial.well for trial in trials):
        say("  a key that is not well stands in rules.yaml all the same; put it in order, and ask again: valetkey keys test")


def _trials(ids: Sequence[str], found: Snapshot) -> Iterator[Trial]:
    """Ask the providers, one after the other; a terminal shows which is being asked."""
    progress = Console(stderr=True)
    with closing(shell_client(found.rules.gateway.proxy)) as client:
        for id in ids:
            with progress.status(f"asking whether {id} is taken"):
                trial = probe_id(client, id, found.rules.providers, found)
            say(f"  {trial}  {found.references[id]}")
            yield trial


def next_steps(plan: Plan, found: Snapshot) -> Iterator[str]:
    """What an agent's shell needs, and the next three commands."""
    providers = [*plan.keys] or ["openai", "anthropic"]
    names = [found.rules.providers[name].facts.env[0] for name in providers if found.rules.providers[name].facts.env]
    option = "" if plan.path == Path.cwd() / FILE else f" --rules {shlex.quote(str(plan.path))}"
    yield ""
    yield "What an agent's shell needs; the second line is the first one in short:"
    yield f'  eval "$(valetkey env{option})"'
    yield f"  export HTTPS_PROXY=http://{plan.proxy} {' '.join(f'{name}=sk-dummy' for name in names)} NODE_EXTRA_CA_CERTS={_CA}"
    if not _CA.expanduser().exists():
        yield "The certificate in it is made by the first start, on this machine and for it alone."
    yield ""
    yield "Next:"
    if not (plan.keys or plan.keyless):
        yield f"  put a key into {plan.path.parent / '.env'}, as in OPENAI_API_KEY=…, and chmod 600 it"
    yield f"  valetkey run{option}".ljust(44) + "# in this terminal: it has the keys"
    yield f"  valetkey exec{option} -- claude".ljust(44) + "# in another one; or codex, gemini, python agent.py, …"
    yield f"  valetkey usage --by agent,model{option}".ljust(44) + "# what it cost"
