"""Bodies that are no chat, through the real process: forms, sound, images, files, batches, answers that are fetched later."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from decimal import Decimal

import anthropic
import httpx
import openai
import pytest

from support.processes import running, wait_for
from valetkey.simulator.media import sound_of

pytestmark = pytest.mark.e2e

OPENAI = "https://api.openai.com/v1"
GEMINI = "https://generativelanguage.googleapis.com/v1beta"
DUMMY = {"authorization": "Bearer sk-dummy"}
LIMIT = 3_000_000
RULES = """
providers:
  openai: {open: [files, batches], models: {deny: [dear-whisper]}}
  anthropic: {open: [batches]}
  gemini: {open: [batches, files]}
routes:
  - {name: alias, match: {model: my-whisper}, to: openai/whisper-1}
"""
SOUND = bytes(range(256)) * 250  # four seconds to the simulator
WAV = ("a.wav", SOUND, "audio/wav")


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    with running(lab.gateway(tmp_path_factory.mktemp("bodies"), RULES, gateway=f"max_body: {LIMIT}")) as started:
        yield started


@pytest.fixture(scope="module")
def http(gateway):
    with gateway.client(headers=DUMMY) as client:
        yield client


@pytest.fixture(scope="module")
def sdk(gateway):
    with openai.OpenAI(api_key="sk-dummy", http_client=gateway.client(), max_retries=0) as client:
        yield client


def receipt(gateway, answer):
    """The receipt of an answer, by the id in its headers."""
    wanted = answer.headers["x-valetkey-id"]
    return wait_for(lambda: next((each for each in gateway.receipts() if each["id"] == wanted), None), "the receipt")


def costs(gateway, answer):
    """Where the usage comes from, the usage, and the cost."""
    found = receipt(gateway, answer)
    return found["usage_source"], found["usage"], found["cost_usd"]


def form(model=b"whisper-1", boundary=b"xYz", sound=SOUND):
    fields = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n' % (boundary, each) for each in model.split(b",")
    )
    file = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%s\r\n' % (boundary, sound)
    return file + fields + b"--%s--\r\n" % boundary


def transcribe(http, body, path="/audio/transcriptions"):
    return http.post(OPENAI + path, content=body, headers={"content-type": 'multipart/form-data; boundary="xYz"'})


# Forms.


def test_a_form_passes_byte_for_byte(lab, http):
    answer = transcribe(http, form())
    assert (answer.status_code, lab.simulator.seen[-1].body) == (200, form())


def test_a_route_changes_the_model_of_a_form_and_nothing_else(lab, gateway, http):
    answer = transcribe(http, form(b"my-whisper"))
    assert (lab.simulator.seen[-1].body, receipt(gateway, answer)["route"]) == (form(b"whisper-1"), "alias")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (form(b"dear-whisper"), 403, "model_not_allowed"),
        (form(b"whisper-1,dear-whisper"), 400, "invalid_body"),
        (form(sound=bytes(LIMIT)), 413, "too_large"),
    ],
)
def test_a_form_that_is_refused_goes_nowhere(lab, gateway, http, body, status, reason):
    before = lab.simulator.counts.total
    answer = transcribe(http, body)
    assert (answer.status_code, receipt(gateway, answer)["refused"], lab.simulator.counts.total) == (status, reason, before)


def test_an_oversized_file_streams_through(lab, http):
    body = form(b"x", sound=SOUND * 80)
    answer = transcribe(http, body, "/files")
    assert (answer.status_code, lab.simulator.seen[-1].body == body, len(body) > LIMIT) == (200, True, True)


@pytest.mark.parametrize("door", ["proxy", "api"])
@pytest.mark.parametrize(("path", "size"), [("/audio/transcriptions", 2_000_000), ("/files", 2 * LIMIT)])
def test_who_expects_100_continue_is_told_to_go_on(lab, gateway, door, path, size, tmp_path):
    file = tmp_path / "body"
    file.write_bytes(form(sound=bytes(size)))
    base = OPENAI if door == "proxy" else f"{gateway.api}/v1"
    command = ["curl", "-sS", "-v", "--http1.1", "--fail", f"{base}{path}", "-H", "authorization: Bearer sk-dummy"]
    command += [
        "-H",
        "expect: 100-continue",
        "-H",
        'content-type: multipart/form-data; boundary="xYz"',
        "--expect100-timeout",
        "30",
    ]
    env = gateway.agent_env() if door == "proxy" else None
    begun = time.monotonic()
    done = subprocess.run([*command, "--data-binary", f"@{file}"], env=env, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout), done.stderr
    assert "100 Continue" in done.stderr and time.monotonic() - begun < 30
    assert lab.simulator.seen[-1].body == file.read_bytes()


# Sound.

TOKENS = {"input_tokens": 40, "input_text_tokens": 0, "input_audio_tokens": 40, "output_tokens": 8}


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [("whisper-1", {"audio_seconds": 4}, "0.0004"), ("gpt-4o-transcribe", TOKENS, "0.00032")],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_transcription_is_priced_by_seconds_or_tokens(gateway, sdk, model, usage, cost, streamed):
    answer = sdk.audio.transcriptions.with_raw_response.create(model=model, file=WAV, stream=streamed)
    parsed = answer.parse()
    text = list(parsed)[-1].text if streamed else parsed.text
    assert (text != "", costs(gateway, answer)) == (True, ("reported", usage, cost))


def test_a_transcription_as_text_is_estimated_by_the_size_of_the_sound(gateway, sdk):
    answer = sdk.audio.transcriptions.with_raw_response.create(model="whisper-1", file=WAV, response_format="text")
    assert costs(gateway, answer) == ("estimated", {"audio_seconds": 4}, "0.0004")


TEXT = "hello there, all of you " * 20


def test_speech_passes_byte_for_byte_and_is_priced_by_the_character(gateway, sdk):
    answer = sdk.audio.speech.with_raw_response.create(model="tts-1", voice="alloy", input=TEXT)
    assert answer.content == sound_of(TEXT)
    assert costs(gateway, answer) == ("reported", {"input_characters": 480}, "0.0072")


def test_speech_that_is_priced_by_tokens_is_estimated_where_none_are_reported(gateway, sdk):
    answer = sdk.audio.speech.with_raw_response.create(model="gpt-4o-mini-tts", voice="alloy", input=TEXT)
    source, usage, cost = costs(gateway, answer)
    assert (source, usage["input_tokens"], Decimal(cost) > Decimal("0.004")) == ("estimated", 120, True)


def test_streamed_speech_reports_its_tokens(gateway, http):
    asked = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": TEXT, "stream_format": "sse"}
    answer = http.post(f"{OPENAI}/audio/speech", json=asked)
    assert costs(gateway, answer) == (
        "reported",
        {"input_tokens": 120, "output_tokens": 600, "input_characters": 480},
        "0.007272",
    )


def test_speech_of_a_model_without_a_price_is_counted_and_has_none(gateway, http):
    answer = http.post(f"{OPENAI}/audio/speech", json={"model": "no-such-model", "voice": "alloy", "input": TEXT})
    assert costs(gateway, answer) == ("reported", {"input_characters": 480}, None)


# Images.


@pytest.mark.parametrize("streamed", [False, True])
def test_an_image_is_priced_by_its_tokens(gateway, sdk, streamed):
    answer = sdk.images.with_raw_response.generate(model="gpt-image-1", prompt="a valet key", stream=streamed)
    if streamed:
        assert [each.type for each in answer.parse()][-1] == "image_generation.completed"
    else:
        assert answer.parse().data[0].b64_json
    source, usage, cost = costs(gateway, answer)
    assert (source, usage["output_tokens"], cost) == ("reported", 1056, "0.042255")


PNG = ("a.png", SOUND, "image/png")


@pytest.mark.parametrize(
    ("ask", "count", "cost"),
    [
        (
            lambda sdk: sdk.images.with_raw_response.generate(model="dall-e-3", prompt="x", quality="hd", size="1792x1024"),
            1,
            "0.12",
        ),
        (lambda sdk: sdk.images.with_raw_response.edit(model="dall-e-2", image=PNG, prompt="x", size="256x256", n=2), 2, "0.032"),
        (lambda sdk: sdk.images.with_raw_response.create_variation(model="dall-e-2", image=PNG), 1, "0.02"),
    ],
)
def test_an_image_without_usage_is_priced_by_size_and_quality(gateway, sdk, ask, count, cost):
    assert costs(gateway, ask(sdk)) == ("reported", {"output_images": count}, cost)


def test_an_edited_image_is_priced_by_its_tokens(gateway, sdk):
    answer = sdk.images.with_raw_response.edit(model="gpt-image-1", image=[PNG, PNG], prompt="a valet key")
    assert costs(gateway, answer)[1]["input_image_tokens"] == 300


# Batches.


def lines(count, model="gpt-4o"):
    asked = {"model": model, "messages": [{"role": "user", "content": "hello " * 100}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": asked}
    return b"".join(json.dumps({"custom_id": str(at), **line}).encode() + b"\n" for at in range(count))


def made_batch(sdk, count=3):
    file = sdk.files.create(file=("a.jsonl", lines(count)), purpose="batch")
    return sdk.batches.with_raw_response.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


@pytest.fixture(scope="module")
def batch(sdk):
    return made_batch(sdk)


def test_a_batch_leaves_a_receipt_when_it_is_made(gateway, batch):
    found = receipt(gateway, batch)
    assert (found["outcome"], found["usage"], found["cost_usd"]) == ("ok", {}, None)


def test_the_results_of_a_batch_are_counted_at_its_price_once(gateway, sdk):
    output = sdk.batches.retrieve(made_batch(sdk).parse().id).output_file_id
    first, again = (sdk.files.with_raw_response.content(output) for _ in range(2))
    assert len(first.text.splitlines()) == 3
    found = receipt(gateway, first)
    usage = found["usage"]
    # Half of $2.50 and $10.00 per million.
    wanted = (usage["input_tokens"] * Decimal("1.25") + usage["output_tokens"] * Decimal("5")) / 1_000_000
    assert (usage["input_tokens"], found["model"], Decimal(found["cost_usd"])) == (3 * 150, "gpt-4o", wanted)
    assert (receipt(gateway, again)["usage"], receipt(gateway, again)["notes"]) == ({}, ["counted_before"])


def test_results_that_were_fetched_in_part_are_counted_in_part(gateway, sdk, http):
    output = made_batch(sdk, 400).parse().output_file_id
    with (
        http.stream("GET", f"{OPENAI}/files/{output}/content", headers={"x-simulate": "cut=100"}) as part,
        pytest.raises(httpx.HTTPError),
    ):
        part.read()
    whole = sdk.files.with_raw_response.content(output)
    counts = [receipt(gateway, answer)["usage"].get("input_tokens", 0) for answer in (part, whole)]
    assert (sum(counts), 0 < counts[0] < counts[1]) == (400 * 150, True)


def test_a_batch_belongs_to_the_key_that_made_its_file(gateway, sdk, http):
    """There are two keys, and the simulator shows nobody what another has made."""
    for _ in range(3):
        batch = made_batch(sdk).parse()
        http.post(f"{OPENAI}/chat/completions", json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
        assert sdk.files.content(sdk.batches.retrieve(batch.id).output_file_id).text


def test_the_results_of_anthropics_batches_are_counted_once(gateway):
    asked = {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "hello " * 100}]}
    own = anthropic.DefaultHttpxClient(
        proxy=gateway.proxy, verify=ssl.create_default_context(cafile=str(gateway.ca)), trust_env=False
    )
    with anthropic.Anthropic(api_key="sk-dummy", http_client=own, max_retries=0) as sdk:
        batches = sdk.messages.batches
        made = batches.create(requests=[{"custom_id": str(at), "params": asked} for at in range(2)])
        known = {each["id"] for each in gateway.receipts()}
        assert [len(list(batches.results(made.id))) for _ in range(2)] == [2, 2]
    found = wait_for(lambda: [r for r in results(gateway, known) if r["usage"]] and results(gateway, known, 2), "both receipts")
    first, again = found
    wanted = (first["usage"]["input_tokens"] * Decimal("1.5") + first["usage"]["output_tokens"] * Decimal("7.5")) / 1_000_000
    assert (first["model"], Decimal(first["cost_usd"]), again["usage"]) == ("claude-sonnet-4-5", wanted, {})


def results(gateway, known, at_least=0):
    """The receipts of results since `known`, oldest first."""
    found = [each for each in gateway.receipts() if each["id"] not in known and each["provider"] == "anthropic"]
    found = [each for each in found if each["usage"] or "counted_before" in each["notes"]]
    return found if len(found) >= at_least else []


def test_the_results_of_geminis_batches_are_counted_once(gateway, http):
    content = [{"parts": [{"text": "hello " * 100}]}]
    asked = {"batch": {"inputConfig": {"requests": {"requests": [{"request": {"contents": content}}] * 2}}}}
    key = {"x-goog-api-key": "dummy"}
    made = http.post(f"{GEMINI}/models/gemini-2.5-flash:batchGenerateContent", json=asked, headers=key)
    first, again = (http.get(f"{GEMINI}/{made.json()['name']}", headers=key) for _ in range(2))
    source, usage, cost = costs(gateway, first)
    assert (source, usage["input_tokens"], Decimal(cost) > 0) == ("reported", 300, True)
    assert (costs(gateway, again)[1], receipt(gateway, made)["model"]) == ({}, "gemini-2.5-flash")


def test_a_batch_is_closed_unless_the_rules_open_it(http):
    assert http.post("https://api.groq.com/openai/v1/batches", json={"input_file_id": "file-1"}).status_code == 403


# Answers that are fetched later.


def test_a_response_in_the_background_is_counted_when_it_is_fetched(gateway, sdk):
    made = sdk.responses.with_raw_response.create(model="gpt-4o", input="hello", background=True)
    first, again = (sdk.responses.with_raw_response.retrieve(made.parse().id) for _ in range(2))
    assert (costs(gateway, made)[:2], receipt(gateway, made)["notes"]) == (("none", {}), ["background"])
    assert (Decimal(costs(gateway, first)[2]) > 0, costs(gateway, again)[1]) == (True, {})


def test_a_response_that_was_counted_when_it_was_made_is_not_counted_when_it_is_fetched(gateway, sdk):
    made = sdk.responses.with_raw_response.create(model="gpt-4o", input="hello", store=True)
    fetched = sdk.responses.with_raw_response.retrieve(made.parse().id)
    assert (costs(gateway, made)[0], costs(gateway, fetched)[:2]) == ("reported", ("none", {}))
    assert receipt(gateway, fetched)["notes"] == ["counted_before"]
