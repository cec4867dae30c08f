"""Agents that talk over WebSockets, through the real process: every answer has its receipt, and the rules hold inside."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.processes import running

pytestmark = pytest.mark.e2e

RULES = """
providers:
  openai: {models: {deny: [gpt-5-secret]}}
routes:
  - {name: alias, match: {model: smart}, to: openai/gpt-4.1}
agents:
  - {name: alice, models: [gpt-4o]}
"""


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    with running(lab.gateway(tmp_path_factory.mktemp("sockets"), RULES)) as started:
        yield started


def opened(gateway, path="/v1/responses", dummy="sk-dummy", simulate="", **options):
    headers = {"authorization": f"Bearer {dummy}"} | ({"x-simulate": simulate} if simulate else {})
    context = ssl.create_default_context(cafile=str(gateway.ca))
    return connect(
        f"wss://api.openai.com{path}", proxy=gateway.proxy, ssl=context, additional_headers=headers, open_timeout=30, **options
    )


def ask(socket, text="hello", model="gpt-4.1", end="response.completed", **more):
    socket.send(json.dumps({"type": "response.create", "model": model, "input": text, **more}))
    return until(socket, end)


def until(socket, end):
    events = [json.loads(socket.recv(30))]
    while events[-1]["type"] != end:
        events.append(json.loads(socket.recv(30)))
    return events


def receipts(gateway, before, count):
    """The `count` receipts since `before`, answers first."""
    found = gateway.receipts(before + count)[before:]
    assert len(found) == count
    return sorted(found, key=lambda receipt: receipt["parent"] is None)


def before(gateway):
    """How many receipts there are when nothing more comes."""
    count = -1
    while count != (count := len(gateway.receipts())):
        time.sleep(0.5)
    return count


@pytest.mark.parametrize("compression", ["deflate", None])
def test_each_answer_has_a_receipt_and_the_connection_one_more(lab, gateway, compression):
    known, spent = before(gateway), lab.simulator.counts.spent
    with opened(gateway, compression=compression) as socket:
        for number in range(3):
            ask(socket, f"question {number} " * 50)
    *answers, connection = receipts(gateway, known, 4)
    now = lab.simulator.counts.spent
    assert [b - a for a, b in zip(spent, now, strict=True)] == [
        3, *(sum(answer["usage"][name] for answer in answers) for name in ("input_tokens", "output_tokens")),
    ]  # fmt: skip
    assert {answer["parent"] for answer in answers} == {connection["id"]}
    assert (connection["status"], connection["usage"], connection["answers"], connection["messages_in"]) == (101, {}, 3, 3)


def test_the_key_is_swapped_and_the_cost_is_known(lab, gateway):
    known = before(gateway)
    with opened(gateway) as socket:
        ask(socket)
    answer, connection = receipts(gateway, known, 2)
    assert (answer["key"], answer["model"], answer["outcome"], float(answer["cost_usd"]) > 0) == (
        connection["key"], "gpt-4.1", "ok", True,
    )  # fmt: skip


def test_fragments_and_large_messages_come_through(gateway):
    text = "x" * 300_000
    message = json.dumps({"type": "response.create", "model": "gpt-4.1", "input": text})
    with opened(gateway, max_size=None) as socket:
        socket.send([message[at : at + 10_000] for at in range(0, len(message), 10_000)])
        usage = until(socket, "response.completed")[-1]["response"]["usage"]
    assert usage["input_tokens"] == 75_000


def test_a_refused_model_is_an_error_and_the_connection_stays(gateway):
    known = before(gateway)
    with opened(gateway) as socket:
        error = ask(socket, model="gpt-5-secret", end="error")[-1]
        ask(socket)
    *answers, _ = receipts(gateway, known, 3)
    assert (error["error"]["code"], error["status"]) == ("model_not_allowed", 403)
    assert sorted(answer["refused"] or "" for answer in answers) == ["", "model_not_allowed"]


def test_a_refused_model_never_reaches_the_provider(lab, gateway):
    spent = lab.simulator.counts.spent
    with opened(gateway, dummy="sk-dummy-alice") as socket:
        ask(socket, model="gpt-4.1", end="error")
    assert lab.simulator.counts.spent == spent


def test_an_error_of_ours_does_not_mix_with_an_answer_that_comes(gateway):
    """The provider sends in fragments all the while."""
    with opened(gateway, simulate="delay=0.02,words=60") as socket:
        socket.send(json.dumps({"type": "response.create", "model": "gpt-4.1", "input": "hello"}))
        for _ in range(30):
            socket.send(json.dumps({"type": "response.create", "model": "gpt-5-secret"}))
            time.sleep(0.02)
        events = until(socket, "response.completed")
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert (len(text.split(" ")), sum(event["type"] == "error" for event in events)) == (60, 30)


def test_a_route_to_another_model_is_taken(gateway):
    with opened(gateway) as socket:
        assert ask(socket, model="smart")[-1]["response"]["model"] == "gpt-4.1"


@pytest.mark.parametrize(("simulate", "outcome"), [("cut=6", "network"), ("delay=0.2,words=100", "client")])
def test_an_answer_that_is_cut_is_estimated(gateway, simulate, outcome):
    known = before(gateway)
    socket = opened(gateway, simulate=simulate)
    socket.send(json.dumps({"type": "response.create", "model": "gpt-4.1", "input": "hello"}))
    try:
        for _ in range(8):
            socket.recv(30)
    except ConnectionClosed:
        pass
    socket.close()
    answer, _ = receipts(gateway, known, 2)
    assert (answer["outcome"], answer["usage_source"], answer["usage"]["input_tokens"] > 0) == (outcome, "estimated", True)


def test_realtime_counts_text_sound_and_caches(lab, gateway):
    known, spent = before(gateway), lab.simulator.counts.spent
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello there " * 5}]}
    with opened(gateway, "/v1/realtime?model=gpt-realtime", subprotocols=["realtime"]) as socket:
        socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
        socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 5000}))
        socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        usage = until(socket, "response.done")[-1]["response"]["usage"]
    answer, _ = receipts(gateway, known, 2)
    assert lab.simulator.counts.spent[1] - spent[1] == answer["usage"]["input_tokens"] == usage["input_tokens"]
    assert (answer["usage"]["input_audio_tokens"], answer["usage"]["output_audio_tokens"]) == (50, 20)
    assert (answer["usage"]["cache_text_read_tokens"] > 0, answer["model"]) == (True, "gpt-realtime")


def test_many_connections_at_once(lab, gateway):
    """All receipts are there, and the sums are the simulator's own."""
    known, spent = before(gateway), lab.simulator.counts.spent

    def talk(number):
        with opened(gateway) as socket:
            for turn in range(5):
                ask(socket, f"{number} {turn} " * (number + 1))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = receipts(gateway, known, 60)
    sums = [sum(receipt["usage"].get(name, 0) for receipt in found) for name in ("input_tokens", "output_tokens")]
    assert [b - a for a, b in zip(spent, lab.simulator.counts.spent, strict=True)] == [50, *sums]


PROGRAMS = {
    "openai responses": """
        import openai
        with openai.OpenAI().responses.connect() as connection:
            connection.send({"type": "response.create", "model": "gpt-4.1", "input": "hi"})
            for event in connection:
                if event.type == "response.completed":
                    break
        print(json.dumps(event.response.usage.total_tokens))
    """,
    "openai realtime": """
        import openai
        with openai.OpenAI().realtime.connect(model="gpt-realtime") as connection:
            connection.conversation.item.create(
                item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]})
            connection.response.create()
            for event in connection:
                if event.type == "response.done":
                    break
        print(json.dumps(event.response.usage.total_tokens))
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_sdks_talk_and_are_metered(gateway, name):
    known = before(gateway)
    total = run(PROGRAMS[name], gateway.agent_env())
    answer, connection = receipts(gateway, known, 2)
    assert (answer["usage"]["input_tokens"] + answer["usage"]["output_tokens"], connection["answers"]) == (total, 1)


def run(program, env):
    code = "import json\n" + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
