"""Whether everything that names a destination agrees: at the doors, and once more before a credential goes out.

An agent chooses the words of its request freely, so none of them alone decides where a key goes. What it dialled, what it said
in TLS, and what it wrote in the request must be one and the same place; and so must what the gateway dials in its stead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_address
from typing import Literal, NamedTuple

from ..model import ProviderFacts, Refusal, Surface, Upstream
from . import paths
from .addresses import address_refusal, destination, is_opened
from .authority import Authority, is_address, parse_authority, parse_host

__all__ = ["ClientFacts", "Wire", "address_refusal", "agreement", "api_door", "destination", "is_opened", "may_carry"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class ClientFacts(NamedTuple):
    """What a request on the proxy door says about its destination.

    `host` and `port` are the connection's own: the authority of CONNECT, or of an absolute-form request outside a tunnel.
    `authority` is what stands in the request target or `:authority`, empty where nothing does. `tls` and `sni` are those of
    the connection inside the tunnel.
    """

    scheme: str
    host: str
    port: int
    form: Literal["origin", "absolute", "authority"]
    tunnelled: bool
    tls: bool
    sni: str | None
    authority: str
    host_headers: tuple[str, ...]
    http_version: str


class Wire(NamedTuple):
    """One request as it is about to go to a provider, and the connection it would go on.

    `key_provider` is the provider that the key is bound to in the vault, None when the request carries no credential.
    `upstream`, `surface` and `open` are what the rules say of `provider`; all else is read from the request and the connection.
    `via` means that an upstream proxy dials (then `peer_ip` is the proxy's and says nothing). `named`: the rules themselves
    name this upstream, so it may have an address that is not public.
    """

    key_provider: str | None
    provider: str
    upstream: Upstream
    named_on_loopback: bool
    dialled_host: str
    dialled_port: int
    tls: bool
    tls_verified: bool
    sni: str | None
    scheme: str
    authority: str
    host_headers: tuple[str, ...]
    method: str
    path: str
    surface: Surface
    peer_ip: str
    via: bool = False
    allow: tuple[str, ...] = ()
    own_ports: Collection[int] = ()
    open: tuple[str, ...] = ()
    named: bool = False


def agreement(facts: ClientFacts) -> Refusal | None:
    """Why the request's words about its destination do not agree with each other; None when they do.

    400 for what cannot be read in one way only, 421 (misdirected request) for what names another place.
    """
    # 1. A request that was meant for a server, not for a proxy.
    if facts.form == "origin" and not facts.tunnelled:
        text = "this is a proxy: set HTTPS_PROXY to it, or use the base-URL door (gateway.api) as the base URL"
        return Refusal(400, "origin_form", text)
    # 2. The destination itself.
    host = parse_host(facts.host)
    if host is None:
        return Refusal(400, "bad_host", f"{facts.host[:253]!r} is no plain host name or address")
    # 3. Exactly one Host, except where :authority or an old protocol version stands for it.
    if len(facts.host_headers) > 1:
        return Refusal(400, "duplicate_host", f"the request has {len(facts.host_headers)} Host headers; send one")
    if not facts.host_headers and (not facts.authority or facts.http_version == "HTTP/1.1"):
        return Refusal(400, "missing_host", "the request has no Host header")
    # 4. Whatever else names a place names this one.
    place = Authority(host, facts.port)
    for source, text in _authorities(facts):
        refusal = _disagreement(source, text, place, facts.scheme)
        if refusal is not None:
            return refusal
    # 5. And so does the name in TLS.
    return _sni_refusal(facts.sni, host) if facts.tls else None


def api_door(host_headers: tuple[str, ...], headers: Mapping[str, str], port: int) -> Refusal | None:
    """Why a request may not use the base-URL door on `port`; None when it may. `headers` has lower-case names.

    A web page that rebinds a name to 127.0.0.1 still sends its own Host, and a foreign page its own Origin.
    """
    if len(host_headers) != 1:
        return Refusal(400, "bad_host", f"the request has {len(host_headers)} Host headers; send one")
    authority = parse_authority(host_headers[0])
    if authority is None or not _is_loopback(authority.host) or authority.port not in (None, port):
        text = f"this door answers to localhost:{port} and 127.0.0.1:{port} only, not to {host_headers[0][:253]!r}"
        return Refusal(421, "foreign_host", text)
    if not headers:
        return None
    origin = headers.get("origin")
    if origin is not None and not _is_loopback_origin(origin):
        return Refusal(403, "foreign_origin", f"web pages from {origin[:253]!r} may not use this door")
    if headers.get("sec-fetch-site", "").strip().lower() == "cross-site":
        return Refusal(403, "foreign_origin", "a web page of another site may not use this door")
    return None


def may_carry(wire: Wire) -> str | None:
    """Why this request, with its credential, may not go out on this connection; None when it may.

    The one function that every credential passes. The reason is a sentence without any secret.
    """
    upstream = wire.upstream
    # 1. A key goes to its own provider only, whatever the routes say.
    if wire.key_provider not in (None, wire.provider):
        return f"a key of {wire.key_provider} does not go to {wire.provider}"
    # 2. Method and path are ones that the provider answers without showing the key to anybody.
    if not _is_known_endpoint(wire):
        return f"{wire.method} {wire.path.partition('?')[0]} is no endpoint of {wire.provider} that a key may be sent to"
    # 3. The connection leads where the rules say.
    if (wire.dialled_host, wire.dialled_port, wire.scheme) != (upstream.host, upstream.port, upstream.scheme):
        dialled = f"{wire.scheme}://{wire.dialled_host}:{wire.dialled_port}"
        return f"the connection leads to {dialled}, but {wire.provider} is at {upstream.origin}"
    # 4. The request names the same place.
    if len(wire.host_headers) > 1 or not _is_named(wire):
        return f"the request names another host than {upstream.origin}"
    # 5. Nobody on the way can read or be it.
    return _exposure(wire) or _bad_peer(wire)


def _is_known_endpoint(wire: Wire) -> bool:
    facts = _facts_at(wire.surface, wire.upstream.prefix)
    return not isinstance(paths.locate(facts, wire.method, wire.path.partition("?")[0], wire.open), Refusal)


def _facts_at(surface: Surface, prefix: str | None) -> ProviderFacts:
    """The surface as it is under a prefix; made once for each surface."""
    known = _FACTS.get((id(surface), prefix))
    if known is not None and known[0] is surface:
        return known[1]
    surfaces = tuple(replace(surface, base=base) for base in _bases(surface.base, prefix))
    facts = ProviderFacts(name=surface.name, title="", hosts=(), upstream="", surfaces=surfaces)
    if len(_FACTS) >= _MOST_FACTS:  # surfaces of rules that were reloaded
        _FACTS.clear()
    _FACTS[id(surface), prefix] = (surface, facts)
    return facts


_MOST_FACTS = 1024
_FACTS: dict[tuple[int, str | None], tuple[Surface, ProviderFacts]] = {}


def _bases(base: str, prefix: str | None) -> Iterator[str]:
    """Where a surface may begin at an upstream: a prefix there stands for its base, or for the first segments of it."""
    if prefix is None:
        return iter([base])
    return (prefix + base[at:] for at, char in enumerate(base + "/") if char == "/")


def _is_named(wire: Wire) -> bool:
    """Whether `:authority` and `Host`, which nearly always say the same, name the upstream."""
    said, upstream = wire.host_headers, wire.upstream
    return _names(upstream, wire.authority) and (not said or said[0] == wire.authority or _names(upstream, said[0]))


def _names(upstream: Upstream, text: str) -> bool:
    named = parse_authority(text)
    if named is None:
        return False
    port = named.port or _DEFAULT_PORTS.get(upstream.scheme)
    return port == upstream.port and named.host == parse_host(upstream.host)


def _exposure(wire: Wire) -> str | None:
    """Why others could read what is sent. Plain HTTP stays on this machine; a request without a credential may leave it."""
    if wire.scheme == "https":
        return _weak_tls(wire)
    if wire.scheme != "http":
        return f"scheme {wire.scheme!r} is neither https nor http"
    if wire.key_provider is None or (wire.named_on_loopback and not wire.via and _is_loopback(wire.peer_ip)):
        return None
    return f"plain HTTP to {wire.upstream.host} would show the key; only an upstream on this machine may be called without TLS"


def _weak_tls(wire: Wire) -> str | None:
    host = wire.upstream.host
    if not wire.tls:
        return f"the connection to {host} has no TLS"
    if parse_host(wire.sni or "") != parse_host(host) and not (wire.sni is None and is_address(host)):
        return f"TLS was made for {wire.sni}, not for {host}"
    if wire.key_provider is not None and not wire.tls_verified:
        return f"the certificate of {host} was not verified (mitmproxy's ssl_insecure is on)"
    return None


def _bad_peer(wire: Wire) -> str | None:
    """Why the address that was really dialled is wrong; where a proxy dials it, that is the proxy's duty."""
    if wire.via:
        return None
    named = (wire.upstream.host,) if wire.named or wire.named_on_loopback else ()
    return _peer_refusal(wire.peer_ip, wire.dialled_port, (*wire.allow, *named), wire.dialled_host, frozenset(wire.own_ports))


@lru_cache(maxsize=1024)
def _peer_refusal(ip: str, port: int, allow: tuple[str, ...], host: str, own_ports: frozenset[int]) -> str | None:
    """`address_refusal`, read once for each address of a provider."""
    return address_refusal(ip, port, allow, host, own_ports)


def _authorities(facts: ClientFacts) -> Iterator[tuple[str, str]]:
    if facts.authority:
        yield "the request target", facts.authority
    for value in facts.host_headers:
        yield "the Host header", value


def _disagreement(source: str, text: str, place: Authority, scheme: str) -> Refusal | None:
    named = parse_authority(text)
    if named is None:
        return Refusal(400, "bad_authority", f"{source} {text[:253]!r} is no plain host[:port]")
    if (named.host, named.port or _DEFAULT_PORTS.get(scheme)) == (place.host, place.port):
        return None
    return Refusal(421, "misdirected", f"{source} names {text}, but the connection was opened to {place.host}:{place.port}")


def _sni_refusal(sni: str | None, host: str) -> Refusal | None:
    if sni is None:
        # Addresses are not allowed in SNI (RFC 6066, section 3), so clients send none for them.
        return None if is_address(host) else Refusal(421, "no_sni", f"TLS to {host} came without a server name (SNI)")
    if parse_host(sni) == host:
        return None
    return Refusal(421, "misdirected", f"TLS names {sni[:253]!r}, but the connection was opened to {host}")


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def _is_loopback_origin(origin: str) -> bool:
    scheme, _, rest = origin.strip().partition("://")
    authority = parse_authority(rest)
    return scheme.lower() in _DEFAULT_PORTS and authority is not None and _is_loopback(authority.host)
