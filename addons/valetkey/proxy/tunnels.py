"""Connections that are no calls: who may open a tunnel, where it may lead, and that nobody reads it.

A tunnel to a host that is no provider is never decrypted. Its destination is resolved here and pinned, so that the address
that was judged is the address that is dialled. Where a client dialled an address (SOCKS5, redirected or captured traffic), the
name that its first bytes say takes the address's place, when it is a provider's or when only the name may be reached.
"""

from __future__ import annotations

import logging
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy import connection, http
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy import events, layer, layers, server_hooks
from mitmproxy.proxy.layers.http import is_h3_alpn
from mitmproxy.proxy.mode_specs import ReverseMode, WireGuardMode
from mitmproxy.tls import TlsData

from ..model import Refusal, Rules
from ..policy import callers, egress, identity
from ..policy.authority import is_address
from ..policy.headernames import names_of
from ..policy.identity import Login
from . import admission, naming, passthrough, refusals
from .canaryhost import is_canary
from .guard import ClosingLayer, guarded
from .identifying import Doorkeeper, Visitor, is_exposed, proxy_refusal, requires_known
from .naming import Said
from .runtime import Runtime

logger = logging.getLogger(__name__)

PROXY_AUTHORIZATION = "proxy-authorization"
WIREGUARD_RESOLVER = ("10.0.0.53", 53)
"""The name server of WireGuard's clients: mitmproxy itself answers there."""


class Tunnels:
    """Who opened a connection, as its `Proxy-Authorization` said."""

    def __init__(self) -> None:
        self._logins: WeakKeyDictionary[connection.Client, Login] = WeakKeyDictionary()
        self._doorkeeper = Doorkeeper()

    def enter(self, flow: http.HTTPFlow, rules: Rules, now: float, *, open_to_all: bool) -> Refusal | None:
        """Judge who sends a CONNECT, or a request that is no call, and take the header off the flow.

        `open_to_all`: who says nothing is heard, because each request inside the tunnel is asked again.
        """
        visitor = self.user(flow)
        flow.request.headers.pop(PROXY_AUTHORIZATION, None)
        if visitor.own is None and open_to_all:
            return None
        if visitor.own and visitor.tunnel and visitor.own != visitor.tunnel:
            return callers.CONFLICT  # one connection, two agents: whose its requests are could not be told
        caller = self._doorkeeper.recognise(visitor, (), rules, now)
        if isinstance(caller, Refusal):
            return caller
        if visitor.own is not None and flow.request.method == "CONNECT":
            self._logins[flow.client_conn] = visitor.own
        return None

    def user(self, flow: http.HTTPFlow) -> Visitor:
        """What the request itself and the tunnel it came through say of who calls."""
        client = flow.client_conn
        headers = flow.request.headers
        value = headers.get(PROXY_AUTHORIZATION) if names_of(headers.fields).private else None
        own = identity.read_login(value) if value else None
        exposed = flow.is_replay != "request" and is_exposed(client)
        return Visitor(self._doorkeeper, client.peername[0] if client.peername else "", exposed, self._logins.get(client), own)

    def admits(self, client: connection.Client, rules: Rules) -> bool:
        """Whether a connection may lead where nobody looks into it: it was let in, or all are."""
        return client in self._logins or not requires_known(is_exposed(client), rules)


class ValetTunnels:
    """CONNECT, the decision what is inside, and the address that is dialled."""

    def __init__(self, runtime: Runtime, tunnels: Tunnels) -> None:
        self.runtime = runtime
        self.tunnels = tunnels
        self._raw: WeakSet[connection.Server] = WeakSet()
        self._nameless: WeakSet[connection.Client] = WeakSet()

    @guarded
    def client_connected(self, client: connection.Client) -> None:
        """Nothing to decide: the guard closes connections that come before the gateway is ready."""

    @guarded
    def http_connect(self, flow: http.HTTPFlow) -> None:
        """A tunnel may lead to a provider, or where `gateway.egress` lets it."""
        provider = self._provider(flow.request.host, flow.request.port)
        rules = self.runtime.snapshot.rules
        stranger = self.tunnels.enter(flow, rules, self.runtime.monotonic(), open_to_all=provider)
        if stranger is not None:
            flow.response = proxy_refusal(stranger)
            return
        if provider:
            return
        refusal = egress.destination(flow.request.host, flow.request.port, rules, self.runtime.own_ports)
        if refusal is not None:
            flow.response = refusals.plain(refusal)

    @guarded
    def http_connect_upstream(self, flow: http.HTTPFlow) -> None:
        """Tell the proxy in front (`--mode upstream:`) who we are."""
        if self.runtime.upstream_auth is not None:
            flow.request.headers["Proxy-Authorization"] = self.runtime.upstream_auth

    @guarded
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """A request that is no call is forwarded for those who may, without what it said to the proxy."""
        request = flow.request
        if flow.response or admission.door_of(flow.client_conn) == "api" or self._provider(request.host, request.port):
            return
        if flow.client_conn in self._nameless:
            flow.response = refusals.plain(_no_name(request.host))
            return
        stranger = self.tunnels.enter(flow, self.runtime.snapshot.rules, self.runtime.monotonic(), open_to_all=False)
        if stranger is not None:
            flow.response = proxy_refusal(stranger)

    @guarded
    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Only a provider's tunnel is opened; every other one passes as raw bytes."""
        if nextlayer.layer is None:
            self._choose(nextlayer)
        if nextlayer.layer is None:
            _await_handshake(nextlayer)

    def _choose(self, nextlayer: layer.NextLayer) -> None:
        """Set the layer, where it is not mitmproxy's to choose."""
        context = nextlayer.context
        client, address = context.client, context.server.address
        if address is None or admission.door_of(client) == "api" or client in self._nameless:
            return
        if isinstance(client.proxy_mode, ReverseMode):
            context.server.sni = address[0]  # whatever the client called the door
        if isinstance(client.proxy_mode, WireGuardMode) and address == WIREGUARD_RESOLVER:
            return
        if self._needs_a_name(client, *address[:2]) and self._is_left_to_mitmproxy(nextlayer, context.server):
            return
        if nextlayer.layer is None:
            self._lead(nextlayer)

    def _lead(self, nextlayer: layer.NextLayer) -> None:
        """Leave a provider's connection to mitmproxy, which reads it, and pass every other one on, if its client may."""
        context = nextlayer.context
        assert context.server.address is not None
        if self._provider(*context.server.address[:2]):
            return
        if not self.tunnels.admits(context.client, self.runtime.snapshot.rules):
            nextlayer.layer = ClosingLayer(context)
            return
        self._raw.add(context.server)
        raw = layers.UDPLayer if context.client.transport_protocol == "udp" else layers.TCPLayer
        nextlayer.layer = raw(context, ignore=True)

    def _needs_a_name(self, client: connection.Client, host: str, port: int) -> bool:
        return naming.dials_addresses(client) and is_address(host) and not self._provider(host, port)

    def _is_left_to_mitmproxy(self, nextlayer: layer.NextLayer, server: connection.Server) -> bool:
        """Put a name in place of an address; True for what is read only to be refused, for want of a name or of TLS."""
        assert server.address is not None
        client, came, (host, port) = nextlayer.context.client, _came(nextlayer), server.address[:2]
        said = naming.name_of(client, came)
        if said is Said.MORE:
            raise AddonHalt  # mitmproxy asks again when more has come; it must not decide meanwhile
        rules, hosts = self.runtime.snapshot.rules, self.runtime.hosts
        if isinstance(said, str):
            is_plain_call = hosts.downgrade(said, port, naming.scheme_of(client, came)) is not None
            if is_plain_call or self._provider(said, port) or egress.destination(host, port, rules, self.runtime.own_ports):
                server.address = (said, port)
            return is_plain_call
        if said is Said.ENDLESS:
            nextlayer.layer = ClosingLayer(nextlayer.context)
            return True
        if said is Said.NOTHING or egress.is_opened(host, port, rules):
            return False
        self._refuse_nameless(nextlayer, host, port)
        return nextlayer.layer is None

    def _refuse_nameless(self, nextlayer: layer.NextLayer, host: str, port: int) -> None:
        """TLS is opened, so that the client can be told why; nothing that is in it goes anywhere."""
        client = nextlayer.context.client
        logger.warning("valetkey: a connection to %s:%d was refused: %s", host, port, _no_name(host).message)
        if client.transport_protocol == "udp":
            nextlayer.layer = ClosingLayer(nextlayer.context)
        else:
            self._nameless.add(client)

    @guarded
    def tls_start_server(self, data: TlsData) -> None:
        """Calls that come by HTTP/3 go out by TCP, where nobody speaks it."""
        if is_h3_alpn(data.context.client.alpn) and isinstance(data.conn, connection.Server):
            data.conn.alpn_offers = data.conn.alpn_offers or (b"h2", b"http/1.1")

    @guarded
    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """A raw tunnel leads where it was judged to lead; what is only answered here leads nowhere.

        mitmproxy would take port 53 for a name server, and call it without any request that could be judged.
        """
        if data.client in self._nameless or (data.server.address and is_canary(data.server.address[0])):
            data.server.error = "nothing is sent there"
            return
        if data.server in self._raw:
            await passthrough.pin(self.runtime, data.server)

    def _provider(self, host: str, port: int) -> bool:
        """Whether a tunnel is opened and read: a provider's is, and that of the host which we answer ourselves."""
        return is_canary(host) or self.runtime.is_provider(host, port)


def _await_handshake(nextlayer: layer.NextLayer) -> None:
    """Give mitmproxy whole handshakes alone: one that has no end it would keep, and read again with each piece of it."""
    said = naming.handshake_of(nextlayer.context.client, _came(nextlayer))
    if said is Said.MORE:
        raise AddonHalt
    if said is Said.ENDLESS:
        nextlayer.layer = ClosingLayer(nextlayer.context)


def _came(nextlayer: layer.NextLayer) -> list[bytes]:
    """What the client has sent, in the pieces in which it came."""
    client = nextlayer.context.client
    return [each.data for each in nextlayer.events if isinstance(each, events.DataReceived) and each.connection == client]


def _no_name(host: str) -> Refusal:
    text = (
        f"it was opened to the address {host} without a server name (SNI), so nobody can tell whether it is a call; "
        f"send the name, or list {host} in gateway.egress_allow if agents may reach it unseen"
    )
    return Refusal(421, "no_sni", text)
