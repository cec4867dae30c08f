"""Is a value fit to be a key? The answer names the reference, never the value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

_PLACEHOLDERS = re.compile(
    r"""(?ix) ^(?: <.*> | \$\{?\w+\}? | x{4,} | (sk|gsk|key)?[-_]?x{4,} | \*+ | .*\.\.\. | .*… |
    (your|my|insert|enter|put|add|paste|replace|change|todo|none|null|test|example|placeholder)([-_ ].*)?
    | changeme | secret | password
    | .*(your|api)[-_ ](api[-_ ])?key([-_ ]here)?)$""",
)

_PATH = re.compile(r"(?:~|\.{0,2})/[\w.-]+/[\w./-]*|[a-z]+://.*", re.DOTALL)
"""`OPENAI_API_KEY_FILE=/run/secrets/openai` is a frequent custom, and no key."""
_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*=[^=].*", re.DOTALL)
"""A line of `.env`, pasted whole."""


def problem(name: str, value: str, dummies: Sequence[str], min_length: int = 16) -> str | None:
    """Why `value`, found under `name`, cannot be a real key; None when it can. `dummies` are globs."""
    if not value:
        return f"{name} is empty"
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        return f"{name} holds a line break or another control character; a key is one line"
    if value != value.strip() or " " in value:
        return f"{name} holds white space; write the key alone"
    if not value.isascii():
        return f"{name} holds characters that no header can carry"
    if value[0] in "'\"" and value[0] == value[-1]:
        return f"{name} stands in quotation marks; write the key alone"
    if _ASSIGNMENT.fullmatch(value):
        return f"{name} holds NAME=VALUE; write the key alone"
    if "," in value:
        return f"{name} holds a comma; write one key each, in variables that end in _1, _2 or as a list under keys"
    if _PATH.fullmatch(value):
        return f"{name} holds a path or an address, not a key; name a file as file:PATH under keys"
    if is_dummy(value, dummies) or _PLACEHOLDERS.match(value):
        return f"{name} looks like a dummy, not like a real key"
    if len(value) < min_length:
        return f"{name} is shorter than {min_length} characters; that is no key of this provider"
    return None


def is_dummy(value: str, dummies: Sequence[str]) -> bool:
    """Whether a value is one of the dummies that agents hold."""
    return any(fnmatchcase(value, pattern) for pattern in dummies)
