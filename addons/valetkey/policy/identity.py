"""Agents that have a key: whose key a value is, and which of them a name claims to be.

A key is looked up by its SHA-256 digest and compared in constant time, so the time says nothing of how near a guess was, and
does not grow with the number of agents.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from dataclasses import dataclass, field
from hashlib import sha256

from ..model import Rules
from .derived import Derived

DUMMY_MARK = "dummy-"
"""What stands before the name in a dummy key."""
_KEY = re.compile(r"sha256:([0-9a-fA-F]{64})")
_RANDOM = re.compile(r"[A-Za-z0-9]{16,}")
"""What `valetkey agents add` puts behind a name; no name ends like that."""
_NOBODY = (bytes(32), "")


@dataclass(frozen=True, slots=True)
class Login:
    """What a `Proxy-Authorization` says: a user, empty without one, and the SHA-256 of the secret, None without one."""

    user: str
    digest: bytes | None = field(default=None, repr=False)


def digest(secret: str) -> bytes:
    """The SHA-256 of a secret."""
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def read_login(value: str) -> Login | None:
    """`Basic user:key`, `Basic key:` or `Bearer key`; None for anything else (RFC 9110, section 11.7)."""
    scheme, _, rest = value.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return Login("", digest(rest.strip())) if rest.strip() else None
        case "basic":
            return _basic(rest.strip())
    return None


def _basic(text: str) -> Login | None:
    try:
        user, _, secret = b64decode(text, validate=True).decode("latin-1").partition(":")
    except ValueError:
        return None
    if not secret and DUMMY_MARK in user:  # HTTPS_PROXY=http://KEY@host
        return Login("", digest(user))
    return Login(user, digest(secret) if secret else None) if user or secret else None


class Register:
    """The agents of some rules. False when none of them has a key."""

    def __init__(self, rules: Rules) -> None:
        self._names = frozenset(agent.name for agent in rules.agents)
        keyed = [(agent, found) for agent in rules.agents if (found := _KEY.fullmatch(agent.key or ""))]
        self._agents = {held: (held, agent.name) for agent, found in reversed(keyed) if (held := bytes.fromhex(found[1]))}
        self._keyed = {agent.name.lower(): agent.name for agent, _ in keyed}

    def __bool__(self) -> bool:
        return bool(self._agents)

    def holder(self, shown: bytes) -> str | None:
        """The agent whose key has this digest."""
        held, agent = self._agents.get(shown, _NOBODY)
        return agent if hmac.compare_digest(held, shown) else None

    def agent_of(self, value: str) -> str | None:
        """The agent whose key this is."""
        return self.holder(digest(value)) if self._agents else None

    def split(self, name: str) -> tuple[str, str | None]:
        """`agent.project`. A configured agent whose own name has dots is recognised before the first dot splits."""
        agent = name
        while agent and agent not in self._names:
            agent = agent.rpartition(".")[0]
        agent = agent or name.partition(".")[0]
        return agent, name[len(agent) + 1 :] or None

    def claimed(self, name: str) -> str | None:
        """The agent with a key that a name claims to be, also with a project or in other capitals, or with a wrong key."""
        if not self._keyed:
            return None
        head, _, tail = name.rpartition("-")
        if head and name not in self._names and _RANDOM.fullmatch(tail):
            name = head
        return self._keyed.get(self.split(name)[0].lower())


register = Derived(Register)
"""The register of some rules; made once."""
