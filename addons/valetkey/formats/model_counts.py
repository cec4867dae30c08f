"""What the models behind Bedrock's InvokeModel count, each under names of its own, told in the names of Converse.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRICS = "amazon-bedrock-invocationMetrics"
"""The member of a stream's last event in which Bedrock itself counts, whatever the model."""

_NAMES: Mapping[str, str] = {
    name: ours
    for ours, names in {
        # Nova, Anthropic, Bedrock's own metrics, Llama, Titan, and those that speak as OpenAI does.
        "inputTokens": "inputTokens input_tokens inputTokenCount prompt_token_count inputTextTokenCount prompt_tokens",
        "outputTokens": "outputTokens output_tokens outputTokenCount generation_token_count completion_tokens",
        "cacheReadInputTokens": "cacheReadInputTokens cache_read_input_tokens cacheReadInputTokenCount",
        "cacheWriteInputTokens": "cacheWriteInputTokens cache_creation_input_tokens cacheWriteInputTokenCount",
    }.items()
    for name in names.split()
}
_LIFETIMES = {"ephemeral_5m_input_tokens": "5m", "ephemeral_1h_input_tokens": "1h"}

COUNTS = ("prompt_token_count", "generation_token_count", "inputTextTokenCount", "results")
"""Members of a whole answer that hold counts, besides `usage`."""


def counts_in(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of an answer, or of an event of one, by the names of Converse; those that are there."""
    usage = answer.get("usage")
    found: dict[str, Any] = {}
    for place in (answer, usage if isinstance(usage, Mapping) else {}):
        found |= {ours: place[name] for name, ours in _NAMES.items() if _is_count(place.get(name))}
    results = answer.get("results")  # Titan
    if isinstance(results, list):
        each = [result.get("tokenCount") for result in results if isinstance(result, Mapping)]
        found |= {"outputTokens": sum(count for count in each if isinstance(count, int))}
    written = usage.get("cache_creation") if isinstance(usage, Mapping) else None
    if isinstance(written, Mapping):
        details = [{"ttl": ttl, "inputTokens": written[name]} for name, ttl in _LIFETIMES.items() if _is_count(written.get(name))]
        found |= {"cacheDetails": details}
    return found


def totals(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Usage as Converse reports it; empty without an input. Embeddings have no output."""
    return {"outputTokens": 0, **counts} if "inputTokens" in counts else {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
