"""Faster twins of small functions of mitmproxy that run several times in every call. They give the same, or raise the same.

A twin is only put in when its original is the one that it was written from; anything out of the ordinary is left to the original.
"""

from __future__ import annotations

import dataclasses
import logging
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from mitmproxy import connection, ctx, http, optmanager
from mitmproxy.addons.disable_h2c import DisableH2C
from mitmproxy.addons.maplocal import MapLocal
from mitmproxy.addons.onboarding import Onboarding
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.addons.update_alt_svc import UpdateAltSvc
from mitmproxy.net.http import http1
from mitmproxy.net.http.http1 import read
from mitmproxy.proxy import context
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.tls import TLSLayer
from mitmproxy.utils import typecheck

from . import heads, reading, records

logger = logging.getLogger(__name__)

_ABSENT = object()


class Shortcut(NamedTuple):
    """A twin, where it goes, and by what its original is known: how many arguments it takes and the names it uses."""

    owner: type | types.ModuleType
    name: str
    twin: Callable[..., Any]
    arguments: int
    used: str


def install() -> bool:
    """Put all twins in; False, with a notice in the log, when the functions of this mitmproxy are other ones."""
    problem = differences()
    if problem is not None:
        logger.warning("valetkey: mitmproxy's own small functions are used, which are slower: %s", problem)
        return False
    for shortcut in SHORTCUTS:
        setattr(shortcut.owner, shortcut.name, shortcut.twin)
    return True


def uninstall() -> None:
    """Give mitmproxy its own functions back."""
    for shortcut, original in zip(SHORTCUTS, _ORIGINALS, strict=True):
        if vars(shortcut.owner).get(shortcut.name) is not shortcut.twin:
            continue
        if original is _ABSENT:
            delattr(shortcut.owner, shortcut.name)
        else:
            setattr(shortcut.owner, shortcut.name, original)


def differences() -> str | None:
    """What is not as this module expects it in mitmproxy, or None."""
    for shortcut, original in zip(SHORTCUTS, _ORIGINALS, strict=True):
        name = f"{shortcut.owner.__name__}.{shortcut.name}"
        if vars(shortcut.owner).get(shortcut.name, _ABSENT) is not original:
            return f"{name} is replaced already"
        # `python -O` has no checks of types, and so not the function that makes them.
        if _likeness(getattr(shortcut.owner, shortcut.name, None)) != (shortcut.arguments, set(shortcut.used.split())):
            return f"{name} is not what it was in mitmproxy 12.2"
    return None


def _likeness(function: object) -> tuple[int, set[str]] | None:
    """By what a function is known; one that any object has is known by nothing."""
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        return code.co_argcount, set(code.co_names)
    return (0, set()) if function is object.__setattr__ else None


# Types of the fields of a message: twelve checks, each of which asks `typing` anew.

_EXACT: dict[type, tuple[tuple[str, frozenset[type]], ...]] = {}
"""For each class of messages, the types that a field may have without any doubt."""


def _post_init(self: http.MessageData) -> None:
    kind = type(self)
    plain = _EXACT.get(kind)
    if plain is None:
        plain = _EXACT[kind] = tuple((field.name, _types_of(field.type)) for field in dataclasses.fields(kind))
    for name, types_ in plain:
        value = getattr(self, name)
        if type(value) not in types_:
            typecheck.check_option_type(name, value, _type_of_field(kind, name))


def _types_of(annotation: Any) -> frozenset[type]:
    choices = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return frozenset(each for each in choices if type(each) is type or each is http.Headers)


def _type_of_field(kind: type, name: str) -> Any:
    return next(field.type for field in dataclasses.fields(kind) if field.name == name)


# Headers: one pass over the fields for all looks at them, and none with a method call for each field.


def _get_all(self: http.Headers, name: str | bytes) -> list[str]:
    if type(self) is not http.Headers:
        return _HEADERS_GET_ALL(self, name)
    wanted = (name.encode("utf-8", "surrogateescape") if isinstance(name, str) else _bytes(name)).lower()
    found = heads.raw_values(self, wanted)
    return [value.decode("utf-8", "surrogateescape") for value in found] if found else []


def _bytes(name: Any) -> bytes:
    if isinstance(name, bytes):
        return name
    return http._always_bytes(name)


def _get(self: http.Headers, key: str | bytes, default: Any = None) -> Any:
    if type(self) is not http.Headers:
        return Mapping.get(self, key, default)
    values = self.get_all(key)
    return ", ".join(values) if values else default


def _contains(self: http.Headers, key: Any) -> bool:
    if type(self) is not http.Headers:
        return Mapping.__contains__(self, key)
    return bool(self.get_all(key))


def _init(self: http.Headers, fields: Any = (), **headers: Any) -> None:
    if headers or type(self) is not http.Headers:
        _HEADERS_INIT(self, fields, **headers)
        return
    self.fields = made = tuple(tuple(field) for field in fields)
    for key, value in made:
        if not isinstance(key, bytes) or not isinstance(value, bytes):
            raise TypeError("Header fields must be bytes.")


def _assembled(self: http.Headers) -> bytes:
    return b"\r\n".join([*map(b": ".join, self.fields), b""])


# Options: those of plain types are copied twice for each look, to get the same object.

_PLAIN = frozenset({bool, int, float, str, type(None)})


def _current(self: optmanager._Option) -> Any:
    value = self._default if self.value is optmanager.unset else self.value
    return value if type(value) in _PLAIN else _OPTION_CURRENT(self)


def _option(self: optmanager.OptManager, attr: str) -> Any:
    if attr not in self._options:
        return _OPTIONS_GETATTR(self, attr)
    option = self._options[attr]
    value = option.value
    # What is not set has its default, and what is not plain is copied.
    return value if type(value) in _PLAIN else option.current()


_OPTION_CURRENT = optmanager._Option.current
_OPTIONS_GETATTR: Callable[[optmanager.OptManager, str], Any] = optmanager.OptManager.__getattr__
_HEADERS_INIT = http.Headers.__init__
_HEADERS_GET_ALL: Callable[[http.Headers, str | bytes], list[str]] = http.Headers.get_all
# An addon that writes the address of every request out, and then has nothing to look for in it.

_map_local = MapLocal.request


def _maps_locally(self: MapLocal, flow: http.HTTPFlow) -> None:
    if self.replacements:
        _map_local(self, flow)


# Addons that look for something rare in every call, and write out or look up more than that needs.

_crl_request: Callable[..., None] = TlsConfig.request
_alt_svc: Callable[..., None] = UpdateAltSvc.responseheaders
_h2c: Callable[..., None] = DisableH2C.process_flow


def _gives_crl(self: TlsConfig, flow: http.HTTPFlow) -> None:
    if flow.request.path.endswith(".crl"):
        _crl_request(self, flow)


def _updates_alt_svc(self: UpdateAltSvc, flow: http.HTTPFlow) -> None:
    if flow.response is None or heads.raw_values(flow.response.data.headers, b"alt-svc"):
        _alt_svc(self, flow)


def _refuses_h2c(self: DisableH2C, f: http.HTTPFlow) -> None:
    told = f.request.data
    if told.method == b"PRI" or heads.raw_values(told.headers, b"upgrade"):
        _h2c(self, f)


# An addon that serves a page is asked in a coroutine, which costs more than all that it does when it has none to serve.

_onboarding_request: Callable[..., Awaitable[None]] = Onboarding.request


def _serves(self: Onboarding, flow: http.HTTPFlow) -> Awaitable[None] | None:
    return _onboarding_request(self, flow) if ctx.options.onboarding else None


# A context is copied for every stream, with a connection to nowhere that is thrown away at once: the dearest part of it.


def _fork(self: context.Context) -> context.Context:
    if type(self) is not context.Context:
        return _FORK(self)
    made = object.__new__(context.Context)
    made.client, made.options, made.server, made.layers = self.client, self.options, self.server, self.layers.copy()
    return made


# Connections are compared for every event; `isinstance` with an abstract class is a call of some length.

_CONNECTIONS = frozenset({connection.Client, connection.Server})


def _is_same_connection(self: connection.Connection, other: Any) -> bool:
    if type(other) in _CONNECTIONS or isinstance(other, connection.Connection):
        return bool(self.id == other.id)
    return False


_FORK: Callable[[context.Context], context.Context] = context.Context.fork

_OF_TLS = (
    (
        Shortcut(
            TLSLayer,
            "receive_data",
            records.receive_data,
            2,
            "tls bio_write bytearray extend recv SSL WantReadError ZeroReturnError Error commands Log WARNING tls_interact state "
            "event_to_child events DataReceived conn bytes connection ConnectionState CAN_READ debug DEBUG ConnectionClosed",
        ),
        Shortcut(TLSLayer, "tls_interact", records.tls_interact, 1, "tls bio_read commands SendData conn SSL WantReadError"),
    )
    if records.differences() is None
    else ()
)  # of another pyOpenSSL nothing is known; the other twins do not need it

SHORTCUTS = (
    Shortcut(http.MessageData, "__post_init__", _post_init, 1, "fields getattr name typecheck check_option_type type"),
    Shortcut(
        http.Headers, "__init__", _init, 2, "super __init__ fields isinstance bytes TypeError update items _always_bytes replace"
    ),
    Shortcut(http.Headers, "__setattr__", heads.forget, 0, ""),
    Shortcut(http.Headers, "get_all", _get_all, 2, "_always_bytes super get_all _native"),
    Shortcut(http.Headers, "__bytes__", _assembled, 1, "fields join"),
    Shortcut(http.Headers, "get", _get, 3, "KeyError"),
    Shortcut(http.Headers, "__contains__", _contains, 2, "KeyError"),
    Shortcut(
        http1,
        "expected_http_body_size",
        reading.expected_http_body_size,
        2,
        "headers method upper status_code get validate parse_transfer_encoding parse_content_length typing assert_never",
    ),
    Shortcut(
        layers,
        "validate_headers",
        reading.validate_headers,
        1,
        "headers fields _valid_header_name match ValueError lower append len is_http11 http_version isinstance Response "
        "status_code parse_transfer_encoding Request typing assert_never parse_content_length",
    ),
    Shortcut(read, "_read_headers", reading.read_headers, 1, "ValueError strip split append Headers"),
    Shortcut(read, "raise_if_http_version_unknown", reading.raise_if_http_version_unknown, 1, "re match ValueError"),
    Shortcut(
        MapLocal,
        "request",
        _maps_locally,
        2,
        "response error live request pretty_url replacements matches re search regex local_path is_file file_candidates extend "
        "version MITMPROXY mimetypes guess_type str read_bytes OSError logging warning http Response make join info",
    ),
    Shortcut(
        TlsConfig,
        "request",
        _gives_crl,
        2,
        "live error response request path endswith crl_path http Response make certstore default_crl",
    ),
    Shortcut(
        UpdateAltSvc,
        "responseheaders",
        _updates_alt_svc,
        2,
        "response ctx options keep_alt_svc_header isinstance client_conn proxy_mode mode_specs ReverseMode ALT_SVC headers "
        "sockname update_alt_svc_header",
    ),
    Shortcut(
        DisableH2C,
        "process_flow",
        _refuses_h2c,
        2,
        "request headers get logging warning method path http_version killable kill",
    ),
    Shortcut(Onboarding, "request", _serves, 2, "ctx options onboarding super request"),
    Shortcut(context.Context, "fork", _fork, 1, "Context client options server layers copy"),
    Shortcut(connection.Connection, "__eq__", _is_same_connection, 2, "isinstance Connection id"),
    *_OF_TLS,
    Shortcut(optmanager.OptManager, "__getattr__", _option, 2, "_options current AttributeError"),
    Shortcut(optmanager._Option, "current", _current, 1, "value unset default copy deepcopy"),
)
_ORIGINALS = tuple(vars(shortcut.owner).get(shortcut.name, _ABSENT) for shortcut in SHORTCUTS)
