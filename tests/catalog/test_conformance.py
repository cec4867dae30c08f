"""What each provider file promises, held against golden requests, answers and errors, and against recordings where there are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.catalogue import CALLS, ERRORS, PLACED
from support.making import CATALOG, rules
from valetkey.formats import UsageTap, read_request
from valetkey.model import Endpoint, Outcome
from valetkey.policy import credentials, paths
from valetkey.policy.metering import measure
from valetkey.policy.outcome import classify
from valetkey.rules.values import upstream

RECORDINGS = Path(os.environ.get("VALETKEY_RECORDINGS") or Path(__file__).resolve().parents[2].parent / "shared" / "recordings")
KEY = "real-0123456789-real-0123456789"
WHEN = 1_760_000_000.0
RULES = "version: 1\nproviders:\n" + "".join(f"  {name}: {{upstream: '{place}'}}\n" for name, place in PLACED.items())
PROVIDERS = rules(RULES).providers
HOSTS = paths.HostTable(PROVIDERS)
NAMES = sorted({call.provider for call in CALLS})


def named(call):
    return pytest.param(call, id=f"{call.provider} {call.path[-60:]}")


def owner(call):
    place = upstream(call.host if "://" in call.host else f"https://{call.host}")
    return HOSTS.find(place.host, place.port, place.scheme)


def located(call):
    found = paths.locate(PROVIDERS[call.provider].facts, "POST", call.path)
    assert isinstance(found, paths.Place), found
    return found


def metered(call):
    tap = UsageTap(located(call).endpoint.format, "application/json")
    tap.feed(json.dumps(call.answer).encode())
    tap.end()
    return measure(tap.document, PROVIDERS[call.provider], located(call).endpoint.flavor, call.model, WHEN)


each_call = pytest.mark.parametrize("call", [named(call) for call in CALLS])


@each_call
def test_the_destination_is_recognised(call):
    assert owner(call) == call.provider


@each_call
def test_the_path_is_an_endpoint_of_its_format(call):
    assert located(call).endpoint.format == call.format


@each_call
def test_the_model_is_read(call):
    place = located(call)
    assert (place.path_model if call.in_path else read_request(call.body).model) == call.model


@each_call
def test_the_credential_is_put_where_the_provider_looks_for_it(call):
    sent = [(name, b"sk-dummy") for name in (b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key")]
    fields = dict(credentials.wire_headers(sent, located(call).surface.auth, None, KEY))
    assert {name: value for name, value in fields.items() if b"real" in value or b"dummy" in value} == {
        call.carrier.encode(): f"{call.prefix}{KEY}".encode()
    }


@each_call
def test_usage_is_read(call):
    assert {name: count for name, count in metered(call).usage.items() if count} == call.usage


@each_call
def test_a_price_is_found_where_there_is_a_list(call):
    assert (metered(call).cost_usd is not None) == call.priced


@pytest.mark.parametrize(("name", "status", "body", "outcome"), ERRORS)
def test_an_error_is_classified(name, status, body, outcome):
    assert classify(CATALOG[name], status, {}, json.dumps(body).encode()) == Outcome(outcome)


@pytest.mark.parametrize("name", NAMES)
def test_every_provider_has_golden_errors(name):
    assert {outcome for each, *_, outcome in ERRORS if each == name} & {"bad_key", "too_long"}


def is_chat(endpoint: Endpoint) -> bool:
    return (endpoint.name, endpoint.format) == ("chat_completions", "openai_chat")


CHATS = {
    name: provider
    for name, provider in PROVIDERS.items()
    if any(is_chat(e) for s in provider.facts.surfaces for e in s.endpoints)
}
CALLED = [call for call in CALLS if call.path.endswith("/chat/completions") and call.provider != "vertex_ai"]
CHAT_PATHS = {call.provider: call.path for call in reversed(CALLED)} | {
    "openai": "/v1/chat/completions", "groq": "/openai/v1/chat/completions", "mistral": "/v1/chat/completions",
    "deepseek": "/chat/completions", "openrouter": "/api/v1/chat/completions", "ollama": "/v1/chat/completions",
    "gemini": "/v1beta/openai/chat/completions", "azure": "/openai/v1/chat/completions",
}  # fmt: skip


@pytest.mark.parametrize("source", CHAT_PATHS)
def test_a_chat_is_sent_to_any_other_provider_of_its_format(source):
    place = paths.locate(PROVIDERS[source].facts, "POST", CHAT_PATHS[source])
    found = {target: paths.wire_path(PROVIDERS[target], place, "m") for target in CHAT_PATHS if target != source}
    assert {target: each and each.path for target, each in found.items()} == {
        target: path for target, path in CHAT_PATHS.items() if target != source
    }


def test_every_provider_that_speaks_chat_is_in_that():
    assert {*CHATS} - {*CHAT_PATHS} <= {"vertex_ai"}


MESSAGES = {
    "anthropic": "/v1/messages", "azure": "/anthropic/v1/messages", "deepseek": "/anthropic/v1/messages",
    "deepinfra": "/anthropic/v1/messages", "fireworks": "/inference/v1/messages", "llama_cpp": "/v1/messages",
    "lm_studio": "/v1/messages", "minimax": "/anthropic/v1/messages", "moonshot": "/anthropic/v1/messages",
    "novita": "/anthropic/v1/messages", "ollama": "/v1/messages", "openrouter": "/api/v1/messages", "vllm": "/v1/messages",
    "zai": "/api/anthropic/v1/messages",
}  # fmt: skip


@pytest.mark.parametrize("target", MESSAGES)
def test_messages_are_sent_to_any_provider_that_takes_them(target):
    place = paths.locate(PROVIDERS["anthropic"].facts, "POST", "/v1/messages")
    assert paths.wire_path(PROVIDERS[target], place, "m").path == MESSAGES[target]


# Places that need more than a host.

VERTEX = "/v1/projects/acme/locations/europe-west1"
PREFIXED = rules(
    f"version: 1\nproviders:\n  vertex_ai: {{upstream: 'https://europe-west1-aiplatform.googleapis.com{VERTEX}'}}\n"
).providers


@pytest.mark.parametrize(
    ("source", "path", "expected"),
    [
        ("gemini", "/v1beta/models/m:generateContent", "/publishers/google/models/m:generateContent"),
        ("openai", "/v1/chat/completions", "/endpoints/openapi/chat/completions"),
        (
            "vertex_ai",
            "/v1/projects/x/locations/global/publishers/google/models/m:countTokens",
            "/publishers/google/models/m:countTokens",
        ),
        (
            "vertex_ai",
            "/v1beta1/projects/x/locations/global/publishers/google/models/m:countTokens",
            "/publishers/google/models/m:countTokens",
        ),
    ],
)
def test_the_project_comes_from_the_upstream(source, path, expected):
    place = paths.locate(PREFIXED[source].facts, "POST", path)
    assert paths.wire_path(PREFIXED["vertex_ai"], place, "m").path == VERTEX + expected


def test_a_route_into_a_project_needs_that_upstream():
    place = paths.locate(CATALOG["gemini"], "POST", "/v1beta/models/m:generateContent")
    assert paths.wire_path(PROVIDERS["vertex_ai"], place, "m") is None


def test_the_project_of_the_agent_stays_without_one():
    path = "/v1/projects/acme/locations/us-central1/publishers/google/models/m:generateContent"
    place = paths.locate(CATALOG["vertex_ai"], "POST", path)
    assert paths.wire_path(PROVIDERS["vertex_ai"], place, "m").path == path


def test_a_call_stays_in_the_region_that_it_names():
    assert paths.at_host(PROVIDERS["vertex_ai"], "us-east5-aiplatform.googleapis.com").upstream.origin == (
        "https://us-east5-aiplatform.googleapis.com"
    )


@pytest.mark.parametrize(
    "host", ["evil-aiplatform.googleapis.com", "us-east5-aiplatform.googleapis.com.evil.test", "googleapis.com"]
)
def test_a_region_that_is_not_listed_is_nobodys(host):
    assert HOSTS.find(host, 443, "https") is None


# Hosts that anybody can register.

TENANTS = ["mallory.openai.azure.com", "mallory.services.ai.azure.com", "mallory.cognitiveservices.azure.com"]


@pytest.mark.parametrize("host", TENANTS)
def test_a_host_of_somebody_else_is_known_for_what_it_is(host):
    assert HOSTS.find(host, 443, "https") == "azure"


@pytest.mark.parametrize("host", TENANTS)
def test_it_is_refused_where_the_rules_name_another(host):
    refusal = paths.unnamed(PROVIDERS["azure"], host)
    assert refusal.status == 403 and "acme.openai.azure.com" in refusal.message


@pytest.mark.parametrize("host", [*TENANTS, "acme.openai.azure.com"])
def test_it_is_refused_where_the_rules_name_none(host):
    assert paths.unnamed(rules().providers["azure"], host).reason == "unnamed_upstream"


def test_the_host_that_the_rules_name_is_called():
    assert paths.unnamed(PROVIDERS["azure"], "ACME.openai.azure.com") is None


@pytest.mark.parametrize("host", ["openai.azure.com", ".openai.azure.com", "a.b.openai.azure.com", "openai.azure.com.evil.test"])
def test_other_hosts_are_no_tenants(host):
    assert HOSTS.find(host, 443, "https") is None


# Real exchanges.

RECORDED = {
    "aiplatform.googleapis.com": "vertex_ai", "api.cerebras.ai": "cerebras", "api.cohere.com": "cohere",
    "api.voyageai.com": "voyage", "router.huggingface.co": "huggingface",
    "pydantic-ai-realtime-dev.openai.azure.com": "azure",
}  # fmt: skip
EXCHANGES = [
    pytest.param(exchange, id=path.stem)
    for path in sorted(RECORDINGS.glob("*.json"))
    if (exchange := json.loads(path.read_text()))["host"] in RECORDED
]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_recorded_call_is_an_endpoint(exchange):
    name = RECORDED[exchange["host"]]
    assert isinstance(paths.locate(CATALOG[name], exchange["method"], exchange["path"]), paths.Place)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_usage_of_a_recorded_answer_is_read(exchange):
    provider = PROVIDERS[RECORDED[exchange["host"]]]
    endpoint = paths.locate(provider.facts, exchange["method"], exchange["path"]).endpoint
    if endpoint.flavor is None:
        pytest.skip("this endpoint bears no usage that an extractor reads")
    tap = UsageTap(endpoint.format, exchange["headers"].get("content-type"))
    tap.feed(exchange["response"].encode())
    tap.end()
    assert measure(tap.document, provider, endpoint.flavor, "m", WHEN).usage.get("input_tokens")
