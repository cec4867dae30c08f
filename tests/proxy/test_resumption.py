"""Handshakes between mitmproxy's own TlsConfig, with the addon before it, and a TLS server in memory."""

from __future__ import annotations

import ssl
from contextlib import suppress
from types import SimpleNamespace

import pytest
from mitmproxy import certs, connection, options, tls
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import taddons, tflow
from OpenSSL import SSL

from support import making
from valetkey.proxy.resumption import LIFETIME, SessionStore, ValetResumption
from valetkey.simulator import make_authority

HOST = "api.openai.com"


class Provider:
    """A TLS server that nobody dials. `maximum` is its newest version."""

    def __init__(self, files, maximum=ssl.TLSVersion.TLSv1_3):
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(files.cert, files.key)
        self.context.maximum_version = maximum

    def shake(self, made):
        """Handshake and one word of data; raises SSL.Error when the client does not agree."""
        arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = self.context.wrap_bio(arriving, leaving, server_side=True)
        waiting = [server.do_handshake, lambda: server.write(b"word")]
        while waiting:
            with suppress(SSL.WantReadError):
                made.do_handshake()
            with suppress(SSL.WantReadError):
                arriving.write(made.bio_read(65535))
            while waiting:
                try:
                    waiting[0]()
                except ssl.SSLWantReadError:
                    break
                waiting.pop(0)
            if data := leaving.read():
                made.bio_write(data)
        with suppress(SSL.WantReadError):
            made.do_handshake()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"), [HOST, "api.anthropic.com"])


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def provider(files, request):
    return Provider(files, request.param)


class Bench:
    """The addon in mitmproxy, and clocks that are set by hand."""

    def __init__(self, context, files):
        self.context, self.now = context, 1000.0
        self.addon = ValetResumption(making.runtime())
        self.addon.runtime.monotonic = lambda: self.now
        context.master.addons.add(self.addon)
        context.configure(TlsConfigured.of(context), ssl_verify_upstream_trusted_ca=str(files.ca))

    def start(self, address=(HOST, 443), sni=HOST, alpn=(b"http/1.1",), via=None):
        """A connection whose handshake is set up; what the hooks are given."""
        flow = Context(tflow.tclient_conn(), options.Options())
        server = connection.Server(address=address)
        server.sni, server.alpn_offers, server.via = sni, list(alpn), via
        data = tls.TlsData(server, flow)
        self.addon.tls_start_server(data)
        TlsConfigured.of(self.context).tls_start_server(data)
        return data

    def finish(self, data, provider):
        """Do the handshake; whether it was resumed."""
        provider.shake(data.ssl_conn)
        data.conn.certificate_list = [certs.Cert.from_pyopenssl(each) for each in data.ssl_conn.get_peer_cert_chain() or []]
        self.addon.tls_established_server(data)
        data.ssl_conn.recv(100)
        return bool(SSL._lib.SSL_session_reused(data.ssl_conn._ssl))

    def end(self, data):
        """The connection is closed, and mitmproxy forgets it."""
        self.addon.server_disconnected(ServerConnectionHookData(data.conn, data.context.client))
        data.ssl_conn = None

    def call(self, provider, **how):
        """A whole connection; whether it was resumed."""
        data = self.start(**how)
        resumed = self.finish(data, provider)
        self.end(data)
        return resumed


class TlsConfigured:
    @staticmethod
    def of(context):
        return context.master.addons.get("tlsconfig")


@pytest.fixture
def bench(files):
    with taddons.context(TlsConfig()) as context:
        yield Bench(context, files)


def test_the_next_connection_is_resumed(bench, provider):
    assert [bench.call(provider) for _ in range(4)] == [False, True, True, True]


def test_a_resumed_connection_has_the_certificates_that_were_verified(bench, provider):
    first = bench.start()
    bench.finish(first, provider)
    bench.end(first)
    second = bench.start()
    assert (bench.finish(second, provider), second.conn.certificate_list) == (True, first.conn.certificate_list)


def test_a_session_is_offered_once(bench, provider):
    bench.call(provider)
    assert [bench.finish(data, provider) for data in (bench.start(), bench.start())] == [True, False]


@pytest.mark.parametrize(
    "how",
    [{"address": (HOST, 8443)}, {"address": ("127.0.0.1", 443)}, {"sni": "api.anthropic.com"}, {"alpn": (b"h2",)}, {"alpn": ()}],
    ids=["port", "host", "sni", "alpn", "no alpn"],
)
def test_another_place_gets_a_full_handshake(bench, provider, how):
    bench.call(provider)
    assert bench.call(provider, **how) is False


def test_the_host_name_is_checked_although_there_is_a_session_of_another(bench, provider):
    bench.call(provider)
    with pytest.raises(SSL.Error):
        bench.call(provider, sni="api.groq.com")


@pytest.mark.parametrize(
    "option",
    [{"tls_version_server_min": "TLS1_1"}, {"ciphers_server": "ECDHE-ECDSA-AES128-GCM-SHA256"}, {"http2": False}],
    ids=lambda option: next(iter(option)),
)
def test_a_changed_option_ends_all_sessions(bench, provider, option):
    bench.call(provider)
    bench.context.options.update(**option)
    assert bench.call(provider) is False


def test_other_trusted_authorities_are_asked_anew(bench, provider, tmp_path):
    bench.call(provider)
    other = make_authority(tmp_path, [HOST])
    bench.context.options.update(ssl_verify_upstream_trusted_ca=str(other.ca))
    with pytest.raises(SSL.Error):
        bench.call(provider)


def test_a_connection_from_before_a_changed_option_leaves_no_session(bench, provider):
    data = bench.start()
    bench.finish(data, provider)
    bench.addon.configure({"ssl_verify_upstream_trusted_ca"})
    bench.end(data)
    assert bench.call(provider) is False


def test_an_option_of_something_else_ends_nothing(bench, provider):
    bench.call(provider)
    bench.addon.configure({"flow_detail"})
    assert bench.call(provider) is True


def test_new_rules_end_all_sessions(bench, provider):
    bench.call(provider)
    bench.addon.runtime.adopt(making.runtime().snapshot)
    assert bench.call(provider) is False


def test_nothing_is_kept_of_an_unverified_connection(bench, provider):
    bench.context.options.update(ssl_insecure=True)
    assert [bench.call(provider) for _ in range(2)] == [False, False]


def test_a_session_is_offered_until_its_time_is_over(bench, provider):
    bench.call(provider)
    bench.now += LIFETIME - 1
    assert bench.call(provider) is True


@pytest.mark.parametrize("steps", [1, 4])
def test_the_time_counts_from_the_full_handshake(bench, provider, steps):
    bench.call(provider)
    for _ in range(steps - 1):
        bench.now += LIFETIME / steps
        bench.call(provider)
    bench.now += LIFETIME / steps
    assert bench.call(provider) is False


def test_no_session_outlives_its_certificate(bench, provider):
    data = bench.start()
    bench.finish(data, provider)
    end = data.conn.certificate_list[0].notafter.timestamp()
    bench.end(data)
    bench.addon.runtime.clock = lambda: end - 60
    bench.addon._forget()
    bench.call(provider)
    bench.now += 61
    assert bench.call(provider) is False


def test_a_handshake_that_failed_leaves_no_session(bench, provider):
    with pytest.raises(SSL.Error):
        bench.call(provider, sni="api.groq.com")
    assert len(bench.addon._sessions) == 0


def test_a_handshake_that_was_given_up_leaves_no_session(bench):
    bench.end(bench.start())
    assert len(bench.addon._sessions) == 0


def test_what_another_addon_has_set_up_is_left_alone(bench):
    data = tls.TlsData(connection.Server(address=(HOST, 443)), Context(tflow.tclient_conn(), options.Options()))
    data.ssl_conn = theirs = object()
    bench.addon.tls_start_server(data)
    assert data.ssl_conn is theirs


def test_what_another_addon_puts_in_its_place_is_not_kept(bench, provider):
    data = bench.start()
    data.ssl_conn = SSL.Connection(data.ssl_conn.get_context())
    data.ssl_conn.set_connect_state()
    bench.finish(data, provider)
    bench.end(data)
    assert len(bench.addon._sessions) == 0


@pytest.mark.parametrize("what", [{"is_dtls": True}, {"via": ("http", ("proxy.test", 3128))}], ids=["dtls", "upstream proxy"])
def test_other_connections_are_mitmproxys_own(bench, what):
    server = connection.Server(address=(HOST, 443))
    server.via = what.get("via")
    data = tls.TlsData(server, Context(tflow.tclient_conn(), options.Options()), is_dtls=what.get("is_dtls", False))
    bench.addon.tls_start_server(data)
    assert data.ssl_conn is None


def test_bytes_for_a_closed_connection_do_no_harm(bench, provider):
    data = bench.start()
    bench.finish(data, provider)
    bench.addon.server_disconnected(ServerConnectionHookData(data.conn, data.context.client))
    assert data.ssl_conn.send(b"late") == 4


def test_a_connection_that_was_never_dialled_ends_without_a_trace(bench):
    bench.addon.server_disconnected(SimpleNamespace(server=connection.Server(address=(HOST, 443))))
    assert len(bench.addon._sessions) == 0


def test_the_newest_session_is_given_out_first():
    store = SessionStore()
    store.put("place", "old", 10.0)
    store.put("place", "new", 10.0)
    assert [store.take("place", 0.0), store.take("place", 0.0), store.take("place", 0.0)] == [("new", 10.0), ("old", 10.0), None]


def test_a_place_keeps_so_many():
    store = SessionStore(per_place=2)
    for name in "abc":
        store.put("place", name, 10.0)
    assert (len(store), store.take("place", 0.0), store.take("place", 0.0)) == (2, ("c", 10.0), ("b", 10.0))


def test_the_place_that_was_not_used_for_longest_makes_room():
    store = SessionStore(places=2)
    for place in ("one", "one", "two"):
        store.put(place, place, 10.0)
    store.take("one", 0.0)
    store.put("three", "three", 10.0)
    assert (store.take("two", 0.0), store.take("one", 0.0)) == (None, ("one", 10.0))


@pytest.mark.parametrize("now", [10.0, 11.0])
def test_a_session_whose_time_is_over_is_not_given_out(now):
    store = SessionStore()
    store.put("place", "session", 10.0)
    assert (store.take("place", now), len(store)) == (None, 0)


def test_places_that_are_empty_take_no_room():
    store = SessionStore()
    store.put("place", "session", 10.0)
    store.take("place", 0.0)
    store.take("place", 0.0)
    assert store._kept == {}
