"""At the doors: who is heard, as `policy.callers` says, and that guessing stays slow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address

from mitmproxy import connection, http
from mitmproxy.proxy.mode_specs import ProxyMode, WireGuardMode

from ..model import Caller, Refusal, Rules
from ..policy import callers, identity
from ..policy.guesses import Guesses
from ..policy.identity import Login
from . import refusals

logger = logging.getLogger(__name__)
CHALLENGE = 'Basic realm="valetkey"'


@dataclass(slots=True)
class Visitor:
    """Who stands at a door: the address, what tunnel and request said, and whether other machines reach the door."""

    doorkeeper: Doorkeeper
    address: str
    exposed: bool
    tunnel: Login | None = None
    own: Login | None = None

    @property
    def logins(self) -> tuple[Login, ...]:
        """All that was said in `Proxy-Authorization`."""
        if self.tunnel is None and self.own is None:
            return ()
        return tuple([login for login in (self.tunnel, self.own) if login])


class Doorkeeper:
    """Lets callers in, and remembers failures."""

    def __init__(self) -> None:
        self._guesses = Guesses()

    def recognise(self, visitor: Visitor, presented: Sequence[str], rules: Rules, now: float) -> Caller | Refusal:
        """The caller, or why the call is not heard (401, or 429 after too many failures). `now` in monotonic seconds."""
        register = identity.register(rules)
        if not register:
            return callers.recognise(visitor.logins, presented, rules, known=visitor.exposed)
        wait = self._wait(visitor, presented, rules, now) if self._guesses else 0.0
        if wait:
            return Refusal(429, "too_many_failures", "too many calls from this address did not show which agent makes them", wait)
        found = callers.recognise(visitor.logins, presented, rules, known=requires_known(visitor.exposed, rules))
        if isinstance(found, Refusal):
            self._failed(visitor, presented, rules, now)
        return found

    def _wait(self, visitor: Visitor, presented: Sequence[str], rules: Rules, now: float) -> float:
        claim = _attempt(visitor, presented, rules)
        return 0.0 if claim is None else self._guesses.wait(visitor.address, claim, now)

    def _failed(self, visitor: Visitor, presented: Sequence[str], rules: Rules, now: float) -> None:
        claim = _attempt(visitor, presented, rules)
        if claim is not None and self._guesses.failed(visitor.address, claim, now):
            whom = f" claimed to be {claim} and" if claim else ""
            logger.warning("valetkey: a caller at %s%s did not show which agent it is; see docs/agents.md", visitor.address, whom)


def _attempt(visitor: Visitor, presented: Sequence[str], rules: Rules) -> str | None:
    """The agent that the call tries to be; None where nothing is to be guessed, or the tunnel has shown it already."""
    held = None
    if visitor.tunnel and visitor.tunnel.digest:
        held = identity.register(rules).holder(visitor.tunnel.digest)
    if held is None:
        return callers.claim(visitor.logins, presented, rules)
    claim = callers.claim((visitor.own,) if visitor.own else (), presented, rules)
    return None if claim in ("", held) else claim


def requires_known(exposed: bool, rules: Rules) -> bool:
    """Whether only agents that prove who they are may be heard. An open door requires it whatever a reload has changed."""
    return exposed or (rules.gateway.callers == "known" and bool(identity.register(rules)))


def is_exposed(client: connection.Client) -> bool:
    """Whether a client came by a door that other machines may reach."""
    return is_open_to_others(client.proxy_mode)


def is_open_to_others(mode: ProxyMode) -> bool:
    """Whether a door listens beyond this machine, and lets in whoever comes. WireGuard asks for the key of its one client."""
    host = mode.custom_listen_host
    return host is not None and not is_local(host) and not isinstance(mode, WireGuardMode)


@lru_cache(maxsize=64)
def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens at `host`."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def proxy_refusal(refusal: Refusal) -> http.Response:
    """A refusal in the words of a proxy: 407 with a challenge in place of 401 (RFC 9110, section 15.5.8)."""
    if refusal.status != 401:
        return refusals.plain(refusal)
    answer = refusals.plain(replace(refusal, status=407))
    answer.headers["proxy-authenticate"] = CHALLENGE
    return answer
