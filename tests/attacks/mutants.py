"""Does an attack notice when its defence is gone? Each mutant takes one defence away from a copy of addons/, and the attacks that
it is to stop are tried against that gateway: one of them must succeed.

    make attacks-mutants                       all of them, some minutes
    make attacks-mutants ARGS="--only 12"      those of one number of the threat model

An attack that succeeds ends its mutant. At the end those attacks are tried against an unchanged copy, where all must fail: else
they would have proved nothing. A defence that a second one backs up is named with both (`also`), or no attack would notice.
Where the gateway refuses to start, because its own self-check has noticed, that counts as noticed as well.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from support import processes

from . import catalogue
from .evidence import Attack
from .range import Range, opened

ADDONS = processes.ROOT / "addons"
Edit = tuple[str, str, str]
"""File under addons/valetkey, a text that stands there once, and what takes its place."""


@dataclass(frozen=True)
class Mutant:
    """One defence taken away. `attacks` are beginnings of ids."""

    numbers: tuple[int, ...]
    defence: str
    edit: Edit
    attacks: tuple[str, ...]
    also: tuple[Edit, ...] = ()

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All changes."""
        return (self.edit, *self.also)


_NOT_LOCATED = ("policy/egress.py", "if not _is_known_endpoint(wire):", "if False:")
MUTANTS = (
    # C.1
    Mutant(
        (1, 3, 4, 5, 6, 7, 8),
        "Host and :authority name what was dialled",
        ("policy/egress.py", "for source, text in _authorities(facts):", "for source, text in ():"),
        ("C1-04", "C1-06-lookalike-in-host", "C1-03"),
    ),
    Mutant(
        (2, 3),
        "the name in TLS is what was dialled",
        ("policy/egress.py", "return _sni_refusal(facts.sni, host) if facts.tls else None", "return None"),
        ("C1-02-sni-that-is-not",),
    ),
    Mutant(
        (9,),
        "one Host header",
        ("policy/egress.py", "if len(facts.host_headers) > 1:", "if False:"),
        ("C1-09-more-than-one-host-the-same",),
    ),
    Mutant(
        (8,),
        "the port is part of the binding",
        ("policy/paths.py", 'secure = scheme == "https" and port == _DEFAULT_PORTS["https"]', 'secure = scheme == "https"'),
        ("C1-08-connect",),
        (("policy/egress.py", "if (wire.dialled_host, wire.dialled_port, wire.scheme) != (", "if False and ("),),
    ),
    Mutant(
        (10,),
        "no plain HTTP to a provider",
        ("proxy/admission.py", "return _plain_http(request, passage.provider)", "return None"),
        ("C1-10-a-provider-over",),
    ),
    Mutant(
        (11,),
        "no origin form at the proxy's port",
        ("policy/egress.py", 'if facts.form == "origin" and not facts.tunnelled:', "if False:"),
        ("C1-11-origin-form",),
        (("proxy/admission.py", "return _plain_http(request, passage.provider)", "return None"),),
    ),
    Mutant(
        (12,),
        "ssl_insecure does not start",
        ("proxy/doors.py", '    "ssl_insecure": "keys are only sent to upstreams whose certificate is verified",\n', ""),
        ("C1-12-verification",),
        (("policy/egress.py", "if wire.key_provider is not None and not wire.tls_verified:", "if False:"),),
    ),
    Mutant(
        (16,),
        "endpoints that others could read are closed",
        ("policy/paths.py", 'if endpoint.group != "inference" and endpoint.group not in open_groups:', "if False:"),
        ("C1-16",),
    ),
    Mutant(
        (17,),
        "paths with two readings are refused",
        ("policy/paths.py", 'return path.startswith("/") and not _TRICKS.search(path) and not _DOTS.search(path)', "return True"),
        ("C1-17",),
    ),
    Mutant(
        (18,),
        "a key belongs to its provider, whatever the rules say",
        ("rules/ownership.py", "return self.spec.share or self.provider.may_get_key_of(self.owner)", "return True"),
        ("C1-18-rules-put",),
        (("secrets/vault.py", "if held == secret and not provider.may_get_key_of(self._owners[other]):", "if False:"),),
    ),
    Mutant(
        (19, 59),
        "a configured agent is known by its key alone",
        (
            "policy/callers.py",
            "if any(claimed not in proven for name in names if (claimed := register.claimed(name))):",
            "if False:",
        ),
        ("C1-19-an-agent-takes", "C6-59"),
        (("policy/callers.py", "return UNKNOWN if register and register.claimed(caller.agent) else caller", "return caller"),
         ("policy/callers.py", "    if known:\n        return UNKNOWN", "    if False:\n        return UNKNOWN")),
    ),
    # C.2
    Mutant(
        (20, 77),
        "cookies are taken off",
        ("policy/headernames.py", "_UNWANTED = HOP_BY_HOP | _IDENTITY | {COOKIE}", "_UNWANTED = HOP_BY_HOP | _IDENTITY"),
        ("C2-20-dummy-in-a-cookie",),
    ),
    Mutant(
        (21, 26),
        "headers that end in -api-key are credentials",
        ("policy/headernames.py", 'or word.endswith("-api-key") or word == SUBPROTOCOL', "or word == SUBPROTOCOL"),
        ("C2-21-a-dummy-in-a-second",),
    ),
    Mutant(
        (26,),
        "credentials in the query are taken off",
        ("policy/credentials.py", "None if piece.secret or piece.name == _QUERY_IDENTITY else piece.text", "piece.text"),
        ("C2-26-credential-in-the-query",),
    ),
    Mutant(
        (21, 22, 24),
        "what only begins like a dummy is none",
        ("policy/credentials.py", "bool(_DUMMY.fullmatch(value) and _dummies", "bool(_dummies"),
        ("C2-22", "C2-24", "C2-21-a-dummy-many"),
    ),
    Mutant(
        (24,),
        "an agent's own key is masked in the flow",
        ("proxy/admission.py", "        if masked != fields:\n            flow.request.headers = http.Headers(masked)\n", ""),
        ("C2-24-a-real-key-of",),
    ),
    Mutant(
        (25,),
        "no call without a credential",
        ("proxy/admission.py", 'if judgement.kind == "none" and rules.gateway.no_credential == "refuse":', "if False:"),
        ("C2-25",),
    ),
    Mutant(
        (27,),
        "x_api_key is x-api-key",
        ("policy/headernames.py", 'return _JOINTS.sub("-", "".join(text.split()).lower()).strip("-")', "return text.lower()"),
        ("C2-27",),
    ),
    Mutant(
        (28,),
        "Connection cannot name the framing away",
        (
            "policy/credentials.py",
            "return _edited(headers, names, named - FRAMING, upgrade=upgrade)",
            "return _edited(headers, names, named, upgrade=upgrade)",
        ),
        ("C2-28-connection-names-the-framing",),
        (("policy/headernames.py", "if passes]) - FRAMING,", "if passes]),"),),
    ),
    Mutant(
        (29,),
        "no control characters in a key",
        ("secrets/check.py", "if any(ord(c) < 32 or ord(c) == 127 for c in value):", "if False:"),
        ("C2-29",),
        (("policy/credentials.py", "or not _HEADER_VALUE.fullmatch(value) or value != value.strip():", "or False:"),
         ("secrets/check.py", 'if value != value.strip() or " " in value:', "if False:")),
    ),
    Mutant(
        (31,),
        "who is billed is the key's to say",
        ("policy/headernames.py", "_UNWANTED = HOP_BY_HOP | _IDENTITY | {COOKIE}", "_UNWANTED = HOP_BY_HOP | {COOKIE}"),
        ("C2-31",),
    ),
    # C.3
    Mutant(
        (32, 35, 36),
        "whole bodies are scrubbed",
        ("proxy/echo.py", "if not body or not scrubber:", "if True:"),
        ("C3-32", "C3-36"),
    ),
    Mutant(
        (33,),
        "headers are scrubbed",
        ("proxy/heads.py", "tuple((scrubber.scrub(name), scrubber.scrub(value)) for name, value in fields)", "fields"),
        ("C3-33",),
    ),
    Mutant(
        (34,),
        "the beginning of a key at the end of a chunk is held back",
        ("formats/scrub.py", "return self._advance(data, self._scrubber.held(data))", "return self._advance(data, len(data))"),
        ("C3-34-the-key-cut",),
    ),
    Mutant(
        (34,),
        "messages of a WebSocket are scrubbed",
        ("proxy/echo.py", "if clean is not message.content:", "if False:"),
        ("C3-34-the-key-in-a-message",),
    ),
    Mutant(
        (36,),
        "escapes are undone for the search",
        ("formats/scrub.py", "or (has_escapes(data) and self._touches(unescape(data)))", ""),
        ("C3-36",),
    ),
    # C.4
    Mutant(
        (41, 43),
        "odd characters in a head",
        ("policy/framing.py", "if text.translate(None, _PLAIN):", "if False:"),
        ("C4-41-a-malformed-head",),
    ),
    Mutant(
        (41,),
        "one transfer coding, chunked",
        ("policy/framing.py", 'if codings and codings != [b"chunked"]:', "if False:"),
        ("C4-41-ambiguous-length",),
    ),
    Mutant(
        (46,),
        "a body unpacks to max_body at most",
        ("proxy/planning.py", 'raise DecodeError(f"decoded, it is larger than', 'str(f"decoded, it is larger than'),
        ("C4-46-a-compressed-bomb",),
    ),
    Mutant(
        (47,),
        "no name twice in a body",
        ("formats/jsonscan.py", "            if name in spans:\n", "            if False:\n"),
        ("C4-47-a-body-that-two",),
    ),
    Mutant(
        (45, 48),
        "no upgrade but to a WebSocket",
        ("policy/credentials.py", 'if value.strip().lower() == b"websocket" else []', "if value else []"),
        ("C4-45-an-upgrade", "C4-48-a-websocket-handshake"),
    ),
    # C.5
    Mutant(
        (13, 49),
        "only public addresses are dialled",
        ("policy/addresses.py", "if _is_public(address) or _is_named(allow, host, address, port):", "if True:"),
        ("C5-49-a-public-name", "C1-13"),
    ),
    Mutant(
        (50,),
        "the gateway's own ports are no destination",
        ("policy/addresses.py", "if port in own_ports and (_is_local_name(name)", "if False and (_is_local_name(name)"),
        ("C5-50",),
        (("policy/addresses.py", "if port in own_ports and (address.is_loopback or address.is_unspecified):", "if False:"),
         ("policy/addresses.py", "if _is_public(address) or _is_named(allow, host, address, port):", "if True:"),
         ("policy/addresses.py", "if not named and (_is_local_name(name)", "if False and (_is_local_name(name)"),
         ("policy/addresses.py", "if port not in WEB_PORTS and not", "if False and not"),
         ("proxy/passthrough.py", "if port in runtime.own_ports and is_own(ip):", "if False:")),
    ),
    Mutant(
        (51,),
        "the base-URL door answers to its own names",
        ("policy/egress.py", "if origin is not None and not _is_loopback_origin(origin):", "if False:"),
        ("C5-51-a-web-page-at-the-base",),
    ),
    Mutant(
        (52,),
        "ports 443 and 80",
        ("policy/addresses.py", "if port not in WEB_PORTS and not", "if False and not"),
        ("C5-52",),
    ),
    Mutant(
        (53,),
        "egress: deny",
        ("policy/addresses.py", 'if rules.gateway.egress == "deny" and not (named', "if False and (named"),
        ("C5-53-telemetry", "C5-53-a-denied-host-by-socks", "C5-53-a-host-that-no-rule"),
    ),
    Mutant(
        (53,),
        "what is no provider is not decrypted",
        ("proxy/tunnels.py", "nextlayer.layer = raw(context, ignore=True)", "pass"),
        ("C5-53-a-host-that-is-no-provider",),
    ),
    Mutant(
        (54,),
        "Alt-Svc is taken off",
        ("proxy/heads.py", 'return name == b"alt-svc" or name.startswith(OURS)', "return name.startswith(OURS)"),
        ("C5-54",),
    ),
    # C.6
    Mutant(
        (57,),
        "a wide door needs known callers",
        ("proxy/doors.py", 'if is_open_to_others(mode) and gateway.callers != "known":', "if False:"),
        ("C6-57-a-wide-door",),
    ),
    Mutant(
        (58,),
        "Proxy-Authorization stays here",
        ("proxy/tunnels.py", "        flow.request.headers.pop(PROXY_AUTHORIZATION, None)\n", ""),
        ("C6-58",),
        (("proxy/wire.py", 'for name in ("proxy-authorization", "proxy-connection"):', "for name in ():"),
         ("policy/headernames.py", 'or word in _UNWANTED or word.startswith("proxy-")', "or word in _UNWANTED")),
    ),
    Mutant(
        (59,),
        "failures are rate limited",
        ("policy/guesses.py", "return max(0.0, full - now - (BURST - 1) * REFILL)", "return 0.0"),
        ("C6-59-guessing",),
    ),
    # C.7
    Mutant(
        (62, 63),
        "what was not reported is estimated",
        ("proxy/measuring.py", "if place.endpoint.free or not (tap.events or tap.output_chars):", "if True:"),
        ("C7-62", "C7-63"),
    ),
    Mutant(
        (63,),
        "usage is asked for",
        ("proxy/planning.py", "wants_usage = call.format is Format.OPENAI_CHAT and", "wants_usage = False and"),
        ("C7-63-usage-is-not-asked",),
    ),
    Mutant(
        (71,),
        "counts are counts",
        ("policy/metering.py", "or not all(0 <= value <= LIMIT for value in reported.values()):", "or False:"),
        ("C7-71",),
        (("policy/metering.py", "return found if max(found.values()) <= LIMIT else None", "return found"),),
    ),
    Mutant(
        (66,),
        "the price is that of the model which answered",
        ("policy/metering.py", "_price(usage, provider, (reported, model), when,", "_price(usage, provider, (model,), when,"),
        ("C7-66-another",),
    ),
    # C.8
    Mutant(
        (72,),
        "an authority that others can read does not start",
        ("proxy/privacy.py", "        if mode & 0o077:\n", "        if False:\n"),
        ("C8-72-an-authority-whose-key",),
    ),
    Mutant(
        (74,),
        "key files that others can read are left out",
        ("secrets/references.py", "if mode & 0o077 and not mounted:", "if False:"),
        ("C8-74-a-key-file-that-is-not",),
    ),
    Mutant(
        (75,),
        "unknown words in the rules are errors",
        ("rules/schema.py", 'extra="forbid"', 'extra="ignore"'),
        ("C8-75-hostile-yaml-unknown",),
    ),
    Mutant(
        (77,),
        "new files are for the owner alone",
        ("proxy/privacy.py", "    os.umask(before | 0o077)\n", "    os.umask(before)\n"),
        ("C8-77-files-of-a-gateway",),
        (("proxy/privacy.py", "            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)\n", "            pass\n"),),
    ),
    Mutant(
        (79,),
        "children do not inherit keys",
        ("secrets/environment.py", "                del self._source[name]\n", "                pass\n"),
        ("C8-79",),
    ),
    Mutant(
        (80,),
        "a defect in the stream layer ends the call",
        ("proxy/stream.py", "yield from self._end_on(DEFECT, Outcome.GATEWAY)", "pass"),
        ("C8-80",),
    ),
    Mutant(
        (82,),
        "connections are bounded",
        ("proxy/connections.py", "if len(self._open) >= self._limit():", "if False:"),
        ("C8-82",),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant: which attack succeeded, after how many tries; or how else the gateway noticed."""

    mutant: Mutant
    tried: int
    broken: Attack | None = None
    noticed: str | None = None
    seconds: float = 0.0


def changed(text: str, edit: Edit) -> str:
    """The text of a file with the edit made. Raises ValueError where its place is not there, or not there once."""
    file, old, new = edit
    if text.count(old) != 1:
        raise ValueError(f"{file} holds {old!r} {text.count(old)} times, not once")
    return text.replace(old, new)


@contextmanager
def mutated(edits: Sequence[Edit]) -> Iterator[None]:
    """Gateways that are started within run a copy of addons/ with these edits."""
    before, path = processes.GATEWAY, os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "addons"
        shutil.copytree(ADDONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for edit in edits:
            file = copy / "valetkey" / edit[0]
            file.write_text(changed(file.read_text(), edit))
        processes.GATEWAY = copy / "gateway.py"
        os.environ["PYTHONPATH"] = str(copy)
        try:
            yield
        finally:
            processes.GATEWAY = before
            os.environ.pop("PYTHONPATH")
            if path is not None:
                os.environ["PYTHONPATH"] = path


def attacks_of(mutant: Mutant) -> list[Attack]:
    """The attacks that are to notice: those that an unchanged gateway defends, the first of each beginning first."""
    known = [attack for attack in catalogue.all_attacks() if not attack.broken and not attack.absent]
    return [attack for start in mutant.attacks for attack in known if attack.id.startswith(start)]


def outcome(mutant: Mutant) -> Outcome:
    """Try the attacks on a mutant until one succeeds."""
    began, tried = time.monotonic(), 0
    try:
        with mutated(mutant.edits), _range() as here:
            if not here.control():
                return Outcome(mutant, 0, noticed="no call passes at all", seconds=time.monotonic() - began)
            for attack in attacks_of(mutant):
                tried += 1
                if here.attempt(attack)[0].result == "BROKEN":
                    return Outcome(mutant, tried, attack, seconds=time.monotonic() - began)
    except AssertionError as error:  # a gateway that ends, or answers no more
        return Outcome(mutant, tried, noticed=_first_line(error), seconds=time.monotonic() - began)
    return Outcome(mutant, tried, seconds=time.monotonic() - began)


def controls(outcomes: Sequence[Outcome]) -> list[Attack]:
    """Of the attacks that succeeded, those that also succeed against an unchanged copy, and so prove nothing."""
    with mutated(()), _range() as here:
        found = {each.broken.id: each.broken for each in outcomes if each.broken}
        return [attack for attack in found.values() if here.attempt(attack)[0].result == "BROKEN"]


@contextmanager
def _range() -> Iterator[Range]:
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder, opened(Path(folder)) as here:
        yield here


def _first_line(error: AssertionError) -> str:
    said = [line for line in str(error).splitlines() if "cannot start" in line]
    return (said or [*str(error).splitlines(), "it ended"])[0][:120]


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(pad_edge=False)
    for title in ("numbers", "taken away", "in", "tried", "noticed by"):
        table.add_column(title, overflow="fold")
    for each in outcomes:
        by = f"[green]{each.broken.id}[/]" if each.broken else f"[green]the start:[/] {escape(each.noticed or '')}"
        by = by if each.broken or each.noticed else "[bold red]NOBODY[/]"
        numbers = ", ".join(map(str, each.mutant.numbers))
        files = ", ".join(dict.fromkeys(edit[0] for edit in each.mutant.edits))
        table.add_row(numbers, escape(each.mutant.defence), files, str(each.tried), by)
    return table


def main(only: Annotated[int, typer.Option(help="Mutants of one number of the threat model.")] = 0) -> None:
    """Take defences away one by one. Exit status: 1 an attack did not notice, or proves nothing."""
    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    outcomes = []
    for mutant in MUTANTS:
        if only in (0, *mutant.numbers):
            outcomes.append(outcome(mutant))
            found = outcomes[-1]
            noticed = found.broken.id if found.broken else found.noticed or "NOBODY"
            console.print(f"{found.seconds:5.1f} s  {mutant.defence}: {noticed}", markup=False)
    console.print(_table(outcomes))
    useless = controls(outcomes)
    for attack in useless:
        console.print(f"{attack.id} succeeds against an unchanged gateway as well", style="red")
    missed = [each for each in outcomes if not each.broken and not each.noticed]
    console.print(f"{len(outcomes)} defences taken away, {len(outcomes) - len(missed)} noticed, {len(missed)} not")
    raise typer.Exit(1 if missed or useless else 0)


if __name__ == "__main__":
    typer.run(main)
