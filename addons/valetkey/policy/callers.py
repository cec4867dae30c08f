"""Who makes a call, and with which program."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..model import Caller, Rules
from . import credentials

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRODUCT = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~/@-]{1,64}")
_DUMMY_MARK = "dummy-"


def identify(proxy_user: str | None, presented: Sequence[str], rules: Rules) -> Caller:
    """The caller: the proxy's user, else the owner of a configured agent key, else the name in a dummy key, else `default`.

    `presented` are the values of the credentials that the call carries. A name with characters other than letters, digits,
    `.`, `_` and `-`, or longer than 64, is ignored as if it were not there.
    """
    # 1. The user of Proxy-Authorization.
    caller = _named(proxy_user or "", "proxy_auth", rules)
    if caller is not None:
        return caller
    # 2. A key that the rules bind to an agent.
    for value in presented:
        agent = credentials.agent_of(value, rules)
        if agent is not None:
            return Caller(agent, None, "agent_key")
    # 3. A dummy that carries a name.
    for value in presented:
        caller = _named(_name_in_dummy(value, rules), "dummy", rules)
        if caller is not None:
            return caller
    return Caller()


def client_product(user_agent: str) -> str:
    """The first product of a User-Agent (`claude-cli/2.1.0`), at most 64 characters; empty when there is none."""
    first = user_agent.split(maxsplit=1)[0] if user_agent.strip() else ""
    product = _PRODUCT.match(first)
    return product[0] if product else ""


def _name_in_dummy(value: str, rules: Rules) -> str:
    """`alice.web` in `sk-dummy-alice.web`, also behind other prefixes. Only what the rules call a dummy is looked at."""
    if not credentials.is_dummy(value, rules):
        return ""
    return value.partition(_DUMMY_MARK)[2]


def _named(name: str, source: str, rules: Rules) -> Caller | None:
    """`agent` or `agent.project`. A configured agent whose own name has dots is recognised before the first dot splits."""
    if not _NAME.fullmatch(name):
        return None
    known = [rule.name for rule in rules.agents if name == rule.name or name.startswith(f"{rule.name}.")]
    agent = max(known, key=len, default=name.partition(".")[0])
    return Caller(agent, name[len(agent) + 1 :] or None, source) if agent else None
