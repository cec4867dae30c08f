"""HTTP/2 to and from the agent, through the real process: many streams on one connection, each with its own fate and receipt."""

from __future__ import annotations

import json
import ssl

import h2.config
import h2.connection
import h2.events
import pytest

from support import roads
from support.http2 import http2
from support.processes import REAL_KEYS, running, wait_for
from valetkey.simulator import make_authority, parse_fault

pytestmark = pytest.mark.e2e

HOST, PATH = "api.openai.com", "/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello there"}]}
RULES = """
providers:
  openai: {keys: [env:OPENAI_API_KEY_1, env:OPENAI_API_KEY_2]}
"""


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    with running(lab.gateway(tmp_path_factory.mktemp("http2"), RULES)) as started:
        yield started


@pytest.fixture
def agent(gateway):
    with http2(gateway.proxy_port, HOST, gateway.ca) as connected:
        yield connected


def asked(agent, who="default", simulate="", body=BODY, **changes):
    headers = {"authorization": f"Bearer sk-dummy-{who}"} | ({"x-simulate": simulate} if simulate else {})
    return agent.ask(HOST, PATH, body | changes if isinstance(body, dict) else body, headers)


def content(stream):
    """The text of an answer, whole or streamed."""
    if not stream.headers["content-type"].startswith("text/event-stream"):
        return json.loads(stream.body)["choices"][0]["message"]["content"]
    lines = [line[6:] for line in stream.body.decode().splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for line in lines for choice in json.loads(line)["choices"])


def receipts_of(gateway, who, count):
    def found():
        mine = [receipt for receipt in gateway.receipts() if receipt["agent"] == who]
        return mine if len(mine) >= count else None

    mine = wait_for(found, f"{count} receipts of {who}")
    assert len(mine) == count
    return mine


def test_a_hundred_streams_at_once_with_failing_attempts_among_them(lab, gateway, agent):
    """Every third stream's attempts are reset by the provider half of the time; each call has its own words, and one receipt."""
    faults = [f"words={at + 1}" + ("" if at % 3 else ",reset,chance=0.5") for at in range(100)]
    streams = agent.finish([asked(agent, "hundred", fault, stream=bool(at % 2)) for at, fault in enumerate(faults)])
    found = receipts_of(gateway, "hundred", 100)
    right = [at for at, stream in enumerate(streams) if stream.status == 200 and len(content(stream).split()) == at + 1]
    assert {at for at in range(100) if at % 3} <= {*right}
    assert sum(receipt["outcome"] == "ok" for receipt in found) == sum(stream.status == 200 for stream in streams)


def test_a_cancelled_stream_leaves_the_others_alone(gateway, agent):
    kept = [asked(agent, "kept", "delay=0.02,words=40", stream=True) for _ in range(10)]
    left = [asked(agent, "left", "delay=0.02,words=400", stream=True) for _ in range(10)]
    agent.until(lambda: all(agent.streams[number].body for number in left))
    for number in left:
        agent.cancel(number)
    streams = agent.finish(kept)
    assert [len(content(stream).split()) for stream in streams] == [40] * 10
    assert {receipt["outcome"] for receipt in receipts_of(gateway, "left", 10)} == {"client"}
    assert {receipt["outcome"] for receipt in receipts_of(gateway, "kept", 10)} == {"ok"}


def test_a_stream_that_is_cancelled_before_its_answer_is_settled(gateway, agent):
    number = asked(agent, "early", "headers-stall")
    agent.finish([asked(agent)])
    agent.cancel(number)
    assert agent.finish([asked(agent)])[0].status == 200
    assert [receipt["outcome"] for receipt in receipts_of(gateway, "early", 1)] == ["client"]


def test_large_bodies_go_both_ways(lab, gateway, agent):
    text = "x" * 3_000_000
    number = asked(agent, "large", "words=60000", messages=[{"role": "user", "content": text}])
    (stream,) = agent.finish([number])
    assert len(content(stream).split()) == 60000 and len(lab.simulator.seen[-1].body) > len(text)


def test_an_agent_that_does_not_read_holds_up_only_its_own_stream(gateway):
    """Its window is full: the rest waits, and comes when it reads."""
    with http2(gateway.proxy_port, HOST, gateway.ca, acknowledge=False) as agent:
        number = asked(agent, "slow", "words=20000")
        agent.until(lambda: len(agent.streams[number].body) >= 65535)
        with http2(gateway.proxy_port, HOST, gateway.ca) as other:
            assert other.finish([asked(other)])[0].status == 200
        agent.read(number)
        (stream,) = agent.finish([number])
    assert len(content(stream).split()) == 20000


def test_the_provider_goes_away_in_the_middle(lab, gateway, agent):
    """GOAWAY, and the end of the connection to the provider: what had begun is cut, all else is asked again, all is booked."""
    begun = [asked(agent, "begun", "delay=0.05,words=200", stream=True) for _ in range(5)]
    agent.until(lambda: all(agent.streams[number].body for number in begun))
    waiting = [asked(agent, "waiting", "delay=1,words=3") for _ in range(5)]
    lab.simulator.faults.append(parse_fault("model=gpt-4o-gone,eof,times=1"))
    gone = asked(agent, "gone", model="gpt-4o-gone")
    streams = agent.finish([*begun, *waiting, gone])
    assert [content(stream) == "" or stream.status for stream in streams[5:]] == [200] * 6
    assert {receipt["outcome"] for receipt in receipts_of(gateway, "begun", 5)} <= {"server", "network"}
    assert {receipt["outcome"] for receipt in receipts_of(gateway, "waiting", 5)} == {"ok"}
    assert [len(receipt["attempts"]) for receipt in receipts_of(gateway, "gone", 1)] == [2]
    assert agent.finish([asked(agent)])[0].status == 200


# What the simulator does not do.


class Odd:
    """A provider of a few lines: an HTTP/2 server that answers as a test wants it to."""

    def __init__(self, cert, key):
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(cert, key)
        self.context.set_alpn_protocols(["h2"])
        self.keys = []
        self.cancelled = 0

    def handle(self, client):
        with self.context.wrap_socket(client, server_side=True) as connected:
            http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
            http.initiate_connection()
            connected.sendall(http.data_to_send())
            while data := connected.recv(65536):
                for event in http.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self.keys.append(dict(event.headers)["authorization"].removeprefix("Bearer "))
                        silent = "x-silent" in dict(event.headers)
                    elif isinstance(event, h2.events.StreamEnded) and not silent:
                        self.answer(http, event.stream_id)
                    elif isinstance(event, h2.events.StreamReset):
                        self.cancelled += 1
                connected.sendall(http.data_to_send())

    def answer(self, http, number):
        body = {"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        fields = [(":status", "200"), ("content-type", "application/json"), ("alt-svc", 'h3=":443"'), ("trailer", "x-checksum")]
        http.send_headers(number, fields)
        http.send_data(number, json.dumps(body).encode())
        http.send_headers(number, [("x-checksum", self.keys[-1])], end_stream=True)


@pytest.fixture(scope="module")
def odd(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    files = make_authority(folder, [HOST])
    provider = Odd(files.cert, files.key)
    with roads.serving(provider.handle) as port:
        gateway = lab.gateway(folder, RULES, dial={HOST: port}, ca=files.ca, confdir=lab.confdir)
        with running(gateway):
            yield gateway, provider


def test_trailers_of_the_provider_show_no_key(odd):
    gateway, provider = odd
    with http2(gateway.proxy_port, HOST, gateway.ca) as agent:
        (stream,) = agent.finish([asked(agent, "trailers")])
    assert (stream.status, stream.ended, provider.keys[-1] in REAL_KEYS.values()) == (200, True, True)
    assert "x-checksum" in stream.trailers
    assert not any(key in str(stream.trailers) for key in REAL_KEYS.values())
    assert receipts_of(gateway, "trailers", 1)[0]["usage_source"] == "reported"


def test_what_is_cancelled_is_cancelled_at_the_provider_too(odd):
    gateway, provider = odd
    with http2(gateway.proxy_port, HOST, gateway.ca) as agent:
        before = len(provider.keys)
        number = agent.ask(HOST, PATH, BODY, {"authorization": "Bearer sk-dummy", "x-silent": "1"})
        wait_for(lambda: len(provider.keys) > before, "the request at the provider")
        agent.cancel(number)
        assert wait_for(lambda: provider.cancelled, "the reset at the provider") == 1


def test_no_alternative_service_is_named(odd):
    gateway, _ = odd
    with http2(gateway.proxy_port, HOST, gateway.ca) as agent:
        assert "alt-svc" not in agent.finish([asked(agent)])[0].headers
