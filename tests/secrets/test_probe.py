from __future__ import annotations

import ssl
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import CATALOG
from valetkey.errors import ConfigurationError
from valetkey.model import Address, Key, Outcome, Upstream
from valetkey.rules import parse_rules
from valetkey.secrets import Secret, Vault, probe
from valetkey.secrets.probe import Trial, direct_client, free_places, probe_id, shell_client
from valetkey.simulator import Fault, TlsFiles, make_authority, run_in_thread

REAL = "sk-proj-REALrealREALrealREALreal0001"
GATEWAY = Address("127.0.0.1", 1)
ADDONS = str(Path(probe.__file__).parents[2])
OPENAI, LAB = Key("openai/1", "openai", "1"), Key("lab/x", "lab", "x")


@dataclass
class Held:
    """Keys as a snapshot holds them."""

    keys: dict
    vault: Vault
    states: dict = field(default_factory=dict)


def vault(*keys):
    return Vault({key.id: Secret(REAL) for key in keys}, {key.id: key.provider for key in keys})


def providers(text):
    return parse_rules(f"version: 1\n{text}\n", "rules.yaml", CATALOG).providers


def openai(url):
    return providers(f"providers: {{openai: {{upstream: '{url}/v1'}}}}")["openai"]


@pytest.fixture(autouse=True)
def shell(monkeypatch):
    """A shell without proxies."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def simulator():
    with run_in_thread() as running:
        yield running


@pytest.fixture
def server(simulator):
    simulator.faults.clear()
    simulator.seen.clear()
    return simulator


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"), ())


@pytest.fixture
def secure(authority):
    with run_in_thread(tls=TlsFiles(authority.cert, authority.key)) as running:
        yield running


@pytest.fixture
def client():
    with closing(shell_client(GATEWAY)) as made:
        yield made


@pytest.fixture
def ask(client, server):
    """What a simulated OpenAI says of a key."""
    return lambda: probe.probe(client, openai(server.url), OPENAI, vault(OPENAI))


def test_a_good_key_is_ok(ask):
    found = ask()
    assert (found.id, found.outcome, found.status, found.message) == ("openai/1", Outcome.OK, 200, "")


def test_the_time_until_the_answer_is_told(ask):
    assert 0 <= ask().seconds < 10


def test_the_key_goes_where_the_provider_looks_for_it(ask, server):
    ask()
    assert [(seen.method, seen.path, seen.credentials) for seen in server.seen] == [("GET", "/v1/models", [f"Bearer {REAL}"])]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="bad_key"), "bad_key (401)  Incorrect API key provided. You can find your API key on the dashboard."),
        (Fault(kind="rate_limit"), "throttled (429)  Rate limit reached"),
        (Fault(kind="quota"), "quota (429)  You exceeded"),
        (Fault(status=500), "server (500)  The server had an error"),
        (
            Fault(status=502, body="<html>\n\n  bad\x1b[31m gateway"),
            "server (502)  <html> bad\N{REPLACEMENT CHARACTER}[31m gateway",
        ),
        (Fault(status=302, header="location: http://127.0.0.1:9/"), "server (302)  it sends elsewhere"),
        (Fault(kind="not_found"), "client (404)  The model does not exist"),
        (Fault(status=401, cut=0), "bad_key (401)"),
    ],
)
def test_other_endings_are_classified(ask, server, fault, expected):
    server.faults.append(fault)
    assert str(ask()).startswith(f"openai/1  {expected}")


def test_a_silent_provider_is_a_timeout(server, monkeypatch):
    monkeypatch.setattr(probe, "PATIENCE", 0.2)
    server.faults.append(Fault(slow=3.0))
    with closing(shell_client(GATEWAY)) as impatient:
        found = probe.probe(impatient, openai(server.url), OPENAI, vault(OPENAI))
    assert found == Trial("openai/1", Outcome.TIMEOUT, message="no answer within 0 s")


def test_a_provider_has_ten_seconds(client):
    assert set(client.timeout.as_dict().values()) == {10.0}


def test_a_provider_that_is_not_there_is_network(client):
    found = probe.probe(client, openai("http://127.0.0.1:1"), OPENAI, vault(OPENAI))
    assert (found.outcome, found.status, bool(found.message)) == (Outcome.NETWORK, None, True)


@pytest.mark.parametrize("text", [f"your key is {REAL}", "x" * 150 + REAL, f'{{"error": {{"message": "no {REAL}\\n"}}}}'])
def test_a_provider_that_says_the_key_back_is_not_repeated(ask, server, text):
    server.faults.append(Fault(status=401, body=text))
    message = ask().message
    assert "sk-proj" not in message and "\n" not in message


def test_a_message_is_short(ask, server):
    server.faults.append(Fault(status=401, body="word " * 100_000))
    assert len(ask().message) == 160


def test_without_a_free_endpoint_nothing_is_asked(ask, server, monkeypatch):
    monkeypatch.setattr(probe, "_is_free", lambda endpoint: False)
    assert (ask(), [*server.seen]) == (Trial("openai/1", None, message="the catalogue has no free endpoint of openai"), [])


def test_an_endpoint_that_this_server_does_not_have_says_nothing_of_the_key(client, server):
    found = providers(f"providers: {{lab: {{like: openrouter, upstream: '{server.url}/v1', keys: [env:LAB]}}}}")["lab"]
    outcome = probe.probe(client, found, LAB, vault(LAB)).outcome
    assert (outcome, server.seen[-1].path) == (Outcome.OK, "/v1/models")


@pytest.mark.parametrize(
    ("provider_name", "first"),
    [("openai", "/v1/models"), ("anthropic", "/v1/models"), ("gemini", "/v1beta/models"), ("openrouter", "/api/v1/key")],
)
def test_what_tells_most_of_a_key_is_asked_first(provider_name, first):
    assert next(free_places(providers("")[provider_name]))[1] == first


# What must not be sent.


def test_a_key_does_not_go_over_plain_http_to_another_machine(client):
    provider = replace(openai("http://127.0.0.1:9"), upstream=Upstream("http", "llm.example.test", 80))
    found = probe.probe(client, provider, OPENAI, vault(OPENAI))
    assert (found.outcome, "plain HTTP to llm.example.test would show the key" in found.message) == ("unusable", True)


def test_a_key_does_not_go_to_another_provider(client, server):
    found = probe.probe(client, openai(server.url), LAB, vault(LAB))
    assert (found.outcome, found.message, [*server.seen]) == ("unusable", "a key of lab does not go to openai", [])


@pytest.mark.parametrize("name", sorted(name for name, provider in providers("").items() if provider.keys_needed))
def test_every_free_endpoint_of_the_catalogue_may_be_asked(name):
    provider, key = providers("")[name], Key(f"{name}/1", name, "1")
    reasons = {probe._withheld(probe._opened(provider), key, vault(key), *place) for place in free_places(provider)}
    assert reasons <= {None}


@pytest.mark.parametrize("trusted", [True, False])
def test_certificates_are_verified(secure, authority, trusted):
    context = ssl.create_default_context(cafile=str(authority.ca) if trusted else None)
    with closing(direct_client(context)) as client:
        found = probe.probe(client, openai(secure.url), OPENAI, vault(OPENAI))
    assert (found.outcome, len(secure.seen)) == ((Outcome.OK, 1) if trusted else (Outcome.NETWORK, 0))


# Ids.


def test_a_key_is_found_by_its_id(client, server):
    held = Held({"openai": (OPENAI,)}, vault(OPENAI))
    assert probe_id(client, "openai/1", {"openai": openai(server.url)}, held).outcome is Outcome.OK


@pytest.mark.parametrize(("states", "message"), [({"openai/1": "it is empty"}, "it is empty"), ({}, "")])
def test_an_unusable_key_is_not_sent(client, states, message):
    assert probe_id(client, "openai/1", {}, Held({}, vault(), states)) == Trial("openai/1", "unusable", message=message)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Trial("a/1", Outcome.OK, 200, 0.126), "a/1  ok  0.13 s"),
        (Trial("a/1", None, message="why"), "a/1  not tested  why"),
        (Trial("a/1", "unusable", message="why"), "a/1  unusable  why"),
        (Trial("a/1", Outcome.BAD_KEY, 401, 0.1, "no"), "a/1  bad_key (401)  no"),
        (Trial("a/1", Outcome.BAD_KEY, 401, 0.1), "a/1  bad_key (401)"),
    ],
)
def test_a_trial_is_told_in_a_line(found, expected):
    assert str(found) == expected


@pytest.mark.parametrize(
    ("outcome", "expected"), [(Outcome.OK, True), (None, True), ("unusable", False), (Outcome.NETWORK, False)]
)
def test_what_is_well(outcome, expected):
    assert Trial("a/1", outcome).well is expected


# Clients.


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(("gateway", "expected"), [(Address("127.0.0.1", 8080), Outcome.NETWORK), (GATEWAY, Outcome.OK)])
def test_the_proxy_of_the_shell_is_used_unless_it_is_the_gateway(secure, authority, monkeypatch, name, gateway, expected):
    monkeypatch.setenv(name, "http://localhost:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with closing(shell_client(gateway)) as client:
        assert probe.probe(client, openai(secure.url), OPENAI, vault(OPENAI)).outcome is expected


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_plain_http_goes_through_no_proxy(server, monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    with closing(shell_client(GATEWAY)) as client:
        assert probe.probe(client, openai(server.url), OPENAI, vault(OPENAI)).outcome is Outcome.OK


def test_a_proxy_that_is_none_is_said(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "gopher://x")
    with pytest.raises(ConfigurationError, match="the proxy or CA variables of this shell cannot be used"):
        shell_client(GATEWAY)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_straight_client_takes_no_proxy_of_the_shell(secure, authority, monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    with closing(direct_client(ssl.create_default_context(cafile=str(authority.ca)))) as client:
        assert probe.probe(client, openai(secure.url), OPENAI, vault(OPENAI)).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("http://127.0.0.1:8081", False),
        ("http://proxy.corp:8080", False),
        ("http://[nonsense", False),
        ("http://x:99999999", False),
    ],
)
def test_the_gateway_is_known_by_its_address(url, expected):
    assert probe._is(url, Address("127.0.0.1", 8080)) is expected


# Messages.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'[{"error": {"message": "a"}}]', "a"),
        (b'{"error": "b"}', "b"),
        (b'{"message": "c"}', "c"),
        (b'{"error": {"message": 1}}', '{"error": {"message": 1}}'),
        (b"[]", "[]"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"[" * 100_000, "[" * 100_000),
        (b"", ""),
    ],
    ids=range(8),
)
def test_messages_are_found_wherever_they_stand(body, expected):
    assert probe._message(body) == expected


@given(st.binary())
def test_any_body_is_a_short_harmless_line(body):
    line = probe._line(probe._message(body), vault(OPENAI))
    assert len(line) <= 160 and all(letter.isprintable() for letter in line)


def test_holding_keys_takes_no_http_client():
    script = "import sys, valetkey.secrets, valetkey.rules; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": ADDONS}).returncode == 0
