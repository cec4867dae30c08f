"""The wire copy: the one place where a credential meets a request, and only after `policy.egress` agreed.

The copy is made when the request leaves the stream layer, for the connection it leaves on; nothing here is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from operator import methodcaller
from typing import NamedTuple

from mitmproxy import connection, http

from ..errors import WireError
from ..model import Provider
from ..policy import credentials, egress
from ..policy.credentials import Fields
from ..policy.derived import Derived
from ..policy.headernames import names_of
from .passage import Passage, WirePlan
from .runtime import Runtime

_NAMED_BY_AUTHORITY = (b"HTTP/2.0", b"HTTP/3")
"""HTTP versions that name the host in `:authority`."""
_RANGES = (b"range", b"if-range")
_text: Callable[[bytes], str] = methodcaller("decode", "utf-8", "surrogateescape")


class _There(NamedTuple):
    """What the rules say of a provider's upstream, as the wire copy and its check need it."""

    scheme: bytes
    authority: bytes
    named: bool
    on_loopback: bool


def _read_there(provider: Provider) -> _There:
    scheme, _, authority = provider.upstream.origin.partition("://")
    named = provider.upstream.origin != provider.facts.upstream
    return _There(scheme.encode(), authority.encode(), named, provider.named_on_loopback)


_there = Derived(_read_there)


def request(flow: http.HTTPFlow, passage: Passage, server: connection.Server, runtime: Runtime) -> http.Request:
    """The request as the provider gets it. Raises WireError when the credential may not go out on `server`."""
    plan = passage.plan
    if plan is None:
        raise WireError(502, "no_plan", "the call was not routed")
    copy, there = _copy(flow.request), _there(plan.provider)
    fields = _address(copy.data, plan, there)
    names = names_of(fields)
    hosts = tuple([_text(fields[at][1]) for at in names.hosts])
    _check(copy.data, hosts, plan, there, server, passage, runtime)
    secret = passage.snapshot.vault.reveal(plan.key.id) if plan.key else None
    upgrade = names.may_upgrade and _is_upgrade(fields)
    copy.data.headers.fields = credentials.wire_headers(fields, plan.surface.auth, plan.key, secret, upgrade=upgrade)
    if plan.body is not None or plan.decoded or plan.identity:
        _fit(copy, plan)
    if passage.place is not None and passage.place.endpoint.results is not None:
        _ask_for_all(copy.data.headers)
    return copy


def body(data: bytes, passage: Passage | None) -> bytes:
    """The body that goes out: the agent's own bytes, unless a rule made others."""
    if passage is None or passage.plan is None or passage.plan.body is None:
        return data
    return passage.plan.body


def foreign_request(flow: http.HTTPFlow, server: connection.Server, runtime: Runtime) -> http.Request:
    """A plain request to a host that is no provider: nothing is added, the proxy's own credential is taken off."""
    address = server.peername[0] if server.peername else ""
    if runtime.hosts.find(flow.request.host, flow.request.port, flow.request.scheme) is not None:
        raise WireError(502, "not_admitted", "a call to a provider was not admitted; nothing was sent")
    if not server.via:
        gateway = runtime.snapshot.rules.gateway
        reason = egress.address_refusal(address, flow.request.port, gateway.egress_allow, flow.request.host, runtime.own_ports)
        if reason:
            raise WireError(403, "egress", reason)
    copy = _copy(flow.request)
    for name in ("proxy-authorization", "proxy-connection"):
        copy.headers.pop(name, None)
    # TRACE sends back what it was sent, and a proxy may answer it (RFC 9110, section 9.3.8).
    is_told = flow.request.scheme == "http" and flow.request.method.upper() != "TRACE"
    if server.via and runtime.upstream_auth is not None and is_told:
        copy.headers["proxy-authorization"] = runtime.upstream_auth
    return copy


def _copy(request: http.Request) -> http.Request:
    """A request of its own with the same data. mitmproxy's own `copy` serialises it, and takes ten times as long."""
    made = http.Request.__new__(http.Request)
    made.data = _same(request.data)
    made.data.headers = _same(request.data.headers)
    return made


def _same[T](value: T) -> T:
    """A shallow copy of an object with a plain `__dict__`; `copy.copy` goes a long way round."""
    made: T = object.__new__(type(value))
    made.__dict__.update(value.__dict__)
    return made


def _address(data: http.RequestData, plan: WirePlan, there: _There) -> Fields:
    """Point the copy at the plan's upstream; gives its fields, with the host in whichever place its HTTP version names it."""
    upstream = plan.provider.upstream
    data.scheme, data.host, data.port = there.scheme, upstream.host, upstream.port
    data.path = plan.path.encode()
    fields = data.headers.fields
    names = names_of(fields)
    at = 0
    if names.hosts:
        at = names.hosts[0]
        fields = tuple(compress(fields, map("host".__ne__, names.texts)))
    if data.http_version in _NAMED_BY_AUTHORITY:
        data.authority = there.authority
        return fields
    data.authority = b""
    return (*fields[:at], (b"Host", there.authority), *fields[at:])


def _check(
    data: http.RequestData,
    host_headers: tuple[str, ...],
    plan: WirePlan,
    there: _There,
    server: connection.Server,
    passage: Passage,
    runtime: Runtime,
) -> None:
    provider, address, authority = plan.provider, server.address or ("", 0), _text(data.authority)
    facts = egress.Wire(
        key_provider=passage.snapshot.vault.binding(plan.key.id) if plan.key else None,
        provider=provider.name,
        upstream=provider.upstream,
        named_on_loopback=there.on_loopback,
        dialled_host=address[0],
        dialled_port=address[1],
        tls=bool(server.tls and server.tls_established),
        tls_verified=runtime.tls_verified,
        sni=server.sni,
        scheme=_text(data.scheme),
        authority=authority or (host_headers[0] if host_headers else ""),
        host_headers=host_headers,
        method=_text(data.method),
        path=_text(data.path),
        surface=plan.surface,
        peer_ip=server.peername[0] if server.peername else "",
        via=bool(server.via),
        allow=passage.snapshot.rules.gateway.egress_allow,
        own_ports=runtime.own_ports,
        open=provider.open,
        named=there.named,
    )
    reason = egress.may_carry(facts)
    if reason:
        raise WireError(502, "credential_withheld", reason)


def _is_upgrade(fields: Fields) -> bool:
    return b"upgrade" in _first(fields, b"connection").lower() and bool(_first(fields, b"upgrade"))


def _first(fields: Fields, name: bytes) -> bytes:
    return next((value for raw, value in fields if raw.lower() == name), b"")


def _ask_for_all(headers: http.Headers) -> None:
    """Results in ranges shorter than a line would be read by the agent and counted by nobody. Any server may ignore `Range`."""
    headers.fields = tuple([field for field in headers.fields if field[0].lower() not in _RANGES])


def _fit(copy: http.Request, plan: WirePlan) -> None:
    """Make the framing headers fit a changed body."""
    if plan.body is not None and "content-length" in copy.headers:
        copy.headers["content-length"] = str(len(plan.body))
    if plan.decoded:
        copy.headers.pop("content-encoding", None)
    if plan.identity:
        copy.headers["accept-encoding"] = "identity"
