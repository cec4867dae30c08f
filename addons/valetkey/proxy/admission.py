"""Who calls what: from a flow's head to a `Passage`, before any body is read.

Two doors lead in. On the proxy door the destination that the agent dialled names the provider, and everything else the
request says about its destination must agree. On the base-URL door the path names it. Whatever does not fit is refused
here, in the format of the provider it was meant for.
"""

from __future__ import annotations

from collections.abc import Mapping

from mitmproxy import connection, http
from mitmproxy.proxy.mode_specs import ReverseMode

from ..model import Address, Dialect, Door, Provider, Refusal
from ..policy import callers, credentials, egress, paths
from ..policy.authority import parse_authority, parse_host
from ..policy.headernames import names_of
from . import heads
from .identifying import Visitor
from .passage import Arrival, Passage, new_id
from .runtime import Runtime

API_SENTINEL = "valetkey.invalid"
"""The target that the base-URL door is opened with; it is never dialled."""
_NO_PROOF = frozenset({credentials.COOKIE, credentials.PROXY_AUTHORIZATION})
"""Carriers that do not say who calls: cookies are sent unasked, and the proxy's own header is read with its user."""

_HEARD = frozenset({"origin", "sec-fetch-site", *paths.TELLING})
"""What `egress.api_door` and `paths.locate_api` look at."""
_NOTHING_HEARD: Mapping[str, str] = {}


def door_of(client: connection.Client) -> Door:
    """Which door a client came in by."""
    mode = client.proxy_mode
    return "api" if isinstance(mode, ReverseMode) and mode.address[0] == API_SENTINEL else "proxy"


def begin(runtime: Runtime, flow: http.HTTPFlow) -> Passage:
    """A passage with what is known of any call: when, by which door, by which program."""
    now = runtime.clock()
    return Passage(
        id=new_id(now),
        started=now,
        mark=runtime.monotonic(),
        door=door_of(flow.client_conn),
        snapshot=runtime.snapshot,
        client=callers.client_product(heads.get(flow.request.headers, b"user-agent")),
    )


def by_address(runtime: Runtime, flow: http.HTTPFlow, arrival: Arrival, passage: Passage) -> Refusal | None:
    """The proxy door: `passage.provider` is set when the destination is a provider's; then everything must agree."""
    request = flow.request
    facts = client_facts(flow, arrival)
    name = runtime.hosts.find(request.host, request.port, request.scheme)
    if name is None:
        passage.provider = runtime.hosts.downgrade(request.host, request.port, request.scheme)
        if passage.provider is None:
            return egress.agreement(facts) or _foreign_destination(runtime, flow)
        _speak(passage)
        return _plain_http(request, passage.provider)
    passage.provider = name
    provider = _speak(passage)
    return _disagreement(flow, passage, facts) or _locate(passage, provider, request)


def _disagreement(flow: http.HTTPFlow, passage: Passage, facts: egress.ClientFacts) -> Refusal | None:
    """Why a call's words about its destination cannot be believed. A `reverse:` door may also be called by its own name."""
    if not isinstance(flow.client_conn.proxy_mode, ReverseMode):
        return egress.agreement(facts)
    names_provider = egress.agreement(facts._replace(tls=False)) is None
    hosts = ("localhost",) if names_provider else _own_host(flow, passage)
    return egress.api_door(hosts, _heard(flow.request.headers), _local_port(flow))


def by_path(runtime: Runtime, flow: http.HTTPFlow, passage: Passage) -> Refusal | None:
    """The base-URL door: a Host that is ours, no foreign page, and a path that some provider knows."""
    request = flow.request
    headers = _heard(request.headers)
    refusal = egress.api_door(_own_host(flow, passage), headers, _local_port(flow))
    if refusal is not None:
        return refusal
    found = paths.locate_api(passage.snapshot.rules.providers, request.method, _bare(request.path), headers)
    if isinstance(found, Refusal):
        return found
    passage.provider, passage.place = found
    passage.dialect = passage.place.surface.dialect
    return None


def identify(flow: http.HTTPFlow, passage: Passage, visitor: Visitor) -> Refusal | None:
    """Who calls, and with what kind of credential; a foreign key is masked in the flow from here on."""
    rules = passage.snapshot.rules
    fields, path = flow.request.headers.fields, flow.request.path
    presented = credentials.presented(fields, path)
    judgement = credentials.judge(presented, rules)
    shown = tuple(p.value for p in presented if p.carrier not in _NO_PROOF)
    caller = visitor.doorkeeper.recognise(visitor, shown, rules, passage.mark)
    if credentials.must_mask(fields, judgement):
        masked = credentials.mask_headers(fields, rules)
        if masked != fields:
            flow.request.headers = http.Headers(masked)
    if judgement.kind == "foreign":
        flow.request.path = credentials.mask_query(path, rules)
    if isinstance(caller, Refusal):
        return caller
    passage.caller = caller
    if judgement.kind == "foreign":
        return _foreign_key(passage)
    if judgement.kind == "none" and rules.gateway.no_credential == "refuse":
        text = "the call has no credential; send a dummy key such as sk-dummy, or set gateway.no_credential: inject"
        return Refusal(401, "no_credential", text)
    return None


def client_facts(flow: http.HTTPFlow, arrival: Arrival) -> egress.ClientFacts:
    """Everything a request says about where it goes, for `policy.egress.agreement`."""
    request, client = flow.request, flow.client_conn
    tunnel_tls = arrival.tunnelled and client.tls_established
    return egress.ClientFacts(
        scheme=request.scheme,
        host=request.host,
        port=request.port,
        form=arrival.form,
        tunnelled=arrival.tunnelled,
        tls=tunnel_tls,
        sni=client.sni if tunnel_tls else None,
        authority=arrival.authority,
        host_headers=heads.get_all(request.headers, b"host"),
        http_version=request.http_version,
    )


def _locate(passage: Passage, provider: Provider, request: http.Request) -> Refusal | None:
    found = paths.unnamed(provider, request.host) or paths.locate(
        provider.facts, request.method, _bare(request.path), provider.open
    )
    if isinstance(found, Refusal):
        return found
    passage.place = found
    passage.dialect = found.surface.dialect
    return None


def _speak(passage: Passage) -> Provider:
    """Set the dialect for refusals to the provider's own, until the path tells more."""
    provider = passage.snapshot.rules.providers[passage.provider or ""]
    passage.dialect = provider.facts.surfaces[0].dialect if provider.facts.surfaces else Dialect.OPENAI
    return provider


def _plain_http(request: http.Request, provider: str) -> Refusal:
    text = f"{provider} is only called over TLS; use https://{request.host} instead of {request.scheme}://{request.host}:{request.port}"
    return Refusal(400, "plain_http", text)


def _foreign_destination(runtime: Runtime, flow: http.HTTPFlow) -> Refusal | None:
    return egress.destination(flow.request.host, flow.request.port, runtime.snapshot.rules, runtime.own_ports)


def _foreign_key(passage: Passage) -> Refusal | None:
    if passage.snapshot.rules.gateway.foreign_keys == "replace":
        passage.note("foreign_key_replaced")
        return None
    passage.note("foreign_key_rejected")
    text = "the call carries a credential that is no dummy key; agents behind this gateway send sk-dummy (gateway.foreign_keys)"
    return Refusal(401, "foreign_key", text)


def _bare(path: str) -> str:
    return path.partition("?")[0]


def _heard(headers: http.Headers) -> Mapping[str, str]:
    """The headers that door and path look at; no field is read where none of them is there, as is usual."""
    names = names_of(headers.fields)
    return _NOTHING_HEARD if names.is_ascii and _HEARD.isdisjoint(names.texts) else heads.plain(headers)


def _local_port(flow: http.HTTPFlow) -> int:
    sockname = flow.client_conn.sockname
    return sockname[1] if sockname else 0


def _own_host(flow: http.HTTPFlow, passage: Passage) -> tuple[str, ...]:
    """The Host headers, in place of a name or address that is ours `localhost`.

    A page that rebinds its own name to us cannot have such a Host: addresses are no names, and `gateway.hosts` lists ours alone.
    """
    found = heads.get_all(flow.request.headers, b"host") or tuple(filter(None, [flow.request.authority]))
    named = parse_authority(found[0]) if len(found) == 1 else None
    sockname = flow.client_conn.sockname
    port = sockname[1] if sockname else 0
    if named is None or named.port not in (None, port):
        listed = named is not None and str(Address(named.host, named.port or 0)) in passage.snapshot.rules.gateway.hosts
        return ("localhost",) if listed else found
    own = (sockname and named.host == parse_host(sockname[0])) or named.host in passage.snapshot.rules.gateway.hosts
    return ("localhost",) if own else found
