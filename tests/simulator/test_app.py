from __future__ import annotations

import json

import pytest

from valetkey.simulator.app import App
from valetkey.simulator.wire_types import Request

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
MESSAGES = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


def request(path, body=None, host="api.openai.com", headers=None, method="POST"):
    fields = {"authorization": "Bearer real-key", "x-api-key": "real-key", "x-goog-api-key": "real-key"} | (headers or {})
    data = json.dumps(body).encode() if body is not None else b""
    return Request(method, path, host, list(fields.items()), data, "http/1.1")


def answer(*args, app=None, **options):
    script = (app or App()).answer(request(*args, **options))
    return script.status, b"".join(piece.data for piece in script.pieces), dict(script.headers)


def document(*args, **options):
    return json.loads(answer(*args, **options)[1])


def events(*args, **options):
    lines = answer(*args, **options)[1].decode().replace("\r\n", "\n").split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def test_chat_echoes_the_question():
    assert "hello" in document("/v1/chat/completions", CHAT)["choices"][0]["message"]["content"]


def test_answers_are_the_same_every_time():
    assert answer("/v1/chat/completions", CHAT) == answer("/v1/chat/completions", CHAT)


def test_a_chat_stream_has_no_usage_unless_asked():
    assert not any(event.get("usage") for event in events("/v1/chat/completions", CHAT | {"stream": True}))


def test_a_chat_stream_reports_usage_when_asked():
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    assert events("/v1/chat/completions", body)[-1]["usage"] == document("/v1/chat/completions", CHAT)["usage"]


def test_an_anthropic_stream_adds_up_to_the_whole_answer():
    whole = document("/v1/messages", MESSAGES, host="api.anthropic.com")
    streamed = events("/v1/messages", MESSAGES | {"stream": True}, host="api.anthropic.com")
    deltas = [event["delta"]["text"] for event in streamed if event["type"] == "content_block_delta"]
    assert "".join(deltas) == whole["content"][0]["text"]


def test_anthropic_writes_a_cache_first_and_reads_it_afterwards():
    app = App()
    body = MESSAGES | {"system": [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}
    first = document("/v1/messages", body, host="api.anthropic.com", app=app)["usage"]
    second = document("/v1/messages", body, host="api.anthropic.com", app=app)["usage"]
    assert first["cache_creation"]["ephemeral_1h_input_tokens"] == second["cache_read_input_tokens"] > 0


@pytest.mark.parametrize("suffix", ["?alt=sse", ""])
def test_a_gemini_stream_ends_with_the_whole_usage(suffix):
    host, path = "generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-flash:"
    whole = document(f"{path}generateContent", CONTENTS, host=host)["usageMetadata"]
    if suffix:
        streamed = events(f"{path}streamGenerateContent{suffix}", CONTENTS, host=host)
    else:
        streamed = document(f"{path}streamGenerateContent", CONTENTS, host=host)
    assert streamed[-1]["usageMetadata"] == whole


def test_openrouter_reports_its_cost():
    assert document("/api/v1/chat/completions", CHAT, host="openrouter.ai")["usage"]["cost"] > 0


def test_ollama_speaks_lines():
    lines = answer("/api/chat", CHAT, host="127.0.0.1:11434")[1].splitlines()
    assert json.loads(lines[-1])["done"] is True


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/v1/chat/completions", "api.openai.com", 401),
        ("/v1/messages", "api.anthropic.com", 401),
        ("/v1beta/models/x:generateContent", "generativelanguage.googleapis.com", 400),
    ],
)
def test_a_dummy_is_refused_in_the_providers_words(path, host, status):
    headers = dict.fromkeys(("authorization", "x-api-key", "x-goog-api-key"), "Bearer sk-dummy")
    assert answer(path, {}, host=host, headers=headers)[0] == status


def test_only_known_keys_are_taken_when_keys_are_given():
    app = App({"openai": {"another-key"}})
    assert answer("/v1/chat/completions", CHAT, app=app)[0] == 401


def test_a_header_commands_an_error():
    assert answer("/v1/chat/completions", CHAT, headers={"x-simulate": "status=429"})[0] == 429


def test_a_header_commands_the_length():
    text = document("/v1/chat/completions", CHAT, headers={"x-simulate": "words=7"})["choices"][0]["message"]["content"]
    assert len(text.split()) == 7


def test_an_error_may_be_the_first_event():
    streamed = events("/v1/chat/completions", CHAT | {"stream": True}, headers={"x-simulate": "error-first"})
    assert "error" in streamed[0]


def test_an_answer_can_be_compressed():
    assert answer("/v1/chat/completions", CHAT, headers={"x-simulate": "encode=zstd"})[2]["content-encoding"] == "zstd"


def test_a_credential_can_be_reflected():
    assert b"real-key" in answer("/v1/chat/completions", CHAT, headers={"x-simulate": "echo"})[1]


def test_an_unknown_path_is_a_404():
    assert answer("/v1/nowhere", {})[0] == 404


MESSAGES_ON = {"host": "api.anthropic.com"}
STREAMS = [
    pytest.param("/v1/chat/completions", CHAT | {"stream": True}, {}, id="chat"),
    pytest.param("/v1/responses", {"model": "gpt-4o", "input": "hello", "stream": True}, {}, id="responses"),
    pytest.param("/v1/messages", MESSAGES | {"stream": True}, MESSAGES_ON, id="messages"),
]


def simulate(fault, **more):
    return more | {"headers": {"x-simulate": fault}}


@pytest.mark.parametrize(("path", "body", "options"), STREAMS)
@pytest.mark.parametrize("kind", ["rate_limit", "overloaded", "server"])
def test_the_first_event_can_be_an_error_of_any_kind(path, body, options, kind):
    status, _, _ = answer(path, body, **simulate(f"error-first,kind={kind}", **options))
    found = events(path, body, **simulate(f"error-first,kind={kind}", **options))
    assert status == 200 and [event.get("error") is not None or event["type"] == "error" for event in found] == [True]


def test_a_whole_answer_has_no_first_event():
    assert "choices" in document("/v1/chat/completions", CHAT, **simulate("error-first"))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", ["", ",kind=rate_limit"])
def test_an_error_can_be_the_body_of_a_200(streamed, kind):
    status, body, headers = answer("/v1/chat/completions", CHAT | {"stream": streamed}, **simulate("error-whole" + kind))
    assert (status, headers["content-type"], "error" in json.loads(body)) == (200, "application/json", True)


def test_the_error_in_a_200_is_of_the_kind_that_was_asked_for():
    found = document("/v1/messages", MESSAGES, **simulate("error-whole,kind=overloaded", **MESSAGES_ON))
    assert found["error"]["type"] == "overloaded_error"


def test_a_status_says_when_to_come_back():
    assert answer("/v1/chat/completions", CHAT, **simulate("status=429,retry-after-ms=200"))[2]["retry-after-ms"] == "200"


@pytest.mark.parametrize(("path", "body", "options"), STREAMS)
def test_noise_changes_nothing_of_the_content(path, body, options):
    found = [event for event in events(path, body, **simulate("noise=3", **options)) if event != {"type": "ping"}]
    assert found == [event for event in events(path, body, **options) if event != {"type": "ping"}]


@pytest.mark.parametrize(("path", "body", "options"), STREAMS)
def test_noise_is_sent_in_so_many_pieces(path, body, options):
    quiet = list(App().answer(request(path, body, **options)).pieces)
    noisy = list(App().answer(request(path, body, **simulate("noise=3", **options))).pieces)
    assert len(noisy) == len(quiet) + 3


def test_noise_stands_before_an_error_too():
    text = answer("/v1/chat/completions", CHAT | {"stream": True}, **simulate("noise=2,error-first"))[1].decode()
    assert text.index('"role"') < text.index(": keep-alive") < text.index('"error"')


def test_a_stream_can_stall_behind_its_head():
    script = App().answer(request("/v1/chat/completions", CHAT | {"stream": True}, **simulate("first-stall")))
    assert (script.status, [(piece.data, piece.hold) for piece in script.pieces]) == (200, [(b"", True)])


@pytest.mark.parametrize("word", ["reset", "eof", "headers_stall"])
def test_a_connection_can_break_before_the_answer(word):
    assert App().answer(request("/v1/chat/completions", CHAT, **simulate(word))).broken == word


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("words=3", "200"),
        ("noise=1", "200"),
        ("status=429", "429"),
        ("kind=overloaded", "503"),
        ("nonsense", "400"),
        ("reset", "reset"),
        ("eof", "eof"),
        ("headers-stall", "headers_stall"),
        ("first-stall", "first_stall"),
        ("error-first", "error_first"),
        ("error-whole", "error_whole"),
        ("stall=1", "stall"),
        ("cut=1", "cut"),
        ("malformed", "malformed"),
        ("empty", "empty"),
        ("echo", "echo"),
    ],
)
def test_what_was_answered_is_counted(fault, what):
    app = App()
    app.answer(request("/v1/chat/completions", CHAT | {"stream": True}, **simulate(fault)))
    assert app.counts.by == {("-key", what): 1}


def test_an_answer_is_complete_when_it_was_sent():
    app = App()
    script = app.answer(request("/v1/chat/completions", CHAT))
    before = app.counts.complete
    script.sent()
    assert (before, app.counts.complete) == (0, 1)


def test_an_error_is_no_complete_answer():
    app = App()
    app.answer(request("/v1/chat/completions", CHAT, **simulate("status=500"))).sent()
    assert app.counts.complete == 0
