"""What the archive keeps of a message."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.ledger.redaction import HIDDEN, LIMIT, redacted, unchanged


def kept(headers=(), body=b"", url="https://x.test/", redact=unchanged):
    return redacted({"url": url, "headers": headers, "body": body}, redact)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "proxy-authorization", "X_Api_Key", "x-goog-api-key", "api-key", "Cookie", "Set-Cookie", "X-Auth-Token",
        "x-amz-security-token", "ocp-apim-subscription-key", "sec-websocket-protocol", "x-client-secret", "x-signature",
    ],
)  # fmt: skip
def test_a_header_named_like_a_credential_is_hidden(name):
    assert kept([[name, "abc"]])["headers"] == [[name, HIDDEN]]


@pytest.mark.parametrize(
    "name", ["x-request-id", "content-type", "x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-limit"]
)
def test_other_headers_are_kept(name):
    assert kept([[name, "abc"]])["headers"] == [[name, "abc"]]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.test/v1?key=abc&n=1", "https://x.test/v1?key=***&n=1"),
        ("https://x.test/v1?n=1&KEY=abc", "https://x.test/v1?n=1&KEY=***"),
        ("https://x.test/v1?%6bey=abc", "https://x.test/v1?%6bey=***"),
        ("https://x.test/v1?n=1;key=abc", "https://x.test/v1?n=1;key=***"),
        ("https://x.test/v1?api_key=abc&api-key=abc", "https://x.test/v1?api_key=***&api-key=***"),
        ("https://x.test/v1?access_token=abc#rest", "https://x.test/v1?access_token=***#rest"),
        ("https://x.test/v1?X-Amz-Signature=abc", "https://x.test/v1?X-Amz-Signature=***"),
        ("https://user:abc@x.test/v1", "https://***@x.test/v1"),
        ("https://x.test/v1?monkey=abc&alt=sse", "https://x.test/v1?monkey=abc&alt=sse"),
        ("https://x.test/a@b?q=c@d", "https://x.test/a@b?q=c@d"),
    ],
)
def test_credentials_in_a_url_are_hidden(url, expected):
    assert kept(url=url)["url"] == expected


def without_key(text):
    return text.replace("sk-real", "[gone]")


@pytest.mark.parametrize(
    "message",
    [
        {"url": "https://x.test/sk-real"},
        {"headers": [["x-other", "sk-real"]]},
        {"body": b"my key is sk-real"},
        {"body": b"\xff sk-real"},
        {"body": b"x" * (LIMIT - 3) + b"sk-real"},
    ],
    ids=["url", "header", "text", "bytes", "across the end of what is kept"],
)
def test_secrets_are_taken_out_everywhere(message):
    found = kept(**message, redact=without_key)
    plain = base64.b64decode(found["body"]).decode("latin-1") if found.get("encoding") else found["body"]
    assert "sk-" not in json.dumps(found) + plain


def test_a_text_is_kept_as_it_is():
    assert kept(body="día".encode())["body"] == "día"


def test_bytes_are_base64():
    found = kept(body=b"\xff\x00")
    assert (base64.b64decode(found["body"]), found["encoding"]) == (b"\xff\x00", "base64")


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_a_text_cut_within_a_character_stays_a_text(size):
    body = ("a" + "é" * LIMIT).encode()[:size]
    assert kept(body=body)["body"] == "a" + "é" * ((LIMIT - 1) // 2)


@pytest.mark.parametrize(("size", "expected"), [(LIMIT, None), (LIMIT + 1, LIMIT + 1)])
def test_a_body_that_was_cut_says_how_long_it_was(size, expected):
    assert kept(body=b"x" * size).get("truncated") == expected


@given(st.binary(max_size=200))
def test_every_body_can_be_read_back(body):
    found = json.loads(json.dumps(kept(body=body)))
    assert (base64.b64decode(found["body"]) if "encoding" in found else found["body"].encode()) == body


@given(st.text(), st.lists(st.tuples(st.text(), st.text()), max_size=3))
def test_no_url_and_no_header_raises(url, headers):
    json.dumps(kept(url=url, headers=headers))
