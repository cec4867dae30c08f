from __future__ import annotations

from valetkey.simulator import anthropic

BODY = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "use the tool"}]}


def test_a_tool_is_called_when_the_prompt_asks():
    made = anthropic.Anthropic().messages(BODY | {"tools": [{"name": "weather"}]}, None)
    assert made["stop_reason"] == "tool_use"


def test_a_stream_begins_and_ends_in_order():
    events = list(anthropic.Anthropic().stream(BODY, None))
    assert events[0].startswith(b"event: message_start") and events[-1].startswith(b"event: message_stop")


def test_tokens_are_counted():
    assert anthropic.count_tokens(BODY)["input_tokens"] == 3
