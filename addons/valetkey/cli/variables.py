"""Which variables an agent's process needs: proxy, trust and dummy keys, beside what is set there already."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from ..errors import ConfigurationError
from ..model import Address, GatewayRules, ProviderFacts, Rules
from ..policy import callers, credentials
from ..proxy.canaryhost import HOST
from .bundles import ADDING, JAVA_PASSWORD, REPLACING, Trust
from .recipes import Recipe

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
"""Each in both cases: wget and curl (for http) read the lower one, some programs only the upper one."""
LOCAL = ("localhost", "127.0.0.1", "::1")
SWITCHES = {"NODE_USE_ENV_PROXY": "1", "AIOHTTP_TRUST_ENV": "True"}
"""For Node since 22.21 and 24, and for LiteLLM's transport: without them the proxy variables are not looked at."""
AGENT_KEY = "VALETKEY_AGENT_KEY"
"""Where the key of an agent that has one of its own is looked for: the rules hold its hash alone."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a process gets: variables to set, and variables that it must not have. `notices` are for people."""

    values: Mapping[str, str]
    unset: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def applied(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment with all of it."""
        return {name: value for name, value in environ.items() if name not in self.unset} | dict(self.values)


def wanted(
    gateway: GatewayRules,
    providers: Collection[ProviderFacts],
    trust: Trust,
    dummy: str,
    environ: Mapping[str, str],
    recipe: Recipe | None = None,
    *,
    java: bool = False,
) -> Wanted:
    """Everything for one agent. `environ` is what is set now; `recipe` narrows the dummies to what the agent looks for."""
    address = dialled(gateway.proxy)
    values = {name: f"http://{address}" for upper in PROXIES for name in (upper, upper.lower())}
    exceptions, dropped = without_proxy(environ, [host for facts in providers for host in facts.hosts])
    values |= dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(exceptions)) | SWITCHES
    values |= dict.fromkeys(REPLACING, str(trust.bundle)) | dict.fromkeys(ADDING, str(trust.added))
    if java:
        values["JAVA_TOOL_OPTIONS"] = java_options(environ.get("JAVA_TOOL_OPTIONS", ""), address, exceptions, trust)
    names = (recipe.keys if recipe else ()) or [name for facts in providers for name in facts.env]
    values |= dict.fromkeys(names, dummy)
    notices = tuple(f"NO_PROXY: {entry} is left out; calls to providers would go past the gateway" for entry in dropped)
    made = Wanted(values, notices=(*trust.notices, *notices))
    return replace(made, values=values | dict(recipe.set), unset=recipe.unset) if recipe else made


def dialled(address: Address) -> Address:
    """Where a client on this machine reaches a door: one that listens everywhere is at loopback as well."""
    return replace(address, host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host))  # noqa: S104


def without_proxy(environ: Mapping[str, str], providers: Iterable[str]) -> tuple[list[str], list[str]]:
    """The entries of NO_PROXY: what is set and loopback, without what would pass the gateway by; and what was left out."""
    hosts = [*providers, HOST]
    text = ",".join(environ.get(name, "") for name in ("NO_PROXY", "no_proxy"))
    entries = list(dict.fromkeys(entry for entry in re.split(r"[,\s]+", text) if entry))
    dropped = [entry for entry in entries if any(covers(entry, host) for host in hosts)]
    return list(dict.fromkeys([entry for entry in entries if entry not in dropped] + list(LOCAL))), dropped


def covers(entry: str, host: str) -> bool:
    """Whether an entry of NO_PROXY takes a host from the proxy, in the widest of the runtimes' readings."""
    name = entry.lower().partition(":")[0].removeprefix("*").lstrip(".").rstrip(".")
    return entry.strip() == "*" or (bool(name) and f".{host.lower()}".endswith(f".{name}"))


def java_options(before: str, address: Address, exceptions: Sequence[str], trust: Trust) -> str:
    """JAVA_TOOL_OPTIONS with our properties after what is set there; those of an earlier run are replaced."""
    kept = [
        word
        for word in before.split()
        if not re.match(r"-D(https?\.proxy(Host|Port)|http\.nonProxyHosts|javax\.net\.ssl\.trust)", word)
    ]
    if re.search(r"\s", str(trust.java)):
        raise ConfigurationError(f"{trust.java}: JAVA_TOOL_OPTIONS cannot hold a path with a space; keep the ledger elsewhere")
    proxy = [
        f"-D{scheme}.proxy{part}={value}"
        for scheme in ("https", "http")
        for part, value in (("Host", address.host), ("Port", address.port))
    ]
    local = "|".join(
        dict.fromkeys(("127.*", *(f"*{entry}" if entry.startswith(".") else entry for entry in exceptions if ":" not in entry)))
    )
    store = [
        f"-Djavax.net.ssl.trustStore={trust.java}",
        "-Djavax.net.ssl.trustStoreType=PKCS12",
        f"-Djavax.net.ssl.trustStorePassword={JAVA_PASSWORD}",
    ]
    return " ".join([*kept, *proxy, f"-Dhttp.nonProxyHosts={local}", *store])


def dummy_key(agent: str, rules: Rules, environ: Mapping[str, str] | None = None) -> str:
    """The dummy of an agent (`agent` or `agent.project`), or of nobody in particular.

    Raises ConfigurationError when the gateway would not take it for a dummy, not recognise the agent in it, or wants the
    agent's own key and VALETKEY_AGENT_KEY does not hold it.
    """
    if own := _own_key(agent, rules, os.environ if environ is None else environ):
        return own
    dummy = f"sk-dummy-{agent}" if agent else "sk-dummy"
    if agent and callers.identify(agent, (), rules).source != "proxy_auth":
        raise ConfigurationError(f"--agent {agent!r}: up to 64 letters, digits, `.`, `_` and `-`, as in alice or alice.web")
    if not credentials.is_dummy(dummy, rules):
        raise ConfigurationError(f"gateway.dummy_keys would take {dummy} for a real key; add 'sk-dummy*' to it")
    return dummy


def _own_key(agent: str, rules: Rules, environ: Mapping[str, str]) -> str | None:
    """The key of an agent that has one in the rules; None where the name suffices."""
    hashes = {rule.key for rule in rules.agents if rule.key and rule.name == agent.partition(".")[0]}
    if not hashes:
        return None
    key = environ.get(AGENT_KEY, "")
    if f"sha256:{sha256(key.encode()).hexdigest()}" not in hashes:
        raise ConfigurationError(f"{agent} has a key of its own in the rules; put that key in the variable {AGENT_KEY}")
    return key
