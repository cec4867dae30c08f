"""Where a connection that is no call may lead, asked once more when it is dialled.

`CONNECT` is judged by its words, but words are not addresses, and other modes of mitmproxy (SOCKS) know no `CONNECT`. So every
raw tunnel passes here before its connection is opened, and leads where it was judged to lead.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

from mitmproxy import connection

from ..policy import egress
from .runtime import Runtime

PATIENCE = 10.0
"""Seconds for a name to be resolved."""


async def pin(runtime: Runtime, server: connection.Server) -> None:
    """Put the address that was judged in place of the host; set `server.error` where there must be no connection.

    Behind an upstream proxy only the words are judged: that proxy resolves the name.
    """
    if server.address is None:
        return
    host, port = server.address[0], server.address[1]
    refusal = egress.destination(host, port, runtime.snapshot.rules, runtime.own_ports)
    if refusal is not None:
        server.error = refusal.message
    elif not server.via:
        await _resolve(runtime, server, host, port)


async def _resolve(runtime: Runtime, server: connection.Server, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), PATIENCE)
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
        server.error = f"{host} cannot be resolved: {getattr(error, 'strerror', None) or str(error) or 'no answer'}"
        return
    addresses = [str(sockaddr[0]) for *_, sockaddr in found]
    server.error = next(filter(None, (_refusal(runtime, host, ip, port) for ip in addresses)), None)
    if server.error is None:
        server.address = (addresses[0], port)


def _refusal(runtime: Runtime, host: str, ip: str, port: int) -> str | None:
    if port in runtime.own_ports and is_own(ip):
        return f"port {port} of this machine is the gateway's own"
    return egress.address_refusal(ip, port, runtime.snapshot.rules.gateway.egress_allow, host, runtime.own_ports)


def is_own(ip: str) -> bool:
    """Whether an address is one of this machine's: only those can be bound."""
    address = ip_address(ip.partition("%")[0])
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
