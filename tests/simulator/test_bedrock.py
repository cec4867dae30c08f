from __future__ import annotations

import json

import pytest

from support.frames import KIND
from valetkey.formats.eventstream import EventStreamParser
from valetkey.simulator.app import App
from valetkey.simulator.wire_types import Request

CLAUDE, NOVA = "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0", "amazon.nova-micro-v1%3A0"
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
MESSAGES = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}


def answer(action, model=NOVA, body=CONVERSE, **headers):
    fields = {"authorization": "Bearer bedrock-api-key-1"} | {name.replace("_", "-"): value for name, value in headers.items()}
    path, host = f"/model/{model}/{action}", "bedrock-runtime.us-east-1.amazonaws.com"
    script = App().answer(Request("POST", path, host, list(fields.items()), json.dumps(body).encode(), "http/1.1"))
    return script.status, b"".join(piece.data for piece in script.pieces), dict(script.headers)


def events(*args, **options):
    status, body, headers = answer(*args, **options)
    assert (status, headers["content-type"]) == (200, KIND)
    parser = EventStreamParser(1 << 20)
    found = [(name, json.loads(data)) for name, data in parser.feed(body)]
    assert parser.at_rest
    return found


def test_converse_echoes_the_question():
    assert "hello" in json.loads(answer("converse")[1])["output"]["message"]["content"][0]["text"]


def test_a_stream_has_the_same_usage_as_a_whole_answer():
    assert events("converse-stream")[-1][1]["usage"] == json.loads(answer("converse")[1])["usage"]


def test_claude_answers_in_its_own_words():
    assert json.loads(answer("invoke", CLAUDE, MESSAGES)[1])["type"] == "message"


@pytest.mark.parametrize(("model", "body"), [(CLAUDE, MESSAGES), (NOVA, CONVERSE)])
def test_the_last_chunk_has_the_counts_of_bedrock(model, body):
    assert events("invoke-with-response-stream", model, body)[-1][1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] > 1


def test_tokens_are_counted():
    assert json.loads(answer("count-tokens", body={"input": {"converse": CONVERSE}})[1]) == {"inputTokens": 2}


@pytest.mark.parametrize("action", ["dance", "converse/more"])
def test_other_paths_are_not_found(action):
    assert answer(action)[0] == 404


def test_an_error_is_named_by_a_header():
    status, _, headers = answer("converse", x_simulate="kind=rate_limit")
    assert (status, headers["x-amzn-errortype"].partition(":")[0]) == (429, "ThrottlingException")


def test_a_key_is_reflected_in_a_frame():
    ((name, event),) = events("converse-stream", x_simulate="echo")
    assert (name, "bedrock-api-key-1" in event["delta"]["text"]) == ("contentBlockDelta", True)


def test_an_error_may_come_first_in_a_stream():
    assert events("converse-stream", x_simulate="error_first,kind=rate_limit")[0][1]["error"]["type"] == "throttlingException"
