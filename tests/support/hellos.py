"""The first bytes of TLS and QUIC."""

from __future__ import annotations

import ssl
from contextlib import suppress

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection


def tls_hello(name: str | None) -> bytes:
    """What TLS begins with; without a name where it is None."""
    to_send = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), to_send, server_hostname=name).do_handshake()
    return to_send.read()


def quic_hello(name: str) -> list[bytes]:
    """The datagrams that QUIC begins with."""
    agent = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=name))
    agent.connect(("127.0.0.1", 443), now=0.0)
    return [data for data, _ in agent.datagrams_to_send(now=0.0)]
