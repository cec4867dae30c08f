from __future__ import annotations

import ssl
import time

import httpx
import pytest

from valetkey.simulator import TlsFiles, make_authority, run_in_thread

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    files = make_authority(tmp_path_factory.mktemp("tls"), ["api.openai.com"])
    with run_in_thread(tls=TlsFiles(files.cert, files.key)) as simulator:
        yield simulator, files.ca


def client(secured, http2):
    simulator, ca = secured
    context = ssl.create_default_context(cafile=str(ca))
    return httpx.Client(base_url=simulator.url, verify=context, http2=http2, http1=not http2, trust_env=False, timeout=5)


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_whole_answers(secured, http2):
    with client(secured, http2) as http:
        assert http.post("/v1/chat/completions", json=CHAT).json()["object"] == "chat.completion"


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_streams(secured, http2):
    with client(secured, http2) as http:
        assert http.post("/v1/chat/completions", json=CHAT | {"stream": True}).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_the_protocol_is_seen(secured, http2):
    with client(secured, http2) as http:
        http.post("/v1/chat/completions", json=CHAT)
    assert secured[0].seen[-1].protocol == ("h2" if http2 else "http/1.1")


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_a_cut_breaks_the_answer(secured, http2):
    with client(secured, http2) as http, pytest.raises(httpx.HTTPError):
        http.post("/v1/chat/completions", json=CHAT | {"stream": True}, headers={"x-simulate": "cut=2"})


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_a_large_body_comes_through(secured, http2):
    with client(secured, http2) as http:
        http.post("/v1/chat/completions", json=CHAT | {"padding": "x" * 300_000})
    assert len(secured[0].seen[-1].body) > 300_000


def test_the_name_in_tls_is_seen(secured):
    with client(secured, False) as http:
        http.post(f"https://localhost:{secured[0].port}/v1/chat/completions", json=CHAT)
    assert secured[0].seen[-1].sni == "localhost"


def complain(http, fault):
    """The kind of error that a fault is to the client."""
    with pytest.raises(httpx.HTTPError) as caught:
        http.post("/v1/chat/completions", json=CHAT | {"stream": True}, headers={"x-simulate": fault})
    return type(caught.value)


@pytest.mark.parametrize(
    ("http2", "fault", "error"),
    [
        (False, "reset", httpx.ReadError),
        (False, "eof", httpx.RemoteProtocolError),
        (True, "reset", httpx.RemoteProtocolError),
        (True, "eof", httpx.RemoteProtocolError),
    ],
)
def test_a_connection_breaks_before_the_answer(secured, http2, fault, error):
    with client(secured, http2) as http:
        assert complain(http, fault) is error


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_the_client_can_go_on_with_another_connection(secured, http2):
    with client(secured, http2) as http:
        complain(http, "eof")
        assert http.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_reset_over_http2_leaves_the_connection(secured):
    with client(secured, True) as http:
        complain(http, "reset")
        assert http.post("/v1/chat/completions", json=CHAT).status_code == 200


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
@pytest.mark.parametrize("fault", ["headers-stall", "first-stall"])
def test_silence_lasts_until_the_client_leaves(secured, http2, fault):
    with client(secured, http2) as http:
        http.timeout = 0.2
        assert complain(http, fault) is httpx.ReadTimeout


@pytest.mark.parametrize("fault", ["headers-stall", "first-stall", "stall=1"])
def test_nothing_is_left_of_a_client_that_left(tmp_path, fault):
    with run_in_thread() as simulator:
        with httpx.Client(base_url=simulator.url, trust_env=False, timeout=0.1) as http:
            complain(http, fault)
        deadline = time.monotonic() + 5
        while simulator.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert simulator.connections == 0


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_an_answer_counts_as_complete_with_its_last_byte(secured, http2):
    simulator = secured[0]
    simulator.counts.clear()
    with client(secured, http2) as http:
        http.post("/v1/chat/completions", json=CHAT | {"stream": True})
        complain(http, "cut=2")
    assert simulator.counts.complete == 1
