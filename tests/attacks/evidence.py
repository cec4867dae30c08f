"""What an attack is, what it leaves behind, and what follows from that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .canaries import DUMMY, FOREIGN, KEYS, holds
from .client import Answer
from .servers import Record, Seen

if TYPE_CHECKING:
    from .range import Range

CARRIERS = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"proxy-authorization")


@dataclass(frozen=True)
class Evidence:
    """Everything that one attack left behind. `exits` are the exit statuses and outputs of gateways that it started."""

    visible: bytes = b""
    answers: tuple[Answer, ...] = ()
    hung: bool = False
    closed: bool = True
    providers: tuple[Record, ...] = ()
    evil: tuple[Record, ...] = ()
    imposters: tuple[Record, ...] = ()
    local: tuple[Record, ...] = ()
    artefacts: bytes = b""
    exits: tuple[tuple[int | None, str], ...] = ()
    receipts: tuple[Mapping[str, Any], ...] = ()
    exposed: tuple[str, ...] = ()
    """Files of calls that others than their owner may read or write."""

    @property
    def statuses(self) -> list[int]:
        """Final ones, and 0 for a call that was cut off."""
        return [answer.status for answer in self.answers if answer.status == 0 or answer.status >= 200]

    @property
    def requests(self) -> list[Seen]:
        """What the providers were asked."""
        return [seen for record in self.providers for seen in record.requests]

    @property
    def sent(self) -> bytes:
        """Every byte that the providers got."""
        return b"".join(bytes(record.data) for record in self.providers)


Expectation = Callable[[Evidence], str | None]
"""From evidence to a complaint, None when all is well."""


@dataclass(frozen=True)
class Attack:
    """One attack, or one variant of it. `broken` says how the gateway fails it today."""

    part: str
    number: int
    title: str
    defence: str
    expect: Expectation
    run: Callable[[Range], None]
    broken: str | None = None
    own_process: bool = False
    unseen: bool = False
    absent: str | None = None

    @property
    def id(self) -> str:
        """`C1-05-absolute-form-in-a-tunnel-https`."""
        return f"{self.part}-{self.number:02}-{re.sub('[^a-z0-9]+', '-', self.title.lower()).strip('-')}"


ATTACKS: list[Attack] = []
"""All of them, filled by the modules of the parts."""


def attack(
    number: int, title: str, defence: str, expect: Expectation, *, each: Mapping[str, Any] | None = None,
    broken: str | Mapping[str, str] | None = None, own_process: bool = False, unseen: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:  # fmt: skip
    """Make attacks of a function: one, or one for each variant, whose value is its second argument.

    `broken` says what goes wrong, for all variants or by variant. `unseen`: the evidence does not lie at a provider's server, so
    the attack also counts for a proxy whose upstream side cannot be watched.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        part = function.__module__.rpartition(".")[2].partition("_")[0].upper()
        for name, value in (each or {"": None}).items():
            run = (lambda here, value=value: function(here, value)) if each else function
            reason = broken.get(name) if isinstance(broken, Mapping) else broken
            made = Attack(part, number, f"{title}: {name}" if name else title, defence, expect, run, reason, own_process, unseen)
            ATTACKS.append(made)
        return function

    return register


def absent(part: str, number: int, title: str, reason: str) -> None:
    """Say why a number cannot be attacked here."""
    ATTACKS.append(Attack(part, number, title, "", lambda _: None, lambda _: None, absent=reason))


# The verdict.


@dataclass(frozen=True)
class Verdict:
    """The result and, unless all is well, why."""

    result: Literal["defended", "BROKEN", "not applicable"]
    why: str = ""


def judge(attack: Attack, evidence: Evidence) -> Verdict:
    """What the evidence says about one attack."""
    complaints = [*leaks(evidence), *filter(None, [attack.expect(evidence)])]
    return Verdict("BROKEN", "; ".join(complaints)) if complaints else Verdict("defended")


def leaks(evidence: Evidence) -> list[str]:
    """What must never be, whatever the attack is."""
    found = [
        f"the key of {owner} was seen by {place}"
        for owner, key in KEYS.items()
        for place, data in _elsewhere(evidence, owner)
        if holds(data, key)
    ]
    if FOREIGN in evidence.sent:
        found.append("the agent's own key reached a provider")
    if FOREIGN in evidence.artefacts:
        found.append("the agent's own key stands in a file of the gateway")
    if any(DUMMY in value for seen in evidence.requests for carrier in CARRIERS for value in seen.get(carrier)):
        found.append("a dummy reached a provider as a credential")
    if any(record.data for record in evidence.local):
        found.append("a service of the proxy's own machine was reached")
    if evidence.hung:
        found.append("the call was left hanging")
    return found


def _elsewhere(evidence: Evidence, owner: str) -> list[tuple[str, bytes]]:
    """All places where a key of `owner` must not be."""
    providers = [(record.sni or "a provider without TLS name", bytes(record.data)) for record in evidence.providers]
    others = [(name, data) for name, data in providers if name != owner]
    hostile = [("the attacker's server", bytes(record.data)) for record in evidence.evil]
    imposters = [("an imposter", bytes(record.data)) for record in evidence.imposters]
    return [("the client", evidence.visible), ("a file of the gateway", evidence.artefacts), *hostile, *imposters, *others]


# Expectations.


def refused(*statuses: int) -> Expectation:
    """Nothing reached a provider, and the client got one of the statuses (400, 403, 421 by default) or was cut off."""
    wanted = {0, *(statuses or (400, 403, 421))}

    def expect(evidence: Evidence) -> str | None:
        wrong = [status for status in evidence.statuses if status not in wanted]
        return no_call(evidence) or (f"answered with {wrong[0]}" if wrong else None)

    return expect


def no_call(evidence: Evidence) -> str | None:
    """Nothing reached a provider."""
    return f"a provider got {evidence.sent[:80]!r}" if evidence.sent else None


def one_key(evidence: Evidence) -> str | None:
    """One call reached a provider, and its key stands in it once, in one credential."""
    if len(evidence.requests) != 1:
        return f"{len(evidence.requests)} calls reached a provider, not one"
    carried = sum(evidence.sent.count(key.encode()) for key in KEYS.values())
    credentials = [value for carrier in CARRIERS for value in evidence.requests[0].get(carrier)]
    if carried == 1 and len(credentials) == 1:
        return None
    return f"the call carried {carried} keys in {len(credentials)} credentials"


def lacks(*words: bytes) -> Expectation:
    """None of these words, in any case, reached a provider."""

    def expect(evidence: Evidence) -> str | None:
        lowered = evidence.sent.lower()
        return next((f"{word!r} reached a provider" for word in words if word.lower() in lowered), None)

    return expect


def calls_at_most(count: int) -> Expectation:
    """Not more than so many calls reached a provider."""
    return lambda evidence: f"{len(evidence.requests)} calls reached a provider" if len(evidence.requests) > count else None


def either(one: Expectation, other: Expectation) -> Expectation:
    """One of two defences."""
    return lambda evidence: one(evidence) and other(evidence) and f"{one(evidence)}, and {other(evidence)}"


def all_of(*expectations: Expectation) -> Expectation:
    """Every one of these."""
    return lambda evidence: next((complaint for each in expectations if (complaint := each(evidence))), None)


def nothing_more(evidence: Evidence) -> str | None:
    """Only what no attack may bring about."""


def not_started(evidence: Evidence) -> str | None:
    """Each gateway that was started refused to."""
    return next(("the gateway started" for status, _ in evidence.exits if status is None or status == 0), None)
