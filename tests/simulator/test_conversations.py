from __future__ import annotations

import pytest

from valetkey.simulator.conversations import Live, Realtime, Responses, conversation, heard, said
from valetkey.simulator.faults import Fault

CREATE = {"type": "response.create", "model": "gpt-4.1", "input": "hello"}
ITEM = {"type": "conversation.item.create", "item": {"type": "message", "content": [{"type": "input_text", "text": "hello"}]}}
TURN = {"client_content": {"turns": [{"role": "user", "parts": [{"text": "hello"}]}], "turn_complete": True}}


def talk(kind, /, *messages, path="/v1/realtime?model=gpt-realtime", **fault):
    """All events, and what they took."""
    spent = []
    made = kind(path, Fault(**fault), lambda *tokens: spent.append(tokens))
    return [event for message in messages for event in made.hear(message)], spent


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/responses", Responses),
        ("/v1/realtime?model=m", Realtime),
        ("/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=x", Live),
        ("/v1/chat/completions", type(None)),
    ],
)
def test_what_is_spoken_where(path, kind):
    assert type(conversation(path, Fault(), lambda *tokens: None)) is kind


def test_a_responses_answer_ends_with_what_it_took():
    events, spent = talk(Responses, CREATE)
    usage = events[-1]["response"]["usage"]
    assert spent == [(usage["input_tokens"], usage["output_tokens"])]


def test_every_answer_has_an_id_of_its_own():
    events, _ = talk(Responses, CREATE, CREATE)
    assert {event["response"]["id"] for event in events if "response" in event} == {"resp_sim1", "resp_sim2"}


def test_a_lane_is_repeated():
    events, _ = talk(Responses, CREATE | {"stream_id": "s"})
    assert {event["stream_id"] for event in events} == {"s"}


@pytest.mark.parametrize("kind", [Responses, Realtime])
def test_an_unknown_message_is_an_error(kind):
    events, spent = talk(kind, {"type": "surprise"})
    assert ([event["type"] for event in events], spent) == (["error"], [])


@pytest.mark.parametrize("kind", [Responses, Realtime])
def test_a_fault_is_an_error_in_place_of_the_answer(kind):
    events, spent = talk(kind, CREATE, error_first=True, kind="rate_limit")
    assert ([event["error"]["code"] for event in events], spent) == (["rate_limit_exceeded"], [])


def test_the_realtime_session_has_the_model_of_the_address():
    made = Realtime("/v1/realtime?model=gpt-realtime", Fault(), lambda *tokens: None)
    assert next(made.greet())["session"]["model"] == "gpt-realtime"


def test_realtime_counts_text_and_sound():
    events, spent = talk(Realtime, ITEM, {"type": "input_audio_buffer.append", "audio": "A" * 300}, {"type": "response.create"})
    usage = events[-1]["response"]["usage"]
    assert (usage["input_token_details"]["audio_tokens"], spent) == (3, [(usage["input_tokens"], usage["output_tokens"])])


def test_a_session_can_be_changed():
    events, _ = talk(Realtime, {"type": "session.update", "session": {"instructions": "x"}})
    assert (events[0]["type"], events[0]["session"]["instructions"]) == ("session.updated", "x")


def test_live_ends_a_turn_with_its_totals():
    events, spent = talk(Live, {"setup": {"model": "models/m"}}, TURN)
    counts = events[-1]["usageMetadata"]
    assert ("setupComplete" in events[0], spent) == (True, [(counts["promptTokenCount"], counts["responseTokenCount"])])


SPEAKS = {"setup": {"model": "models/m", "generationConfig": {"responseModalities": ["AUDIO"]}}}


def test_live_answers_sound_with_sound():
    sound = {"realtimeInput": {"audio": {"data": "A" * 300, "mimeType": "audio/pcm"}}}
    events, _ = talk(Live, SPEAKS, sound, {"realtimeInput": {"audioStreamEnd": True}})
    usage = events[-1]["usageMetadata"]
    assert [[each["modality"] for each in usage[name]] for name in ("promptTokensDetails", "responseTokensDetails")] == [
        ["AUDIO"], ["AUDIO"],
    ]  # fmt: skip


def test_what_is_said_is_written_down_and_counted():
    session = {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
    sound = {"type": "input_audio_buffer.append", "audio": "A" * 300}
    events, spent = talk(Realtime, {"type": "session.update", "session": session}, sound, {"type": "input_audio_buffer.commit"})
    assert (events[1]["usage"]["input_tokens"], spent[0][0], len(spent)) == (3, 3, 2)


@pytest.mark.parametrize("data", [b"[]", b"\xff", "hello"])
def test_what_is_no_document_is_empty(data):
    assert heard(data) == {}


def test_what_is_said_is_ascii():
    assert said({"text": "é"}).isascii()
