from __future__ import annotations

from valetkey.simulator import ollama

BODY = {"model": "llama3", "messages": [{"role": "user", "content": "hello"}]}


def test_a_whole_answer_is_done():
    assert ollama.whole(BODY, None, True)["done"] is True


def test_generate_answers_in_response():
    assert "hello" in ollama.whole({"model": "llama3", "prompt": "hello"}, None, False)["response"]


def test_the_last_line_has_the_counts():
    assert b'"eval_count"' in list(ollama.stream(BODY, None, True))[-1]
