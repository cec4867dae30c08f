"""Connections that are no calls: who may open a tunnel, where it may lead, and that nobody reads it.

A tunnel to a host that is no provider is never decrypted. Its destination is resolved here and pinned, so that the address
that was judged is the address that is dialled.
"""

from __future__ import annotations

import asyncio
import socket
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy import connection, http
from mitmproxy.proxy import layer, layers, server_hooks

from ..policy import egress
from . import admission, refusals
from .guard import guarded
from .runtime import Runtime


class Tunnels:
    """Who opened a connection, as its `Proxy-Authorization` said."""

    def __init__(self) -> None:
        self._users: WeakKeyDictionary[connection.Client, str] = WeakKeyDictionary()

    def remember(self, flow: http.HTTPFlow) -> None:
        """Keep the user of a CONNECT and take the header off the flow."""
        user = admission.caller_of_tunnel(flow.request.headers.pop("proxy-authorization", None))
        if user:
            self._users[flow.client_conn] = user

    def user(self, flow: http.HTTPFlow) -> str | None:
        """The user named by the request itself or by the tunnel it came through."""
        own = admission.caller_of_tunnel(flow.request.headers.get("proxy-authorization"))
        return own or self._users.get(flow.client_conn)


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
        self.tunnels.remember(flow)
        if self._provider(flow.request.host, flow.request.port):
            return
        rules = self.runtime.snapshot.rules
        refusal = egress.destination(flow.request.host, flow.request.port, rules, self.runtime.own_ports)
        if refusal is not None:
            flow.response = refusals.plain(refusal)

    @guarded
    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Only a provider's tunnel is opened; every other one passes as raw bytes."""
        context = nextlayer.context
        address = context.server.address
        if nextlayer.layer or address is None or admission.door_of(context.client) == "api":
            return
        if not self._provider(address[0], address[1]):
            self._raw.add(context.server)
            nextlayer.layer = layers.TCPLayer(context, ignore=True)

    @guarded
    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Resolve the host of a raw tunnel once, judge the address, and dial exactly that."""
        server = data.server
        if server not in self._raw or server.via or server.address is None:
            return
        host, port = server.address[0], server.address[1]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            server.error = f"{host} cannot be resolved: {error.strerror or error}"
            return
        gateway = self.runtime.snapshot.rules.gateway
        for *_, sockaddr in found:
            ip = str(sockaddr[0])
            reason = egress.address_refusal(ip, port, gateway.egress_allow, host, self.runtime.own_ports)
            if reason:
                server.error = reason
                return
        server.address = (str(found[0][4][0]), port)

    def _provider(self, host: str, port: int) -> bool:
        hosts = self.runtime.hosts
        return hosts.find(host, port, "https") is not None or hosts.find(host, port, "http") is not None
