from __future__ import annotations

import pytest

from valetkey.formats.model_counts import counts_in, totals

ANSWERS = {
    "Nova": ({"usage": {"inputTokens": 3, "outputTokens": 4, "cacheReadInputTokens": 1, "cacheReadInputTokenCount": 1}},
             {"inputTokens": 3, "outputTokens": 4, "cacheReadInputTokens": 1}),
    "Claude": ({"usage": {"input_tokens": 3, "output_tokens": 4, "cache_creation_input_tokens": 2, "cache_creation": {
                   "ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 0}}},
               {"inputTokens": 3, "outputTokens": 4, "cacheWriteInputTokens": 2,
                "cacheDetails": [{"ttl": "5m", "inputTokens": 2}, {"ttl": "1h", "inputTokens": 0}]}),
    "Llama": ({"generation": "a", "prompt_token_count": 3, "generation_token_count": 4}, {"inputTokens": 3, "outputTokens": 4}),
    "Titan": ({"inputTextTokenCount": 3, "results": [{"tokenCount": 4, "outputText": "a"}, {"tokenCount": None}, 1]},
              {"inputTokens": 3, "outputTokens": 4}),
    "Mistral": ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, {"inputTokens": 3, "outputTokens": 4}),
    "metrics": ({"inputTokenCount": 3, "outputTokenCount": 4, "invocationLatency": 9}, {"inputTokens": 3, "outputTokens": 4}),
    "odd": ({"usage": ["x"], "results": "x", "inputTokens": True, "outputTokens": "4"}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_counts_have_the_names_of_converse(answer, expected):
    assert counts_in(answer) == expected


def test_embeddings_have_no_output():
    assert totals({"inputTokens": 3}) == {"outputTokens": 0, "inputTokens": 3}


def test_without_an_input_nothing_is_known():
    assert totals({"outputTokens": 3}) == {}
