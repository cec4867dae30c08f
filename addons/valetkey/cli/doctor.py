"""`valetkey doctor`: would an agent that is started here and now reach the gateway, and is the gateway well?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigurationError, RulesError
from ..policy import credentials
from ..settings import instance_id
from . import checkups, runtimes, surroundings
from .app import JsonOption, Loaded, RulesOption, app, dump, load, say, table
from .bundles import certificates, trust_at, write_trust
from .executing import without_keys
from .exports import CONFDIR, ConfdirOption, expanded, ledger_of
from .findings import Finding, fault, note, ok, status
from .reaching import Reached, reach

FixOption = Annotated[bool, typer.Option("--fix", help="Repair what can be repaired safely: modes of files, the bundle.")]


@app.command()
def doctor(
    rules: RulesOption = None,
    fix: FixOption = False,
    confdir: ConfdirOption = CONFDIR,
    as_json: JsonOption = False,
) -> None:
    """Look for what keeps agents from calling. Status 0: nothing found, 1: faults, 2: the rules cannot be used.

    What counts is the environment that this command is started in. **Examples:** `valetkey doctor` ·
    `valetkey exec -- valetkey doctor` · `valetkey doctor --fix` · `valetkey doctor --json`
    """
    environ = dict(os.environ)
    try:
        loaded = load(rules)
    except ConfigurationError as error:
        _report(list(_unusable(error)), [], as_json)
        return
    folder, repaired = expanded(confdir), list[str]()
    if fix:
        repaired = repair(examine(loaded, environ, folder, reach(loaded.snapshot.rules.gateway.proxy)))
    reached = reach(loaded.snapshot.rules.gateway.proxy)
    found = [
        ok("rules", str(loaded.settings.rules_path or "no rules.yaml: defaults")),
        *examine(loaded, environ, folder, reached),
    ]
    found += [note("rules", notice) for notice in loaded.snapshot.notices if "key " not in notice and "; ignored" not in notice]
    probes = list[runtimes.Probe]()
    if reached.is_instance(instance_id(loaded.settings)):
        door = loaded.snapshot.rules.gateway.proxy
        probes = runtimes.probe_all(without_keys(loaded, environ), door)
        found += [runtimes.judge(probe, environ, door, _own(folder)) for probe in probes]
    _report(found, probes, as_json, repaired)


def examine(loaded: Loaded, environ: Mapping[str, str], confdir: Path, reached: Reached) -> list[Finding]:
    """Everything that needs no runtime to be started."""
    rules, own = loaded.snapshot.rules, _own(confdir)
    hosts = [host for facts in loaded.catalog.values() for host in facts.hosts]
    names = [name for facts in loaded.catalog.values() for name in facts.env]
    dummies = {name: credentials.is_dummy(environ.get(name, ""), rules) for name in names}
    return [
        *checkups.gateway_findings(loaded, reached),
        *checkups.key_findings(loaded, reached),
        *surroundings.proxy_findings(environ, rules.gateway.proxy, hosts),
        *surroundings.trust_findings(environ, own),
        *surroundings.switch_findings(environ),
        *surroundings.key_findings(environ, names, dummies),
        *_bundle(loaded, environ, confdir, own),
        *checkups.authority_findings(confdir, reached, datetime.now(UTC)),
        *checkups.clock_findings(loaded, reached, time.time()),
        *checkups.ledger_findings(ledger_of(loaded)),
        *checkups.mitmproxy_findings(),
    ]


def repair(findings: list[Finding]) -> list[str]:
    """Do what can be done; gives what was done."""
    done = []
    for finding in findings:
        if finding.repair is not None:
            finding.repair()
            done.append(finding.text)
    return done


def _bundle(loaded: Loaded, environ: Mapping[str, str], confdir: Path, own: bytes | None) -> Iterator[Finding]:
    """The bundle beside the ledger: after a change of the CA it holds the old one."""
    authority = confdir / "mitmproxy-ca-cert.pem"
    bundle = trust_at(authority, ledger_of(loaded)).bundle
    if own is None or not bundle.exists():
        return
    held = list(certificates(bundle.read_text(errors="replace")))
    if own in held and len(held) >= surroundings.FEW:
        yield ok("bundle", str(bundle))
        return

    def rewrite() -> None:
        write_trust(authority, ledger_of(loaded), environ)

    what = "lacks the gateway's CA" if own not in held else "lacks the public authorities"
    yield fault("bundle", f"{bundle} {what}", "valetkey doctor --fix, or valetkey env", rewrite)


def _own(confdir: Path) -> bytes | None:
    """The gateway's CA as DER, None where there is none."""
    path = confdir / "mitmproxy-ca-cert.pem"
    return next(certificates(path.read_text(errors="replace")), None) if path.is_file() else None


def _unusable(error: ConfigurationError) -> Iterator[Finding]:
    if not isinstance(error, RulesError):
        yield fault("rules", str(error), "name an existing file with --rules")
        return
    for problem in error.problems:
        yield fault("rules", f"{problem.file}:{problem.line}: {problem.text}", problem.fix or "see docs/rules.md")


def _report(findings: list[Finding], probes: list[runtimes.Probe], as_json: bool, repaired: list[str] | None = None) -> None:
    """Print it, and end with the status."""
    code = status(findings)
    if as_json:
        found = [finding.as_dict() for finding in findings]
        dump({"status": code, "findings": found, "runtimes": [probe.as_dict() for probe in probes], "repaired": repaired or []})
    else:
        for done in repaired or []:
            say(f"repaired: {done}")
        table(("", "what", "found", "fix"), [(finding.level, finding.subject, finding.text, finding.fix) for finding in findings])
        faults = sum(finding.level == "fault" for finding in findings)
        say(f"\n{faults} fault{'s' if faults != 1 else ''}" if faults else "\nall is well")
    raise typer.Exit(code)
