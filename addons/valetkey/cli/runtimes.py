"""Runtimes that agents are written in, each asked to call the canary host as a child of this process would.

Two proofs, both by the gateway's own word: a tunnel to the canary came (it goes through the gateway), and a request in it came
over TLS (it trusts the CA). What the runtime itself prints only serves as an explanation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..model import Address
from ..proxy.canaryhost import HOST
from .bundles import ADDING, REPLACING
from .findings import Finding, fault, note
from .reaching import seen
from .surroundings import EXPORT, proxy_fault, trust_fault
from .variables import PROXIES, covers

PATIENCE = 20.0
"""Seconds for one runtime to call; some compile first and have three times as long."""
PORTS = range(20_000, 60_000)
"""Ports of the canary from which each probe gets one. Browsers' lists of forbidden ports end below."""
_URLLIB = "import urllib.request as u; print(u.urlopen('{url}', timeout=10).read().decode())"
_REQUESTS = "import requests; print(requests.get('{url}', timeout=10).text)"
_HTTPX = "import httpx; print(httpx.get('{url}', timeout=10).text)"
_AIOHTTP = """
import aiohttp, asyncio, os
async def call():
    trust = os.environ.get("AIOHTTP_TRUST_ENV", "").lower() == "true"
    async with aiohttp.ClientSession(trust_env=trust) as session, session.get('{url}') as answer:
        print(await answer.text())
asyncio.run(call())
"""
_FETCH = "fetch('{url}').then(a=>a.text()).then(console.log,e=>{console.error(String(e.cause||e));process.exit(1)})"
_HTTPS = "require('https').get('{url}',a=>a.pipe(process.stdout)).on('error',e=>{console.error(String(e));process.exit(1)})"
_DENO = "console.log(await (await fetch('{url}')).text())"
_GO = """package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
	a, e := http.Get("{url}")
	if e != nil { fmt.Fprintln(os.Stderr, e); os.Exit(1) }
	io.Copy(os.Stdout, a.Body)
}
"""
_RUBY = "require 'net/http'; puts Net::HTTP.get(URI('{url}'))"
_JAVA = """public class Probe { public static void main(String[] words) throws Exception {
  try (var in = new java.net.URL("{url}").openStream()) { in.transferTo(System.out); } } }
"""


type Check = Callable[[Runtime, Mapping[str, str]], str | None]


@dataclass(frozen=True, slots=True)
class Runtime:
    """How one runtime is made to call. `{url}` and `{file}` (of `source`, under `suffix`) in the words are filled in."""

    name: str
    program: str
    words: tuple[str, ...]
    proxy: tuple[str, ...]
    """Variables, any of which leads it to the proxy."""
    trust: tuple[str, ...]
    """Variables by which it learns of the CA, the first that is set counting."""
    source: str = ""
    suffix: str = ""
    compiles: bool = False
    past: Check | None = None
    """Why no variable leads it to the proxy, where none does."""
    distrusts: Check | None = None
    """Why no variable makes it trust the CA, where none does."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one runtime's call."""

    runtime: Runtime
    through: bool
    trusts: bool
    said: str = ""

    def as_dict(self) -> dict[str, object]:
        """For --json."""
        return {"runtime": self.runtime.name, "program": self.runtime.program, "through": self.through, "trusts": self.trusts}


def _node_before(version: tuple[int, int], also: tuple[int, int], runtime: Runtime, environ: Mapping[str, str]) -> str | None:
    """Why this Node knows no proxy variables: they came with `version`, and were put into an older line with `also`."""
    found = re.match(r"v(\d+)\.(\d+)", _first_line(runtime.program, "--version", environ))
    have = (int(found[1]), int(found[2])) if found else version
    if have >= version or (have[0] == also[0] and have >= also):
        return None
    return f"Node {have[0]}.{have[1]} knows no proxy variables; take {also[0]}.{also[1]}, {version[0]}.{version[1]} or newer"


def _java_unasked(runtime: Runtime, environ: Mapping[str, str]) -> str | None:
    return (
        None
        if "proxyHost" in environ.get("JAVA_TOOL_OPTIONS", "")
        else "Java reads no such variable; valetkey env --java sets its own"
    )


def _gnutls(runtime: Runtime, environ: Mapping[str, str]) -> str | None:
    linked = "gnutls" in _output([runtime.program, "--version"], environ).lower()
    return (
        "this wget (GnuTLS) reads no variable; put `ca_certificate = BUNDLE` into ~/.wgetrc, BUNDLE being SSL_CERT_FILE's"
        if linked
        else None
    )


_ENV = ("HTTPS_PROXY", "https_proxy")
_SSL = ("SSL_CERT_FILE",)
_NODE = ("NODE_EXTRA_CA_CERTS",)
# Node: https://nodejs.org/api/cli.html#node_use_env_proxy1
RUNTIMES = (
    Runtime("node fetch", "node", ("-e", _FETCH), _ENV, _NODE, past=partial(_node_before, (24, 0), (22, 21))),
    Runtime("node https", "node", ("-e", _HTTPS), _ENV, _NODE, past=partial(_node_before, (24, 5), (22, 21))),
    Runtime("bun fetch", "bun", ("-e", _FETCH), _ENV, _NODE),
    Runtime("deno fetch", "deno", ("eval", _DENO), _ENV, ("DENO_CERT",)),
    Runtime("curl", "curl", ("-sS", "-m", "10", "{url}"), _ENV, ("CURL_CA_BUNDLE", "SSL_CERT_FILE")),
    Runtime("wget", "wget", ("-nv", "-t", "1", "-T", "10", "-O", "-", "{url}"), ("https_proxy",), _SSL, distrusts=_gnutls),
    Runtime("git", "git", ("ls-remote", "{url}/x.git"), _ENV, ("GIT_SSL_CAINFO",)),
    Runtime("go", "go", ("run", "{file}"), _ENV, _SSL, _GO, "main.go", compiles=True),
    Runtime(
        "java", "java", ("{file}",), ("JAVA_TOOL_OPTIONS",), ("JAVA_TOOL_OPTIONS",), _JAVA, "Probe.java", True, _java_unasked
    ),
    Runtime("ruby", "ruby", ("-e", _RUBY), _ENV, _SSL),
)
"""All but Python, of which there may be two."""
_LIBRARIES = {
    "urllib": (_URLLIB, _SSL),
    "requests": (_REQUESTS, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")),
    "httpx": (_HTTPX, _SSL),
    "aiohttp": (_AIOHTTP, _SSL),
}


def found(environ: Mapping[str, str]) -> Iterator[Runtime]:
    """The runtimes that an environment's PATH leads to, and the Python that runs this."""
    path = environ.get("PATH")
    for program in dict.fromkeys((sys.executable, shutil.which("python3", path=path) or sys.executable)):
        yield from _pythons(program, environ)
    for runtime in RUNTIMES:
        if shutil.which(runtime.program, path=path):
            yield runtime


def _pythons(program: str, environ: Mapping[str, str]) -> Iterator[Runtime]:
    code = f"import importlib.util as u; print(*[n for n in {list(_LIBRARIES)} if n == 'urllib' or u.find_spec(n)])"
    for library in _first_line(program, "-c", environ, code).split():
        code, trust = _LIBRARIES[library]
        yield Runtime(f"python {library}", program, ("-c", code), _ENV, trust)


def probe_all(environ: Mapping[str, str], door: Address) -> list[Probe]:
    """Have every runtime call, some at a time."""
    runtimes = list(found(environ))
    ports = iter(PORTS[int.from_bytes(os.urandom(2)) % (len(PORTS) - len(runtimes)) :])
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda runtime, port: probe(runtime, port, environ, door), runtimes, ports))


def probe(runtime: Runtime, port: int, environ: Mapping[str, str], door: Address) -> Probe:
    """Have one runtime call the canary at `port`, and ask the gateway what came."""
    begun = time.monotonic()
    said = call(runtime, f"https://{HOST}:{port}", environ)
    came, lasted = seen(door, port), time.monotonic() - begun
    through, trusts = ((since := came.get(what)) is not None and since < lasted for what in ("tunnel", "request"))
    return Probe(runtime, through, trusts, said[-300:])


def call(runtime: Runtime, url: str, environ: Mapping[str, str]) -> str:
    """Run it and give what it printed."""
    with tempfile.TemporaryDirectory(prefix="valetkey-doctor-") as folder:
        file = Path(folder) / (runtime.suffix or "unused")
        if runtime.source:
            file.write_text(runtime.source.replace("{url}", url))
        words = [word.replace("{url}", url).replace("{file}", str(file)) for word in runtime.words]
        quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
        return _output([runtime.program, *words], {**environ, **quiet}, PATIENCE * (3 if runtime.compiles else 1), folder)


def judge(probe: Probe, environ: Mapping[str, str], door: Address, own: bytes | None) -> Finding:
    """What a probe means, and the variable to fix."""
    runtime = probe.runtime
    subject = f"{runtime.name} ({runtime.program})"
    if probe.through and probe.trusts:
        return Finding(subject, "ok", "goes through the gateway, trusts the CA")
    text = "goes through the gateway, does not trust the CA" if probe.through else "does not go through the gateway"
    check = runtime.distrusts if probe.through else runtime.past
    if check is not None and (limit := check(runtime, environ)):
        return note(subject, text, limit)
    reason = _trust_reason(runtime, environ, own) if probe.through else _proxy_reason(runtime, environ, door)
    return fault(subject, f"{text}: {reason or probe.said or 'it does not say why'}", _fix(runtime, through=probe.through))


def _proxy_reason(runtime: Runtime, environ: Mapping[str, str], door: Address) -> str | None:
    """Why it went past: an exception, or what is wrong with each variable that it reads."""
    for name in ("NO_PROXY", "no_proxy"):
        if any(covers(entry, HOST) for entry in re.split(r"[,\s]+", environ.get(name, "")) if entry):
            return f"{name} leads past it"
    if runtime.program == "node" and environ.get("NODE_USE_ENV_PROXY") != "1":
        return "NODE_USE_ENV_PROXY is not 1"
    faults = [proxy_fault(environ, name, door) for name in runtime.proxy if name.upper() in PROXIES]
    return "; ".join(filter(None, faults)) if all(faults) else None


def _trust_reason(runtime: Runtime, environ: Mapping[str, str], own: bytes | None) -> str | None:
    name = next((name for name in runtime.trust if environ.get(name)), runtime.trust[0])
    reason = trust_fault(environ, name, own) if name in (*REPLACING, *ADDING) else None
    return f"{name}: {reason}" if reason else None


def _fix(runtime: Runtime, *, through: bool) -> str:
    names = runtime.trust if through else runtime.proxy
    return f"{EXPORT} (sets {names[0]})"


def _first_line(program: str, option: str, environ: Mapping[str, str], *words: str) -> str:
    return _output([program, option, *words], environ).partition("\n")[0]


def _output(command: list[str], environ: Mapping[str, str], patience: float = PATIENCE, folder: str = os.sep) -> str:
    """What a program says. It runs in `folder`, never in ours: Python, git and Bun take code from the folder they are started in,
    and an agent may have written it."""
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {patience:.0f} s"
    except OSError as error:
        return str(error.strerror)
    return (done.stdout or done.stderr).strip()
