"""Dummy key in, real key out: through the real process, under the providers' own names."""

from __future__ import annotations

import hashlib
import json
import socket

import httpx
import pytest

from support.processes import REAL_KEYS, Gateway

pytestmark = pytest.mark.e2e

CHAT = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello there"}]}
BEARER = {"authorization": "Bearer sk-dummy"}


def last(lab, path):
    return next(seen for seen in reversed(lab.simulator.seen) if seen.path.startswith(path))


def receipt_of(gateway: Gateway, answer: httpx.Response):
    call = answer.headers["x-valetkey-id"]
    from support.processes import wait_for

    return wait_for(lambda: next((r for r in gateway.receipts() if r["id"] == call), None), f"receipt {call}")


def header(seen, name):
    return [value for key, value in seen.headers if key.lower() == name]


def test_the_provider_sees_a_real_key(lab, shared):
    with shared.client() as client:
        assert client.post(CHAT, json=BODY, headers=BEARER).status_code == 200
    assert header(last(lab, "/v1/chat"), "authorization")[0].removeprefix("Bearer ") in REAL_KEYS.values()


def test_all_keys_of_a_pool_are_used(lab, shared):
    with shared.client() as client:
        keys = {client.post(CHAT, json=BODY, headers=BEARER).headers["x-valetkey-key"] for _ in range(30)}
    assert keys == {"openai/1", "openai/2"}


def test_every_other_credential_carrier_is_stripped(lab, shared):
    stray = {"x-api-key": "sk-dummy", "api-key": "sk-dummy", "x-goog-api-key": "dummy", "cookie": "session=1"}
    organization = {"openai-organization": "org-evil", "openai-project": "proj-evil"}
    with shared.client() as client:
        client.post(CHAT + "?key=sk-dummy", json=BODY, headers=BEARER | stray | organization)
    seen = last(lab, "/v1/chat")
    names = {name.lower() for name, _ in seen.headers}
    assert not names & {*stray, *organization} and "key=" not in seen.path


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_both_protocols_carry_the_swap(lab, shared, http2):
    with shared.client(http2=http2) as client:
        answer = client.post(CHAT, json=BODY, headers=BEARER)
    assert (answer.http_version, last(lab, "/v1/chat").protocol) == (("HTTP/2", "h2") if http2 else ("HTTP/1.1", "http/1.1"))


def test_request_bytes_are_untouched(lab, shared):
    body = b'{ "model" : "gpt-4o",\n"messages":[{"role":"user","content":"\\u00e9\xc3\xa9"}] , "x":1.0}'
    with shared.client() as client:
        client.post(CHAT, content=body, headers=BEARER | {"content-type": "application/json"})
    assert hashlib.sha256(last(lab, "/v1/chat").body).digest() == hashlib.sha256(body).digest()


def test_other_headers_are_untouched(lab, shared):
    with shared.client() as client:
        client.post(CHAT, json=BODY, headers=BEARER | {"OpenAI-Beta": "assistants=v2", "X-Custom": "é".encode()})
    seen = last(lab, "/v1/chat")
    assert ("OpenAI-Beta", "assistants=v2") in seen.headers


def test_a_stream_arrives_whole(lab, shared):
    with shared.client() as client, client.stream("POST", CHAT, json=BODY | {"stream": True}, headers=BEARER) as answer:
        text = "".join(answer.iter_text())
    assert text.rstrip().endswith("data: [DONE]")


def test_the_usage_chunk_that_was_asked_for_us_is_taken_out_again(lab, shared):
    with shared.client() as client, client.stream("POST", CHAT, json=BODY | {"stream": True}, headers=BEARER) as answer:
        text = "".join(answer.iter_text())
    assert b"include_usage" in last(lab, "/v1/chat").body and '"choices":[]' not in text.replace(" ", "")


def test_a_stream_has_a_receipt_with_usage_and_cost(lab, shared):
    with shared.client() as client, client.stream("POST", CHAT, json=BODY | {"stream": True}, headers=BEARER) as answer:
        answer.read()
    receipt = receipt_of(shared, answer)
    assert receipt["usage_source"] == "reported" and float(receipt["cost_usd"]) > 0 and receipt["streamed"]


def test_the_receipt_says_who_what_and_which_key(lab, shared):
    with shared.client() as client:
        answer = client.post(CHAT, json=BODY, headers={"authorization": "Bearer sk-dummy-alice.blue"})
    receipt = receipt_of(shared, answer)
    wanted = ("alice", "blue", "openai", "gpt-4o", "openai_chat", "ok", 200)
    assert tuple(receipt[n] for n in ("agent", "project", "provider", "requested_model", "format", "outcome", "status")) == wanted


def test_the_base_url_door_chooses_the_provider_by_prefix(lab, shared):
    body = BODY | {"model": "openrouter/anthropic/claude-sonnet-4-5"}
    answer = httpx.post(f"{shared.api}/v1/chat/completions", json=body, headers=BEARER, trust_env=False)
    seen = last(lab, "/api/v1/chat")
    assert (answer.status_code, seen.host, b'"anthropic/claude-sonnet-4-5"' in seen.body) == (200, "openrouter.ai", True)


def test_the_base_url_door_refuses_a_foreign_host(shared):
    answer = httpx.post(f"{shared.api}/v1/chat/completions", json=BODY, headers=BEARER | {"host": "evil.test"}, trust_env=False)
    assert answer.status_code in (403, 421)


def answers_to(gateway, *requests):
    """How many answers come to requests that are sent all at once."""
    head = f"host: 127.0.0.1:{gateway.api_port}\r\nauthorization: Bearer sk-dummy\r\n"
    with socket.create_connection(("127.0.0.1", gateway.api_port), timeout=30) as connection:
        connection.sendall("".join(f"{line}\r\n{head}{rest}" for line, rest in requests).encode())
        count, tail = 0, b""
        while count < len(requests) and (data := connection.recv(65536)):
            found = tail + data
            count += found.count(b"HTTP/1.1 ")
            tail = found[-8:]
    return count


def test_requests_that_are_sent_ahead_are_answered_in_turn(shared):
    body = json.dumps(BODY)
    call = "POST /v1/chat/completions HTTP/1.1", f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    assert answers_to(shared, call, call, call) == 3


def test_very_many_of_them_that_are_refused_are_too(shared):
    assert answers_to(shared, *[("GET /nosuch HTTP/1.1", "\r\n")] * 1200) == 1200


def test_the_base_url_door_refuses_a_foreign_origin(shared):
    headers = BEARER | {"origin": "https://evil.test"}
    assert httpx.post(f"{shared.api}/v1/chat/completions", json=BODY, headers=headers, trust_env=False).status_code == 403


def test_anthropic_gets_its_own_header(lab, shared):
    body = {"model": "claude-sonnet-4-5", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
    with shared.client() as client:
        client.post("https://api.anthropic.com/v1/messages", json=body, headers={"x-api-key": "sk-ant-dummy"})
    assert header(last(lab, "/v1/messages"), "x-api-key") == [REAL_KEYS["ANTHROPIC_API_KEY"]]


def test_gemini_key_in_the_query_is_replaced_by_the_header(lab, shared):
    url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent?key=dummy"
    with shared.client() as client:
        answer = client.post(url, json={"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
    seen = last(lab, "/v1beta/models")
    assert (answer.status_code, header(seen, "x-goog-api-key"), "key=" in seen.path) == (
        200,
        [REAL_KEYS["GEMINI_API_KEY"]],
        False,
    )


def test_no_key_names_the_variable_to_set(lab, shared):
    with shared.client() as client:
        answer = client.post("https://api.mistral.ai/v1/chat/completions", json=BODY | {"model": "mistral-small"}, headers=BEARER)
    assert answer.status_code == 503 and "MISTRAL_API_KEY" in answer.json()["error"]["message"]


def test_no_credential_is_refused(lab, shared):
    with shared.client() as client:
        assert client.post(CHAT, json=BODY).status_code == 401


def test_a_closed_endpoint_is_refused_with_the_way_to_open_it(lab, shared):
    with shared.client() as client:
        answer = client.get("https://api.openai.com/v1/files", headers=BEARER)
    assert answer.status_code == 403 and "open" in answer.json()["error"]["message"]


def test_tunnels_to_other_hosts_are_not_decrypted(lab, shared):
    """A host that is no provider keeps its own certificate; ours would fail its check here."""
    with pytest.raises(httpx.ProxyError), shared.client() as client:
        client.get("https://127.0.0.1:1/")


def test_forbidden_models_are_refused_and_not_listed(lab, tmp_path):
    from support.processes import running

    with (
        running(lab.gateway(tmp_path, "providers: {openai: {models: {deny: ['gpt-4o']}}}\n")) as gateway,
        gateway.client() as client,
    ):
        listed = client.get("https://api.openai.com/v1/models", headers=BEARER).json()["data"]
        refused = client.post(CHAT, json=BODY, headers=BEARER).status_code
    assert ("gpt-4o" in [entry["id"] for entry in listed], len(listed) > 0, refused) == (False, True, 403)


def directly(lab, body, **headers):
    """The simulator's own answer, without the gateway."""
    import ssl

    context = ssl.create_default_context(cafile=str(lab.ca))
    headers |= {"authorization": "Bearer a-real-key", "host": "api.openai.com"}
    url = f"{lab.simulator.url}/v1/chat/completions"
    with (
        httpx.Client(verify=context, trust_env=False) as client,
        client.stream("POST", url, json=body, headers=headers) as answer,
    ):
        return b"".join(answer.iter_raw()), answer.headers


@pytest.mark.parametrize("simulate", ["words=50", "encode=gzip", "encode=br", "encode=zstd", "status=429", "malformed"])
@pytest.mark.parametrize("asked", [{}, {"stream": True, "stream_options": {"include_usage": True}}], ids=["whole", "streamed"])
def test_answer_bytes_are_untouched(lab, shared, simulate, asked):
    body = BODY | asked | {"model": f"gpt-4o-{simulate}-{len(asked)}"}  # its own: after a 429 the keys rest for the model
    expected, headers = directly(lab, body, **{"x-simulate": simulate})
    wanted = BEARER | {"x-simulate": simulate}
    with shared.client() as client, client.stream("POST", CHAT, json=body, headers=wanted) as answer:
        came = b"".join(answer.iter_raw())
    ours = {name: value for name, value in answer.headers.items() if not name.startswith("x-valetkey")}
    framing = {"content-length", "transfer-encoding", "alt-svc"}
    assert hashlib.sha256(came).digest() == hashlib.sha256(expected).digest()
    assert {n: v for n, v in ours.items() if n not in framing} == {n: v for n, v in headers.items() if n not in framing}


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_usage_is_read_inside_compressed_answers(lab, shared, encoding):
    body = BODY | {"stream": True, "stream_options": {"include_usage": True}}
    with shared.client() as client:
        answer = client.post(CHAT, json=body, headers=BEARER | {"x-simulate": f"encode={encoding}"})
    assert receipt_of(shared, answer)["usage_source"] == "reported"


def test_many_streams_of_one_connection_keep_apart(lab, shared):
    """HTTP/2: sixty calls at once, whole and streamed, each with its own answer and receipt."""
    import asyncio
    import ssl

    context = ssl.create_default_context(cafile=str(shared.ca))
    context.set_alpn_protocols(["h2"])
    context.set_alpn_protocols = lambda protocols: None

    async def one(client, number):
        headers = {"authorization": f"Bearer sk-dummy-many{number}", "x-simulate": f"words={number + 1}"}
        answer = await client.post(CHAT, json=BODY | {"stream": bool(number % 2)}, headers=headers)
        whole = number % 2 or len(answer.json()["choices"][0]["message"]["content"].split()) == number + 1
        return answer.http_version == "HTTP/2" and bool(whole) and (number % 2 == 0 or answer.text.endswith("data: [DONE]\n\n"))

    async def everything():
        async with httpx.AsyncClient(proxy=shared.proxy, verify=context, http2=True, trust_env=False, timeout=30) as client:
            await one(client, 0)
            return await asyncio.gather(*(one(client, number) for number in range(60)))

    from support.processes import wait_for

    assert all(asyncio.run(everything()))
    assert wait_for(lambda: len({r["agent"] for r in shared.receipts() if r["agent"].startswith("many")}) == 60, "60 receipts")
