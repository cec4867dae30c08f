"""Attacks on the real process, byte by byte over its sockets. Numbers name the attacks; a number never changes its meaning."""

from __future__ import annotations

import socket
import ssl

import pytest

from support.processes import REAL_KEYS, Gateway, running

pytestmark = pytest.mark.e2e
HOST = "api.openai.com"
BODY = b'{"model":"gpt-4o","messages":[]}'


def call(path=b"/v1/chat/completions", host=b"api.openai.com", extra=b"", body=BODY, target=None):
    """A good call, unless something in it is changed."""
    head = b"POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer sk-dummy\r\n" % (target or path, host)
    return head + extra + b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


def exchange(gateway: Gateway, data: bytes, tunnel: str | None = None, sni: str | None = None) -> bytes:
    """Send bytes to the proxy port, perhaps through a tunnel with TLS; what comes back until it closes."""
    with socket.create_connection(("127.0.0.1", gateway.proxy_port), timeout=10) as plain:
        if tunnel is None:
            plain.sendall(data)
            return drain(plain)
        plain.sendall(f"CONNECT {tunnel} HTTP/1.1\r\nHost: {tunnel}\r\n\r\n".encode())
        answer = plain.recv(4096)
        if b" 200 " not in answer.split(b"\r\n")[0]:
            return drain(plain, answer)
        context = ssl.create_default_context(cafile=str(gateway.ca))
        context.check_hostname = False
        with context.wrap_socket(plain, server_hostname=sni or tunnel.partition(":")[0]) as secured:
            secured.sendall(data)
            return drain(secured)


def drain(connection: socket.socket, found: bytes = b"") -> bytes:
    """What comes until the answer is complete by its length, or the connection ends."""
    try:
        while not complete(found) and (chunk := connection.recv(65536)):
            found += chunk
    except (TimeoutError, ConnectionError):
        pass
    return found


def complete(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(separator and lengths) and len(body) >= int(lengths[0])


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def seen(lab):
    return [each for each in lab.simulator.seen if not each.path.startswith("/_simulator")]


def refused(lab, gateway, data, expected=(400, 403, 421), **options):
    """Whether the gateway refused, and sent nothing to any provider."""
    before = len(seen(lab))
    answer = exchange(gateway, data, **options)
    assert len(seen(lab)) == before
    assert not any(key.encode() in answer for key in REAL_KEYS.values())
    return not answer or status(answer) in expected


def test_the_good_call_passes(lab, shared):
    """Or the refusals below would prove nothing."""
    assert status(exchange(shared, call(), tunnel=f"{HOST}:443")) == 200


def test_threat_01_a_host_header_in_a_tunnel_elsewhere_steers_nothing(lab, shared):
    """The tunnel is raw: TLS is made with whoever is dialled, not with us."""
    with pytest.raises((ssl.SSLError, OSError)):
        exchange(shared, call(), tunnel="evil.invalid:443")


def test_threat_02_sni_and_tunnel_must_agree(lab, shared):
    assert refused(lab, shared, call(), tunnel=f"{HOST}:443", sni="evil.test")


def test_threat_02_host_and_tunnel_must_agree(lab, shared):
    assert refused(lab, shared, call(host=b"evil.test"), tunnel=f"{HOST}:443")


def test_threat_04_one_provider_does_not_front_for_another(lab, shared):
    assert refused(lab, shared, call(host=b"api.anthropic.com"), tunnel=f"{HOST}:443")


def test_threat_05_an_absolute_target_in_a_tunnel_must_agree(lab, shared):
    assert refused(lab, shared, call(target=b"https://evil.test/v1/chat/completions"), tunnel=f"{HOST}:443")


@pytest.mark.parametrize(
    "host", [b"api.openai.com.", b"api.openai.com@evil.test", b"api%2eopenai.com", b"api.openai.com.evil.test"]
)
def test_threat_06_lookalikes_in_host_are_refused(lab, shared, host):
    assert refused(lab, shared, call(host=host), tunnel=f"{HOST}:443")


def test_threat_08_another_port_gets_no_key(lab, shared):
    assert refused(lab, shared, call(), tunnel=f"{HOST}:8443")


def test_threat_09_two_host_headers_are_refused(lab, shared):
    assert refused(lab, shared, call(extra=b"Host: evil.test\r\n"), tunnel=f"{HOST}:443")


@pytest.mark.parametrize("scheme", [b"http", b"HTTP"])
def test_threat_10_plain_http_is_refused(lab, shared, scheme):
    assert refused(lab, shared, call(target=scheme + b"://api.openai.com/v1/chat/completions"))


def test_threat_11_origin_form_to_the_proxy_port_is_refused(lab, shared):
    assert refused(lab, shared, call())


def test_threat_14_routing_words_of_the_client_are_ignored(lab, shared):
    extra = b"x-upstream: https://evil.test\r\nx-base-url: https://evil.test\r\n"
    body = b'{"model":"gpt-4o","messages":[],"api_base":"https://evil.test","base_url":"https://evil.test"}'
    exchange(shared, call(extra=extra, body=body), tunnel=f"{HOST}:443")
    assert seen(lab)[-1].host == HOST


@pytest.mark.parametrize("path", [b"/v1/files", b"/v1/organization/admin_api_keys", b"/v1/fine_tuning/jobs"])
def test_threat_16_endpoints_that_could_show_a_key_are_closed(lab, shared, path):
    assert refused(lab, shared, call(path=path), tunnel=f"{HOST}:443", expected=(403, 405))


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/chat/completions/../../files",
        b"/v1/%2e%2e/v1/files",
        b"//v1/files",
        b"/v1/chat/completions;x",
        b"/v1\\files",
        b"/v1%2ffiles",
    ],
)
def test_threat_17_path_tricks_are_refused(lab, shared, path):
    assert refused(lab, shared, call(path=path), tunnel=f"{HOST}:443")


def test_threat_26_many_credentials_become_one(lab, shared):
    extra = b"x-api-key: sk-dummy\r\napi-key: sk-dummy\r\nx-goog-api-key: dummy\r\nX_Api_Key: sk-dummy\r\n"
    exchange(shared, call(extra=extra), tunnel=f"{HOST}:443")
    assert len(seen(lab)[-1].credentials) == 1


def test_threat_28_connection_cannot_drop_what_is_injected(lab, shared):
    exchange(shared, call(extra=b"Connection: authorization, x-api-key\r\n"), tunnel=f"{HOST}:443")
    assert "REAL" in seen(lab)[-1].credentials[0]


@pytest.mark.parametrize(
    "extra",
    [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked, chunked\r\n", b"X : 1\r\n"],
    ids=["CL and TE", "two CL", "TE twice", "space before colon"],
)
def test_threat_41_ambiguous_framing_is_refused(lab, shared, extra):
    assert refused(lab, shared, call(extra=extra), tunnel=f"{HOST}:443")


def test_threat_47_duplicate_keys_are_refused(lab, shared):
    body = b'{"model":"gpt-4o-mini","messages":[],"mod\\u0065l":"gpt-4o"}'
    assert refused(lab, shared, call(body=body), tunnel=f"{HOST}:443")


@pytest.mark.parametrize(
    "place",
    ["127.0.0.1:443", "[::1]:443", "0.0.0.0:443", "localhost:443", "169.254.169.254:80", "metadata.google.internal:80",
     "10.0.0.1:443", "100.64.0.1:443", "[::ffff:127.0.0.1]:443", "2130706433:443", "127.1:443", "0x7f000001:443"],
)  # fmt: skip
def test_threat_49_this_machine_and_its_networks_are_no_destination(lab, shared, place):
    answer = exchange(shared, f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
    assert status(answer) in (400, 403, 502)


@pytest.mark.parametrize("door", ["proxy_port", "api_port"])
def test_threat_50_the_gateways_own_ports_are_no_destination(lab, shared, door):
    place = f"127.0.0.1:{getattr(shared, door)}".encode()
    answer = exchange(shared, b"GET http://%s/health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (place, place))
    assert status(answer) == 403


@pytest.mark.parametrize("port", [22, 25, 3306])
def test_threat_52_other_ports_are_no_destination(lab, shared, port):
    answer = exchange(shared, f"CONNECT example.com:{port} HTTP/1.1\r\nHost: example.com:{port}\r\n\r\n".encode())
    assert status(answer) == 403


def test_threat_53_unlisted_hosts_can_be_denied(lab, tmp_path):
    with running(lab.gateway(tmp_path, gateway="egress: deny")) as gateway:
        answer = exchange(gateway, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
    assert status(answer) == 403


def test_a_named_address_may_be_reached(lab, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        rules = f"egress_allow: ['127.0.0.1:{port}', api.openai.com]"
        with running(Gateway(tmp_path, gateway=rules, confdir=lab.confdir)) as gateway:
            place = f"127.0.0.1:{port}"
            answer = exchange_open(gateway, place)
    assert status(answer) == 200


def exchange_open(gateway: Gateway, place: str) -> bytes:
    with socket.create_connection(("127.0.0.1", gateway.proxy_port), timeout=10) as plain:
        plain.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        return plain.recv(4096)


def test_mitm_it_is_not_served(lab, shared):
    answer = exchange(shared, b"GET http://mitm.it/ HTTP/1.1\r\nHost: mitm.it\r\nConnection: close\r\n\r\n")
    assert b"certificate" not in answer.lower() or status(answer) >= 400
