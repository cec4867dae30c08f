"""Agents that speak HTTP/3 to a `reverse:` door, through the real process: the same rules, receipts and swap."""

from __future__ import annotations

import asyncio
import json

import pytest

from support.processes import REAL_KEYS, free_ports, running, wait_for
from support.quic import http3
from valetkey.simulator import run_in_thread

pytestmark = pytest.mark.e2e

PATH = "/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello there"}]}
BEARER = {"authorization": "Bearer sk-dummy"}


RULES = """
providers:
  lab: {{like: openai, upstream: "http://127.0.0.1:{port}", keys: none}}
routes:
  - {{match: {{model: local}}, to: lab/gpt-4o}}
"""


@pytest.fixture(scope="module")
def doors(lab, tmp_path_factory):
    """A gateway with a door for HTTP/3 alone and one for it besides TCP; a model of it is at an upstream that speaks HTTP/1.1."""
    only, both = free_ports(2)
    modes = [f"reverse:http3://api.openai.com@127.0.0.1:{only}", f"reverse:https://api.openai.com@127.0.0.1:{both}"]
    folder = tmp_path_factory.mktemp("http3")
    with run_in_thread() as plain:
        rules = RULES.format(port=plain.port)
        with running(lab.gateway(folder, rules, modes=modes, arguments=["-w", str(folder / "flows")])) as gateway:
            yield gateway, {"http3": only, "https": both}


def talk(doors, door, what, name="localhost"):
    gateway, ports = doors

    async def run():
        async with http3(ports[door], gateway.ca, name) as connection:
            return await what(connection, f"localhost:{ports[door]}")

    return asyncio.run(run())


def receipt(doors, answer):
    call = answer.headers["x-valetkey-id"]
    return wait_for(lambda: next((r for r in doors[0].receipts() if r["id"] == call), None), f"receipt {call}")


@pytest.mark.parametrize("door", ["http3", "https"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_call_is_governed(lab, doors, door, stream):
    answer = talk(doors, door, lambda agent, host: agent.ask(host, PATH, BODY | {"stream": stream}, BEARER))
    assert answer.status == 200
    found = receipt(doors, answer)
    assert (found["streamed"], found["outcome"], found["usage_source"]) == (stream, "ok", "reported")


def test_the_key_is_swapped_on_the_way_to_http2(lab, doors):
    talk(doors, "http3", lambda agent, host: agent.ask(host, PATH, BODY, BEARER))
    seen = lab.simulator.seen[-1]
    sent = dict(seen.headers)["authorization"].removeprefix("Bearer ")
    assert (seen.protocol, seen.host, seen.sni, sent in REAL_KEYS.values()) == ("h2", "api.openai.com", "api.openai.com", True)


def test_no_alternative_service_is_named(doors):
    answer = talk(doors, "https", lambda agent, host: agent.ask(host, PATH, BODY, BEARER))
    assert "alt-svc" not in answer.headers


def test_many_streams_at_once_keep_apart(doors):
    async def many(agent, host):
        async def one(number):
            headers = BEARER | {"x-simulate": f"words={number + 1}"}
            return await agent.ask(host, PATH, BODY | {"stream": bool(number % 2)}, headers)

        return await asyncio.gather(*(one(number) for number in range(30)))

    answers = talk(doors, "http3", many)
    assert {answer.status for answer in answers} == {200}
    words = [answer.body.count(b'"delta":{"content"') or answer.body.count(b" ") for answer in answers]
    assert len({receipt(doors, answer)["id"] for answer in answers}) == 30 and sorted(words[1::2]) == words[1::2]


def test_a_failing_key_is_replaced(doors):
    body = BODY | {"model": "gpt-4o-mini"}
    answer = talk(doors, "http3", lambda agent, host: agent.ask(host, PATH, body, BEARER | {"x-simulate": "status=429"}))
    assert answer.status == 429 and len(receipt(doors, answer)["attempts"]) > 1


def test_the_door_answers_to_its_own_name_and_its_providers(doors):
    async def three(agent, host):
        return [(await agent.ask(name, PATH, BODY, BEARER)).status for name in (host, "api.openai.com", "evil.test")]

    assert talk(doors, "http3", three) == [200, 200, 421]


def test_an_agent_that_cancels_is_settled(doors):
    who = {"authorization": "Bearer sk-dummy-leaver"}

    async def leave(agent, host):
        slow = BODY | {"stream": True}
        asked = asyncio.create_task(agent.ask(host, PATH, slow, who | {"x-simulate": "delay=0.1,words=200"}))
        await agent.begins()
        agent.cancel_all()
        asked.cancel()
        return await agent.ask(host, PATH, BODY, BEARER)

    assert talk(doors, "http3", leave).status == 200
    found = wait_for(lambda: [r for r in doors[0].receipts() if r["agent"] == "leaver"], "the receipt of who left")
    assert [receipt["outcome"] for receipt in found] == ["client"]


def test_many_streams_at_once_go_to_an_upstream_that_takes_one_at_a_time(doors):
    async def many(agent, host):
        body = BODY | {"model": "local"}
        asked = [agent.ask(host, PATH, body, BEARER | {"x-simulate": f"words={number + 1}"}) for number in range(12)]
        return await asyncio.gather(*asked)

    answers = talk(doors, "http3", many)
    assert [len(json.loads(answer.body)["choices"][0]["message"]["content"].split()) for answer in answers] == [*range(1, 13)]


def test_no_key_is_in_any_flow(doors):
    saved = (doors[0].folder / "flows").read_bytes()
    assert b"sk-dummy" in saved and [key for key in REAL_KEYS.values() if key.encode() in saved] == []
