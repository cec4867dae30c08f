"""What must hold for any real exchange: usage is read from it whatever the chunks, and its bytes pass."""

from __future__ import annotations

import functools
import gzip
import json
import os
from pathlib import Path
from typing import Any

import brotli
import pytest
import zstandard
from genai_prices.data import providers

from support.chunks import chunkings, randomly
from valetkey.formats import UsageChunkFilter, UsageTap, read_request, splice
from valetkey.model import Format

FOLDER = Path(os.environ.get("VALETKEY_RECORDINGS") or Path(__file__).resolve().parents[2].parent / "shared" / "recordings")
FILES = sorted(FOLDER.glob("*.json"))
if not FILES:
    pytest.skip(f"no recordings in {FOLDER} (set VALETKEY_RECORDINGS to their folder)", allow_module_level=True)

# The first that the path holds decides: format, and the flavor of the extractor.
PATHS = (
    ("/chat/completions", Format.OPENAI_CHAT, "chat"),
    ("/responses", Format.OPENAI_RESPONSES, "responses"),
    ("/embeddings", Format.OPENAI_EMBEDDINGS, "embeddings"),
    ("/messages/count_tokens", Format.ANTHROPIC_COUNT_TOKENS, "default"),
    ("/messages", Format.ANTHROPIC_MESSAGES, "default"),
    ("enerateContent", Format.GEMINI_GENERATE, "default"),
    (":countTokens", Format.GEMINI_COUNT_TOKENS, "default"),
    (":embedContent", Format.GEMINI_EMBED, "default"),
    (":batchEmbedContents", Format.GEMINI_EMBED, "default"),
    ("/converse", Format.BEDROCK_CONVERSE, "default"),
    ("/invoke", Format.BEDROCK_INVOKE, "default"),
    ("", Format.OPENAI_OTHER, "default"),
)
# Whose extractor reads the answers of a host. Hosts that speak OpenAI's formats without an extractor of their own: `openai`.
EXTRACTORS = {
    "aiplatform.googleapis.com": "google", "generativelanguage.googleapis.com": "google", "localhost:8787": "google",
    "api.anthropic.com": "anthropic", "api.cerebras.ai": "cerebras", "api.cohere.com": "cohere", "api.groq.com": "groq",
    "api.mistral.ai": "mistral", "openrouter.ai": "openrouter", "router.huggingface.co": "huggingface_together",
    "bedrock-runtime.us-east-1.amazonaws.com": "aws",
}  # fmt: skip
# Read off the recordings by hand.
GOLDEN = {
    "api-anthropic-com-3d68bc62d9": {"input_tokens": 31772, "output_tokens": 644, "web_searches": 2},
    "api-anthropic-com-58d27f791b": {"input_tokens": 43, "output_tokens": 282},
    "api-openai-com-81c718e636": {
        "input_tokens": 9463, "cache_read_tokens": 8320, "output_tokens": 582, "output_reasoning_tokens": 512,
    },
    "api-openai-com-b84ae463f6": {"input_tokens": 53, "output_tokens": 469, "output_reasoning_tokens": 448},
    "generativelanguage-googleapis-com-5fc4ca89c9": {
        "input_tokens": 6, "input_text_tokens": 6, "output_tokens": 36, "output_reasoning_tokens": 35,
    },
    "generativelanguage-googleapis-com-d32d299983": {
        "input_tokens": 4642, "input_text_tokens": 4642, "input_tool_tokens": 4610, "input_text_tool_tokens": 4610,
        "output_tokens": 62, "output_reasoning_tokens": 37,
    },
    "openrouter-ai-104f87666b": {"input_tokens": 8174, "output_tokens": 30},
    "openrouter-ai-7145fd0584": {"input_tokens": 254, "output_tokens": 5},
    "ollama-com-4de8d6893d": {"input_tokens": 134, "output_tokens": 122},
    "bedrock-runtime-us-east-1-amazonaws-com-f07e9f2fd3": {
        "input_tokens": 2556, "cache_read_tokens": 2098, "output_tokens": 4,
    },
    "api-groq-com-8d7459d590": {"input_tokens": 5296, "output_tokens": 387},
}  # fmt: skip


@functools.cache
def recording(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def body(exchange):
    return (exchange["response"] or "").encode()


def format_of(exchange) -> tuple[Format, str]:
    return next((format, flavor) for part, format, flavor in PATHS if part in exchange["path"])


def streamed(exchange):
    return exchange["headers"].get("content-type", "").startswith("text/event-stream")


def tap_of(exchange, chunks, encoding=None):
    tap = UsageTap(format_of(exchange)[0], exchange["headers"].get("content-type"), encoding)
    for chunk in chunks:
        tap.feed(chunk)
    tap.end()
    return tap


def extracted(exchange, document):
    """The model and the usage that the extractor of the host reads; None where there is no usage for it to read."""
    provider = next(p for p in providers if p.id == EXTRACTORS.get(exchange["host"], "openai"))
    flavor = format_of(exchange)[1]
    known = flavor in {extractor.api_flavor for extractor in provider.extractors or ()}
    try:
        # Not the function of the same name: that one gives up at a model without a price.
        model, usage = provider.extract_usage(document, api_flavor=flavor if known else "default")
    except ValueError:
        return None
    return model, {name: count for name, count in vars(usage).items() if not name.startswith("_")}


def folded(exchange):
    """A stream folded without our code: lines, `json.loads`, the rule of each API."""
    events = [json.loads(line[5:]) for line in exchange["response"].splitlines() if line.startswith("data:") and "{" in line]
    match format_of(exchange)[0]:
        case Format.OPENAI_CHAT:
            return [event for event in events if event.get("usage")][-1]
        case Format.OPENAI_RESPONSES:
            return [event["response"] for event in events if event["type"] == "response.completed"][-1]
        case Format.ANTHROPIC_MESSAGES:
            message = next(event["message"] for event in events if event["type"] == "message_start")
            for event in events:
                message["usage"] |= event["usage"] if event["type"] == "message_delta" else {}
            return message
        case _:
            return [event for event in events if event.get("usageMetadata")][-1]


def named(condition):
    return [pytest.param(recording(path), id=path.stem) for path in FILES if condition(recording(path))]


ANSWERED = named(
    lambda exchange: exchange["status"] == 200 and exchange["response"] and format_of(exchange)[0] != Format.OPENAI_OTHER
)
WHOLE = named(
    lambda exchange: (
        exchange["status"] == 200
        and not streamed(exchange)
        and '"usage' in (exchange["response"] or "")
        and extracted(exchange, json.loads(exchange["response"])) is not None
    )
)
STREAMS = named(lambda exchange: exchange["status"] == 200 and streamed(exchange))


def test_most_recordings_bear_usage():
    assert len(WHOLE) + len(STREAMS) > 110


@pytest.mark.parametrize("exchange", named(lambda exchange: exchange["host"] == "api.voyageai.com"))
def test_usage_without_an_extractor_is_kept_as_it_came(exchange):
    assert (tap_of(exchange, [body(exchange)]).document or {})["usage"] == json.loads(body(exchange))["usage"]


@pytest.mark.parametrize("exchange", WHOLE)
def test_a_whole_body_yields_what_the_extractor_reads_from_it(exchange):
    document = tap_of(exchange, [body(exchange)]).document
    assert extracted(exchange, document) == extracted(exchange, json.loads(body(exchange)))


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_yields_what_the_extractor_reads_from_the_folded_events(exchange):
    document = tap_of(exchange, [body(exchange)]).document
    assert extracted(exchange, document) == extracted(exchange, folded(exchange))


@pytest.mark.parametrize("name, usage", GOLDEN.items())
def test_an_answer_yields_its_golden_usage(name, usage):
    exchange = recording(FOLDER / f"{name}.json")
    _, found = extracted(exchange, tap_of(exchange, [body(exchange)]).document) or (None, {})
    assert {name: count for name, count in found.items() if count} == usage


@pytest.mark.parametrize("exchange", ANSWERED)
def test_an_answer_was_seen_to_its_end(exchange):
    tap = tap_of(exchange, [body(exchange)])
    assert (tap.problem, tap.error, tap.complete, tap.saw_content) == (None, None, True, True)


@pytest.mark.parametrize("exchange", ANSWERED)
def test_chunks_do_not_change_the_document(exchange):
    expected = tap_of(exchange, [body(exchange)])
    for chunks in chunkings(body(exchange)):
        tap = tap_of(exchange, chunks)
        assert (tap.document, tap.events, tap.output_chars) == (expected.document, expected.events, expected.output_chars)


@pytest.mark.parametrize("exchange", ANSWERED)
@pytest.mark.parametrize("encoding, compress", [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.compress)])
def test_compression_does_not_change_the_document(exchange, encoding, compress):
    chunks = randomly(compress(body(exchange)), 1)
    assert tap_of(exchange, chunks, encoding).document == tap_of(exchange, [body(exchange)]).document


@pytest.mark.parametrize("exchange", named(lambda exchange: exchange["response"]))
def test_a_body_passes_the_filter_byte_for_byte(exchange):
    # OpenRouter's own extra chunk is the only one recorded; it is what the filter is for.
    pieces = body(exchange).split(b"\n\n")
    kept = b"\n\n".join(piece for piece in pieces if b'"choices":[],"usage":{' not in piece)
    for chunks in chunkings(body(exchange)):
        transducer = UsageChunkFilter()
        assert b"".join(transducer.feed(chunk) for chunk in chunks) + transducer.end() == kept


REQUESTS = named(lambda exchange: (exchange["request"] or "").startswith("{"))


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_request_is_read_as_a_full_parser_reads_it(exchange):
    document, facts = json.loads(exchange["request"]), read_request(exchange["request"].encode())
    assert (list(facts.members), facts.model, facts.stream) == (
        list(document),
        document.get("model"),
        document.get("stream") is True,
    )


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_request_that_is_edited_changes_nowhere_else(exchange):
    edited = splice(exchange["request"].encode(), {"model": "another", "stream_options.include_usage": True}, ["temperature"])
    document = json.loads(exchange["request"]) | {"model": "another"}
    document["stream_options"] = (document.get("stream_options") or {}) | {"include_usage": True}
    document.pop("temperature", None)
    assert json.loads(edited) == document
