"""Who makes a call, and with which program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..model import Caller, Refusal, Rules
from . import credentials, identity
from .identity import DUMMY_MARK, Login, Register

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRODUCT = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~/@-]{1,64}")

_NOBODY = Caller()

UNKNOWN = Refusal(
    401,
    "unknown_caller",
    "the call does not show which agent makes it: send the agent's key (made by `valetkey agents add NAME`) as the API key, or "
    "in HTTPS_PROXY=http://NAME:KEY@HOST:PORT as the password; a name alone does not do (gateway.callers, docs/agents.md)",
)
"""One text for all, whichever name was claimed: it does not tell which agents there are."""
CONFLICT = Refusal(401, "conflicting_callers", "the call carries the keys of different agents; send those of one")


def recognise(logins: Sequence[Login], presented: Sequence[str], rules: Rules, *, known: bool) -> Caller | Refusal:
    """The caller, or why the call is not heard (401).

    `logins` are those of the connection and of the request, `presented` the values of the call's credentials. An agent that has a
    key is only believed with that key. `known`: nobody else is heard. Without any agent's key, names are believed.
    """
    register = identity.register(rules)
    if register:
        proven = dict(reversed([*_proofs(logins, presented, register)]))
        if len(proven) > 1:
            return CONFLICT
        names = _names(logins, presented, rules)
        if any(claimed not in proven for name in names if (claimed := register.claimed(name))):
            return UNKNOWN
        for agent, source in proven.items():
            return Caller(agent, _project(agent, names, register), source)
    if known:
        return UNKNOWN
    if not logins and not register:
        return _shown(presented, rules, register)
    user = next((login.user for login in reversed(logins) if login.user), None)
    caller = identify(user, presented, rules)
    return UNKNOWN if register and register.claimed(caller.agent) else caller


def claim(logins: Sequence[Login], presented: Sequence[str], rules: Rules) -> str | None:
    """The agent with a key that a call claims to be; "" when it does not say whom, None when it does not even try."""
    register, names = identity.register(rules), _names(logins, presented, rules)
    return next(filter(None, map(register.claimed, names)), "") if names else None


def identify(proxy_user: str | None, presented: Sequence[str], rules: Rules) -> Caller:
    """Who a call says it comes from: the owner of an agent's key, the proxy's user, the name in a dummy, or else `default`.

    The name of an agent that has a key does not count without it. A name with characters other than letters, digits, `.`, `_`
    and `-`, or longer than 64, is ignored as if it were not there.
    """
    register = identity.register(rules)
    # 1. A key that the rules bind to an agent.
    for value in presented if register else ():
        agent = register.agent_of(value)
        if agent is not None:
            return Caller(agent, None, "agent_key")
    # 2. The user of Proxy-Authorization.
    caller = _named(proxy_user, "proxy_auth", register) if proxy_user else None
    return caller or _shown(presented, rules, register)


def _shown(presented: Sequence[str], rules: Rules, register: Register) -> Caller:
    """The name in a dummy; nobody, where none carries one."""
    for value in presented:
        if DUMMY_MARK in value:
            caller = _named(_name_in_dummy(value, rules), "dummy", register)
            if caller is not None:
                return caller
    return _NOBODY


def client_product(user_agent: str) -> str:
    """The first product of a User-Agent (`claude-cli/2.1.0`), at most 64 characters; empty when there is none."""
    product = _PRODUCT.match(user_agent.lstrip())
    return product[0] if product else ""


def _proofs(logins: Sequence[Login], presented: Sequence[str], register: Register) -> Iterator[tuple[str, str]]:
    """Agents whose keys are there, and where."""
    for login in logins:
        if login.digest and (agent := register.holder(login.digest)):
            yield agent, "proxy_auth"
    for value in presented:
        if agent := register.agent_of(value):
            yield agent, "agent_key"


def _names(logins: Sequence[Login], presented: Sequence[str], rules: Rules) -> list[str]:
    """The name in each thing that could be meant to show who calls; empty where there is none in it."""
    users = [login.user.rpartition(DUMMY_MARK)[2] for login in logins]
    return users + [_name_in_dummy(value, rules) for value in presented]


def _project(agent: str, names: Sequence[str], register: Register) -> str | None:
    """The project that one of the names puts behind the agent."""
    for name in names:
        if name.startswith(f"{agent}.") and _NAME.fullmatch(name) and register.split(name)[0] == agent:
            return register.split(name)[1]
    return None


def _name_in_dummy(value: str, rules: Rules) -> str:
    """`alice.web` in `sk-dummy-alice.web`, also behind other prefixes. Only what the rules call a dummy is looked at."""
    if DUMMY_MARK not in value or not credentials.is_dummy(value, rules):
        return ""
    return value.partition(DUMMY_MARK)[2]


def _named(name: str, source: str, register: Register) -> Caller | None:
    """`agent` or `agent.project`, unless the agent has a key."""
    if not _NAME.fullmatch(name) or register.claimed(name):
        return None
    agent, project = register.split(name)
    return Caller(agent, project, source) if agent else None
