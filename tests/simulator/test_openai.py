from __future__ import annotations

from valetkey.simulator import openai

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "use the tool"}], "input": "hi", "prompt": "hi"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def test_a_tool_is_called_when_the_prompt_asks():
    made = openai.chat(BODY | {"tools": [TOOL]}, None, "openai")
    assert made["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"


def test_a_responses_stream_ends_with_its_usage():
    last = list(openai.responses_stream(BODY, None))[-1]
    assert b"response.completed" in last and b'"usage":{' in last


def test_groq_reports_in_a_field_of_its_own():
    assert any(b'"x_groq"' in event for event in openai.chat_stream(BODY, None, "groq"))


def test_mistral_always_reports():
    assert any(b'"usage":{' in event for event in openai.chat_stream(BODY, None, "mistral"))


def test_embeddings_can_be_base64():
    assert isinstance(openai.embeddings({"input": "x", "encoding_format": "base64"})["data"][0]["embedding"], str)


def test_completions_stream():
    assert list(openai.completion_stream(BODY, None, "openai"))[-1] == b"data: [DONE]\n\n"
