"""Every way in, through the real process: the key goes to the verified provider alone, the rules hold, a receipt is written."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import pytest

from support import roads
from support.processes import PROVIDER_HOSTS, REAL_KEYS, ROOT, Gateway, free_ports, running, wait_for
from valetkey.simulator import TlsFiles, make_authority, run_in_thread

pytestmark = pytest.mark.e2e

OPENAI, ANTHROPIC, GEMINI = PROVIDER_HOSTS[:3]
PUBLIC = "104.18.6.192"
"""Where agents dial a provider's address; in the namespace of the tests, and nowhere else, it is ours."""
FOREIGN = "104.18.9.9"
UNVERIFIED = "llm.corp.example"
"""A provider whose name leads to the simulator, which has no certificate for it."""
KEYS = REAL_KEYS | {"CORP_KEY": "sk-REALcorpGGGGGGGGGGGGGGGGGGGGGGGGGGGG"}
RULES = f"providers: {{corp: {{like: openai, upstream: 'https://{UNVERIFIED}', keys: [env:CORP_KEY]}}}}\n"
BEARER = {"authorization": "Bearer sk-dummy"}


@dataclass
class World:
    """One gateway with several doors, and the roads to it: name -> (host, port) -> socket."""

    gateway: Gateway
    simulator: object
    roads: dict[str, Callable[[str, int], socket.socket]]
    run: Callable[..., object]
    foreign: tuple[str, int]
    corp: roads.CorporateProxy | None = None
    doors: dict[str, int] = field(default_factory=dict)

    def call(self, road: str, host: str, path: str, body: object, headers: dict[str, str]) -> roads.Answer:
        """One exchange with a provider's host by a road."""

        def exchange() -> roads.Answer:
            plain = self.roads[road](host, 443)
            if road.startswith("reverse"):
                return roads.ask(plain, f"127.0.0.1:{self.doors[host]}", path, body, headers)
            return roads.ask(roads.tls(plain, self.gateway.ca, host), host, path, body, headers)

        return self.run(exchange)

    def receipt(self, answer: roads.Answer) -> dict[str, object]:
        """The receipt of a call."""
        call = answer.headers["x-valetkey-id"]
        return wait_for(lambda: next((r for r in self.gateway.receipts() if r["id"] == call), None), f"receipt {call}")


@pytest.fixture(scope="module")
def here(lab, tmp_path_factory) -> Iterator[World]:
    """All doors that need no network of their own, in one process."""
    folder = tmp_path_factory.mktemp("modes")
    regular, api, socks, upstream, *reverse = free_ports(8)
    doors = dict(zip((OPENAI, ANTHROPIC, GEMINI, UNVERIFIED), reverse, strict=True))
    dial = lab.dial | {UNVERIFIED: lab.simulator.port}
    with ExitStack() as stack:
        corp = stack.enter_context(roads.corporate_proxy(dial))
        foreign = stack.enter_context(roads.serving(roads.greet))
        modes = [f"regular@127.0.0.1:{regular}", f"socks5@127.0.0.1:{socks}", f"reverse:http://valetkey.invalid@127.0.0.1:{api}"]
        modes += [f"upstream:http://127.0.0.1:{corp.port}@127.0.0.1:{upstream}"]
        modes += [f"reverse:https://{host}@127.0.0.1:{port}" for host, port in doors.items()]
        arguments = ["--upstream-auth", corp.password, "-w", str(folder / "flows")]
        gateway = lab.gateway(folder, modes=modes, arguments=arguments, dial=dial, env=KEYS)
        opened = f"egress_allow: ['127.0.0.1:{foreign}', "
        gateway.head = gateway.head.replace("egress_allow: [", opened)
        gateway.write_rules(RULES)
        gateway.proxy_port, gateway.api_port = regular, api
        stack.enter_context(running(gateway))
        ways = {
            "regular": lambda host, port: roads.tunnelled(regular, host, port),
            "upstream": lambda host, port: roads.tunnelled(upstream, host, port),
            "socks5": lambda host, port: roads.socksed(socks, host, port),
            "socks5 by address": lambda host, port: roads.socksed(socks, PUBLIC if host in doors else host, port),
            "reverse": lambda host, port: roads.dialled(doors[host]),
        }
        yield World(gateway, lab.simulator, ways, lambda what: what(), ("127.0.0.1", foreign), corp, doors)


NO_NAMESPACE = roads.why_no_namespace()


@pytest.fixture(scope="module")
def redirected(tmp_path_factory) -> Iterator[World]:
    """A network namespace in which an agent's connections are redirected to the gateway."""
    if NO_NAMESPACE:
        pytest.skip(NO_NAMESPACE)
    folder = tmp_path_factory.mktemp("transparent")
    inside = roads.Namespace()
    for address in (PUBLIC, FOREIGN, "169.254.169.254", "10.9.9.9"):
        inside.command(f"ip address add {address}/32 dev lo")
    files = make_authority(folder, PROVIDER_HOSTS)
    with ExitStack() as stack:
        enter = lambda manager: inside.run(stack.enter_context, manager)  # noqa: E731
        simulator = enter(run_in_thread(tls=TlsFiles(files.cert, files.key)))
        enter(roads.serving(roads.greet, "0.0.0.0", 443))
        port = inside.run(free_ports, 1)[0]
        page = (ROOT / "docs" / "modes.md").read_text()
        rules = re.search(r"```nft\n(.*?)```", page, re.DOTALL)[1].replace("skuid agent", f"mark {roads.MARK}")
        inside.command("nft -f -", rules.replace(":8080", f":{port}"))
        dial = dict.fromkeys((*PROVIDER_HOSTS, UNVERIFIED), simulator.port)
        modes, arguments = [f"transparent@127.0.0.1:{port}"], ["-w", str(folder / "flows")]
        gateway = Gateway(folder, rules=RULES, dial=dial, ca=files.ca, env=KEYS, modes=modes, arguments=arguments)
        enter(running(gateway))
        names = {OPENAI, ANTHROPIC, GEMINI, UNVERIFIED}
        way = {"transparent": lambda host, port: roads.dialled(port, PUBLIC if host in names else host, roads.MARK)}
        yield World(gateway, simulator, way, inside.run, (FOREIGN, 443))
    inside.close()


LOCAL = ("regular", "upstream", "socks5", "socks5 by address", "reverse")
needs_namespace = pytest.mark.skipif(bool(NO_NAMESPACE), reason=NO_NAMESPACE or "")
TRANSPARENT = pytest.param("transparent", marks=needs_namespace)
ROADS = [*LOCAL, TRANSPARENT]
PASSING = ["regular", "socks5", TRANSPARENT]
BY_ADDRESS = ["socks5 by address", TRANSPARENT]


@pytest.fixture
def world(request, road) -> World:
    return request.getfixturevalue("redirected" if road == "transparent" else "here")


TEXT = [{"role": "user", "content": "hello there"}]
FORMATS = {
    "openai_chat": (OPENAI, "/v1/chat/completions", {"model": "gpt-4o", "messages": TEXT}, BEARER),
    "openai_responses": (OPENAI, "/v1/responses", {"model": "gpt-4.1", "input": "hello there"}, BEARER),
    "anthropic_messages": (
        ANTHROPIC, "/v1/messages", {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": TEXT},
        {"x-api-key": "sk-ant-dummy"},
    ),
    "gemini_generate": (
        GEMINI, "/v1beta/models/gemini-2.5-flash:generateContent", {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
        {"x-goog-api-key": "dummy"},
    ),
}  # fmt: skip


def streamed(format, path, body):
    if format == "gemini_generate":
        return path.replace(":generateContent", ":streamGenerateContent?alt=sse"), body
    return path, body | {"stream": True}


def asked(world, road, format="openai_chat", stream=False, **headers):
    host, path, body, credential = FORMATS[format]
    path, body = streamed(format, path, body) if stream else (path, body)
    return world.call(road, host, path, body, credential | {"content-type": "application/json"} | headers)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("road", ROADS)
def test_every_format_is_governed_on_every_road(world, road, format, stream):
    answer = asked(world, road, format, stream)
    assert answer.status == 200, answer.body
    receipt = world.receipt(answer)
    shown = [receipt[name] for name in ("format", "streamed", "outcome", "usage_source")]
    assert shown == [format, stream, "ok", "reported"]


@pytest.mark.parametrize("road", ROADS)
def test_the_provider_sees_its_own_name_and_a_real_key(world, road):
    asked(world, road)
    seen = next(seen for seen in reversed(world.simulator.seen) if seen.path == "/v1/chat/completions")
    sent = dict(seen.headers)["authorization"].removeprefix("Bearer ")
    assert (seen.host, seen.sni, sent in REAL_KEYS.values()) == (OPENAI, OPENAI, True)


@pytest.mark.parametrize("road", ROADS)
def test_a_host_without_the_providers_certificate_gets_no_key(world, road):
    before = len(world.simulator.seen)
    answer = world.call(road, UNVERIFIED, "/v1/chat/completions", {"model": "grok-4", "messages": TEXT}, BEARER)
    assert (answer.status, len(world.simulator.seen)) == (502, before) and "Certificate verify failed" in world.gateway.output()


@pytest.mark.parametrize("road", PASSING)
def test_a_host_that_is_no_provider_passes_as_raw_bytes(world, road):
    def talk():
        with world.roads[road](*world.foreign) as connected:
            connected.sendall(b"\x00no http")
            return connected.recv(64)

    assert world.run(talk) == b"heard \x00no http"


def closed(world, road, host, port=443, first=b"\x00anything"):
    """Whether nothing comes back from a destination by a road."""

    def talk():
        try:
            with world.roads[road](host, port) as connected:
                connected.sendall(first)
                return connected.recv(64)
        except OSError:
            return b""

    return world.run(talk) == b""


INSIDE = ("127.0.0.1", "169.254.169.254", "10.9.9.9")


@pytest.mark.parametrize("host", INSIDE)
@pytest.mark.parametrize("road", PASSING)
def test_this_machine_and_metadata_services_are_out_of_reach(world, road, host):
    assert closed(world, road, host)


@pytest.mark.parametrize("road", ["regular", "upstream", "socks5"])
def test_the_gateways_own_ports_are_out_of_reach(here, road):
    world = here
    assert closed(world, road, "127.0.0.1", world.gateway.api_port, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")


@pytest.mark.parametrize("road", BY_ADDRESS)
def test_an_address_without_a_name_is_refused_with_the_reason(world, road):
    """The agent's TLS trusts the gateway's CA, and so it reads why."""

    def exchange():
        connected = roads.tls(world.roads[road](PUBLIC, 443), world.gateway.ca, None)
        return roads.ask(connected, PUBLIC, "/v1/models", None, BEARER)

    answer = world.run(exchange)
    assert (answer.status, b"egress_allow" in answer.body) == (421, True)


@pytest.mark.parametrize("road", BY_ADDRESS)
def test_another_name_inside_is_refused(world, road):
    def exchange():
        connected = roads.tls(world.roads[road](OPENAI, 443), world.gateway.ca, OPENAI)
        return roads.ask(connected, ANTHROPIC, "/v1/models", None, BEARER)

    assert world.run(exchange).status == 421


@pytest.mark.parametrize("road", BY_ADDRESS)
def test_a_call_without_tls_is_refused_with_the_reason(world, road):
    def exchange():
        return roads.ask(world.roads[road](OPENAI, 80), OPENAI, "/v1/models", None, BEARER)

    answer = world.run(exchange)
    assert (answer.status, b"TLS" in answer.body) == (400, True)


@pytest.mark.parametrize("road", BY_ADDRESS)
def test_a_name_that_comes_in_pieces_is_waited_for(world, road):
    """A handshake that is sent byte by byte at first: nothing is decided before the name is there."""

    def exchange():
        hello = client_hello(world)
        with world.roads[road](OPENAI, 443) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(12):
                plain.sendall(hello[at : at + 1])
            plain.sendall(hello[12:])
            return plain.recv(1)

    assert world.run(exchange) == b"\x16"


def client_hello(world):
    context = ssl.create_default_context(cafile=str(world.gateway.ca))
    to_send = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), to_send, server_hostname=OPENAI)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return to_send.read()


@pytest.mark.parametrize("road", ["regular", "socks5 by address", "reverse"])
def test_a_handshake_without_end_is_cut_off(here, road):
    """mitmproxy would keep all of it, and read all of it again with each piece."""
    begun = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\x00" * 16380
    with here.roads[road](OPENAI, 443) as plain, suppress(ConnectionError):
        for _ in range(64):
            plain.sendall(begun)
        assert plain.recv(1) == b""


# A corporate proxy in front.


def test_calls_go_through_the_proxy_in_front(here):
    here.corp.seen.clear()
    assert asked(here, "upstream").status == 200 and here.corp.seen in ([], [f"CONNECT {OPENAI}:443 HTTP/1.1"])


def test_a_plain_request_goes_through_it_with_its_password(here):
    port = next(int(mode.rpartition(":")[2]) for mode in here.gateway._command if mode.startswith("upstream:"))
    with roads.dialled(port) as made, made.makefile("rb") as came:
        made.sendall(b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
        assert came.read().endswith(b"from corp")


def test_the_proxy_in_front_never_denied_us(here):
    assert [line for line in here.corp.seen if line.startswith("denied")] == []


@pytest.mark.parametrize("host", INSIDE)
def test_words_that_name_this_machine_do_not_reach_the_proxy_in_front(here, host):
    here.corp.seen.clear()
    assert closed(here, "upstream", host) and here.corp.seen == []


# Reverse.


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("localhost", {}, 200),
        (OPENAI, {}, 200),
        ("evil.test", {}, 421),
        (ANTHROPIC, {}, 421),
        ("localhost", {"origin": "https://evil.test"}, 403),
        ("localhost", {"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_a_reverse_door_answers_to_its_own_name_and_its_providers(here, host, headers, status):
    name = f"localhost:{here.doors[OPENAI]}" if host == "localhost" else host
    plain = here.roads["reverse"](OPENAI, 443)
    assert roads.ask(plain, name, "/v1/models", None, BEARER | headers).status == status


def test_a_reverse_door_speaks_tls_too(here):
    port = here.doors[OPENAI]
    connected = roads.tls(roads.dialled(port), here.gateway.ca, "localhost")
    assert roads.ask(connected, f"localhost:{port}", "/v1/models", None, BEARER).status == 200


# What is saved.


@pytest.mark.parametrize("name", ["here", pytest.param("redirected", marks=needs_namespace)])
def test_no_key_and_no_password_is_in_any_flow(request, name):
    world = request.getfixturevalue(name)
    saved = (world.gateway.folder / "flows").read_bytes()
    secrets = [*KEYS.values(), "c2VjcmV0LW9mLWNvcn", "secret-of-corp", "Z3c6c2VjcmV0LW9mLWNvcnA="]
    assert b"sk-dummy" in saved and [secret for secret in secrets if secret.encode() in saved] == []


# The start.


def test_what_the_user_chose_is_all_that_is_opened(lab, tmp_path):
    port = free_ports(1)[0]
    with running(lab.gateway(tmp_path, modes=["socks5"], arguments=["-p", str(port)])) as gateway:
        refused = []
        for closed_port in (gateway.proxy_port, gateway.api_port):
            with socket.socket() as probe:
                refused.append(probe.connect_ex(("127.0.0.1", closed_port)) != 0)
        roads.socksed(port, "api.openai.com").close()
    assert refused == [True, True] and f"socks5h://127.0.0.1:{port}" in gateway.output()


def test_wireguard_says_what_clients_need(lab, tmp_path):
    port = free_ports(1)[0]
    with running(lab.gateway(tmp_path, modes=[f"wireguard@{port}"])) as gateway:
        shown = gateway.output()
    assert f"Endpoint = 127.0.0.1:{port}" in shown and f"WireGuard on 127.0.0.1:{port}" in shown


def test_a_mode_that_cannot_be_governed_stops_the_start(lab, tmp_path):
    gateway = lab.gateway(tmp_path, modes=[f"reverse:https://example.com@{free_ports(1)[0]}"]).start(ready=False)
    try:
        status = gateway.process.wait(30)
    finally:
        gateway.stop()
    assert (status, "example.com:443 is no provider" in gateway.output()) == (1, True)
