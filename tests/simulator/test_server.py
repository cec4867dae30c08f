from __future__ import annotations

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
