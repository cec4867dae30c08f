"""What the doctor looks at on the gateway's side: its doors, keys, CA, clock, ledger, and the mitmproxy below it."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from cryptography.hazmat.primitives.hashes import SHA256
from mitmproxy import version
from mitmproxy.addonmanager import AddonManager
from mitmproxy.options import Options

from ..errors import LedgerError
from ..ledger import Query, open_store
from ..model import Address
from ..proxy import driving, hooks, http1, privacy, shortcuts
from ..settings import instance_id
from .app import Loaded
from .bundles import certificates, parse, problem
from .exports import ledger_of
from .findings import Finding, fault, note, ok
from .reaching import Reached

KNOWN_MITMPROXY = "12.2."
"""The versions whose internals this gateway was written for."""
SOON = timedelta(days=30)
SLACK = 300.0
"""Seconds that clocks may differ."""
LARGE = 2 * 1024**3
"""Bytes of a ledger at which it is worth a word."""
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def gateway_findings(loaded: Loaded, reached: Reached) -> Iterator[Finding]:
    """Does the gateway of these rules run? If not, who has its ports?"""
    gateway = loaded.snapshot.rules.gateway
    if reached.is_instance(instance_id(loaded.settings)):
        yield ok("gateway", f"valetkey {reached.state.get('version')} answers on {gateway.proxy}")
        return
    if reached.what == "gateway":
        yield fault(
            "gateway", f"the gateway on {gateway.proxy} is that of other rules", "name its rules with --rules, or change a port"
        )
        return
    taken = [door for door in (gateway.proxy, gateway.api) if is_taken(door)]
    if not taken:
        yield fault("gateway", f"no gateway runs on {gateway.proxy}", "valetkey run")
    for door in taken:
        holder = holder_of(door.port)
        fix = "end that program, or choose another port under gateway in rules.yaml"
        yield fault("ports", f"{door} is taken by {holder or 'another program'}, which is not the gateway", fix)
    if low := _ephemeral_from():
        for door in (gateway.proxy, gateway.api):
            if door.port >= low:
                yield note(
                    "ports", f"{door.port} is a port that the system gives to outgoing connections, and may be taken at times"
                )


def is_taken(door: Address) -> bool:
    """Whether something listens at an address of this machine."""
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((door.host, door.port))
        except OSError:
            return True
    return False


def holder_of(port: int) -> str | None:
    """The program that listens on a port, as far as /proc shows it to us."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net") / table, port)}
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        if any(_leads_to(entry) in inodes for entry in _entries(process / "fd")):
            return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []  # another user's, or gone


def _leads_to(entry: Path) -> str | None:
    """The inode of the socket that a file descriptor is."""
    try:
        return str(entry.readlink()).removeprefix("socket:[").removesuffix("]")
    except OSError:
        return None


def _listening(table: Path, port: int) -> Iterator[str]:
    if not table.exists():
        return
    for row in table.read_text().splitlines()[1:]:
        fields = row.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


def _ephemeral_from() -> int | None:
    return int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else None


def key_findings(loaded: Loaded, reached: Reached) -> Iterator[Finding]:
    """Which keys are usable: by the gateway's own word where it runs, else as this process sees them."""
    asked = "keys" in reached.state and reached.is_instance(instance_id(loaded.settings))
    snapshot, rules = loaded.snapshot, loaded.snapshot.rules
    usable = list(reached.state["keys"]) if asked else [key.id for keys in snapshot.keys.values() for key in keys]
    left_out = dict(reached.state["left_out"] if asked else {key: why for key, why in snapshot.states.items() if why})
    source = "the gateway" if asked else "this shell"
    for key, why in left_out.items():
        provider = rules.providers.get(key.partition("/")[0])
        written = provider is not None and provider.key_specs is not None
        fix = "give the gateway the real key: GATEWAY_ before the variable's name, .env beside rules.yaml, or a file"
        yield fault("keys", f"{key}: {why}", fix) if written else note("keys", f"{key}: {why}; {source} does without it", fix)
    keyless = [name for name, provider in rules.providers.items() if provider.configured and not provider.keys_needed]
    if usable or keyless:
        yield ok(
            "keys", f"{source} has {len(usable)}: {', '.join(usable)}" if usable else f"none is needed for {', '.join(keyless)}"
        )
    else:
        yield fault(
            "keys",
            f"{source} has no usable key, so no provider can be called",
            "set GATEWAY_OPENAI_API_KEY or its like, or name keys in rules.yaml",
        )


def authority_findings(confdir: Path, reached: Reached, now: datetime) -> Iterator[Finding]:
    """The CA on the disk: is it there, good, private, and the one that the gateway signs with?"""
    path = confdir / "mitmproxy-ca-cert.pem"
    if not path.exists():
        yield note("CA", f"{path} does not exist yet", "it is made at the first start, or by valetkey env")
        return
    der = next(certificates(path.read_text(errors="replace")), b"")
    anew = f"delete {confdir}/mitmproxy-ca*, restart the gateway, then {'valetkey env'} again"
    if reason := problem(der):
        yield fault("CA", f"{path}: {reason}", anew)
        return
    certificate = parse(der)
    until, since = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if now > until:
        yield fault("CA", f"{path} has expired on {until:%Y-%m-%d}: nobody trusts it any more", anew)
    elif now < since:
        yield fault(
            "clock", f"{path} is only good from {since:%Y-%m-%d %H:%M} UTC on, and it is {now:%Y-%m-%d %H:%M}", "set the clock"
        )
    elif until - now < SOON:
        yield note("CA", f"{path} expires on {until:%Y-%m-%d}", anew)
    else:
        yield ok("CA", f"{path} is good until {until:%Y-%m-%d}")
    if reached.what == "gateway" and reached.state.get("ca") != certificate.fingerprint(SHA256()).hex():
        text = f"{path} is not the CA that the running gateway signs with"
        yield fault("CA", text, "restart the gateway, or name its folder with --confdir")
    yield from _private(confdir)


def _private(confdir: Path) -> Iterator[Finding]:
    """The CA's key must be its owner's alone."""
    for path in (confdir / name for name in privacy.KEYS):
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        if mode & 0o077:
            text = f"{path}, the key of the CA, may be read by others (mode {mode:04o})"
            yield fault("CA", text, f"chmod 600 {path}", partial(path.chmod, 0o600))


def clock_findings(loaded: Loaded, reached: Reached, now: float) -> Iterator[Finding]:
    """Rests, budgets and retention go by the clock."""
    theirs = reached.state.get("time")
    if isinstance(theirs, float) and abs(theirs - now) > SLACK:
        yield fault("clock", f"the gateway's clock differs by {abs(theirs - now):.0f} s from ours", "set both by NTP")
    newest = _newest(ledger_of(loaded))
    if newest is not None and newest > now + SLACK:
        text = f"the newest receipt is from {datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC, which is in the future"
        yield fault("clock", text, "set the clock by NTP")
    elif not isinstance(theirs, float) or abs(theirs - now) <= SLACK:
        yield ok("clock", f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC")


def _newest(path: Path) -> float | None:
    if not path.exists():
        return None
    try:
        store = open_store(f"sqlite:///{path}", readonly=True)
    except LedgerError:
        return None
    try:
        newest = [receipt.time for receipt in store.receipts(Query(limit=1))]
    except LedgerError:
        return None
    finally:
        store.close()
    return newest[0] if newest else None


def ledger_findings(path: Path) -> Iterator[Finding]:
    """The ledger: can it be written, is it private, is it sound, how large is it?"""
    folder = path.parent
    if not folder.exists():
        yield ok("ledger", f"{path} is made at the first start")
        return
    faults = list(_ledger_faults(path))
    yield from faults
    if faults:
        return
    size = path.stat().st_size if path.exists() else 0
    if size > LARGE:
        yield note("ledger", f"{path} has {size / 1024**3:.1f} GiB", "gateway.retention, or valetkey purge")
    else:
        yield ok("ledger", f"{path}, {size / 1024**2:.1f} MiB")


def _ledger_faults(path: Path) -> Iterator[Finding]:
    for file in (
        path.parent,
        *(each for each in sorted(path.parent.glob(f"{path.stem}.*")) if each.suffix != ".pem" and each.suffix != ".p12"),
    ):
        mode = stat.S_IMODE(file.stat().st_mode)
        wanted = 0o700 if file.is_dir() else 0o600
        # A folder that others may look into is theirs to know of; what counts is that they change nothing in it.
        if mode & (0o022 if file.is_dir() else 0o077):
            text = f"{file} is open to others (mode {mode:04o}); receipts tell who asked for what"
            yield fault("ledger", text, f"chmod {wanted:o} {file}", partial(file.chmod, wanted))
        if not os.access(file, os.R_OK | os.W_OK):
            yield fault("ledger", f"{file} cannot be written by this user", f"chown it, or start the gateway as {file.owner()}")
    if path.exists():
        try:
            open_store(f"sqlite:///{path}", readonly=True).close()
        except (LedgerError, sqlite3.Error) as error:
            yield fault("ledger", str(error), "move it away; the gateway makes a new one")


def mitmproxy_findings() -> Iterator[Finding]:
    """Is the mitmproxy below the one that we know? The start canary decides in the end; this tells what it will find."""
    if not version.VERSION.startswith(KNOWN_MITMPROXY):
        yield note("mitmproxy", f"version {version.VERSION} was not tried", f"pip install 'mitmproxy=={KNOWN_MITMPROXY}*'")
    manager = AddonManager(SimpleNamespace(options=Options()))
    drifts = [hooks.differences(manager), shortcuts.differences(), driving.differences(), http1.differences()]
    for drift in filter(None, drifts):
        yield note("mitmproxy", drift, "the gateway is slower, or refuses to start; install the version it was tried with")
    if not any(drifts) and version.VERSION.startswith(KNOWN_MITMPROXY):
        yield ok("mitmproxy", f"version {version.VERSION}, with the internals that we know")
