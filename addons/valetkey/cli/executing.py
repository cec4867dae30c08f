"""`valetkey exec`: run an agent with all that `valetkey env` would print, and without the real keys of this shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from types import FrameType
from typing import Annotated

import typer

from ..errors import ConfigurationError, StartError, ValetkeyError
from ..model import Address
from ..policy.credentials import is_dummy
from ..proxy.doors import api_mode
from ..secrets.environment import TWIN
from ..settings import instance_id
from . import running
from .app import Loaded, RulesOption, app, load
from .exports import CONFDIR, AgentOption, ConfdirOption, ForOption, JavaOption, expanded, ledger_of, prepare, warn
from .reaching import reach
from .recipes import Recipe, named, of_program
from .variables import AGENT_KEY

STARTING = 30.0
"""Seconds that a gateway may take to get ready."""
_LONG = 16
"""Characters of a value that is looked for under other names; a shorter one could be a common word."""
_ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that would end us, and leave a gateway of our own behind."""


@app.command(name="exec", context_settings={"allow_interspersed_args": False})
def execute(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The agent and its arguments, after `--`.")],
    rules: RulesOption = None,
    agent: AgentOption = "",
    recipe: ForOption = None,
    java: JavaOption = False,
    start: Annotated[bool, typer.Option("--start", help="Start a gateway on free ports, and end it with the command.")] = False,
    confdir: ConfdirOption = CONFDIR,
) -> None:
    """Run a command behind the gateway, with dummy keys in place of real ones. The exit status is the command's.

    **Examples:** `valetkey exec -- claude` · `valetkey exec --agent alice -- codex` · `valetkey exec --start -- mini`
    """
    environ = dict(os.environ)
    loaded = load(rules)
    known = named(recipe) if recipe else of_program(command[0])
    program = shutil.which(command[0])
    if program is None:
        raise ConfigurationError(f"{command[0]} is no program on PATH")
    if start:
        with started(loaded, rules, environ, confdir) as (proxy, api):
            raise typer.Exit(_run(program, command, child(_at(loaded, proxy, api), environ, agent, known, confdir, java=java)))
    check_gateway(loaded)
    surroundings = child(loaded, environ, agent, known, confdir, java=java)
    os.execve(program, command, surroundings)  # noqa: S606 - no shell is the point


def child(
    loaded: Loaded, environ: Mapping[str, str], agent: str, recipe: Recipe | None, confdir: Path, *, java: bool = False
) -> dict[str, str]:
    """The environment of the command: what is set, without real keys, with what an agent needs. Notices go to stderr."""
    prepared = prepare(loaded, environ, agent, recipe, confdir, java=java)
    limits = recipe.limits if recipe and recipe.works != "yes" else ()
    warn((*prepared.wanted.notices, *(f"{recipe.title}: {limit}" for limit in limits if recipe)))
    return prepared.wanted.applied(without_keys(loaded, environ))


STORES: Mapping[str, tuple[str, ...]] = {
    "op": ("OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN", "OP_SESSION_*"),
    "vault": ("VAULT_TOKEN",),
    "bao": ("BAO_TOKEN", "VAULT_TOKEN"),
    "aws": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "gcloud": ("CLOUDSDK_AUTH_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH"),
    "doppler": ("DOPPLER_TOKEN",),
    "infisical": ("INFISICAL_TOKEN",),
    "bw": ("BW_SESSION", "BW_CLIENTSECRET"),
    "bws": ("BWS_ACCESS_TOKEN",),
    "sops": ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE"),
}
"""Programs that `cmd:` references run, and the variables that open the store which each of them reads. An agent that has such a
variable can fetch the real key itself. Only of the programs that the rules name are they taken away."""


def without_keys(loaded: Loaded, environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables of keys: those of the catalogue, numbered ones, twins, and those that rules name.

    A variable of any other name that holds the value of one of them, or of a key of the gateway's, goes as well, and so does
    what opens a store that the rules fetch keys from.
    """
    rules = loaded.snapshot.rules
    names = {name for facts in loaded.catalog.values() for name in facts.env}
    names |= {name for provider in rules.providers.values() for name in provider.facts.env}
    pattern = re.compile("|".join(rf"{re.escape(name)}(?:_[A-Za-z0-9]+)?" for name in sorted(names)) or r"(?!)")
    referred = {
        ref.removeprefix("env:").removeprefix(TWIN) for ref in loaded.snapshot.references.values() if ref.startswith("env:")
    }

    stores = _stores(loaded.snapshot.references.values())

    def opens_store(name: str) -> bool:
        return any(fnmatchcase(name, each) for each in stores)

    def is_key(name: str) -> bool:
        plain = name.removeprefix(TWIN)
        return plain in referred or pattern.fullmatch(plain) is not None or name == AGENT_KEY or opens_store(name)

    real = {value for name, value in environ.items() if is_key(name) and name != AGENT_KEY and not is_dummy(value, rules)}
    real = {value for value in real if len(value) >= _LONG}
    held = loaded.snapshot.vault.scrubber

    def shows_key(value: str) -> bool:
        return any(each in value for each in real) or held.finds(os.fsencode(value))

    return {name: value for name, value in environ.items() if not (is_key(name) or shows_key(value))}


def _stores(references: Iterable[str]) -> set[str]:
    """The variables that open the stores of `cmd:` references."""
    programs = {PurePath(shlex.split(ref.removeprefix("cmd:"))[0]).name for ref in references if ref.startswith("cmd:")}
    return {name for program in programs for name in STORES.get(program, ())}


def check_gateway(loaded: Loaded) -> None:
    """Raise ValetkeyError, with what to do, unless the gateway of these rules answers."""
    door = loaded.snapshot.rules.gateway.proxy
    found = reach(door)
    if found.is_instance(instance_id(loaded.settings)):
        return
    if found.what == "gateway":
        raise ValetkeyError(f"the gateway on {door} is that of other rules; name its rules with --rules, or take --start")
    if found.what == "other":
        raise ValetkeyError(f"what listens on {door} is not the gateway; see valetkey doctor, or take --start")
    raise ValetkeyError(f"no gateway runs on {door}; start one with `valetkey run` in another terminal, or take --start")


@contextmanager
def started(loaded: Loaded, rules: str | None, environ: Mapping[str, str], confdir: Path) -> Iterator[tuple[Address, Address]]:
    """A gateway with these rules on free ports; gives its doors. It ends with the block. Raises StartError."""
    proxy, api = free_doors()
    for number in _ENDINGS:
        signal.signal(number, _leave)
    os.environ.update(environ)  # loading took the keys out; the gateway needs them
    extra = ["--mode", f"regular@{proxy}", "--mode", api_mode(api), "--set", f"confdir={expanded(confdir)}"]
    argv = running.command(rules, False, extra)
    log = ledger_of(loaded).with_name("exec-gateway.log")
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("wb") as file:
        log.chmod(0o600)
        # In a session of its own: Ctrl-C is for the agent, which may still have calls under way.
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=dict(environ), start_new_session=True
        )
    try:
        _wait(process, proxy, instance_id(loaded.settings), log)
        yield proxy, api
    finally:
        process.terminate()
        try:
            process.wait(STARTING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _leave(number: int, frame: FrameType | None) -> None:
    """End by way of `finally`, so that the gateway ends as well."""
    raise SystemExit(128 + number)


def _wait(process: subprocess.Popen[bytes], proxy: Address, instance: str, log: Path) -> None:
    deadline = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < deadline:
        if reach(proxy).is_instance(instance):
            return
        time.sleep(0.05)
    raise StartError(f"the gateway did not get ready; it said ({log}):\n{log.read_text(errors='replace').rstrip()}")


def free_doors() -> tuple[Address, Address]:
    """Two addresses of loopback that were free a moment ago."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", one.getsockname()[1]), Address("127.0.0.1", other.getsockname()[1])


def _at(loaded: Loaded, proxy: Address, api: Address) -> Loaded:
    """The same rules with other doors."""
    snapshot = loaded.snapshot
    gateway = replace(snapshot.rules.gateway, proxy=proxy, api=api)
    return replace(loaded, snapshot=replace(snapshot, rules=replace(snapshot.rules, gateway=gateway)))


def _run(program: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run to the end, and give the exit status as a shell would. Signals to us go to the command."""
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    # Before the command begins, or the first signal would end us alone. Handlers, since what is ignored stays so in the command.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _heard)
    with subprocess.Popen(list(command), executable=program, env=dict(environ)) as started:
        process = started
        for each in early:
            started.send_signal(each)
        status = started.wait()
    return status if status >= 0 else 128 - status


def _heard(number: int, frame: FrameType | None) -> None:
    """The terminal has sent it to the command already."""
