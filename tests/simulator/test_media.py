from __future__ import annotations

import json

import pytest

from valetkey.simulator.app import App
from valetkey.simulator.media import sound_of
from valetkey.simulator.wire_types import Request

KEY = "sk-real-1"


def asked(app, path, body=b"", method="POST", kind="application/json", key=KEY, host="api.openai.com"):
    headers = [("content-type", kind), ("authorization", f"Bearer {key}"), ("x-goog-api-key", key)]
    if host == "api.anthropic.com":
        headers.append(("x-api-key", key))
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    script = app.answer(Request(method, path, host, headers, body, "HTTP/1.1"))
    return script.status, b"".join(piece.data for piece in script.pieces)


def form(**fields):
    parts = [b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v) for n, v in fields.items()]
    return b"".join(parts) + b"--b--\r\n"


def uploaded(app, path, **fields):
    return asked(app, path, form(**fields), kind="multipart/form-data; boundary=b")


def test_sound_is_transcribed_and_counted():
    _, answer = uploaded(App(), "/v1/audio/transcriptions", model=b"whisper-1", file=bytes(32_000))
    assert json.loads(answer)["usage"] == {"type": "duration", "seconds": 2}


def test_speech_is_the_same_for_the_same_text():
    assert asked(App(), "/v1/audio/speech", {"model": "tts-1", "input": "hello"}) == (200, sound_of("hello"))


@pytest.mark.parametrize(("model", "reports"), [("gpt-image-1", True), ("dall-e-3", False)])
def test_only_some_images_report_usage(model, reports):
    _, answer = asked(App(), "/v1/images/generations", {"model": model, "prompt": "x"})
    assert ("usage" in json.loads(answer)) is reports


def made_file(app):
    line = {"custom_id": "a", "url": "/v1/chat/completions", "body": {"model": "gpt-4o", "messages": []}}
    return json.loads(uploaded(app, "/v1/files", purpose=b"batch", file=json.dumps(line).encode())[1])["id"]


def test_a_batch_has_results():
    app = App()
    batch = json.loads(asked(app, "/v1/batches", {"input_file_id": made_file(app)})[1])
    _, content = asked(app, f"/v1/files/{batch['output_file_id']}/content", method="GET")
    assert json.loads(content)["response"]["body"]["usage"]["total_tokens"] > 0


def test_nobody_sees_what_another_key_has_made():
    app = App()
    assert asked(app, f"/v1/files/{made_file(app)}", method="GET", key="sk-real-2")[0] == 404


def test_a_batch_of_anthropic_has_results():
    app, params = App(), {"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": []}
    host = "api.anthropic.com"
    made = json.loads(asked(app, "/v1/messages/batches", {"requests": [{"custom_id": "a", "params": params}]}, host=host)[1])
    _, content = asked(app, f"/v1/messages/batches/{made['id']}/results", method="GET", host=host)
    assert json.loads(content)["result"]["message"]["usage"]["service_tier"] == "batch"


def test_a_batch_of_gemini_has_its_answers_inside():
    app, host = App(), "generativelanguage.googleapis.com"
    body = {"batch": {"inputConfig": {"requests": {"requests": [{"request": {"contents": []}}]}}}}
    made = json.loads(asked(app, "/v1beta/models/gemini-2.5-flash:batchGenerateContent", body, host=host)[1])
    found = json.loads(asked(app, f"/v1beta/{made['name']}", method="GET", host=host)[1])
    assert "usageMetadata" in found["response"]["inlinedResponses"]["inlinedResponses"][0]["response"]


@pytest.mark.parametrize("background", [True, False])
def test_a_response_can_be_fetched(background):
    app = App()
    made = json.loads(asked(app, "/v1/responses", {"model": "gpt-4o", "input": "x", "background": background, "store": True})[1])
    found = json.loads(asked(app, f"/v1/responses/{made['id']}", method="GET")[1])
    assert (made["usage"] is None, found["usage"] is None, found["background"]) == (background, False, background)
