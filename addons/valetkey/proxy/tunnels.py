"""Connections that are no calls: who may open a tunnel, where it may lead, and that nobody reads it.

A tunnel to a host that is no provider is never decrypted. Its destination is resolved here and pinned, so that the address
that was judged is the address that is dialled.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakSet

from mitmproxy import connection, http
from mitmproxy.proxy import layer, layers, server_hooks

from ..model import Refusal, Rules
from ..policy import callers, egress, identity
from ..policy.identity import Login
from . import admission, passthrough, refusals
from .guard import ClosingLayer, guarded
from .identifying import Doorkeeper, Visitor, is_exposed, proxy_refusal, requires_known
from .runtime import Runtime

PROXY_AUTHORIZATION = "proxy-authorization"


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
        value = flow.request.headers.get(PROXY_AUTHORIZATION)
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
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """A request that is no call is forwarded for those who may, without what it said to the proxy."""
        request = flow.request
        if flow.response or admission.door_of(flow.client_conn) == "api" or self._provider(request.host, request.port):
            return
        stranger = self.tunnels.enter(flow, self.runtime.snapshot.rules, self.runtime.monotonic(), open_to_all=False)
        if stranger is not None:
            flow.response = proxy_refusal(stranger)

    @guarded
    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Only a provider's tunnel is opened; every other one passes as raw bytes."""
        context = nextlayer.context
        address = context.server.address
        if nextlayer.layer or address is None or admission.door_of(context.client) == "api":
            return
        if not self._provider(address[0], address[1]):
            if not self.tunnels.admits(context.client, self.runtime.snapshot.rules):
                nextlayer.layer = ClosingLayer(context)
                return
            self._raw.add(context.server)
            nextlayer.layer = layers.TCPLayer(context, ignore=True)

    @guarded
    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """A raw tunnel leads where it was judged to lead."""
        if data.server in self._raw:
            await passthrough.pin(self.runtime, data.server)

    def _provider(self, host: str, port: int) -> bool:
        hosts = self.runtime.hosts
        return hosts.find(host, port, "https") is not None or hosts.find(host, port, "http") is not None
