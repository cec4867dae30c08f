from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import CATALOG, rules
from valetkey.model import Refusal
from valetkey.policy import paths

RULES = rules(
    "version: 1\nproviders:\n"
    "  lab: {like: openai, upstream: 'http://127.0.0.1:8000/api/v2', keys: none}\n"
    "  openai: {open: [files, batches]}\n"
    "  google: {like: gemini, upstream: 'http://127.0.0.1:8002/g', keys: none}\n"
)
PROVIDERS = RULES.providers


def place(provider, path, method="POST", open_groups=()):
    found = paths.locate(CATALOG[provider], method, path, open_groups)
    assert not isinstance(found, Refusal), found
    return found


def mapped(source, path, target, model=None, method="POST"):
    found = paths.wire_path(PROVIDERS[target], place(source, path, method, PROVIDERS[source].open), model)
    return found.path if found else None


@pytest.mark.parametrize(
    "path",
    ["", "v1", "/a/../b", "/a/./b", "/..", "/a/%2e%2e/b", "/a/%2E/b", "/a%2fb", "/a%5cb", "/a\\b", "//a", "/a//b", "/a;b",
     "/a%00",
     "/a%252e", "/é", "/a b", "/a%0d%0ab", "/a%01", "/a%7F", "/a%c0%ae", "/a%zz", "/a%2", "/a%", "/a#b", "/a?b", "/a%23b",
     "/a%3fb", "/a%3Bb"],
)  # fmt: skip
def test_odd_paths_are_refused(path):
    assert paths.check_path(path).status == 400


LIVE = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


@pytest.mark.parametrize("path", [LIVE, "/" + LIVE])
def test_a_base_that_an_sdk_writes_with_two_slashes_goes_out_with_one(path):
    assert mapped("gemini", path, "gemini", method="GET") == LIVE


@pytest.mark.parametrize("path", ["//" + LIVE, "//ws", LIVE.replace("/ws/", "//ws//"), "//v1beta/models", "//x" + LIVE])
def test_no_other_path_may_begin_with_two_slashes(path):
    assert paths.locate(CATALOG["gemini"], "GET", path).reason == "odd_path"


ARN = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3A"


@pytest.mark.parametrize(
    "name",
    [
        f"{ARN}application-inference-profile%2Fotnfa2ysixqd",
        f"{ARN}inference-profile%2Fus.anthropic.claude-sonnet-4-5-20250929-v1%3A0",
        f"{ARN}custom-model%2famazon.titan-text-express-v1%3A0%2fabcdefghijkl",
        "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model%2Famazon.titan-text",
    ],
)
def test_slashes_belong_to_the_name_of_a_resource_of_aws(name):
    assert place("bedrock", f"/model/{name}/converse").path_model == unquote(name)


@pytest.mark.parametrize(
    "name",
    [
        f"{ARN}x%2F..%2Fy",
        f"{ARN}x%2F%2Fy",
        f"{ARN}x%2Fa%2Fb%2Fc",
        f"{ARN}%2Fx",
        f"x{ARN}x%2Fy",
        f"{ARN}x%2Fy%00",
        "arn%2Fx",
        "a%2Fb",
    ],
)
def test_other_encoded_slashes_are_refused(name):
    assert paths.check_path(f"/model/{name}/converse").status == 400


@pytest.mark.parametrize("host", ["bedrock-runtime.eu-west-1.amazonaws.com", "bedrock-runtime-fips.us-east-1.amazonaws.com"])
def test_a_call_stays_in_the_region_of_its_host(host):
    moved = paths.at_host(PROVIDERS["bedrock"], host)
    assert (moved.upstream.origin, moved.facts.upstream) == (f"https://{host}", f"https://{host}")


def test_a_place_is_made_once():
    host = "bedrock-runtime.eu-west-1.amazonaws.com"
    assert paths.at_host(PROVIDERS["bedrock"], host) is paths.at_host(PROVIDERS["bedrock"], host)


@pytest.mark.parametrize(
    ("provider", "host"),
    [
        ("bedrock", "localhost"),
        ("bedrock", "api.openai.com"),
        ("bedrock", "bedrock-runtime.s3.amazonaws.com"),
        ("openai", "bedrock-runtime.eu-west-1.amazonaws.com"),
    ],
)
def test_a_call_to_another_host_goes_to_the_upstream(provider, host):
    assert paths.at_host(PROVIDERS[provider], host) is PROVIDERS[provider]


def test_an_upstream_of_the_rules_takes_all_regions():
    named = rules("version: 1\nproviders: {bedrock: {upstream: 'https://bedrock-runtime.eu-west-1.amazonaws.com'}}\n").providers[
        "bedrock"
    ]
    assert paths.at_host(named, "bedrock-runtime.us-east-1.amazonaws.com") is named


def test_a_bucket_of_somebody_is_no_region():
    assert paths.HostTable(PROVIDERS).find("bedrock-runtime.s3.amazonaws.com", 443, "https") is None


@pytest.mark.parametrize("path", ["/", "/v1/models/gpt-4o", "/v1beta/models/x:generateContent", "/a.b/c~d", "/v1/%7Bx%7D"])
def test_plain_paths_are_fine(path):
    assert paths.check_path(path) is None


@pytest.mark.parametrize(
    ("provider", "path", "name", "model"),
    [
        ("openai", "/v1/chat/completions", "chat_completions", None),
        ("anthropic", "/v1/messages", "messages", None),
        ("anthropic", "/v1/messages/count_tokens", "messages_count_tokens", None),
        ("gemini", "/v1beta/models/gemini-2.5-flash:generateContent", "generate", "gemini-2.5-flash"),
        ("gemini", "/v1/models/gemini-2.5-flash:streamGenerateContent", "stream_generate", "gemini-2.5-flash"),
        ("gemini", "/v1beta/openai/chat/completions", "chat_completions", None),
        ("openrouter", "/api/v1/messages", "messages", None),
        ("groq", "/openai/v1/chat/completions", "chat_completions", None),
        ("deepseek", "/chat/completions", "chat_completions", None),
        ("deepseek", "/v1/chat/completions", "chat_completions", None),
        ("deepseek", "/anthropic/v1/messages", "messages", None),
        ("ollama", "/api/chat", "chat", None),
    ],
)
def test_endpoints_are_found(provider, path, name, model):
    found = place(provider, path)
    assert (found.endpoint.name, found.path_model) == (name, model)


def test_a_model_in_a_path_may_have_slashes_where_the_template_says_so():
    found = place("openrouter", "/api/v1/models/anthropic/claude-x/endpoints", "GET")
    assert found.path_model == "anthropic/claude-x"


def test_head_counts_as_get():
    assert place("openai", "/v1/models", "HEAD").endpoint.name == "models"


@pytest.mark.parametrize(
    ("provider", "method", "path", "reason"),
    [
        ("openai", "POST", "/v1/nowhere", "endpoint_not_allowed"),
        ("openai", "GET", "/v1/organization/admin_api_keys", "endpoint_not_allowed"),
        ("openai", "POST", "/v2/chat/completions", "endpoint_not_allowed"),
        ("openai", "DELETE", "/v1/models", "method_not_allowed"),
        ("openai", "GET", "/v1/files", "endpoint_closed"),
        ("openai", "POST", "/v1/fine_tuning/jobs", "endpoint_closed"),
        ("anthropic", "POST", "/v1/messages/batches", "endpoint_closed"),
        ("openrouter", "GET", "/api/v1/key", "endpoint_closed"),
        ("openai", "POST", "/v1/../v1/chat/completions", "odd_path"),
    ],
)
def test_everything_else_is_refused(provider, method, path, reason):
    assert paths.locate(CATALOG[provider], method, path).reason == reason


@pytest.mark.parametrize("path", ["/v1/nowhere" + "x" * 9000, "/v1/files/" + "x" * 9000, "/v1/é" + "x" * 9000])
def test_a_refusal_does_not_repeat_a_long_path(path):
    assert len(paths.locate(CATALOG["openai"], "GET", path).message) < 500


def test_a_preflight_is_refused():
    assert paths.locate(CATALOG["openai"], "OPTIONS", "/v1/chat/completions").status == 405


def test_a_closed_group_says_how_to_open_it():
    assert "providers.openai.open: [files]" in paths.locate(CATALOG["openai"], "GET", "/v1/files").message


def test_what_was_open_to_other_rules_stays_closed():
    paths.locate(CATALOG["openai"], "GET", "/v1/files", ("files",))
    assert paths.locate(CATALOG["openai"], "GET", "/v1/files").reason == "endpoint_closed"


def test_an_endpoint_is_found_once():
    asked = (CATALOG["openai"], "POST", "/v1/chat/completions")
    assert paths.locate(*asked) is paths.locate(*asked)


def test_a_place_is_mapped_for_each_target_anew():
    found = place("openai", "/v1/chat/completions")
    mapped = [paths.wire_path(PROVIDERS[target], found, "m").path for target in ("openai", "groq", "openai")]
    assert mapped == ["/v1/chat/completions", "/openai/v1/chat/completions", "/v1/chat/completions"]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/files/file-1", "/v1/files/file-1/content"])
def test_an_opened_group_is_open(path):
    assert place("openai", path, "GET", ("files",)).endpoint.group == "files"


@given(st.text(max_size=60))
def test_any_path_is_a_place_or_a_refusal(path):
    found = paths.locate(CATALOG["openai"], "POST", path)
    assert isinstance(found, paths.Place | Refusal)


TABLE = paths.HostTable(PROVIDERS)


@pytest.mark.parametrize(
    ("host", "port", "scheme", "name"),
    [
        ("api.openai.com", 443, "https", "openai"),
        ("API.OPENAI.COM", 443, "https", "openai"),
        ("eu.api.openai.com", 443, "https", None),
        ("user@api.openai.com", 443, "https", None),
        ("api.openai.com\0", 443, "https", None),
        ("api%2eopenai.com", 443, "https", None),
        ("аpi.openai.com", 443, "https", None),  # the first letter is Cyrillic
        ("2130706433", 8000, "http", None),
        ("0x7f.1", 8000, "http", None),
        ("127.0.0.1", 8000, "http", "lab"),
        ("127.0.0.1", 11434, "http", "ollama"),
        ("api.openai.com", 8443, "https", None),
        ("api.openai.com", 80, "http", None),
        ("api.openai.com.", 443, "https", None),
        ("api.openai.com.evil.test", 443, "https", None),
        ("xapi.openai.com", 443, "https", None),
        ("127.0.0.1", 8000, "https", None),
        ("127.0.0.1", 8001, "http", None),
    ],
)
def test_whose_a_destination_is(host, port, scheme, name):
    assert TABLE.find(host, port, scheme) == name


@pytest.mark.parametrize(("scheme", "name"), [("http", "openai"), ("https", None)])
def test_a_downgrade_is_recognised(scheme, name):
    assert TABLE.downgrade("api.openai.com", 80, scheme) == name


@pytest.mark.parametrize(
    ("method", "path", "headers", "provider"),
    [
        ("POST", "/v1/chat/completions", {}, "openai"),
        ("POST", "/chat/completions", {}, "openai"),
        ("POST", "/v1/messages", {}, "anthropic"),
        ("POST", "/messages", {}, "anthropic"),
        ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", {}, "gemini"),
        ("GET", "/v1/models", {}, "openai"),
        ("GET", "/v1/models", {"anthropic-version": "2023-06-01"}, "anthropic"),
        ("GET", "/v1/models", {"x-api-key": "sk-dummy"}, "anthropic"),
        ("POST", "/api/chat", {}, "ollama"),
        ("POST", "/groq/openai/v1/chat/completions", {}, "groq"),
        ("POST", "/openrouter/api/v1/chat/completions", {}, "openrouter"),
        ("POST", "/lab/v1/chat/completions", {}, "lab"),
        ("GET", "/v1/files", {}, "openai"),
    ],
)
def test_the_base_url_door_chooses_by_path(method, path, headers, provider):
    assert paths.locate_api(PROVIDERS, method, path, headers)[0] == provider


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/nowhere", 404), ("/v1/../x", 400), ("/groq/nowhere", 403)])
def test_the_base_url_door_refuses_the_rest(path, status):
    assert paths.locate_api(PROVIDERS, "POST", path, {}).status == status


@pytest.mark.parametrize(
    ("model", "split"),
    [
        ("anthropic/claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        ("openrouter/anthropic/claude", ("openrouter", "anthropic/claude")),
        ("ollama/llama3", ("ollama", "llama3")),
        ("gpt-4o", None),
        ("meta/llama", None),
        ("openai/", None),
    ],
)
def test_a_prefix_chooses_the_provider(model, split):
    assert paths.split_model_prefix(model, "openai", PROVIDERS) == split


@pytest.mark.parametrize(
    ("source", "path", "target", "model", "expected"),
    [
        ("openai", "/v1/chat/completions", "openai", "gpt-4o", "/v1/chat/completions"),
        ("openai", "/v1/chat/completions", "openrouter", "x", "/api/v1/chat/completions"),
        ("openai", "/v1/chat/completions", "groq", "x", "/openai/v1/chat/completions"),
        ("openai", "/v1/chat/completions", "deepseek", "x", "/chat/completions"),
        ("openai", "/v1/chat/completions", "gemini", "x", "/v1beta/openai/chat/completions"),
        ("openai", "/v1/chat/completions", "lab", "x", "/api/v2/chat/completions"),
        ("anthropic", "/v1/messages", "deepseek", "x", "/anthropic/v1/messages"),
        ("anthropic", "/v1/messages", "openrouter", "x", "/api/v1/messages"),
        ("anthropic", "/v1/messages", "openai", "x", None),
        ("openai", "/v1/embeddings", "deepseek", "x", None),
        ("mistral", "/v1/fim/completions", "mistral", "x", "/v1/fim/completions"),
        ("mistral", "/v1/fim/completions", "openai", "x", None),
        ("mistral", "/v1/agents/completions", "openai", None, None),
        ("openai", "/v1/batches", "lab", None, None),
        ("openai", "/v1/batches", "groq", None, None),
        ("gemini", "/v1beta/models/x:generateContent", "google", "x", "/g/models/x:generateContent"),
        ("gemini", "/v1beta/models/x:streamGenerateContent", "google", "y", "/g/models/y:streamGenerateContent"),
        ("gemini", "/v1beta/openai/chat/completions", "google", "x", "/g/openai/chat/completions"),
        ("gemini", "/v1/models/x:generateContent", "google", "x", "/g/v1/models/x:generateContent"),
        ("gemini", "/v1alpha/models/x:generateContent", "google", "x", "/g/v1alpha/models/x:generateContent"),
    ],
)
def test_where_an_endpoint_is_at_a_target(source, path, target, model, expected):
    assert mapped(source, path, target, model) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash:generateContent"),
        ("gemini-2.5-pro", "/v1beta/models/gemini-2.5-pro:generateContent"),
        ("a b", "/v1beta/models/a%20b:generateContent"),
        ("a/b", None),
        ("a;b", None),
        ("é", None),
    ],
)
def test_a_model_in_the_path_is_written_there(model, expected):
    assert mapped("gemini", "/v1beta/models/gemini-2.5-flash:generateContent", "gemini", model) == expected


def test_a_model_never_becomes_a_dot_segment():
    assert mapped("openai", "/v1/models/gpt-4o", "openai", "..", "GET") is None


def test_a_listing_of_one_model_is_found_at_another_provider():
    assert mapped("openai", "/v1/models/x", "groq", "meta/llama", "GET") == "/openai/v1/models/meta/llama"


def test_a_prefix_takes_the_place_of_whole_segments():
    facts = replace(CATALOG["gemini"], surfaces=(CATALOG["gemini"].surfaces[1], *CATALOG["gemini"].surfaces))
    target = replace(PROVIDERS["google"], facts=facts)  # /v1 first, and /v1beta only begins with the same letters
    found = paths.wire_path(target, place("gemini", "/v1beta/models/x:generateContent"), "x")
    assert found.path == "/g/v1beta/models/x:generateContent"


def test_an_unchanged_model_stays_as_it_was_written():
    assert mapped("gemini", "/v1beta/models/a%3Ab:generateContent", "gemini", "a:b").count("a%3Ab") == 1


def test_the_surface_that_was_called_stays_within_a_provider():
    assert mapped("gemini", "/v1/models/x:generateContent", "gemini", "x") == "/v1/models/x:generateContent"
