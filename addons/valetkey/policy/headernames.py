"""What the names in a request's head say: which values may be credentials, and which fields may not pass as they are.

An agent sends the same names with every call, so what they say together is remembered. Values are never kept. Names are compared
in one spelling (lower case, no blanks, `-` for whatever is no letter or digit), because servers behind CGI-like interfaces do
not tell `X_Api_Key` and `x.api.key` from `x-api-key`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

Field = tuple[bytes, bytes]

COOKIE = "cookie"
PROXY_AUTHORIZATION = "proxy-authorization"
SUBPROTOCOL = "sec-websocket-protocol"
CONNECTION = "connection"
UPGRADE = "upgrade"

FRAMING = frozenset({"host", "content-length", "transfer-encoding"})
"""Headers that `Connection:` cannot name away, and that a key's extra headers cannot set."""
HOP_BY_HOP = frozenset({CONNECTION, "keep-alive", "te", "trailer", UPGRADE, "http2-settings"})
"""Without `transfer-encoding`: the body goes out framed as it came, and mitmproxy writes the frames by that header."""

_CARRIERS = frozenset(
    {
        "authorization", "x-authorization", "api-key", "apikey", "x-apikey", "x-auth-token", "x-access-token",
        "x-amz-security-token", "subscription-key", "ocp-apim-subscription-key",
    }
)  # fmt: skip
_IDENTITY = frozenset({"openai-organization", "openai-project", "x-goog-user-project", "anthropic-organization-id"})
"""Headers that choose who is billed; the key says that, not the agent."""
_UNWANTED = HOP_BY_HOP | _IDENTITY | {COOKIE}

_MOST = 256
_LONGEST = 4096
"""Most heads whose names are remembered, and most bytes of the names of one: agents choose them."""
_LONGEST_NAME = 256
"""Most bytes of a single name that is remembered."""

_JOINTS = re.compile(r"[^a-z0-9]")
_name = itemgetter(0)


class Names(NamedTuple):
    """What the names of a head's fields say, in the order of the fields."""

    words: tuple[str, ...]
    """The one spelling of each."""
    texts: tuple[str, ...]
    """Each in lower case, else as it is."""
    shown: tuple[int, ...]
    """Where a value may be a credential, or is a cookie."""
    private: bool
    """Whether there is a cookie or the proxy's own credential, which nobody sees."""
    passing: tuple[bool, ...]
    """Which fields may pass as they are."""
    left: frozenset[str]
    """The words of those that may pass, and that `Connection:` could name away."""
    lists: tuple[int, ...]
    """Where a `Connection:` is."""
    hosts: tuple[int, ...]
    """Where a `Host:` is, by its exact name."""
    has_protocols: bool
    """Whether there is a list of subprotocols, one of which may be a key."""
    may_upgrade: bool
    """Whether there are the names of a handshake."""
    is_ascii: bool


def names_of(headers: Sequence[Field]) -> Names:
    """What the names of these fields say."""
    names = tuple(map(_name, headers))
    found = _NAMES.get(names)
    return _remember(names) if found is None else found


_NAMES: dict[tuple[bytes, ...], Names] = {}


def _remember(names: tuple[bytes, ...]) -> Names:
    made = _read(names)
    if sum(map(len, names)) <= _LONGEST:
        if len(_NAMES) >= _MOST:
            _NAMES.clear()
        _NAMES[names] = made
    return made


def _read(names: tuple[bytes, ...]) -> Names:
    words = tuple([canonical(name) for name in names])
    texts = tuple([name.decode("latin-1").lower() for name in names])
    passing = tuple([not _is_stripped(word) for word in words])
    return Names(
        words=words,
        texts=texts,
        shown=tuple([at for at, word in enumerate(words) if is_carrier(word) or word in (COOKIE, PROXY_AUTHORIZATION)]),
        private=COOKIE in words or PROXY_AUTHORIZATION in words,
        passing=passing,
        left=frozenset([word for word, passes in zip(words, passing, strict=True) if passes]) - FRAMING,
        lists=tuple([at for at, word in enumerate(words) if word == CONNECTION]),
        hosts=tuple([at for at, text in enumerate(texts) if text == "host"]),
        has_protocols=SUBPROTOCOL in words,
        may_upgrade=CONNECTION in words and UPGRADE in words,
        is_ascii=b"".join(names).isascii(),
    )


def _is_stripped(word: str) -> bool:
    return is_carrier(word) or word in _UNWANTED or word.startswith("proxy-")


def canonical(name: bytes | str) -> str:
    """The one spelling of a header name that is compared."""
    return _remembered(name) if len(name) <= _LONGEST_NAME else spelled(name)


def spelled(name: bytes | str) -> str:
    """`canonical` for what an agent wrote as a value, which is not remembered."""
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return _JOINTS.sub("-", "".join(text.split()).lower()).strip("-")


_remembered = lru_cache(maxsize=1024)(spelled)


def is_carrier(name: bytes | str) -> bool:
    """Whether a header of that name carries a credential for the provider."""
    word = canonical(name)
    return word in _CARRIERS or word.endswith("-api-key") or word == SUBPROTOCOL
