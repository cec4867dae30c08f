"""`valetkey env`: what an agent's shell needs, for every runtime that an agent may be written in."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import certifi
import typer

from ..errors import ConfigurationError
from ..model import GatewayRules, ProviderFacts, Rules
from ..policy import callers, credentials
from .app import JsonOption, RulesOption, app, dump, load, say

_COMBINED = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "CODEX_CA_CERTIFICATE",
)  # fmt: skip
"""Variables whose file becomes the only trust; it must hold the public authorities as well."""
_ADDED = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
_OURS = "# valetkey: the CA of mitmproxy"
"""What stands before our CA in a bundle."""
_LOCAL = "localhost,127.0.0.1,::1"


class Shell(StrEnum):
    """How variables are written."""

    sh = "sh"
    fish = "fish"
    powershell = "powershell"
    dotenv = "dotenv"


@app.command()
def env(
    rules: RulesOption = None,
    shell: Annotated[Shell, typer.Option(help="The shell to write for.")] = Shell.sh,
    agent: Annotated[str, typer.Option(help="Name the agent: its dummy key becomes sk-dummy-NAME.")] = "",
    confdir: Annotated[Path, typer.Option(help="mitmproxy's folder with the CA.")] = Path("~/.mitmproxy"),
    as_json: JsonOption = False,
) -> None:
    """Print what an agent needs: proxy, trust and dummy keys. Makes the CA and a bundle when they are missing.

    **Examples:** `eval "$(valetkey env)"` · `valetkey env --agent alice --shell dotenv > agent.env`
    """
    loaded = load(rules)
    dummy = dummy_key(agent, loaded.snapshot.rules)
    try:
        authority = ensure_authority(confdir.expanduser())
        bundle = write_bundle(authority, loaded.settings.folder / ".valetkey" / "ca-bundle.pem")
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be read or made: {error.strerror}") from error
    except RuntimeError as error:  # of expanduser, for a user who does not exist
        raise ConfigurationError(f"--confdir {confdir}: {error}") from error
    values = variables(loaded.snapshot.rules.gateway, loaded.catalog.values(), authority, bundle, dummy)
    if as_json:
        dump(values)
        return
    for name, value in values.items():
        say(line(shell, name, value))


def dummy_key(agent: str, rules: Rules) -> str:
    """The dummy of an agent (`agent` or `agent.project`), or of nobody in particular.

    Raises ConfigurationError when the gateway would not take it for a dummy, or not recognise the agent in it.
    """
    dummy = f"sk-dummy-{agent}" if agent else "sk-dummy"
    if agent and callers.identify(agent, (), rules).source != "proxy_auth":
        raise ConfigurationError(f"--agent {agent!r}: up to 64 letters, digits, `.`, `_` and `-`, as in alice or alice.web")
    if not credentials.is_dummy(dummy, rules):
        raise ConfigurationError(f"gateway.dummy_keys would take {dummy} for a real key; add 'sk-dummy*' to it")
    return dummy


def variables(
    gateway: GatewayRules, providers: Iterable[ProviderFacts], authority: Path, bundle: Path, dummy: str
) -> Mapping[str, str]:
    """Every variable with its value."""
    proxy = f"http://{gateway.proxy}"
    values = {name: proxy for upper in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY") for name in (upper, upper.lower())}
    values |= {"NO_PROXY": _LOCAL, "no_proxy": _LOCAL, "NODE_USE_ENV_PROXY": "1", "AIOHTTP_TRUST_ENV": "True"}
    values |= dict.fromkeys(_COMBINED, str(bundle)) | dict.fromkeys(_ADDED, str(authority))
    return values | {name: dummy for facts in providers for name in facts.env}


def line(shell: Shell, name: str, value: str) -> str:
    """One variable in a shell's words."""
    match shell:
        case Shell.sh:
            return f"export {name}={shlex.quote(value)}"
        case Shell.fish:
            return f"set -gx {name} '{re.sub(r"([\\'])", r'\\\1', value)}'"
        case Shell.powershell:
            return f"$env:{name} = '{value.replace(chr(39), chr(39) * 2)}'"
        case Shell.dotenv:
            return f"{name}={value}"


def ensure_authority(confdir: Path) -> Path:
    """mitmproxy's CA certificate, made now when this is its first use."""
    from mitmproxy.certs import CertStore

    CertStore.from_store(confdir, "mitmproxy", 2048)
    return (confdir / "mitmproxy-ca-cert.pem").absolute()


def write_bundle(authority: Path, path: Path) -> Path:
    """The public authorities (or those of an SSL_CERT_FILE that is set already) and ours, in one file that all may read."""
    own = authority.read_text()
    known = Path(os.environ.get("SSL_CERT_FILE") or certifi.where())
    public = _without_ours(known.read_text(), own) if known.is_file() else ""
    public = public or Path(certifi.where()).read_text().rstrip()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Agents may be reading the file right now: it changes at once or not at all.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(f"{public}\n{_OURS}\n{own}")
    Path(file.name).chmod(0o644)
    return Path(file.name).replace(path)


def _without_ours(bundle: str, own: str) -> str:
    """A bundle without the CA that an earlier run put at its end, which may be another one by now."""
    return bundle.partition(_OURS)[0].replace(own.strip(), "").rstrip()
