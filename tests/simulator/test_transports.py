from __future__ import annotations

import ssl

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
