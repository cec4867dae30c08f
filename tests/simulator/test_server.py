from __future__ import annotations

import gc
import tracemalloc

import httpx
import pytest

from valetkey.simulator import run_in_thread

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def simulator():
    with run_in_thread() as running:
        yield running


@pytest.fixture
def client(simulator):
    with httpx.Client(base_url=simulator.url, trust_env=False, timeout=5) as made:
        yield made
    simulator.faults.clear()


def test_it_answers(client):
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_it_remembers_what_it_saw(simulator, client):
    client.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer real"})
    assert simulator.seen[-1].credentials == ["Bearer real"]


def test_it_tells_over_http_what_it_saw(client):
    client.post("/v1/chat/completions", json=CHAT)
    assert client.get("/_simulator/seen").json()[-1]["path"] == "/v1/chat/completions"


def test_it_is_told_over_http_what_goes_wrong(client):
    client.post("/_simulator/faults", content="status=503,times=1")
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 503


def test_a_wrong_fault_is_refused(client):
    assert client.post("/_simulator/faults", content="nonsense=1").status_code == 400


def test_faults_can_be_lifted(simulator, client):
    client.post("/_simulator/faults", content="status=503")
    client.delete("/_simulator/faults")
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_health(client):
    assert client.get("/_simulator/health").json() == {"status": "ok"}


def test_the_official_openai_sdk_is_content(simulator):
    import openai

    with openai.OpenAI(base_url=simulator.url + "/v1", api_key="real") as sdk:
        assert sdk.chat.completions.create(**CHAT).usage.total_tokens > 0


def test_the_official_anthropic_sdk_is_content(simulator):
    import anthropic

    with anthropic.Anthropic(base_url=simulator.url, api_key="real") as sdk:
        message = sdk.messages.create(model="claude-sonnet-4-5", max_tokens=9, messages=CHAT["messages"])
    assert message.usage.output_tokens > 0


def test_it_counts_what_it_answered(simulator, client):
    simulator.counts.clear()
    client.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer sk-real-AAAA"})
    client.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer sk-real-AAAA", "x-simulate": "status=429"})
    assert client.get("/_simulator/counts").json() == {"total": 2, "complete": 1, "keys": {"AAAA": {"200": 1, "429": 1}}}


def test_its_counts_begin_again(simulator, client):
    client.post("/v1/chat/completions", json=CHAT)
    client.delete("/_simulator/counts")
    assert simulator.counts.total == 0


def test_a_broken_stream_is_no_complete_answer(simulator, client):
    simulator.counts.clear()
    with pytest.raises(httpx.HTTPError):
        client.post("/v1/chat/completions", json=CHAT | {"stream": True}, headers={"x-simulate": "cut=2"})
    assert (simulator.counts.what(), simulator.counts.complete) == ({"cut": 1}, 0)


def test_the_seed_decides_what_strikes():
    def statuses(seed):
        with run_in_thread(seed=seed) as simulator, httpx.Client(base_url=simulator.url, trust_env=False) as client:
            client.post("/_simulator/faults", content="status=503,chance=0.5")
            return [client.post("/v1/chat/completions", json=CHAT).status_code for _ in range(30)]

    assert statuses(3) == statuses(3) != statuses(4)


def test_without_recording_nothing_grows_with_the_calls():
    def sizes(simulator, client, calls):
        for number in range(calls):
            body = CHAT | {"messages": [{"role": "user", "content": f"hello {number}"}], "padding": "x" * 20_000}
            client.post("/v1/chat/completions", json=body)
        gc.collect()  # of all that other tests of this process have left to it
        return tracemalloc.get_traced_memory()[0]

    with run_in_thread(record=False) as simulator, httpx.Client(base_url=simulator.url, trust_env=False) as client:
        tracemalloc.start()
        try:
            before = sizes(simulator, client, 50)
            grown = sizes(simulator, client, 200) - before
        finally:
            tracemalloc.stop()
    assert (len(simulator.seen), grown < 500_000) == (0, True)
