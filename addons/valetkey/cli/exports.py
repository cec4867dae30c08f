"""`valetkey env`: what an agent's shell needs, for every runtime that an agent may be written in."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import certifi
import typer

from ..model import GatewayRules, ProviderFacts
from .app import JsonOption, RulesOption, app, dump, load, say

_COMBINED = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "CODEX_CA_CERTIFICATE",
)  # fmt: skip
"""Variables whose file becomes the only trust; it must hold the public authorities as well."""
_ADDED = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
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
    authority = ensure_authority(confdir.expanduser())
    bundle = write_bundle(authority, loaded.settings.folder / ".valetkey" / "ca-bundle.pem")
    values = variables(loaded.snapshot.rules.gateway, loaded.catalog.values(), authority, bundle, agent)
    if as_json:
        dump(values)
        return
    for name, value in values.items():
        say(line(shell, name, value))


def variables(
    gateway: GatewayRules, providers: Iterable[ProviderFacts], authority: Path, bundle: Path, agent: str
) -> Mapping[str, str]:
    """Every variable with its value."""
    proxy = f"http://{gateway.proxy}"
    values = {name: proxy for upper in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY") for name in (upper, upper.lower())}
    values |= {"NO_PROXY": _LOCAL, "no_proxy": _LOCAL, "NODE_USE_ENV_PROXY": "1", "AIOHTTP_TRUST_ENV": "True"}
    values |= dict.fromkeys(_COMBINED, str(bundle)) | dict.fromkeys(_ADDED, str(authority))
    dummy = f"sk-dummy-{agent}" if agent else "sk-dummy"
    return values | {name: dummy for facts in providers for name in facts.env}


def line(shell: Shell, name: str, value: str) -> str:
    """One variable in a shell's words."""
    match shell:
        case Shell.sh:
            return f"export {name}={shlex.quote(value)}"
        case Shell.fish:
            return f"set -gx {name} {shlex.quote(value)}"
        case Shell.powershell:
            return f"$env:{name} = '{value.replace(chr(39), chr(39) * 2)}'"
        case Shell.dotenv:
            return f"{name}={value}"


def ensure_authority(confdir: Path) -> Path:
    """mitmproxy's CA certificate, made now when this is its first use."""
    from mitmproxy.certs import CertStore

    CertStore.from_store(confdir, "mitmproxy", 2048)
    return confdir / "mitmproxy-ca-cert.pem"


def write_bundle(authority: Path, path: Path) -> Path:
    """The public authorities (or those of an SSL_CERT_FILE that is set already) and ours, in one file."""
    known = Path(os.environ.get("SSL_CERT_FILE", "") or certifi.where())
    base = certifi.where() if known == path or not known.is_file() else known
    own = authority.read_text()
    public = Path(base).read_text()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(public if own in public else f"{public.rstrip()}\n{own}")
    return path
