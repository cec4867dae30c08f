"""TLS sessions of upstream connections are resumed: the next handshake with the same place needs no certificate and no signature.

What a resumed connection is trusted for was shown in the full handshake that its session comes from. So a session is only kept
where mitmproxy's own TlsConfig set up a handshake that verified the certificate, and only offered where that same OpenSSL context
(trusted CAs, client certificate, versions, ciphers), address, host name and ALPN offer are used again. It is offered once: a
session that does not work costs one connection. Its time counts from the full handshake, however often it was handed on, and
ends with the certificate's. Sessions are kept in memory only, and forgotten when a TLS option or the rules change.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from mitmproxy import connection, ctx, tls
from mitmproxy.proxy import server_hooks
from OpenSSL import SSL

from ..rules import Snapshot
from .guard import guarded
from .runtime import Runtime

LIFETIME = 3600.0
"""Seconds after a full handshake in which its sessions are offered."""
PLACES = 64
"""Of these, the ones used last, sessions are kept."""
PER_PLACE = 16
"""Sessions of one place: as many connections may begin at the same moment without a full handshake."""
OPTIONS = frozenset({
    "ssl_insecure", "ssl_verify_upstream_trusted_ca", "ssl_verify_upstream_trusted_confdir", "client_certs", "ciphers_server",
    "tls_version_server_min", "tls_version_server_max", "tls_ecdh_curve_server", "http2",
})  # fmt: skip
"""mitmproxy's options that say how an upstream is verified and spoken to."""


class Place(NamedTuple):
    """What must be the same for a session to be offered. `context` holds all that TlsConfig took from options."""

    context: SSL.Context
    address: tuple[str, int]
    sni: str
    alpn: tuple[bytes, ...]


@dataclass(slots=True)
class Opened:
    """A connection under way. `until`: when its sessions end, by the monotonic clock; 0 before its handshake is done.

    `inherited` is the end of the session that was offered. It holds although the server may have declined: then a full handshake
    comes a little early, and nobody has to ask OpenSSL what happened.
    """

    made: SSL.Connection
    place: Place
    inherited: float | None
    until: float = 0.0


class SessionStore[S]:
    """Sessions by place, each given out once, the newest first. Bounded by places, by sessions of a place, and by time."""

    def __init__(self, places: int = PLACES, per_place: int = PER_PLACE) -> None:
        self._places, self._per_place = places, per_place
        self._kept: OrderedDict[Hashable, deque[tuple[S, float]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def put(self, place: Hashable, session: S, until: float) -> None:
        """Keep a session; the oldest of the place, or the place that was not used for longest, makes room."""
        self._kept.setdefault(place, deque(maxlen=self._per_place)).append((session, until))
        self._kept.move_to_end(place)
        if len(self._kept) > self._places:
            self._kept.popitem(last=False)

    def take(self, place: Hashable, now: float) -> tuple[S, float] | None:
        """A session and the time at which it ends, which is after `now`; None when there is none."""
        found = self._kept.get(place)
        while found:
            session, until = found.pop()
            if until > now:
                self._kept.move_to_end(place)
                return session, until
        self._kept.pop(place, None)
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


class ValetResumption:
    """Offers kept sessions and keeps new ones."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._sessions: SessionStore[SSL.Session] = SessionStore()
        self._open: WeakKeyDictionary[connection.Connection, Opened] = WeakKeyDictionary()
        self._rules: Snapshot | None = None

    def configure(self, updated: set[str]) -> None:
        """What was verified under other options does not count any more."""
        if updated & OPTIONS:
            self._forget()

    @guarded
    def tls_start_server(self, data: tls.TlsData) -> None:
        """Let mitmproxy set up the handshake, and offer a session in it."""
        server = data.conn
        if data.ssl_conn is not None or data.is_dtls or not isinstance(server, connection.Server) or server.via:
            return
        ctx.master.addons.get("tlsconfig").tls_start_server(data)
        made, address = data.ssl_conn, server.address
        if made is None or address is None or not server.sni or not _verifies(made.get_context()):
            return
        if self._rules is not self.runtime.snapshot:
            self._forget()
            self._rules = self.runtime.snapshot
        place = Place(made.get_context(), (address[0], address[1]), server.sni, tuple(server.alpn_offers))
        kept = self._sessions.take(place, self.runtime.monotonic())
        if kept is not None:
            made.set_session(kept[0])
        _keep_sessions_of(made)
        self._open[server] = Opened(made, place, kept[1] if kept else None)

    @guarded
    def tls_established_server(self, data: tls.TlsData) -> None:
        """From here on the session may be kept, if the handshake is the one that was set up here."""
        opened = self._open.get(data.conn)
        if opened is None:
            return
        if opened.made is not data.ssl_conn or not data.conn.certificate_list:
            del self._open[data.conn]
        elif opened.inherited is not None:
            opened.until = opened.inherited
        else:
            valid = data.conn.certificate_list[0].notafter.timestamp() - self.runtime.clock()
            opened.until = self.runtime.monotonic() + min(LIFETIME, valid)

    @guarded
    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Keep the session: in TLS 1.3 a server sends it some time after the handshake."""
        opened = self._open.pop(data.server, None)
        if opened is None or not opened.until:
            return
        session = opened.made.get_session()
        if session is not None:
            self._sessions.put(opened.place, session, opened.until)

    def _forget(self) -> None:
        self._sessions.clear()
        self._open.clear()


def _verifies(context: SSL.Context) -> bool:
    return bool(context.get_verify_mode() & SSL.VERIFY_PEER)


def _keep_sessions_of(made: SSL.Connection) -> None:
    """OpenSSL spoils the session of a connection that is freed without close_notify, which mitmproxy never sends.

    From TLS 1.2 on such an end is no reason not to resume (RFC 5246, 7.2.1). The flag is set when nobody can use the connection
    any more: before that, sending on it would fail.
    """
    api: Any = SSL
    handle: Any = made
    weakref.finalize(made, api._lib.SSL_set_shutdown, handle._ssl, SSL.SENT_SHUTDOWN).atexit = False
