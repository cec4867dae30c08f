"""Credentials in requests: find every one, judge it, mask it for people, take it off, put the right one on.

Headers are raw `(name, value)` pairs in the order of the wire; a `path` holds its query. Names are compared in the one spelling
of `headernames`, which also remembers what the names of a head say: most heads need no look at any single field.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from itertools import compress
from typing import Literal
from urllib.parse import unquote_plus

from ..model import Auth, Key, Rules
from . import identity
from .headernames import (
    CONNECTION,
    COOKIE,
    FRAMING,
    HOP_BY_HOP,
    PROXY_AUTHORIZATION,
    SUBPROTOCOL,
    UPGRADE,
    Field,
    Names,
    canonical,
    is_carrier,
    names_of,
    spelled,
)

__all__ = [
    "COOKIE", "MASK", "PROXY_AUTHORIZATION", "SUBPROTOCOL", "Field", "Fields", "Judgement", "Presented", "agent_of", "apply",
    "basic_user", "canonical", "is_carrier", "is_dummy", "judge", "mask_headers", "mask_query", "must_mask", "presented", "strip",
    "strip_query", "wire_headers",
]  # fmt: skip

Fields = tuple[Field, ...]
Kind = Literal["foreign", "agent", "dummy", "none"]

MASK = "***masked***"
"""What stands in a flow in place of a foreign key."""

_QUERY_CARRIERS = frozenset(
    {
        "key", "api-key", "apikey", "access-token", "accesstoken", "auth-token", "oauth-token", "authorization",
        "subscription-key",
    }
)  # fmt: skip
_QUERY_IDENTITY = "userproject"
_ALIVE = (b"keep-alive", b"Keep-Alive")
"""What nearly every `Connection:` says; a header of that name goes in any case."""
_UNASKED = (COOKIE, PROXY_AUTHORIZATION)
"""Carriers whose value is not meant as a key: providers set cookies, and clients send them back; the other one is the proxy's."""

_WORST_FIRST: tuple[Kind, ...] = ("foreign", "agent", "dummy")
_SCHEMES = frozenset({"bearer", "token", "key", "apikey", "api-key"})
_SUBPROTOCOL_KEY = "openai-insecure-api-key."
_SUBPROTOCOL_IDENTITY = ("openai-organization.", "openai-project.")
_DUMMY = re.compile(r"[A-Za-z0-9._~+/=-]{1,256}")
"""The form of a dummy. Anything wider could hide a real key behind a dummy's prefix (`sk-dummy, Bearer sk-…`)."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Presented:
    """One credential that the client sent. `carrier` is the header, or `?name` for the query."""

    carrier: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What kind of credential a call carries, the worst one if many, and the carriers that hold that kind."""

    kind: Kind
    carriers: tuple[str, ...] = ()


_NO_CREDENTIAL = Judgement("none")


# Finding and judging.


def presented(headers: Sequence[Field], path: str) -> tuple[Presented, ...]:
    """Every credential the client sent, in any carrier, empty ones left out. Basic gives user and password."""
    names = names_of(headers)
    shown = [(names.words[at], headers[at][1]) for at in names.shown]
    in_headers = [Presented(word, value) for word, raw in shown for value in _values(word, raw)]
    query = path.partition("?")[2]
    if not query:
        return tuple(in_headers)
    in_query = [Presented("?" + piece.name, value) for piece in _pieces(query) if piece.secret for value in _parts(piece.value)]
    return (*in_headers, *in_query)


def judge(credentials: Sequence[Presented], rules: Rules) -> Judgement:
    """The kind of credential a call carries. One foreign key among dummies makes it foreign.

    Cookies and the proxy's own authorization do not count: neither is meant as a key (providers set cookies, and HTTP clients
    send them back unasked).
    """
    kinds = [(_kind(each.value, rules), each.carrier) for each in credentials if each.carrier not in _UNASKED]
    if not kinds:
        return _NO_CREDENTIAL
    if len(kinds) == 1:
        return Judgement(kinds[0][0], (kinds[0][1],))
    worst = min([kind for kind, _ in kinds], key=_WORST_FIRST.index)
    return Judgement(worst, tuple([carrier for kind, carrier in kinds if kind == worst]))


def is_dummy(value: str, rules: Rules) -> bool:
    """Whether the rules call this value a dummy key."""
    return bool(_DUMMY.fullmatch(value) and _dummies(rules.gateway.dummy_keys).match(value))


@lru_cache(maxsize=16)
def _dummies(globs: tuple[str, ...]) -> re.Pattern[str]:
    """What any of the globs matches, in one pattern; without globs nothing."""
    return re.compile("|".join(map(translate, globs)) or "(?!)")


def agent_of(value: str, rules: Rules) -> str | None:
    """The agent whose configured key this is."""
    return identity.register(rules).agent_of(value)


def basic_user(value: str) -> str | None:
    """The user in the value of a `(Proxy-)Authorization: Basic` header; None when there is none."""
    scheme, _, rest = value.strip().partition(" ")
    decoded = _decode_basic(rest) if scheme.lower() == "basic" else None
    return (decoded or "").partition(":")[0] or None


def _kind(value: str, rules: Rules) -> Kind:
    register = identity.register(rules)
    if register and register.agent_of(value) is not None:
        return "agent"
    return "dummy" if is_dummy(value, rules) else "foreign"


def _values(carrier: str, raw: bytes) -> list[str]:
    """The credentials in one header that may hold some."""
    value = raw.decode("latin-1")
    if carrier == SUBPROTOCOL:
        return [key for entry in value.split(",") if (key := _key_in_subprotocol(entry))]
    if carrier == COOKIE:
        return [value] if value.strip() else []
    return _parts(value)


def _parts(value: str) -> list[str]:
    """The secrets in `Bearer x`, `Basic x` or a bare value."""
    words = value.split(maxsplit=1)
    if len(words) == 2 and words[0] == "Bearer":  # as nearly all agents write it
        return [words[1].strip()]
    scheme, rest = [*words, "", ""][:2]
    if scheme.lower() == "basic":
        decoded = _decode_basic(rest)
        user, _, password = (rest if decoded is None else decoded).partition(":")
        return [part for part in (user, password) if part]
    secret = rest if scheme.lower() in _SCHEMES else value
    return [secret.strip()] if secret.strip() else []


def _decode_basic(text: str) -> str | None:
    try:
        return b64decode(text.strip(), validate=True).decode("latin-1")
    except ValueError:
        return None


def _key_in_subprotocol(entry: str) -> str:
    entry = entry.strip()
    return entry[len(_SUBPROTOCOL_KEY) :] if entry.lower().startswith(_SUBPROTOCOL_KEY) else ""


# Masking, for what people see.


def must_mask(headers: Sequence[Field], judgement: Judgement) -> bool:
    """Whether `mask_headers` may change anything in a head whose credentials were judged so."""
    return judgement.kind == "foreign" or names_of(headers).private


def mask_headers(headers: Sequence[Field], rules: Rules) -> Fields:
    """The headers as a flow may show them: foreign keys and cookies masked, the proxy's own credential gone."""
    names = names_of(headers)
    masked = list(headers)
    for at in names.shown:
        masked[at] = (headers[at][0], _masked(names.words[at], headers[at][1], rules))
    return tuple([field for word, field in zip(names.words, masked, strict=True) if word != PROXY_AUTHORIZATION])


def mask_query(path: str, rules: Rules) -> str:
    """The path with foreign keys in its query masked; all other bytes as they were."""

    def masked(piece: _Piece) -> str:
        foreign = piece.secret and any(_kind(value, rules) == "foreign" for value in _parts(piece.value))
        return f"{piece.text.partition('=')[0]}={MASK}" if foreign else piece.text

    return _rewrite_query(path, masked)


def _masked(carrier: str, raw: bytes, rules: Rules) -> bytes:
    foreign = [value for value in _values(carrier, raw) if carrier == COOKIE or _kind(value, rules) == "foreign"]
    if not foreign:
        return raw
    if carrier == SUBPROTOCOL:
        return _edit_subprotocols(raw, lambda entry: _SUBPROTOCOL_KEY + MASK if _key_in_subprotocol(entry) in foreign else entry)
    scheme, _, _ = raw.decode("latin-1").strip().partition(" ")
    return (f"{scheme} {MASK}" if scheme.lower() in {*_SCHEMES, "basic"} else MASK).encode("latin-1")


# Taking off, for the wire.


def strip(headers: Sequence[Field], *, upgrade: bool = False) -> Fields:
    """The headers without any credential, billing identity or hop-by-hop header; all others byte for byte, in order.

    What `Connection:` names goes as well, except the framing of the message. `upgrade` keeps a WebSocket handshake.
    """
    names = names_of(headers)
    listed = [word for at in names.lists for word in headers[at][1].split(b",") if word not in _ALIVE]
    named = frozenset(map(spelled, listed))
    if not (upgrade or names.has_protocols) and named.isdisjoint(names.left):
        return tuple(compress(headers, names.passing))
    return _edited(headers, names, named - FRAMING, upgrade=upgrade)


def _edited(headers: Sequence[Field], names: Names, named: frozenset[str], *, upgrade: bool) -> Fields:
    """`strip`, where more than names decides."""
    kept: list[Field] = []
    for header, word, passes in zip(headers, names.words, names.passing, strict=True):
        if passes:
            if word not in named:
                kept.append(header)
        elif upgrade and word in (CONNECTION, UPGRADE):
            kept.extend(_handshake(*header, word))
        elif word == SUBPROTOCOL:
            kept.extend([(header[0], rest)] if (rest := _edit_subprotocols(header[1], _without_key)) else [])
    return tuple(kept)


def strip_query(path: str) -> str:
    """The path without parameters that hold a credential or a billing identity; all other bytes as they were."""
    return _rewrite_query(path, lambda piece: None if piece.secret or piece.name == _QUERY_IDENTITY else piece.text)


def _handshake(name: bytes, value: bytes, word: str) -> list[Field]:
    """The hop-by-hop headers of a WebSocket handshake, reduced to what it needs (never `Upgrade: h2c`)."""
    if word == UPGRADE:
        return [(name, value)] if value.strip().lower() == b"websocket" else []
    return [(name, b"Upgrade")] if UPGRADE in map(spelled, value.split(b",")) else []


def _without_key(entry: str) -> str | None:
    return None if entry.strip().lower().startswith((_SUBPROTOCOL_KEY, *_SUBPROTOCOL_IDENTITY)) else entry


def _edit_subprotocols(raw: bytes, edit: Callable[[str], str | None]) -> bytes:
    """Apply `edit` to each entry of the list; an untouched list keeps its bytes."""
    entries = raw.decode("latin-1").split(",")
    edited = [edit(entry) for entry in entries]
    if edited == entries:
        return raw
    return ", ".join(entry.strip() for entry in edited if entry is not None).encode("latin-1")


# Putting on.


def apply(headers: Sequence[Field], auth: Auth, key: Key | None, secret: str | None) -> Fields:
    """Stripped headers with the key's credential, identity and extra headers, and the defaults the provider requires.

    Without key and secret (a provider that needs none) only the defaults are added. Raises ValueError, which never holds the
    secret, when something that is to be set cannot stand in a header or a key has no value.
    """
    if key is not None and not secret:
        raise ValueError(f"key {key.id} has no value")
    words = names_of(headers).words
    ours = {name: value for name, value in auth.defaults.items() if canonical(name) not in words} if auth.defaults else {}
    if key and (key.headers or key.organization or key.project):
        ours.update(_of_key(auth, key))
    if secret:
        ours[auth.header] = auth.prefix + secret
    fields = {canonical(name): _field(name, value) for name, value in ours.items()}
    if not fields.keys().isdisjoint(words):
        headers = [header for word, header in zip(words, headers, strict=True) if word not in fields]
    return (*headers, *fields.values())


def wire_headers(headers: Sequence[Field], auth: Auth, key: Key | None, secret: str | None, *, upgrade: bool = False) -> Fields:
    """What goes to the provider in place of the client's `headers`: stripped, then the one credential set. Raises ValueError."""
    return apply(strip(headers, upgrade=upgrade), auth, key, secret)


def _of_key(auth: Auth, key: Key) -> Iterator[tuple[str, str]]:
    for name, value in key.headers:
        if canonical(name) in FRAMING | HOP_BY_HOP:
            raise ValueError(f"key {key.id}: the extra header {name} belongs to the connection and cannot be set")
        yield name, value
    if auth.organization_header and key.organization:
        yield auth.organization_header, key.organization
    if auth.project_header and key.project:
        yield auth.project_header, key.project


def _field(name: str, value: str) -> Field:
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or value != value.strip():
        raise ValueError(f"header {name!r} cannot be sent: its name or value holds characters that a header may not have")
    return name.encode("ascii"), value.encode("latin-1")


# The query, in pieces.


@dataclass(frozen=True, slots=True)
class _Piece:
    """One parameter as written, with the separator before it. `name` is decoded and in the one spelling."""

    separator: str
    text: str

    @property
    def name(self) -> str:
        return canonical(unquote_plus(self.text.partition("=")[0]))

    @property
    def value(self) -> str:
        return unquote_plus(self.text.partition("=")[2])

    @property
    def secret(self) -> bool:
        return self.name in _QUERY_CARRIERS or self.name.endswith("-api-key")


def _pieces(query: str) -> list[_Piece]:
    """The parameters of a query; some servers also split at `;`, so a key behind one is found as well."""
    parts = re.split("([&;])", query)
    return [_Piece(separator, text) for separator, text in zip(["", *parts[1::2]], parts[::2], strict=True)]


def _rewrite_query(path: str, edit: Callable[[_Piece], str | None]) -> str:
    """Apply `edit` to each parameter; None removes it together with the separator before it."""
    bare, _, query = path.partition("?")
    if not query:
        return path
    edited = [(piece.separator, edit(piece)) for piece in _pieces(query)]
    kept = [(separator, text) for separator, text in edited if text is not None]
    rest = "".join(separator + text for separator, text in kept)
    return bare + (f"?{rest.removeprefix(kept[0][0])}" if kept else "")
