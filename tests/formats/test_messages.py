from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import making
from valetkey.formats.messages import OPEN, TALKS, Answer, LiveTalk, RealtimeTalk, ResponsesTalk
from valetkey.policy import metering

PROVIDERS = making.rules().providers


def dump(**document):
    return json.dumps(document).encode()


def talk(kind, *messages, model=()):
    """The answers that ended in a talk. `>` before a message: the agent's; time goes by one second per message."""
    made, over = kind(model), []
    for now, (who, message) in enumerate(messages):
        if who == ">":
            over += made.sent(made.read(message, is_text=True), float(now))
        else:
            over += made.heard(message, float(now))
    return over, made


# OpenAI Responses, as https://platform.openai.com/docs/guides/websocket-mode has it.

CREATE = dump(type="response.create", model="gpt-4.1", input="hi")
USAGE = {
    "input_tokens": 36, "input_tokens_details": {"cached_tokens": 12}, "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 123,
}  # fmt: skip


def created(id="resp_1", **more):
    return dump(type="response.created", response={"id": id, "model": "gpt-4.1-2025-04-14", "usage": None}, **more)


def delta(text="Hello", **more):
    return dump(type="response.output_text.delta", item_id="msg_1", delta=text, **more)


def completed(id="resp_1", kind="response.completed", usage=USAGE, **more):
    response = {"id": id, "model": "gpt-4.1-2025-04-14", "status": "completed", "output": [], "usage": usage}
    return dump(type=kind, response=response | more.pop("response", {}), **more)


def usage_of(answer, provider="openai"):
    return metering.measure(answer.document, PROVIDERS[provider], answer.flavor, answer.model, 1_780_000_000.0)


def test_a_responses_answer_ends_with_its_usage():
    (answer,), _ = talk(ResponsesTalk, (">", CREATE), ("<", created()), ("<", delta()), ("<", completed()))
    assert usage_of(answer).usage == {
        "input_tokens": 36, "cache_read_tokens": 12, "output_tokens": 87, "output_reasoning_tokens": 5,
    }  # fmt: skip


def test_a_responses_answer_has_a_price():
    (answer,), _ = talk(ResponsesTalk, (">", CREATE), ("<", created()), ("<", completed()))
    assert usage_of(answer).cost_usd > 0


def test_the_times_of_an_answer_are_those_handed_in():
    (answer,), _ = talk(ResponsesTalk, (">", CREATE), ("<", created()), ("<", delta()), ("<", delta()), ("<", completed()))
    assert (answer.asked, answer.first, answer.ended) == (0.0, 2.0, 4.0)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_all_ends_are_ends(kind):
    (answer,), _ = talk(ResponsesTalk, (">", CREATE), ("<", created()), ("<", completed(kind=kind)))
    assert answer.complete


def test_a_failed_answer_has_an_error():
    error = {"code": "rate_limit_exceeded", "message": "slow down"}
    failed = completed(kind="response.failed", usage=None, response={"error": error})
    (answer,), _ = talk(ResponsesTalk, (">", CREATE), ("<", created()), ("<", failed))
    assert (answer.error, answer.status) == ({"error": error}, 429)


def test_an_error_ends_the_answer_that_was_asked_for():
    error = {"type": "invalid_request_error", "code": "previous_response_not_found", "message": "no"}
    (answer,), _ = talk(ResponsesTalk, (">", CREATE), ("<", dump(type="error", status=404, error=error)))
    assert (answer.complete, answer.status) == (False, 404)


def test_answers_of_one_lane_come_in_order():
    other = dump(type="response.create", model="gpt-4o", input="")
    over, _ = talk(
        ResponsesTalk, (">", CREATE), (">", other), ("<", created("a")), ("<", completed("a")), ("<", created("b")),
        ("<", completed("b")),
    )  # fmt: skip
    assert [(answer.model, answer.id) for answer in over] == [("gpt-4.1", "a"), ("gpt-4o", "b")]


def test_lanes_are_told_apart():
    asks = [dump(type="response.create", model=model, stream_id=model) for model in ("m1", "m2")]
    over, _ = talk(
        ResponsesTalk, (">", asks[0]), (">", asks[1]), ("<", created("b", stream_id="m2")), ("<", created("a", stream_id="m1")),
        ("<", delta("12345", stream_id="m1")), ("<", completed("b", stream_id="m2")), ("<", completed("a", stream_id="m1")),
    )  # fmt: skip
    assert [(answer.model, answer.id, answer.output_chars) for answer in over] == [("m2", "b", 0), ("m1", "a", 5)]


def test_an_answer_that_comes_unasked_has_the_model_of_the_one_before():
    over, _ = talk(
        ResponsesTalk, (">", CREATE), ("<", created("a")), ("<", completed("a")), ("<", created("b")), ("<", completed("b"))
    )
    assert [answer.model for answer in over] == ["gpt-4.1", "gpt-4.1"]


def test_no_answer_ends_twice():
    over, _ = talk(ResponsesTalk, (">", CREATE), ("<", created()), ("<", completed()), ("<", completed()))
    assert len(over) == 1


def test_what_is_open_at_the_end_has_what_was_seen():
    _, made = talk(ResponsesTalk, (">", CREATE), ("<", created()), ("<", delta("four")))
    (answer,) = made.close(9.0)
    assert (answer.complete, answer.output_chars, answer.asked_bytes, answer.ended) == (False, 4, len(CREATE), 9.0)


@pytest.mark.parametrize("kind", TALKS.values())
def test_no_more_than_so_many_answers_are_open(kind):
    asks = [(">", CREATE)] * (OPEN + 3)
    over, made = talk(kind, *asks, model=("gpt-realtime",))
    assert (len(over), len(made.close(0.0))) == ((3, OPEN) if kind is not LiveTalk else (0, 0))


def test_a_delta_that_only_quotes_an_end_is_none():
    quote = delta('{"type":"response.completed","response":{}}')
    over, made = talk(ResponsesTalk, (">", CREATE), ("<", created()), ("<", quote))
    assert (over, len(made.close(0.0))) == ([], 1)


# What the agent asks for.


@pytest.mark.parametrize(
    ("kind", "message", "models", "wants"),
    [
        (ResponsesTalk, CREATE, ("gpt-4.1",), True),
        (ResponsesTalk, b'{"type":"response.cr\\u0065ate","mod\\u0065l":"gpt-4.1"}', ("gpt-4.1",), True),
        (ResponsesTalk, dump(type="response.create"), (None,), True),
        (ResponsesTalk, dump(type="response.create", model="a", response={"model": "b"}), ("a", "b"), True),
        (ResponsesTalk, dump(type="response.steer", input="x"), (), False),
        (ResponsesTalk, dump(type="surprise", model="gpt-5"), ("gpt-5",), False),
        (RealtimeTalk, dump(type="response.create"), ("query",), True),
        (RealtimeTalk, dump(type="input_audio_buffer.append", audio="AAAA"), ("query",), False),
        (RealtimeTalk, dump(type="session.update", session={"model": "m"}), ("m", "query"), True),
        (
            RealtimeTalk,
            dump(type="session.update", session={"audio": {"input": {"transcription": {"model": "whisper-1"}}}}),
            ("query", "whisper-1"),
            True,
        ),
        (
            RealtimeTalk,
            dump(type="session.update", session={"input_audio_transcription": {"model": "whisper-1"}}),
            ("query", "whisper-1"),
            True,
        ),
        (LiveTalk, dump(setup={"model": "models/gemini-2.5-flash"}), ("gemini-2.5-flash",), True),
        (LiveTalk, dump(setup={}), (None,), True),
        (LiveTalk, dump(client_content={"turns": []}), (None,), True),
        (LiveTalk, dump(realtimeInput={"audio": {"data": "AAAA"}}), (None,), False),
    ],
)
def test_what_a_message_asks_for(kind, message, models, wants):
    ask = kind(("query",)).read(message, is_text=True)
    assert (ask.models, ask.wants, ask.problem) == (models, wants, None)


WRITES = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}


@pytest.mark.parametrize(
    ("session", "then", "models"),
    [
        ({"type": "transcription"}, "session.update", ("whisper-1",)),
        ({"type": "transcription"}, "input_audio_buffer.append", ("whisper-1",)),
        ({"type": "transcription"}, "response.create", (None,)),
        ({"type": "realtime"}, "session.update", (None, "whisper-1")),
        ({"type": "realtime", "model": "m"}, "response.create", ("m",)),
    ],
)
def test_a_connection_that_only_writes_down_what_is_said_needs_no_other_model(session, then, models):
    talk = RealtimeTalk()
    update = dump(type="session.update", session=session | WRITES)
    talk.sent(talk.read(update, is_text=True), 0.0)
    assert talk.read(update if then == "session.update" else dump(type=then), is_text=True).models == models


@pytest.mark.parametrize("kind", TALKS.values())
@pytest.mark.parametrize(
    "message",
    [
        b"hello",
        b"[]",
        b'{"type":"response.create","type":"x","setup":{},"setup":{}}',
        b"\xff\xfe",
        b'{"type": NaN}',
        b'{"Type":"response.create","Setup":{}}',
    ],
)
def test_text_that_can_be_read_in_two_ways_is_a_problem(kind, message):
    assert kind().read(message, is_text=True).problem


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ResponsesTalk, b'{"type":"response.create","model":"a","model":"b"}'),
        (ResponsesTalk, b'{"type":"response.create","model":"a","Model":"b"}'),
        (ResponsesTalk, b'{"type":"response.create","model":["a"]}'),
        (RealtimeTalk, b'{"type":"session.update","session":{"model":"a","model":"b"}}'),
        (RealtimeTalk, b'{"type":"session.update","session":{"Model":"b"}}'),
        (LiveTalk, b'{"setup":{"model":"a","Model":"b"}}'),
    ],
)
def test_a_model_that_can_be_read_in_two_ways_is_a_problem(kind, message):
    assert kind().read(message, is_text=True).problem


@pytest.mark.parametrize("kind", TALKS.values())
@pytest.mark.parametrize("sound", [b"\x00\x01", b"{\x80\x7f", b""])
def test_sound_is_not_looked_into(kind, sound):
    ask = kind(("m",)).read(sound, is_text=False)
    assert (ask.models, ask.problem) == ((), None)


@pytest.mark.parametrize("message", [CREATE, b" \n" + CREATE])
def test_json_in_binary_is_read(message):
    assert ResponsesTalk().read(message, is_text=False).models == ("gpt-4.1",)


def test_ambiguous_json_in_binary_is_a_problem():
    assert ResponsesTalk().read(b'{"model":"a","model":"b"}', is_text=False).problem


def test_the_models_of_an_ambiguous_address_are_all_asked_for():
    assert RealtimeTalk(("a", "b")).read(dump(type="response.create"), is_text=True).models == ("a", "b")


# OpenAI Realtime, as https://platform.openai.com/docs/api-reference/realtime-server-events/response/done has it.

REALTIME = {
    "total_tokens": 253, "input_tokens": 132, "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119, "audio_tokens": 13, "image_tokens": 0, "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}  # fmt: skip
SESSION = dump(
    type="session.created",
    session={
        "type": "realtime",
        "model": "gpt-realtime-2025-08-28",
        "audio": {"input": {"transcription": {"model": "whisper-1"}}},
    },
)


def begun(id="resp_1"):
    return dump(type="response.created", event_id="e", response={"id": id, "status": "in_progress"})


def done(id="resp_1", status="completed", usage=REALTIME, **more):
    return dump(type="response.done", event_id="e", response={"id": id, "status": status, "usage": usage, **more})


def realtime(*messages):
    return talk(RealtimeTalk, *messages, model=("gpt-realtime",))


def test_a_realtime_answer_has_text_sound_and_caches():
    (answer,), _ = realtime(("<", SESSION), ("<", begun()), ("<", done()))
    found = usage_of(answer).usage
    assert {name: found[name] for name in found if found[name]} == {
        "input_tokens": 132, "input_text_tokens": 119, "input_audio_tokens": 13, "cache_read_tokens": 64,
        "cache_text_read_tokens": 64, "output_tokens": 121, "output_text_tokens": 30, "output_audio_tokens": 91,
    }  # fmt: skip


def test_a_realtime_answer_has_the_price_of_its_sound():
    """US dollars per million: text 4, cached 0.40, out 16; sound in 32, out 64 (https://platform.openai.com/docs/pricing)."""
    (answer,), _ = realtime(("<", SESSION), ("<", begun()), ("<", done()))
    expected = ((119 - 64) * 4 + 64 * 0.4 + 13 * 32 + 30 * 16 + 91 * 64) / 1e6
    assert float(usage_of(answer).cost_usd) == pytest.approx(expected)


def test_the_model_is_the_sessions():
    (answer,), _ = realtime(("<", SESSION), ("<", begun()), ("<", done()))
    assert (usage_of(answer).model, answer.model) == ("gpt-realtime-2025-08-28", "gpt-realtime")


def test_a_cancelled_realtime_answer_is_metered():
    (answer,), _ = realtime(("<", begun()), ("<", done(status="cancelled")))
    assert usage_of(answer).usage["output_tokens"] == 121


def test_a_failed_realtime_answer_has_an_error():
    error = {"type": "server_error", "code": "boom"}
    (answer,), _ = realtime(("<", begun()), ("<", done(status="failed", usage=None, status_details={"error": error})))
    assert (answer.error, answer.status) == ({"error": error}, 500)


def test_sound_counts_no_characters():
    sound = dump(type="response.output_audio.delta", response_id="resp_1", delta="A" * 1000)
    words = dump(type="response.output_audio_transcript.delta", response_id="resp_1", delta="four")
    (answer,), _ = realtime(("<", begun()), ("<", sound), ("<", words), ("<", done()))
    assert (answer.output_chars, answer.first) == (4, 1.0)


ASKED = dump(type="response.create", event_id="mine")


def about(event):
    return dump(type="error", error={"type": "invalid_request_error", "event_id": event, "message": "no"})


def test_an_error_ends_the_answer_that_it_names():
    (answer,), _ = realtime((">", ASKED), ("<", about("mine")))
    assert (answer.status, answer.complete) == (400, False)


def test_an_error_about_something_else_ends_nothing():
    over, _ = realtime((">", ASKED), ("<", about("other")), ("<", begun()), ("<", done()))
    assert [answer.error for answer in over] == [None]


def test_an_answer_to_speech_needs_no_question():
    over, _ = realtime((">", ASKED), ("<", begun("a")), ("<", begun("b")), ("<", done("b")), ("<", done("a")))
    assert [(answer.id, answer.asked_bytes) for answer in over] == [("b", 0), ("a", len(ASKED))]


SPOKEN = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "item_1", "transcript": "Hey"}


def test_a_transcript_by_the_token_is_an_answer_of_its_own():
    usage = {
        "type": "tokens",
        "total_tokens": 22,
        "input_tokens": 13,
        "output_tokens": 9,
        "input_token_details": {"audio_tokens": 13},
    }
    (answer,), _ = realtime(("<", SESSION), ("<", dump(**SPOKEN, usage=usage)))
    found = usage_of(answer).usage
    assert (answer.model, found["input_audio_tokens"], found["output_tokens"]) == ("whisper-1", 13, 9)


def test_a_transcript_by_the_second_is_an_answer_of_its_own():
    (answer,), _ = realtime(("<", SESSION), ("<", dump(**SPOKEN, usage={"type": "duration", "seconds": 3})))
    assert (answer.model, usage_of(answer).usage) == ("whisper-1", {"audio_seconds": 3})


# Gemini Live, as https://ai.google.dev/api/live has it.

SETUP = dump(setup={"model": "models/gemini-live-2.5-flash-preview"})
TURN = dump(client_content={"turns": [{"role": "user", "parts": [{"text": "hi"}]}], "turn_complete": True})
PART = dump(serverContent={"modelTurn": {"parts": [{"text": "Hello"}]}})
COUNTS = {
    "promptTokenCount": 20, "responseTokenCount": 7, "totalTokenCount": 27,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}],
    "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}],
}  # fmt: skip
OVER = dump(serverContent={"turnComplete": True}, usageMetadata=COUNTS)


def test_a_live_turn_is_an_answer():
    (answer,), _ = talk(LiveTalk, (">", SETUP), (">", TURN), ("<", PART), ("<", OVER))
    found = usage_of(answer, "gemini")
    assert (found.usage["input_tokens"], found.usage["output_tokens"], found.usage["output_audio_tokens"]) == (20, 7, 7)


def test_a_live_turn_has_a_price_and_the_model_of_its_setup():
    (answer,), _ = talk(LiveTalk, (">", SETUP), (">", TURN), ("<", PART), ("<", OVER))
    assert (answer.model, usage_of(answer, "gemini").cost_usd > 0) == ("gemini-live-2.5-flash-preview", True)


def test_the_last_totals_of_a_turn_count():
    early = dump(usageMetadata=COUNTS | {"responseTokenCount": 1, "totalTokenCount": 21})
    (answer,), _ = talk(LiveTalk, (">", SETUP), (">", TURN), ("<", PART), ("<", early), ("<", PART), ("<", OVER))
    assert (usage_of(answer, "gemini").usage["output_tokens"], answer.output_chars) == (7, 10)


def test_totals_may_come_after_the_turn():
    over, _ = talk(LiveTalk, (">", SETUP), (">", TURN), ("<", PART), ("<", dump(serverContent={"turnComplete": True})),
                   ("<", dump(usageMetadata=COUNTS)))  # fmt: skip
    assert [usage_of(answer, "gemini").usage["output_tokens"] for answer in over] == [7]


def test_a_turn_whose_totals_never_come_ends_with_the_next():
    (answer,), made = talk(LiveTalk, (">", SETUP), (">", TURN), ("<", PART), ("<", dump(serverContent={"turnComplete": True})),
                           (">", TURN), ("<", PART))  # fmt: skip
    assert (answer.complete, answer.document, len(made.close(0.0))) == (True, None, 1)


def test_what_follows_the_result_of_a_tool_is_counted_anew():
    called = dump(toolCall={"functionCalls": []}, usageMetadata=COUNTS)
    over, _ = talk(LiveTalk, (">", SETUP), (">", TURN), ("<", called), (">", dump(toolResponse={})), ("<", PART), ("<", OVER))
    assert [usage_of(answer, "gemini").usage["output_tokens"] for answer in over] == [7, 7]


def test_a_live_answer_that_is_cut_has_what_was_asked():
    _, made = talk(LiveTalk, (">", SETUP), (">", TURN), ("<", PART))
    (answer,) = made.close(5.0)
    assert (answer.asked, answer.asked_bytes, answer.complete) == (1.0, len(TURN), False)


# Errors and other models.


def test_responses_has_an_error_for_a_lane():
    ask = ResponsesTalk().read(dump(type="response.create", model="m", stream_id="s"), is_text=True)
    found = json.loads(ResponsesTalk().error(ask, 403, "denied", "no"))
    assert found == {
        "type": "error", "status": 403, "stream_id": "s",
        "error": {"type": "permission_error", "code": "denied", "message": "no", "param": None},
    }  # fmt: skip


def test_realtime_has_an_error_that_names_the_message():
    made = RealtimeTalk(("m",))
    found = json.loads(made.error(made.read(ASKED, is_text=True), 403, "denied", "no"))
    assert (found["type"], found["error"]["event_id"], found["error"]["code"]) == ("error", "mine", "denied")


def test_live_has_no_error():
    assert LiveTalk().error(LiveTalk().read(SETUP, is_text=True), 403, "denied", "no") is None


@pytest.mark.parametrize(
    ("kind", "message", "path"), [(ResponsesTalk, CREATE, ("model",)), (LiveTalk, SETUP, ("setup", "model"))]
)
def test_a_message_can_be_given_another_model(kind, message, path):
    found = json.loads(kind().renamed(message, "other", (), ()))
    for step in path:
        found = found[step]
    assert found in ("other", "models/other")


def test_the_edits_of_a_route_are_made():
    found = json.loads(ResponsesTalk().renamed(CREATE, "other", (("store", False),), ("input",)))
    assert found == {"type": "response.create", "model": "other", "store": False}


def test_the_model_of_an_address_cannot_be_changed():
    assert RealtimeTalk(("m",)).renamed(ASKED, "other", (), ()) is None


# Whatever comes.

WORDS = st.sampled_from([
    "type", "code", "status", "id", "model", "usage", "response", "session", "error", "event_id", "stream_id", "setup", "audio",
    "input", "transcription", "serverContent", "modelTurn", "turnComplete", "usageMetadata", "toolCall", "status_details",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["error", "models/x", "resp_1", "\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from([
    "response.create", "response.created", "response.completed", "response.failed", "response.done", "error", "session.created",
    "session.updated", "session.update", RealtimeTalk._SPOKEN, "response.output_text.delta",
])  # fmt: skip
EVENTS = st.builds(
    lambda document, kind: json.dumps({**document, "type": kind}).encode(), st.dictionaries(WORDS, JSON, max_size=5), TYPES
)
MESSAGES = st.lists(st.tuples(st.sampled_from("<>"), EVENTS | st.binary(max_size=30)), max_size=8)


@pytest.mark.parametrize("kind", TALKS.values())
@given(messages=MESSAGES)
def test_whatever_comes_nothing_raises(kind, messages):
    over, made = talk(kind, *messages)
    for answer in [*over, *made.close(9.0)]:
        assert isinstance(answer, Answer) and usage_of(answer).usage is not None


# Games with what may be called.

DEAR = dump(setup={"model": "models/dear"})
LENIENT = {
    "utf-16": DEAR.decode().encode("utf-16"), "utf-16, big end first": DEAR.decode().encode("utf-16-be"),
    "utf-32": DEAR.decode().encode("utf-32"), "something behind it": DEAR + b"x", "two": DEAR * 2, "form feed": b"\f" + DEAR,
    "a comma too many": DEAR[:-1] + b",}", "deep": DEAR[:-1] + b',"x":' + b"[" * 300_000 + b"]" * 300_000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("data", LENIENT.values(), ids=LENIENT)
def test_threat_47_binary_that_a_lenient_server_reads_as_json_is_refused(data):
    assert LiveTalk().read(data, is_text=False).problem is not None


ELSEWHERE = [
    dump(type="response.create", session={"model": "cheap"}),
    dump(type="input_audio_buffer.append", audio="AAAA", session={"model": "cheap"}),
    dump(type="response.create", session={"type": "transcription", "audio": {"input": {"transcription": {"model": "cheap"}}}}),
]


@pytest.mark.parametrize("message", ELSEWHERE)
def test_threat_48_the_model_of_the_address_is_asked_for_whatever_a_message_says(message):
    assert "dear" in RealtimeTalk(("dear",)).read(message, is_text=True).models


def test_threat_48_the_model_of_the_address_is_asked_for_after_the_session_named_another():
    kind = RealtimeTalk(("dear",))
    kind.sent(kind.read(dump(type="session.update", session={"model": "cheap"}), is_text=True), 1.0)
    assert kind.read(ASKED, is_text=True).models == ("cheap", "dear")


def test_threat_48_a_message_without_a_model_is_not_hidden_by_a_transcription_in_the_wrong_place():
    assert None in RealtimeTalk().read(ELSEWHERE[2], is_text=True).models


def test_threat_48_an_address_names_few_models():
    assert "more than" in RealtimeTalk([f"m{n}" for n in range(9)]).read(ASKED, is_text=True).problem
