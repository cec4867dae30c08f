from __future__ import annotations

from valetkey.simulator import text


def test_pieces_add_up():
    answer = text.answer("why", 20)
    assert "".join(text.pieces(answer)) == answer


def test_tokens_are_at_least_one():
    assert text.tokens("") == 1


def test_a_prompt_is_found_in_any_shape():
    assert text.prompt_of([{"content": [{"text": "a"}]}, {"parts": [{"text": "b"}]}, "c"]) == "a\nb\nc"


def test_the_last_text_is_the_question():
    assert text.last_text([{"content": "first"}, {"content": "second"}]) == "second"


def test_an_event_is_framed():
    assert text.sse({"a": 1}, "x") == b'event: x\ndata: {"a":1}\n\n'
