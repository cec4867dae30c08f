"""Is the environment that an agent has now as `valetkey env` would make it? Each variable on its own, without any call."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..model import Address
from ..proxy.canaryhost import HOST
from .bundles import ADDING, REPLACING, certificates
from .findings import Finding, fault, note, ok
from .variables import PROXIES, SWITCHES, covers, dialled

EXPORT = 'eval "$(valetkey env)", or valetkey exec'
SWITCHED_OFF = {
    "NODE_TLS_REJECT_UNAUTHORIZED": "0", "GIT_SSL_NO_VERIFY": "*", "PYTHONHTTPSVERIFY": "0", "SSL_VERIFY": "false",
    "npm_config_strict_ssl": "false",
}  # fmt: skip
"""Variables that switch the verification of certificates off; `*` stands for any value but an empty one."""
FEW = 10
"""A bundle with fewer authorities than this lacks the public ones."""


def proxy_findings(environ: Mapping[str, str], door: Address, providers: Collection[str]) -> Iterator[Finding]:
    """Do the variables lead to this gateway, in both cases, and do no exceptions lead past it?"""
    if not any(environ.get(name) for upper in PROXIES for name in (upper, upper.lower())):
        yield fault("proxy", "this environment has no proxy variable: an agent in it calls providers directly", EXPORT)
        return
    faults = [found for upper in PROXIES for name in (upper, upper.lower()) if (found := proxy_fault(environ, name, door))]
    yield from (fault("proxy", text, EXPORT) for text in faults)
    for name in ("NO_PROXY", "no_proxy"):
        for entry in filter(None, re.split(r"[,\s]+", environ.get(name, ""))):
            past = [host for host in (*providers, HOST) if covers(entry, host)]
            if past:
                faults.append(name)
                yield fault("proxy", f"{name} holds {entry}: {past[0]} is called past the gateway", f"take {entry} out of {name}")
    if not faults:
        yield ok("proxy", f"the variables lead to http://{dialled(door)}")


def proxy_fault(environ: Mapping[str, str], name: str, door: Address) -> str | None:
    """What is wrong with one proxy variable; None when it leads to the door."""
    value = environ.get(name, "")
    if not value:
        other = name.lower() if name.isupper() else name.upper()
        return (
            f"{name} is not set, only {other}: some runtimes read this one alone" if environ.get(other) else f"{name} is not set"
        )
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        place = (parts.hostname, parts.port)
    except ValueError:
        return f"{name} is no address"
    if parts.scheme != "http":
        return f"{name} begins with {parts.scheme}://; the gateway's door speaks plain HTTP, http://{dialled(door)}"
    wanted = dialled(door)
    at_home = {wanted.host, *(("localhost", "127.0.0.1") if wanted.host in ("localhost", "127.0.0.1") else ())}
    if place[0] in at_home and place[1] == wanted.port:
        return None
    return f"{name} leads to {place[0]}:{place[1]}, not to the gateway at {wanted}"


def trust_findings(environ: Mapping[str, str], own: bytes | None) -> Iterator[Finding]:
    """Do the variables name files that hold what they must? `own` is the gateway's CA as DER, None when it is not known."""
    faults: dict[str, list[str]] = {}
    for name in (*REPLACING, *ADDING):
        if (text := trust_fault(environ, name, own)) is not None:
            faults.setdefault(text, []).append(name)
    yield from (fault("trust", f"{', '.join(names)}: {text}", EXPORT) for text, names in faults.items())
    if not faults:
        yield ok("trust", "all variables name files with the gateway's CA")


def trust_fault(environ: Mapping[str, str], name: str, own: bytes | None) -> str | None:
    """What is wrong with one variable of trust; None when nothing is."""
    path = environ.get(name)
    if not path:
        return "not set"
    try:
        held = list(certificates(Path(path).read_text(errors="replace")))
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if own is not None and own not in held:
        return f"{path} does not hold the gateway's CA"
    if name in REPLACING and len(held) < FEW:
        return f"{path} holds the CA alone, but it replaces all others there: other hosts would break"
    return None


def switch_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that are needed beside proxy and trust, and those that must not be there."""
    for name, value in SWITCHES.items():
        if environ.get(name, "").lower() != value.lower():
            yield fault("proxy", f"{name} is not {value}: what reads it goes past the proxy variables", EXPORT)
    for name, value in SWITCHED_OFF.items():
        held = environ.get(name, "")
        if held and value in ("*", held.lower()):
            yield fault("trust", f"{name}={held} switches the verification of certificates off, for all hosts", f"unset {name}")


def key_findings(environ: Mapping[str, str], names: Collection[str], is_dummy: Mapping[str, bool]) -> Iterator[Finding]:
    """Do the agent's own variables hold dummies? `is_dummy` says it of each variable that is set."""
    missing = [name for name in names if not environ.get(name)]
    real = [name for name in names if environ.get(name) and not is_dummy[name]]
    for name in real:
        text = f"{name} holds a key that is no dummy, where an agent can read it"
        yield note("dummies", text, "start the agent with valetkey exec, which takes real keys out")
    if len(missing) == len(names):
        yield fault("dummies", "no variable holds a dummy key, so an agent would not even try", EXPORT)
    elif not real:
        yield ok("dummies", "agents find dummy keys alone")
