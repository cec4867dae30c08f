from __future__ import annotations

from valetkey.simulator import gemini

BODY = {"contents": [{"parts": [{"text": "hello"}]}]}


def test_without_sse_a_stream_is_one_array():
    import json

    assert isinstance(json.loads(b"".join(gemini.stream(BODY, "m", None, False))), list)


def test_a_batch_has_as_many_vectors():
    assert len(gemini.embed({"requests": [{}, {}]})["embeddings"]) == 2


def test_a_bad_key_has_its_reason():
    assert b"API_KEY_INVALID" in gemini.error(400, "INVALID_ARGUMENT", "x", "API_KEY_INVALID")
