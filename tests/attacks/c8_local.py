"""C.8: the machine itself: files, rules, environment, authority, memory (72-82)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from support.processes import wait_for
from support.sabotage_targets import TARGETS

from .canaries import EVIL
from .client import call
from .evidence import Evidence, Expectation, absent, all_of, attack, either, no_call, not_started, nothing_more, one_key, refused
from .range import Range

_SUPPORT = Path(__file__).resolve().parents[1] / "support"


def _said(text: str) -> Expectation:
    """The gateway's output says so."""

    def expect(evidence: Evidence) -> str | None:
        return None if any(text in output for _, output in evidence.exits) else f"the gateway did not say {text!r}"

    return expect


def _unsaid(text: str) -> Expectation:
    """The gateway's output does not hold it."""
    return lambda evidence: f"the gateway printed {text!r}" if any(text in output for _, output in evidence.exits) else None


def _place(here: Range, name: str) -> Path:
    """A folder of this attack's, outside the gateway's."""
    folder = here.folder / "confdir" / name  # not looked through for keys: they are put there
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# 72, 73. The authority.


@attack(
    72, "an authority whose key others may read", "start refused", all_of(not_started, _said("chmod 600")), own_process=True,
    each={
        "by all": ("mitmproxy-ca.pem", 0o644),
        "by the group": ("mitmproxy-ca.pem", 0o640),
        "the other file": ("mitmproxy-ca.p12", 0o604),
    },
)  # fmt: skip
def readable_authority(here: Range, what: tuple[str, int]) -> None:
    folder = _copied_authority(here)
    (folder / what[0]).chmod(what[1])
    with here.gateway(confdir=folder) as started:
        if started:
            here.inside(call())


@attack(72, "an authority in a folder that others may change", "start refused", not_started, own_process=True)
def open_authority(here: Range) -> None:
    folder = _copied_authority(here)
    folder.chmod(0o777)
    with here.gateway(confdir=folder):
        pass


def _copied_authority(here: Range) -> Path:
    folder = _place(here, "copied")
    folder.chmod(0o700)
    for path in (here.folder / "confdir").glob("mitmproxy-*"):
        shutil.copy2(path, folder)
    return folder


absent(
    "C8",
    73,
    "the authority used on other traffic",
    "whoever holds its key has won: it is per install, private (72), and in no system store",
)


# 74. Secrets in the rules and in files.

_LITERAL = "sk-proj-LITERALaaaa1234567890abcdefghij"


@attack(
    74, "a key in the rules", "start refused, the key is not printed", all_of(not_started, _unsaid(_LITERAL)), own_process=True,
    each={
        "as a key": "providers: {openai: {keys: [%s]}}\n",
        "as a reference": "providers: {openai: {keys: [{ref: %s}]}}\n",
        "behind env": "providers: {openai: {keys: ['env:%s']}}\n",
        "as a header": "providers: {openai: {keys: [{ref: env:OPENAI_API_KEY, headers: {Authorization: Bearer %s}}]}}\n",
        "in an upstream": "providers: {lab: {like: openai, upstream: 'https://user:%s@lab.test'}}\n",
    },
)  # fmt: skip
def literal_key(here: Range, rules: str) -> None:
    with here.gateway(rules % _LITERAL):
        pass


def _link(path: Path) -> None:
    path.with_name("real.key").write_text(_LITERAL)
    path.with_name("real.key").chmod(0o600)
    path.symlink_to("real.key")


def _mode(mode: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text(_LITERAL)
        path.chmod(mode)

    return make


def _large(path: Path) -> None:
    path.write_text(_LITERAL + "a" * 1_000_000)
    path.chmod(0o600)


@attack(
    74, "a key file that is not what it should be", "the key is left out", all_of(no_call, _unsaid(_LITERAL)), own_process=True,
    each={
        "link": _link, "readable by all": _mode(0o644), "readable by the group": _mode(0o640), "writable by others": _mode(0o602),
        "pipe": lambda path: os.mkfifo(path, 0o600), "folder": Path.mkdir, "device": lambda path: path.symlink_to("/dev/zero"),
        "large": _large,
    },
)  # fmt: skip
def key_file(here: Range, make: Callable[[Path], None]) -> None:
    path = _place(here, "secrets") / "openai.key"
    make(path)
    with here.gateway(f"providers: {{openai: {{keys: ['file:{path}']}}}}\n") as started:
        if started:
            here.inside(call())


@attack(
    74,
    "a key file that is as it should be",
    "the control: the key is used",
    lambda e: None if e.requests else "no call",
    own_process=True,
)
def good_key_file(here: Range) -> None:
    path = _place(here, "secrets") / "openai.key"
    _mode(0o600)(path)
    with here.gateway(f"providers: {{openai: {{keys: ['file:{path}']}}}}\n") as started:
        if started:
            here.inside(call())


@attack(
    74,
    "rules that others may change",
    "a warning at the start",
    all_of(_said("may be changed by others"), one_key),
    own_process=True,
)
def open_rules(here: Range) -> None:
    before = os.umask(0)
    try:
        with here.gateway() as started:
            if started:
                here.inside(call())
    finally:
        os.umask(before)


# 75. YAML.

_BOMB = "bomb:\n  - &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"  - &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
_YAML = {
    "billion laughs": _BOMB,
    "endless alias": "a: &a [*a]\n",
    "deep": "a: " + "[" * 50_000 + "\n",
    "deep by indentation": "".join(" " * at + "a:\n" for at in range(1000)),
    "large": "# " + "x" * 3_000_000 + "\n",
    "python object": "a: !!python/object/apply:os.system [touch pwned]\n",
    "python name": "a: !!python/name:os.system\n",
    "own tag": "a: !env OPENAI_API_KEY\n",
    "unknown word": "upstreams: {}\n",
    "word written twice": "routes: []\nroutes: []\n",
    "merge": "providers: {openai: {<<: {rotation: sticky}}}\n",
    "not text": "a: \x01\n",
    "large number": "agents: [{name: a, key: 0x" + "f" * 100_000 + "}]\n",
    "catastrophic pattern": "routes: [{match: {model: '" + "*a" * 200 + "['}, deny: x}]\n",
}


_AT_START = ("billion laughs", "deep", "large", "python object", "unknown word")
"""Each costs a process; the others are tried on one that runs."""


@attack(
    75, "hostile YAML", "start refused, at once", not_started, each={name: _YAML[name] for name in _AT_START}, own_process=True
)
def hostile_yaml(here: Range, rules: str) -> None:
    with here.gateway(rules):
        pass


def _all_answered(evidence: Evidence) -> str | None:
    good = evidence.statuses.count(200)
    return None if good == len(evidence.requests) == len(_YAML) else f"{good} calls of {len(_YAML)} passed"


@attack(75, "hostile YAML while it runs", "each file is refused, the rules stay as they were", _all_answered, own_process=True)
def hostile_reload(here: Range) -> None:
    with here.gateway() as started:
        for count, rules in enumerate(_YAML.values() if started else (), 1):
            started.write_rules(rules)
            wait_for(lambda n=count: started.output().count("the rules stay as they were") == n, "a refusal", started.process)
            here.inside(call())


# 76. A reload in the middle of a call.

_NEW = {
    "denied": "routes: [{match: {}, deny: closed}]\n",
    "without keys": "providers: {openai: {keys: none}}\n",
    "another upstream": f"providers: {{openai: {{upstream: 'https://{EVIL}', keys: none}}}}\n",
}


_OLD_OR_NEW = either(one_key, refused(403))


@attack(
    76, "rules that change between head and body", "all of the old, or all of the new", _OLD_OR_NEW, each=_NEW, own_process=True
)
def reload_race(here: Range, rules: str) -> None:
    with here.gateway() as started:
        client = here.tunnel()
        if started and not client.closed:
            data = call()
            client.send(data[:-5])
            started.write_rules(rules)
            wait_for(lambda: "rules reloaded" in started.output(), "the new rules", started.process)
            client.send(data[-5:])
            client.read()


# 77. What is kept of calls.


def _private(evidence: Evidence) -> str | None:
    return f"others may read {', '.join(evidence.exposed)}" if evidence.exposed else one_key(evidence)


@attack(77, "files of receipts, requests and flows", "for their owner alone, without keys", _private)
def kept_files(here: Range) -> None:
    before = os.umask(0)
    try:
        here.inside(call())
    finally:
        os.umask(before)


@attack(77, "files of a gateway that was started with an open umask", "for their owner alone", _private, own_process=True)
def open_umask(here: Range) -> None:
    before = os.umask(0)
    try:
        with here.gateway(arguments=["-w", "flows.mitm"]) as started:
            if started:
                here.inside(call())
    finally:
        os.umask(before)


# 78. The supply chain.

absent(
    "C8",
    78,
    "a hostile addon or dependency",
    "it runs inside the process and has the keys: few dependencies, pinned; docs/security.md",
)


# 79. The environment.

_CHILD = b"""\
import subprocess
from pathlib import Path

def client_connected(client):
    Path("child.txt").write_bytes(subprocess.run(["env"], capture_output=True, check=True).stdout)
"""


def _child(evidence: Evidence) -> str | None:
    return None if b"VALETKEY_RANGE" in evidence.artefacts else "no child was started"


@attack(79, "a child of the gateway", "it inherits no key", all_of(_child, one_key), own_process=True)
def child(here: Range) -> None:
    with here.gateway(arguments=["-s", "child.py"], files={"child.py": _CHILD}) as started:
        if started:
            here.inside(call())


# 80. Defects.


@attack(80, "a defect in each step", "closed: refused or answered, never open", nothing_more, own_process=True)
def defects(here: Range) -> None:
    switch = _place(here, "sabotage") / "target"
    switch.write_text("")
    with here.gateway(arguments=["-s", str(_SUPPORT / "sabotage.py")], env={"VALETKEY_TEST_SABOTAGE": str(switch)}) as started:
        for target in TARGETS if started else ():
            switch.write_text(target)
            here.inside(call())
        switch.write_text("")


# 81. Drift.

absent(
    "C8", 81, "another mitmproxy under our feet", "no attacker sends it: tests/proxy/test_drift.py holds hooks, options and pin"
)


# 82. Memory.


def _bounded(evidence: Evidence) -> str | None:
    """Those beyond the limit were closed, which was said, but not for each; and afterwards a call passed."""
    lines = [line for _, output in evidence.exits for line in output.splitlines() if "max_connections" in line]
    return f"{len(lines)} lines about refused connections" if len(lines) != 1 else one_key(evidence)


@attack(
    82, "more connections than there is room for", "refused, said once a minute; then all is well", _bounded, own_process=True
)
def flood(here: Range) -> None:
    with here.gateway(gateway="max_connections: 16\n") as started:
        if started:
            clients = [here.client(patience=1.0) for _ in range(80)]
            for client in clients:
                client.listen(0.01)
            for client in clients:
                client.close()
            wait_for(started.healthy, "room")
            here.inside(call())
