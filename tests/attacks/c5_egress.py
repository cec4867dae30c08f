"""C.5: reaching through the gateway for what is not the agent's (49-56)."""

from __future__ import annotations

import ssl

from support.processes import free_ports

from .canaries import EVIL, INSIDE, OPENAI
from .client import CHAT, call, h2_headers
from .evidence import Evidence, Expectation, absent, all_of, attack, no_call, one_key, refused
from .range import Range
from .servers import BODY

_GET = b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
_PUBLIC = "other.test"
"""A public host that no rule names."""
_NOT_PUBLIC = "only the public internet, unless rules.yaml names it: 403"


def _undialled(evidence: Evidence) -> str | None:
    """No connection was made, neither to a public host nor to this machine."""
    dialled = (*evidence.evil, *evidence.local)
    return f"a connection to the server {dialled[0].server!r} was made" if dialled else None


def _unseen(*words: bytes) -> Expectation:
    """None of these words was seen by the client."""

    def expect(evidence: Evidence) -> str | None:
        return next((f"the client saw {word!r}" for word in words if word in evidence.visible.lower()), None)

    return expect


_SHUT = all_of(refused(400, 403), _undialled)


def _try_tunnel(here: Range, place: str) -> None:
    """Open a tunnel and talk in it, whatever the answer was."""
    client = here.client()
    if client.connect(place):
        client.send(_GET % (b"/", place.encode()))
        client.listen(1)


def _try_plain(here: Range, place: str) -> None:
    here.raw(_GET % (b"http://%s/" % place.encode(), place.encode()))


# 49. This machine, its network, its metadata.

_PLACES = {
    "loopback": "127.0.0.1",
    "all of 127": "127.8.9.10",
    "loopback of IPv6": "[::1]",
    "unspecified": "0.0.0.0",
    "unspecified of IPv6": "[::]",
    "localhost": "localhost",
    "below localhost": "a.localhost",
    "mapped": "[::ffff:127.0.0.1]",
    "mapped in hex": "[::ffff:7f00:1]",
    "metadata": "169.254.169.254",
    "metadata of tasks": "169.254.170.2",
    "metadata of IPv6": "[fd00:ec2::254]",
    "metadata of Azure": "168.63.129.16",
    "metadata of Alibaba": "100.100.100.200",
    "metadata by name": "metadata.google.internal",
    "private 10": "10.0.0.1",
    "private 172": "172.16.0.1",
    "private 192": "192.168.1.1",
    "carrier": "100.64.0.1",
    "NAT64": "[64:ff9b::7f00:1]",
    "NAT64 of metadata": "[64:ff9b::a9fe:a9fe]",
    "6to4": "[2002:7f00:1::]",
    "Teredo": "[2001:0:7f00:1::]",
    "link-local of IPv6": "[fe80::1]",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "one number": "2130706433",
    "hex": "0x7f000001",
    "octal": "0177.0.0.1",
    "short": "127.1",
    "trailing dot": "127.0.0.1.",
    "zone": "[::1%25lo]",
}


@attack(49, "a tunnel inside", _NOT_PUBLIC, _SHUT, each=_PLACES)
def tunnel_inside(here: Range, place: str) -> None:
    for port in (443, 80):
        _try_tunnel(here, f"{place}:{port}")


@attack(49, "a plain request inside", _NOT_PUBLIC, _SHUT, each=_PLACES)
def plain_inside(here: Range, place: str) -> None:
    _try_plain(here, place)


@attack(49, "a public name that leads inside: tunnel", "refused before it is dialled", _undialled, each={n: n for n in INSIDE})
def name_inside(here: Range, name: str) -> None:
    _try_tunnel(here, f"{name}:443")


@attack(
    49, "a public name that leads inside: plain request", "no byte is sent there", refused(403, 502), each={n: n for n in INSIDE}
)
def plain_name_inside(here: Range, name: str) -> None:
    _try_plain(here, name)


@attack(
    49,
    "an absolute target inside a provider's tunnel",
    "421",
    refused(),
    each={"loopback": b"127.0.0.1", "name": b"private.test"},
)
def target_inside(here: Range, host: bytes) -> None:
    here.inside(call(target=b"https://%s/v1/chat/completions" % host, host=host))


def _only_allowed(evidence: Evidence) -> str | None:
    """Of all places the one that may be reached was, or the refusals prove nothing."""
    reached = [bytes(record.data) for record in evidence.evil if record.data]
    return None if len(reached) == 1 and EVIL.encode() in reached[0] else f"reached: {reached}"


@attack(49, "inside by SOCKS", "words and address are judged without CONNECT as well", _only_allowed, own_process=True)
def socks_inside(here: Range) -> None:
    _by_socks(here, [("127.0.0.1", 80), ("localhost", 80), ("private.test", 443), ("metadata.google.internal", 80)])


def _by_socks(here: Range, places: list[tuple[str, int]], gateway: str = "") -> None:
    (port,) = free_ports(1)
    with here.gateway(gateway=gateway, arguments=["--mode", f"socks5@127.0.0.1:{port}"]) as started:
        for host, at in [*places, (EVIL, 80)] if started else ():
            client = here.client(port=port)
            client.send(b"\x05\x01\x00")
            client.listen(0.2)
            client.send(b"\x05\x01\x00\x03%c%s" % (len(host), host.encode()) + at.to_bytes(2))
            client.listen(0.2)
            client.send(_GET % (b"/", host.encode()))
            client.listen(0.3)


# 50. The inspector and the doors.

_OWN = all_of(no_call, _unseen(b'"status": "ok"', b"mitmproxy", b"begin certificate"))


@attack(50, "the doors through themselves", "never a destination", _OWN, own_process=True)
def doors(here: Range) -> None:
    with here.gateway() as started:
        for port in (started.proxy_port, started.api_port) if started else ():
            for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "loopback.test", "[::ffff:127.0.0.1]"):
                _reach(here, host, port, b"/health")


@attack(50, "mitmweb through the proxy", "never a destination", _OWN, own_process=True)
def inspector(here: Range) -> None:
    with here.gateway(tool="mitmweb") as started:
        for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "loopback.test") if started else ():
            _reach(here, host, started.web_port, b"/flows")


def _reach(here: Range, host: str, port: int, path: bytes) -> None:
    place = f"{host}:{port}".encode()
    here.raw(_GET % (b"http://%s%s" % (place, path), place))
    client = here.client()
    if client.connect(place):
        client.send(_GET % (path, place))
        client.listen(0.5)


@attack(
    50, "the authority's page (mitm.it)", "not served", all_of(refused(403), _OWN),
    each={"page": b"http://mitm.it/", "certificate": b"http://mitm.it/cert/pem"},
)  # fmt: skip
def onboarding(here: Range, target: bytes) -> None:
    here.raw(_GET % (target, b"mitm.it"))


@attack(50, "a tunnel to mitm.it", "not served", all_of(_SHUT, _OWN))
def onboarding_tunnel(here: Range) -> None:
    _try_tunnel(here, "mitm.it:80")


_CANARY = "canary.valetkey.invalid"
_UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@attack(
    50,
    "the host that the gateway answers itself (canary)",
    "it leads nowhere, whatever is said in it",
    all_of(no_call, _undialled),
    each={
        "a provider's Host": call(close=False) * 2,
        "a provider's address": call(target=b"https://api.openai.com/v1/chat/completions", close=False) * 2,
        "two hosts": call(extra=b"Host: canary.valetkey.invalid\r\n"),
        "CONNECT": b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n" + call(),
        "a WebSocket": call(method=b"GET", body=b"", length=b"", extra=_UPGRADE, close=False) + call(),
        "a body that is a request": call(host=_CANARY.encode(), body=call(), close=False) + call(),
        "an unclear length": call(host=_CANARY.encode(), extra=b"Transfer-Encoding: chunked\r\n", close=False) + call(),
    },
)
def canary_host(here: Range, data: bytes) -> None:
    for sni in ("", OPENAI):
        here.inside(data, _CANARY, sni=sni)
    if data.startswith(b"POST /"):
        here.raw(data.replace(b"POST /", b"POST http://canary.valetkey.invalid/"))


@attack(50, "the canary host over HTTP/2", "it leads nowhere", all_of(no_call, _undialled))
def canary_h2(here: Range) -> None:
    here.h2(h2_headers(), _CANARY)


# 51. A web page that rebinds a name.

_PAGES = {
    "rebound name": (b"evil.test", b""),
    "rebound name with port": (b"evil.test:%d", b""),
    "name that begins like ours": (b"localhost.evil.test:%d", b""),
    "name that holds our address": (b"127.0.0.1.nip.io:%d", b""),
    "foreign origin": (b"127.0.0.1:%d", b"Origin: https://evil.test\r\n"),
    "origin without a name": (b"127.0.0.1:%d", b"Origin: null\r\n"),
    "another site": (b"127.0.0.1:%d", b"Sec-Fetch-Site: cross-site\r\n"),
}


@attack(51, "a web page at the base-URL door", "our own Host, no foreign page", refused(), each=_PAGES, own_process=True)
def page_at_the_door(here: Range, page: tuple[bytes, bytes]) -> None:
    with here.gateway() as started:
        if started:
            host = page[0].replace(b"%d", b"%d" % started.api_port)
            client = here.client(port=started.api_port)
            client.send(call(host=host, path=b"/openai" + CHAT, extra=page[1]))
            client.read()


def _no_flows(evidence: Evidence) -> str | None:
    wrong = [answer.status for answer in evidence.answers if answer.status == 200]
    return "mitmweb showed flows" if wrong else _unseen(b"chat/completions", b"access-control-allow-origin")(evidence)


@attack(51, "a web page at mitmweb", "token and Host: no flows, no CORS", _no_flows, own_process=True)
def page_at_the_inspector(here: Range) -> None:
    with here.gateway(tool="mitmweb") as started:
        for host in (b"evil.test", b"evil.test:%d", b"127.0.0.1:%d") if started else ():
            for path in (b"/flows", b"/options", b"/commands", b"/updates"):
                client = here.client(port=started.web_port)
                client.send(_GET % (path, host.replace(b"%d", b"%d" % started.web_port)))
                client.read()
                client.close()


# 52. Other ports.


@attack(
    52, "another port", "443 and 80 only: 403", _SHUT,
    each={str(port): port for port in (1, 22, 25, 53, 465, 3306, 5432, 6379, 8443, 9200, 65535)},
)  # fmt: skip
def other_port(here: Range, port: int) -> None:
    for host in (_PUBLIC, EVIL, "8.8.8.8", OPENAI):
        _try_tunnel(here, f"{host}:{port}")
        _try_plain(here, f"{host}:{port}")


@attack(
    52, "a port that is none", "400", refused(400, 403), each={"zero": "0", "large": "65536", "negative": "-1", "word": "https"}
)
def no_port(here: Range, port: str) -> None:
    _try_tunnel(here, f"{_PUBLIC}:{port}")


@attack(52, "another port by SOCKS", "closed as well", _only_allowed, own_process=True)
def port_by_socks(here: Range) -> None:
    _by_socks(here, [(_PUBLIC, 22), (EVIL, 8443), ("8.8.8.8", 25)])


# 53. Hosts that are no provider.

_DENY = "egress: deny\n"


@attack(
    53, "a host that no rule names, where egress is denied", "403, nothing is sent", _SHUT, own_process=True,
    each={"other": _PUBLIC, "below an allowed one": "sub.evil.test", "above": "test", "address": "8.8.8.8", "dot": "evil.test."},
)  # fmt: skip
def denied(here: Range, host: str) -> None:
    with here.gateway(gateway=_DENY) as started:
        if started:
            _try_tunnel(here, f"{host}:443")
            _try_plain(here, host)


@attack(53, "a denied host by SOCKS", "nothing is sent", _only_allowed, own_process=True)
def denied_by_socks(here: Range) -> None:
    _by_socks(here, [(_PUBLIC, 443), ("8.8.8.8", 80)], _DENY)


def _undecrypted(evidence: Evidence) -> str | None:
    """The attacker's own server got the bytes as they were sent, and the client saw its certificate and answer."""
    got = b"".join(bytes(record.data) for record in evidence.evil)
    if got != call(host=b"evil.test"):
        return f"the tunnel was not left alone: {got[:80]!r}"
    return None if BODY in evidence.visible else "the answer did not come back"


@attack(
    53,
    "a host that is no provider is tunnelled undecrypted",
    "the origin's own certificate, no key",
    all_of(no_call, _undecrypted),
)
def passed_through(here: Range) -> None:
    client = here.client()
    # `tls` verifies: with a certificate of the proxy's there would be no connection.
    if client.connect(f"{EVIL}:443") and client.tls(EVIL, ca=here.servers.ca) and isinstance(client.socket, ssl.SSLSocket):
        client.send(call(host=b"evil.test"))
        client.read()


_TELEMETRY, _TRIES = "statsig.anthropic.com", 40


def _quiet(evidence: Evidence) -> str | None:
    """The log has one line for the host, and none for each try."""
    lines = "".join(output for _, output in evidence.exits).splitlines()
    named = [line for line in lines if _TELEMETRY in line]
    return f"{len(lines)} lines in the log, {len(named)} name the host" if len(named) != 1 or len(lines) > _TRIES else None


@attack(
    53, "telemetry again and again, where egress is denied", "403 each time, said once", all_of(_SHUT, _quiet), own_process=True
)
def telemetry(here: Range) -> None:
    with here.gateway(gateway=_DENY) as started:
        for _ in range(_TRIES if started else 0):
            _try_tunnel(here, f"{_TELEMETRY}:443")


# 54. HTTP/3.

_H3 = b'Alt-Svc: h3=":443"; ma=86400\r\n'
_ANSWER = b"HTTP/1.1 %s\r\n%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
_EVENTS = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'


@attack(
    54, "a provider that offers HTTP/3", "Alt-Svc is taken off", all_of(_unseen(b"alt-svc", b"h3="), one_key),
    each={
        "plainly": _ANSWER % (b"200 OK", _H3, b"application/json", len(BODY), BODY),
        "twice": _ANSWER % (b"200 OK", _H3 + _H3.replace(b"Alt-Svc", b"ALT-SVC"), b"application/json", len(BODY), BODY),
        "in a stream": _ANSWER % (b"200 OK", _H3, b"text/event-stream", len(_EVENTS), _EVENTS),
        "with an error": _ANSWER % (b"400 Bad Request", _H3, b"application/json", 2, b"{}"),
        "of another kind": _ANSWER % (b"200 OK", _H3, b"text/plain", 2, b"ok"),
    },
)  # fmt: skip
def alternative_service(here: Range, answer: bytes) -> None:
    here.script(lambda seen: answer)
    here.inside(call())


# 55, 56. What a proxy cannot see.

absent(
    "C5",
    55,
    "unsetting HTTPS_PROXY",
    "what never comes to a proxy cannot be stopped by it: the dummy gets a 401; docs/security.md",
)
absent("C5", 56, "data in DNS queries or ICMP", "no packet of them passes a proxy; a firewall or network namespace closes them")
