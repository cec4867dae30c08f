"""C.6: who calls, and who may (57-59); 60 stands with money."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from support.processes import free_ports

from .canaries import EVIL, OPENAI
from .client import Client, call
from .evidence import Evidence, all_of, attack, no_call, not_started, one_key, refused
from .range import Range

_KEY, _OTHER = b"sk-dummy-alice-0123456789abcdef0123456789abcdef", b"sk-dummy-bob-fedcba9876543210fedcba9876543210"
_WRONG = b"sk-dummy-alice-ffffffffffffffffffffffffffffffff"
_AGENTS = "agents:\n" + "".join(
    f"  - {{name: {name}, key: 'sha256:{hashlib.sha256(key).hexdigest()}'}}\n" for name, key in (("alice", _KEY), ("bob", _OTHER))
)
_ANY = "callers: any"
_SHUT = refused(401, 407, 429)


def _proxy(user: bytes) -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(user) + b"\r\n"


def _bearer(key: bytes) -> bytes:
    return b"Authorization: Bearer " + key


def _nothing_forwarded(evidence: Evidence) -> str | None:
    """No server got anything."""
    return no_call(evidence) or ("a foreign server was reached" if any(record.data for record in evidence.evil) else None)


# 57. A door that others reach.


@attack(
    57,
    "a wide door without known callers",
    "the gateway does not start",
    not_started,
    each={
        "any address": ("0.0.0.0", ""),
        "any IPv6 address": ("[::]", ""),
        "callers are not asked": ("0.0.0.0", _AGENTS),
    },
    own_process=True,
)
def wide_door(here: Range, place: tuple[str, str]) -> None:
    host, rules = place
    port = free_ports(1)[0]
    with here.gateway(rules, gateway=_ANY if rules else "", arguments=["--mode", f"regular@{host}:{port}"]):
        pass


def _at_wide_door(here: Range, act: Callable[[Client], None]) -> None:
    """Attack a door that listens on all addresses, for known callers."""
    port = free_ports(1)[0]
    with here.gateway(_AGENTS, arguments=["--mode", f"regular@0.0.0.0:{port}"]) as started:
        if started:
            here._address = ("127.0.0.1", port)  # the door beside the loopback ones
            act(here.client())


@attack(57, "a stranger at a wide door", "refused, as a relay too", all_of(_SHUT, _nothing_forwarded), own_process=True,
        each={"call": OPENAI, "relay": EVIL})  # fmt: skip
def stranger(here: Range, host: str) -> None:
    def act(client: Client) -> None:
        if client.connect(f"{host}:443") and client.tls(host):
            client.send(call())
            client.read()

    _at_wide_door(here, act)


@attack(57, "an agent at a wide door", "served with its key", one_key, own_process=True)
def agent_at_wide_door(here: Range) -> None:
    def act(client: Client) -> None:
        if client.connect(f"{OPENAI}:443", _proxy(b"alice:" + _KEY)) and client.tls(OPENAI):
            client.send(call())
            client.read()

    _at_wide_door(here, act)


# 58. What was said to the proxy stays here.


def _kept(evidence: Evidence) -> str | None:
    data = evidence.sent + b"".join(bytes(record.data) for record in evidence.evil)
    return next(
        (f"{word!r} was forwarded" for word in (b"roxy-", _KEY, base64.b64encode(b"alice:" + _KEY)) if word in data), None
    )


@attack(58, "forwarding what was said to the proxy", "Proxy-Authorization goes nowhere", _kept, own_process=True,
        each={"outer": "outer", "inner": "inner", "plain": "plain", "key in the call": "call"})  # fmt: skip
def forwarded(here: Range, where: str) -> None:
    header = _proxy(b"alice:" + _KEY)
    with here.gateway(_AGENTS) as started:
        if not started:
            return
        if where == "plain":
            here.raw(
                b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n" % (EVIL.encode(), EVIL.encode(), header)
            )
            return
        client = here.client()
        if client.connect(f"{OPENAI}:443", header if where == "outer" else b"") and client.tls(OPENAI):
            client.send(call(credential=_bearer(_KEY)) if where == "call" else call(extra=header if where == "inner" else b""))
            client.read()


# 59. Guessing.


def _slowed(evidence: Evidence) -> str | None:
    """Some were told to wait, nobody was served."""
    return no_call(evidence) or (None if 429 in evidence.statuses else "thirty guesses were all compared")


@attack(59, "guessing an agent's key", "after ten failures in a minute nothing is compared", _slowed, own_process=True,
        each={"in calls": "call", "in a tunnel": "tunnel", "at the tunnel's door": "connect"})  # fmt: skip
def guessing(here: Range, where: str) -> None:
    with here.gateway(_AGENTS) as started:
        for number in range(30) if started else ():
            guess = b"sk-dummy-alice-%032x" % number
            if where == "connect":
                here.client().connect(f"{EVIL}:443", _proxy(b"alice:" + guess))
            elif where == "call":
                here.inside(call(credential=_bearer(guess)))
            else:
                client = here.client()
                if client.connect(f"{OPENAI}:443", _proxy(b"bob:" + _OTHER)) and client.tls(OPENAI):
                    client.send(call(credential=_bearer(guess)))
                    client.read()


@attack(59, "keeping another agent out by failing", "failures cost only who is claimed", one_key, own_process=True)
def keeping_out(here: Range) -> None:
    with here.gateway(_AGENTS) as started:
        for _ in range(30) if started else ():
            here.inside(call(credential=_bearer(_WRONG)))
        if started:
            here.inside(call(credential=_bearer(_OTHER)))


def _unbooked(evidence: Evidence) -> str | None:
    """No call was booked on an agent whose key was not shown."""
    booked = [receipt for receipt in evidence.receipts if receipt["agent"] in ("alice", "bob") and not receipt["refused"]]
    return "a call is booked on an agent whose key it did not show" if booked else None


@attack(
    59,
    "calling without an agent's key",
    "refused, and booked on nobody",
    all_of(_SHUT, _unbooked),
    each={
        "name in the dummy": _bearer(b"sk-dummy-alice"),
        "name and project": _bearer(b"sk-dummy-alice.web"),
        "capitals": _bearer(b"sk-dummy-ALICE"),
        "no name": _bearer(b"sk-dummy"),
        "hash of the key": _bearer(b"sha256:" + hashlib.sha256(_KEY).hexdigest().encode()),
        "key cut short": _bearer(_KEY[:-1]),
        "key in a cookie": _bearer(b"sk-dummy") + b"\r\nCookie: " + _KEY,
        "user without password": _bearer(b"sk-dummy") + b"\r\n" + _proxy(b"alice:").strip(),
        "wrong password": _bearer(b"sk-dummy") + b"\r\n" + _proxy(b"alice:x").strip(),
        "another's key": _bearer(b"sk-dummy") + b"\r\n" + _proxy(b"alice:" + _OTHER).strip(),
        "two keys": _bearer(_KEY) + b"\r\nX-Api-Key: " + _OTHER,
        "no credential": None,
    },
    own_process=True,
)
def without_key(here: Range, credential: bytes | None) -> None:
    with here.gateway(_AGENTS) as started:
        if started:
            here.inside(call(credential=credential))


@attack(59, "a name where any may call", "a name that has a key is nobody's without it", _unbooked, own_process=True,
        each={"in the dummy": (b"sk-dummy-alice", b""), "as the user": (b"sk-dummy", _proxy(b"alice:"))})  # fmt: skip
def name_where_any_may_call(here: Range, sent: tuple[bytes, bytes]) -> None:
    with here.gateway(_AGENTS, gateway=_ANY) as started:
        if started:
            here.inside(call(credential=_bearer(sent[0]), extra=sent[1]))


@attack(59, "an agent with its key", "served, once", one_key, own_process=True)
def with_key(here: Range) -> None:
    with here.gateway(_AGENTS) as started:
        if started:
            here.inside(call(credential=_bearer(_KEY)))
