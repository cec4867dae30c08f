"""Failover in the stream layer, played: what the provider gets, what the agent gets, what is remembered."""

from __future__ import annotations

import pytest

from support.scripted import (
    BODY,
    GOOD_STREAM,
    HEAD,
    HI,
    RESET,
    STREAM,
    WORD,
    A,
    B,
    answer,
    chunks,
    error,
    play,
    receipt,
    request,
    status,
    tries,
)

ERRORS = {
    "throttled": error(429, code="rate_limit_exceeded"),
    "quota": error(429, code="insufficient_quota"),
    "bad_key": error(401, code="invalid_api_key"),
    "overloaded": error(503, code="server_is_overloaded"),
    "server": error(500),
}


@pytest.mark.parametrize("outcome", ERRORS)
def test_an_error_is_spared_the_agent(outcome):
    assert status(play(*[ERRORS[outcome]] * (2 if outcome in ("overloaded", "server") else 1), answer())) == 200


@pytest.mark.parametrize("outcome", ["throttled", "quota", "bad_key"])
def test_what_is_the_keys_doing_goes_to_the_other_key(outcome):
    assert tries(play(ERRORS[outcome], answer())) == [("lab/a", outcome), ("lab/b", "ok")]


@pytest.mark.parametrize("outcome", ["overloaded", "server"])
def test_what_is_the_providers_doing_is_tried_again_with_the_same_key(outcome):
    assert tries(play(ERRORS[outcome], answer())) == [("lab/a", outcome), ("lab/a", "ok")]


def test_a_second_failure_of_the_provider_goes_to_another_key():
    assert tries(play(ERRORS["server"], ERRORS["server"], answer()))[-1] == ("lab/b", "ok")


def test_a_reset_before_the_headers_is_tried_again():
    assert tries(play(RESET, answer())) == [("lab/a", "network"), ("lab/a", "ok")]


def test_a_connection_that_cannot_be_made_is_tried_again():
    assert tries(play(answer(), connect_error=["refused"])) == [("lab/a", "network"), ("lab/a", "ok")]


def test_a_connection_that_is_not_made_in_time_is_given_up():
    assert tries(play(answer(), connect_error=["hangs"], patience=30.0))[0] == ("lab/a", "timeout")


@pytest.mark.parametrize(("code", "outcome"), [(400, "client"), (404, "client"), (422, "client")])
def test_the_callers_mistake_is_sent_once(code, outcome):
    one = play(error(code), answer())
    assert (status(one), tries(one)) == (code, [("lab/a", outcome)])


def test_a_policy_refusal_is_not_routed_around():
    one = play(error(400, code="content_policy_violation"), answer())
    assert (status(one), tries(one)) == (400, [("lab/a", "policy")])


def test_the_callers_mistake_passes_as_it_came():
    came = error(400, extra=b"x-request-id: req_7\r\n", type="invalid_request_error")
    one = play(came)
    assert came.partition(b"\r\n\r\n")[2] in one.to_client and b"x-request-id: req_7" in one.to_client


def test_no_answer_in_time_is_given_up():
    assert tries(play(None, answer(), body=STREAM, gateway=", timeouts: {first_byte: 5s}"))[0] == ("lab/a", "timeout")


def test_a_whole_answer_has_more_time():
    one = play(None, answer(), gateway=", timeouts: {first_byte: 5s}", patience=50.0)
    assert one.runtime.writer.all == []


def test_an_attempt_that_is_given_up_is_closed():
    one = play(None, GOOD_STREAM, body=STREAM, gateway=", timeouts: {first_byte: 5s}")
    assert one.closed and status(one) == 200


def test_each_attempt_carries_its_own_key_alone():
    one = play(ERRORS["throttled"], answer())
    assert (one.to_server.count(A.encode()), one.to_server.count(B.encode())) == (1, 1)


def test_the_body_is_sent_again_as_it_came():
    assert play(ERRORS["throttled"], answer()).to_server.count(BODY) == 2


def test_the_agent_is_told_how_many_attempts_it_took():
    assert b"x-valetkey-attempts: 2" in play(ERRORS["throttled"], answer()).to_client


def test_the_agent_is_told_which_key_answered():
    assert b"x-valetkey-key: lab/b" in play(ERRORS["throttled"], answer()).to_client


def test_a_client_that_leaves_during_a_pause_ends_the_call():
    one = play(error(429, extra=b"retry-after: 50\r\n"), keys=1, leave=True, patience=10.0)
    assert receipt(one).outcome == "client"


def test_a_client_that_leaves_while_dialling_ends_the_call():
    one = play(answer(), connect_error=["hangs"], leave=True, patience=0.0)
    assert receipt(one).outcome == "client"


def test_only_bad_keys_are_no_401():
    one = play(ERRORS["bad_key"])
    assert (status(one), b"x-valetkey-refusal: no_usable_key" in one.to_client) == (503, True)


def test_bad_keys_do_not_show_the_providers_words():
    assert b"invalid_api_key" not in play(ERRORS["bad_key"]).to_client


def test_the_best_error_is_shown():
    one = play(ERRORS["quota"], ERRORS["throttled"], gateway=", timeouts: {max_wait: 1s}")
    assert b"rate_limit_exceeded" in one.to_client


def test_an_error_is_shown_with_the_time_when_a_key_is_free():
    one = play(ERRORS["throttled"], gateway=", timeouts: {max_wait: 1s}")
    assert (status(one), b"retry-after: 10\r\n" in one.to_client.lower()) == (429, True)


def test_the_providers_own_retry_after_is_kept():
    one = play(error(429, extra=b"retry-after: 77\r\n"), gateway=", timeouts: {max_wait: 1s}")
    assert b"retry-after: 77" in one.to_client.lower()


def test_a_call_while_all_keys_rest_is_refused_at_once():
    one = play(error(429, extra=b"retry-after: 300\r\n"), keys=1, times=2)
    assert one.to_client.count(b"x-valetkey-refusal: all_keys_rest") == 1


def test_a_rest_inside_the_deadline_is_waited_for():
    one = play(error(429, extra=b"retry-after: 7\r\n"), answer(), keys=1)
    assert (status(one), tries(one)) == (200, [("lab/a", "throttled"), ("lab/a", "ok")])


def test_attempts_are_bounded():
    assert len(tries(play(ERRORS["server"], gateway=", attempts: 3"))) == 3


def test_the_deadline_bounds_the_attempts():
    one = play(ERRORS["server"], gateway=", deadline: 1s")
    assert len(tries(one)) == 2 and one.time.now < 1


OTHER = """
  other: {like: openai, upstream: "http://127.0.0.1:8998", keys: [env:OTHER_API_KEY]}
routes:
  - {match: {model: m}, to: [lab/m, other/n]%s}
"""
MORE = {"other/main": "sk-proj-OTHERotherOTHER00003"}


def test_another_target_is_tried_when_the_pool_is_used_up():
    one = play(ERRORS["quota"], ERRORS["quota"], answer(), routes=OTHER % "", more=MORE)
    assert tries(one)[-1] == ("other/main", "ok") and b'"model":"n"' in one.to_server


def test_the_receipt_names_the_model_that_answered():
    one = play(ERRORS["quota"], ERRORS["quota"], answer(), routes=OTHER % "", more=MORE)
    assert (receipt(one).provider, receipt(one).model, receipt(one).requested_model) == ("other", "n", "m")


def test_an_overloaded_model_goes_to_another_target_first():
    one = play(ERRORS["overloaded"], ERRORS["overloaded"], answer(), routes=OTHER % "", more=MORE)
    assert tries(one)[-1] == ("other/main", "ok")


def test_a_prompt_that_is_too_long_goes_to_its_fallback():
    long = error(400, code="context_length_exceeded")
    routes = OTHER.replace("[lab/m, other/n]%s", "lab/m, fallback: {too_long: other/big}")
    one = play(long, answer(), routes=routes, more=MORE)
    assert tries(one) == [("lab/a", "too_long"), ("other/main", "ok")]


def test_without_a_fallback_it_passes():
    one = play(error(400, code="context_length_exceeded"), answer())
    assert (status(one), len(tries(one))) == (400, 1)


def test_every_permit_is_given_back():
    one = play(ERRORS["throttled"], ERRORS["server"], answer(), provider=", concurrency: 1")
    assert [one.runtime.pools.slots.active(key) for key in ("lab/a", "lab/b")] == [0, 0]


def test_nothing_of_an_attempt_is_left_in_the_layer():
    one = play(ERRORS["throttled"], answer())
    assert one.layer.streams == {}


def test_a_streamed_request_is_sent_once():
    one = play(ERRORS["server"], answer(), gateway=", max_body: 1 B")
    assert status(one) == 413


def test_a_break_after_a_second_attempt_reaches_the_agent_as_its_own():
    one = play(ERRORS["throttled"], HEAD + chunks(WORD), body=STREAM, break_after_answer=True)
    assert receipt(one).outcome == "server" and one.to_client.count(WORD) == 1


# The acceptance list: what the older gateways get wrong.


def marks(one):
    return {(scope.kind, scope.model) for scope, _ in one.runtime.pools.health.marks()}


def test_a_402_rotates():
    one = play(error(402, message="Insufficient Balance"), answer(), like="deepseek", path=b"/chat/completions")
    assert tries(one) == [("lab/a", "quota"), ("lab/b", "ok")]


GEMINI = b"/v1beta/models/gemini-2.5-flash:generateContent"
GEMINI_BAD_KEY = answer(
    b'{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"@type":'
    b'"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}',
    400,
)
GEMINI_OK = answer(b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}')


def test_geminis_400_for_a_bad_key_rotates():
    one = play(GEMINI_BAD_KEY, GEMINI_OK, like="gemini", path=GEMINI, body=b"{}")
    assert tries(one) == [("lab/a", "bad_key"), ("lab/b", "ok")]


def test_geminis_400_for_a_bad_key_takes_it_out_of_use():
    one = play(GEMINI_BAD_KEY, GEMINI_OK, like="gemini", path=GEMINI, body=b"{}")
    assert marks(one) == {("key", "")}


ANTHROPIC_OK = answer(b'{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}')
BUSY = answer(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', 529)


def test_a_529_does_not_cool_the_key():
    one = play(*[BUSY] * 4, like="anthropic", path=b"/v1/messages", gateway=", attempts: 4")
    assert marks(one) == {("model", "m")}


def test_mistrals_lack_of_capacity_cools_the_model():
    full = answer(b'{"object":"error","message":"Service tier capacity exceeded for this model.","code":"3505"}', 429)
    assert marks(play(full, like="mistral", gateway=", attempts: 4")) == {("model", "m")}


def test_blank_lines_before_a_whole_answer_are_no_error():
    one = play(answer(b"\n\n\n" + HI), like="deepseek", path=b"/chat/completions")
    assert (status(one), len(tries(one))) == (200, 1)


START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1}}}\n\n'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}\n\n'


def test_a_break_after_output_yields_one_terminal_event_and_no_second_start():
    one = play(HEAD + chunks(START, DELTA), like="anthropic", path=b"/v1/messages", body=STREAM, break_after_answer=True)
    assert (one.to_client.count(b"message_start\n"), one.to_client.count(b"event: error")) == (1, 1)


def test_replayed_encrypted_reasoning_goes_to_the_key_that_made_it():
    made = answer(b'{"id":"resp_1","output":[{"type":"reasoning","encrypted_content":"gAAAAthought"}],"status":"completed"}')
    follow = b'{"model":"m","input":[{"type":"reasoning","encrypted_content":"gAAAAthought"}]}'
    requests = [request(b'{"model":"m","input":"x"}', b"/v1/responses")] + [request(follow, b"/v1/responses")] * 4
    one = play(made, requests=requests)
    assert len({receipt.key for receipt in one.runtime.writer.all}) == 1 and len(one.runtime.writer.all) == 5


def test_a_follow_up_of_a_response_goes_to_the_key_that_made_it():
    made = answer(b'{"id":"resp_1","output":[],"status":"completed"}')
    follow = b'{"model":"m","previous_response_id":"resp_1","input":"y"}'
    requests = [request(b'{"model":"m","input":"x"}', b"/v1/responses")] + [request(follow, b"/v1/responses")] * 4
    assert len({receipt.key for receipt in play(made, requests=requests).runtime.writer.all}) == 1


def test_what_belongs_to_nobody_takes_turns():
    one = play(answer(), times=4)
    assert [receipt.key for receipt in one.runtime.writer.all] == ["lab/a", "lab/b", "lab/a", "lab/b"]


def test_a_silent_stream_goes_to_another_key():
    one = play(HEAD, GOOD_STREAM, body=STREAM, gateway=", timeouts: {hold: 2s}")
    assert tries(one) == [("lab/a", "timeout"), ("lab/b", "ok")]
