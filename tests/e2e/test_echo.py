"""A provider that sends the key back, and what a user sees of it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from support.processes import Gateway, running, wait_for

pytestmark = pytest.mark.e2e

KEY = "lab-REALrealREALrealREALrealREAL0001"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


class Echo(BaseHTTPRequestHandler):
    """Answers with the credential it got, as a document, as events, or compressed."""

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["authorization"].removeprefix("Bearer ").encode()
        streamed, compressed = b'"stream"' in asked, b"gzip" in self.headers.get("accept-encoding", "").encode()
        body = b'data: {"a":"%s"}\n\ndata: [DONE]\n\n' if streamed else b'{"id":"x","choices":[],"a":"%s"}'
        body = body % key
        body = gzip.compress(body) if compressed else body
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-debug", key.decode())
        if compressed:
            self.send_header("content-encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def echo() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory) -> Iterator[Gateway]:
    with echo() as port:
        rules = f"providers:\n  lab: {{like: openai, upstream: 'http://127.0.0.1:{port}/v1', keys: [env:LAB_API_KEY]}}\n"
        rules += "routes: [{match: {model: m}, to: lab/m}]\n"
        made = lab.gateway(tmp_path_factory.mktemp("echo"), rules=rules, env={"LAB_API_KEY": KEY})
        with running(made) as started:
            yield started


def ask(gateway, encoding="identity", **more):
    url = "https://api.openai.com/v1/chat/completions"
    with gateway.client() as client:
        return client.post(url, json=BODY | more, headers={"authorization": "Bearer sk-dummy", "accept-encoding": encoding})


def receipt(gateway, id):
    return wait_for(lambda: next((each for each in gateway.receipts() if each["id"] == id), None), f"receipt {id}")


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_the_key_is_hidden_and_the_rest_stays(gateway, more):
    answer = ask(gateway, **more)
    assert '"a":"' + "*" * len(KEY) + '"' in answer.text


def test_a_compressed_answer_is_encoded_again(gateway):
    answer = ask(gateway, "gzip")
    assert (answer.headers["content-encoding"], answer.json()["a"]) == ("gzip", "*" * len(KEY))


def test_a_header_is_scrubbed(gateway):
    assert ask(gateway).headers["x-debug"] == "*" * len(KEY)


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_the_receipt_says_so(gateway, more):
    assert "key_echoed" in receipt(gateway, ask(gateway, **more).headers["x-valetkey-id"])["notes"]


def test_a_compressed_stream_ends_before_the_key(gateway):
    url = "https://api.openai.com/v1/chat/completions"
    headers = {"authorization": "Bearer sk-dummy", "accept-encoding": "gzip"}
    body = BODY | {"stream": True, "stream_options": {"include_usage": True}}
    with gateway.client() as client, client.stream("POST", url, json=body, headers=headers) as answer:  # noqa: SIM117 - it begins well
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()
    assert "key_echoed" in receipt(gateway, answer.headers["x-valetkey-id"])["notes"]


def test_the_log_says_so_without_the_key(gateway):
    answer = ask(gateway)
    lines = [line for line in gateway.output().splitlines() if answer.headers["x-valetkey-id"] in line]
    assert any("lab sent a real key back" in line for line in lines) and KEY not in gateway.output()
