"""Agents that talk over WebSockets, through the real process: every answer has its receipt, and the rules hold inside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from decimal import Decimal

import pytest
from websockets.exceptions import InvalidStatus

from support.processes import running, wait_for
from support.talking import LIVE, REALTIME, Socket
from valetkey.simulator import parse_fault

pytestmark = pytest.mark.e2e

RULES = """
providers:
  openai: {models: {deny: [gpt-5-secret]}}
routes:
  - {name: alias, match: {model: smart}, to: openai/gpt-4.1}
agents:
  - {name: alice, models: [gpt-4o]}
"""
TOKENS = ("input_tokens", "output_tokens")


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    with running(lab.gateway(tmp_path_factory.mktemp("sockets"), RULES)) as started:
        yield started


@pytest.fixture
def faults(lab):
    yield lab.simulator.faults
    lab.simulator.faults.clear()


def receipts(gateway, before, count):
    """The `count` receipts since `before`, answers first."""
    found = gateway.receipts(before + count)[before:]
    assert len(found) == count
    return sorted(found, key=lambda receipt: receipt["parent"] is None)


def before(gateway):
    """How many receipts there are when nothing more comes."""
    count = -1
    while count != (count := len(gateway.receipts())):
        time.sleep(0.4)
    return count


def spent_since(lab, spent):
    return [now - then for then, now in zip(spent, lab.simulator.counts.spent, strict=True)]


def sums(found):
    return [sum(receipt["usage"].get(name, 0) for receipt in found) for name in TOKENS]


@pytest.mark.parametrize("compression", ["deflate", None])
def test_each_answer_has_a_receipt_and_the_connection_one_more(lab, gateway, compression):
    known, spent = before(gateway), lab.simulator.counts.spent
    with Socket(gateway, compression=compression) as socket:
        for number in range(3):
            socket.ask(f"question {number} " * 50)
    *answers, connection = receipts(gateway, known, 4)
    assert spent_since(lab, spent) == [3, *sums(answers)]
    assert {answer["parent"] for answer in answers} == {connection["id"]}
    assert (connection["status"], connection["usage"], connection["answers"], connection["messages_in"]) == (101, {}, 3, 3)


def test_the_key_is_swapped_and_the_cost_is_known(gateway):
    known = before(gateway)
    with Socket(gateway) as socket:
        socket.ask()
    answer, connection = receipts(gateway, known, 2)
    assert (answer["key"], answer["model"], answer["outcome"], float(answer["cost_usd"]) > 0) == (
        connection["key"], "gpt-4.1", "ok", True,
    )  # fmt: skip


# Until the 101.


@pytest.mark.parametrize(("fault", "outcome"), [
    ("status=429", "throttled"), ("status=503", "overloaded"), ("reset", "network"), ("eof", "network"),
])  # fmt: skip
def test_an_upgrade_that_fails_is_made_with_another_key(gateway, faults, fault, outcome):
    known = before(gateway)
    faults.append(parse_fault(f"{fault},times=1"))
    with Socket(gateway) as socket:
        socket.ask(model="gpt-5-secret", end="error")
        socket.ask()
    connection = receipts(gateway, known, 3)[-1]
    attempts = connection["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == [outcome, "ok"]
    assert connection["key"] == attempts[-1]["key"]


def test_an_upgrade_that_no_key_can_make_is_the_providers_error(gateway, faults):
    known = before(gateway)
    with pytest.raises(InvalidStatus, match="HTTP 400"):
        Socket(gateway, simulate="status=400")
    (receipt,) = receipts(gateway, known, 1)
    assert (receipt["status"], receipt["outcome"], receipt["answers"]) == (400, "client", None)


@pytest.mark.parametrize("offered", [
    ["realtime", "openai-insecure-api-key.sk-dummy-bob", "openai-beta.realtime-v1"],
    ["openai-insecure-api-key.sk-dummy-bob", "realtime"],
])  # fmt: skip
def test_a_key_in_a_subprotocol_says_who_calls_and_goes_no_further(lab, gateway, offered):
    known = before(gateway)
    with Socket(gateway, REALTIME, dummy="", subprotocols=offered) as socket:
        assert socket.connection.subprotocol == "realtime"
    sent = dict(lab.simulator.seen[-1].headers)
    assert ("insecure" in sent["Sec-WebSocket-Protocol"], "dummy" in str(sent)) == (False, False)
    assert receipts(gateway, known, 1)[0]["agent"] == "bob"


# Messages.


@pytest.mark.parametrize("compression", ["deflate", None])
def test_fragments_and_large_messages_come_through(gateway, compression):
    text = "x" * 3_000_000
    message = json.dumps({"type": "response.create", "model": "gpt-4.1", "input": text})
    with Socket(gateway, compression=compression) as socket:
        socket.send([message[at : at + 100_000] for at in range(0, len(message), 100_000)])
        usage = socket.until("response.completed")[-1]["response"]["usage"]
    assert usage["input_tokens"] == 750_000


@pytest.mark.parametrize("compression", ["deflate", None])
def test_binary_passes_untouched(gateway, compression):
    sound = bytes(range(256)) * 8000
    with Socket(gateway, simulate="echo", compression=compression) as socket:
        socket.send(sound)
        assert socket.receive_raw() == sound


def test_a_refused_model_is_an_error_and_the_connection_stays(gateway):
    known = before(gateway)
    with Socket(gateway) as socket:
        error = socket.ask(model="gpt-5-secret", end="error")[-1]
        socket.ask()
    *answers, _ = receipts(gateway, known, 3)
    assert (error["error"]["code"], error["status"]) == ("model_not_allowed", 403)
    assert sorted(answer["refused"] or "" for answer in answers) == ["", "model_not_allowed"]


def test_a_refused_model_never_reaches_the_provider(lab, gateway):
    spent = lab.simulator.counts.spent
    with Socket(gateway, dummy="sk-dummy-alice") as socket:
        socket.ask(model="gpt-4.1", end="error")
    assert lab.simulator.counts.spent == spent


def test_an_error_of_ours_does_not_mix_with_an_answer_that_comes(gateway):
    """The provider sends in fragments all the while."""
    with Socket(gateway, simulate="delay=0.02,words=60") as socket:
        socket.send({"type": "response.create", "model": "gpt-4.1", "input": "hello"})
        for _ in range(30):
            socket.send({"type": "response.create", "model": "gpt-5-secret"})
            time.sleep(0.02)
        events = socket.until("response.completed")
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert (len(text.split(" ")), sum(event["type"] == "error" for event in events)) == (60, 30)


def test_a_route_to_another_model_is_taken(gateway):
    with Socket(gateway) as socket:
        assert socket.ask(model="smart")[-1]["response"]["model"] == "gpt-4.1"


# Ends.


@pytest.mark.parametrize(("simulate", "how", "outcome"), [
    ("cut=6", "wait", "network"), ("delay=0.2,words=100", "close", "client"), ("delay=0.2,words=100", "abort", "client"),
])  # fmt: skip
def test_an_answer_that_is_cut_is_estimated(gateway, simulate, how, outcome):
    known = before(gateway)
    socket = Socket(gateway, simulate=simulate)
    socket.send({"type": "response.create", "model": "gpt-4.1", "input": "hello"})
    socket.receive()
    socket.receive()
    if how == "wait":
        assert socket.wait_closed() == (1011, "valetkey: the provider broke off the connection")
    (socket.abort if how == "abort" else socket.close)()
    answer, _ = receipts(gateway, known, 2)
    assert (answer["outcome"], answer["usage_source"], answer["usage"]["input_tokens"] > 0) == (outcome, "estimated", True)


def test_realtime_counts_text_sound_caches_and_transcripts(lab, gateway):
    known, spent = before(gateway), lab.simulator.counts.spent
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello there " * 5}]}
    session = {"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
    with Socket(gateway, REALTIME, subprotocols=["realtime"]) as socket:
        socket.send({"type": "session.update", "session": session})
        socket.send({"type": "conversation.item.create", "item": item})
        socket.send({"type": "input_audio_buffer.append", "audio": "A" * 5000})
        socket.send({"type": "input_audio_buffer.commit"})
        socket.until("response.done")
    *answers, connection = receipts(gateway, known, 3)
    assert spent_since(lab, spent) == [2, *sums(answers)]
    written, answer = sorted(answers, key=lambda receipt: receipt["model"])
    assert (written["model"], written["usage"]["input_audio_tokens"], Decimal(written["cost_usd"]) > 0) == (
        "gpt-4o-transcribe", 50, True,
    )  # fmt: skip
    assert (answer["model"], answer["usage"]["input_audio_tokens"], answer["usage"]["output_audio_tokens"]) == (
        "gpt-realtime",
        50,
        20,
    )
    assert (answer["usage"]["cache_text_read_tokens"] > 0, connection["answers"]) == (True, 2)


def test_live_counts_sound_apart_and_costs(lab, gateway):
    known, spent = before(gateway), lab.simulator.counts.spent
    model = "models/gemini-2.5-flash-native-audio-preview-09-2025"
    with Socket(gateway, LIVE) as socket:
        socket.send({"setup": {"model": model, "generationConfig": {"responseModalities": ["AUDIO"]}}})
        socket.until("setupComplete")
        socket.send({"realtimeInput": {"audio": {"data": "A" * 500, "mimeType": "audio/pcm;rate=16000"}}})
        socket.send({"realtimeInput": {"audioStreamEnd": True}})
        socket.until("turnComplete")
    answer, connection = receipts(gateway, known, 2)
    assert spent_since(lab, spent) == [1, *sums([answer])]
    assert (answer["usage"]["input_audio_tokens"], answer["usage"]["output_audio_tokens"] > 0) == (5, True)
    assert (Decimal(answer["cost_usd"]) > 0, connection["key"]) == (True, "gemini/main")


def test_totals_are_those_of_the_answers(gateway):
    found = gateway.receipts(before(gateway))
    command = [sys.executable, "-m", "valetkey", "usage", "--json", "--by", "provider", "--rules", str(gateway.rules)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    totals = [json.loads(line) for line in done.stdout.splitlines()]
    parents = {receipt["parent"] for receipt in found}
    assert sum(total["calls"] for total in totals) == sum(receipt["id"] not in parents for receipt in found)
    assert [sum(total["usage"].get(name, 0) for total in totals) for name in TOKENS] == sums(found)
    assert sum(Decimal(total["cost_usd"]) for total in totals) == sum(Decimal(receipt["cost_usd"] or 0) for receipt in found)


# Rules that change, and the end of the process: these come last, for they change the gateway.


def test_rules_that_are_read_again_hold_inside_a_connection_at_once(gateway):
    with Socket(gateway) as socket, Socket(gateway, LIVE) as live:
        socket.ask()
        live.send({"setup": {"model": "models/gemini-2.5-flash"}})
        live.until("setupComplete")
        gateway.write_rules('providers: {openai: {models: {deny: ["gpt-4.1"]}}, gemini: {models: {deny: ["gemini-*"]}}}\n')
        wait_for(lambda: socket.ask_either()["type"] == "error", "the new rules")
        live.send({"clientContent": {"turns": [{"parts": [{"text": "hello"}]}], "turnComplete": True}})
        code, reason = live.wait_closed()
        assert (code, reason.partition(":")[0]) == (1008, "model_not_allowed")
        gateway.write_rules(RULES)
        wait_for(lambda: socket.ask_either()["type"] != "error", "the old rules")


def test_what_is_open_at_the_end_of_the_process_is_settled(gateway):
    known = before(gateway)
    socket = Socket(gateway, simulate="delay=0.2,words=1000")
    socket.send({"type": "response.create", "model": "gpt-4.1", "input": "hello"})
    socket.receive()
    socket.receive()
    gateway.stop()
    socket.abort()
    assert [receipt["outcome"] for receipt in receipts(gateway, known, 2)] == ["shutdown", "shutdown"]
