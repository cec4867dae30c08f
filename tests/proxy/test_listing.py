from __future__ import annotations

import json

import pytest
from mitmproxy import http

from support.making import rules
from valetkey.model import Format
from valetkey.proxy import listing

OPENAI = {"object": "list", "data": [{"id": "gpt-4o", "owned_by": "x"}, {"id": "o1-preview", "owned_by": "x"}]}
GEMINI = {"models": [{"name": "models/gemini-2.5-pro"}, {"name": "models/gemini-2.5-flash"}], "nextPageToken": "x"}


def trimmed(document, name="openai", lists="deny: ['*-preview']", format=Format.OPENAI_MODELS, status=200, encoding=None):
    provider = rules(f"version: 1\nproviders: {{{name}: {{models: {{{lists}}}}}}}\n").providers[name]
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = http.Response.make(status, b"", {"content-type": "application/json"})
    if encoding:
        answer.headers["content-encoding"] = encoding
    answer.content = body
    listing.trim(answer, provider, format)
    return answer


def names(answer, place="data", name="id"):
    return [entry[name] for entry in json.loads(answer.content)[place]]


def test_a_forbidden_model_is_not_listed():
    assert names(trimmed(OPENAI)) == ["gpt-4o"]


def test_everything_else_stays():
    assert json.loads(trimmed(OPENAI).content) == {"object": "list", "data": [{"id": "gpt-4o", "owned_by": "x"}]}


def test_gemini_lists_elsewhere():
    answer = trimmed(GEMINI, "gemini", "allow: ['gemini-2.5-flash']", Format.GEMINI_MODELS)
    assert names(answer, "models", "name") == ["models/gemini-2.5-flash"]


def test_a_compressed_listing_stays_compressed():
    answer = trimmed(OPENAI, encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip" and names(answer) == ["gpt-4o"]


def test_the_length_fits():
    answer = trimmed(OPENAI)
    assert int(answer.headers["content-length"]) == len(answer.raw_content)


@pytest.mark.parametrize(
    "options",
    [{"lists": "deny: ['none']"}, {"status": 500}, {"format": Format.OPENAI_CHAT}],
    ids=["nothing forbidden", "an error", "no listing"],
)
def test_other_answers_are_untouched(options):
    assert trimmed(OPENAI, **options).content == json.dumps(OPENAI).encode()


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b'{"data": 1}', b"{}"])
def test_what_cannot_be_read_is_untouched(body):
    assert trimmed(body).content == body


@pytest.mark.parametrize("name", ["together", "github_models"])
def test_a_list_alone_is_a_listing(name):
    answer = trimmed(OPENAI["data"], name)
    assert json.loads(answer.content) == [{"id": "gpt-4o", "owned_by": "x"}]


@pytest.mark.parametrize("body", [b"[", b"[1]", b'["o1-preview"]', b"[" * 100_000])
def test_a_list_that_cannot_be_read_stays(body):
    assert trimmed(body, "together").content in (body, b"[]")
