from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from support import making
from valetkey.cli.bundles import ADDING, REPLACING, Trust
from valetkey.cli.recipes import recipes
from valetkey.cli.variables import AGENT_KEY, PROXIES, covers, dialled, dummy_key, java_options, wanted, without_proxy
from valetkey.errors import ConfigurationError
from valetkey.model import Address
from valetkey.policy.callers import identify
from valetkey.proxy.canaryhost import HOST

TRUST = Trust(Path("/ca.pem"), Path("/bundle.pem"), Path("/added.pem"), Path("/bundle.p12"), ("a notice",))
KEY = "sk-dummy-alice-0123456789"
WITH_KEY = f'version: 1\nagents: [{{name: alice, key: "sha256:{sha256(KEY.encode()).hexdigest()}"}}]\n'


def made(environ=None, recipe=None, text="version: 1\n", **options):
    gateway = making.rules(text).gateway
    return wanted(gateway, list(making.CATALOG.values()), TRUST, "sk-dummy-x", environ or {}, recipes().get(recipe), **options)


@pytest.mark.parametrize("name", [name for upper in PROXIES for name in (upper, upper.lower())])
def test_the_proxy_is_set_in_both_cases(name):
    assert made().values[name] == "http://127.0.0.1:8080"


@pytest.mark.parametrize("name", REPLACING)
def test_a_replacing_variable_gets_the_bundle(name):
    assert made().values[name] == "/bundle.pem"


@pytest.mark.parametrize("name", ADDING)
def test_an_adding_variable_gets_the_authority(name):
    assert made().values[name] == "/added.pem"


@pytest.mark.parametrize(("name", "value"), [("NODE_USE_ENV_PROXY", "1"), ("AIOHTTP_TRUST_ENV", "True")])
def test_switches_are_on(name, value):
    assert made().values[name] == value


@pytest.mark.parametrize("name", [name for facts in making.CATALOG.values() for name in facts.env])
def test_every_provider_gets_a_dummy(name):
    assert made().values[name] == "sk-dummy-x"


def test_a_recipe_narrows_the_dummies():
    assert [name for name, value in made(recipe="claude").values.items() if value == "sk-dummy-x"] == ["ANTHROPIC_API_KEY"]


def test_a_recipe_sets_its_own():
    assert made(recipe="mini").values["MSWEA_CONFIGURED"] == "true"


def test_a_recipe_takes_away_what_would_come_first():
    assert "ANTHROPIC_AUTH_TOKEN" not in made(recipe="claude").applied({"ANTHROPIC_AUTH_TOKEN": "x"})


def test_what_else_is_set_stays():
    assert made().applied({"HOME": "/home/x"})["HOME"] == "/home/x"


def test_notices_are_passed_on():
    assert made().notices == ("a notice",)


@pytest.mark.parametrize(("host", "dialled_host"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.1", "10.0.0.1")])
def test_a_door_that_listens_everywhere_is_called_at_loopback(host, dialled_host):
    assert dialled(Address(host, 8080)).host == dialled_host


# NO_PROXY.


def test_loopback_is_excepted():
    assert made().values["no_proxy"] == "localhost,127.0.0.1,::1"


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_exceptions_that_are_set_stay(name):
    assert made({name: "intra.example, 10.0.0.0/8"}).values["NO_PROXY"] == "intra.example,10.0.0.0/8,localhost,127.0.0.1,::1"


def test_an_exception_stands_once():
    assert without_proxy({"NO_PROXY": "localhost", "no_proxy": "localhost"}, [])[0] == ["localhost", "127.0.0.1", "::1"]


@pytest.mark.parametrize(
    "entry", ["*", "api.openai.com", ".openai.com", "openai.com", "*.openai.com", "API.OpenAI.com:443", "com", HOST]
)
def test_an_exception_for_a_provider_is_left_out_and_told(entry):
    one = made({"NO_PROXY": entry})
    assert entry not in one.values["NO_PROXY"].split(",") and f"NO_PROXY: {entry}" in one.notices[1]


@pytest.mark.parametrize("entry", ["", " ", "myopenai.com", "pi.openai.com", "openai", "10.0.0.0/8", ".", "*.example"])
def test_other_exceptions_cover_no_provider(entry):
    assert not covers(entry, "api.openai.com")


# Java.


def test_java_is_only_set_on_request():
    assert "JAVA_TOOL_OPTIONS" not in made().values


def test_java_learns_of_proxy_and_trust():
    text = made(java=True).values["JAVA_TOOL_OPTIONS"]
    assert "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080" in text and "trustStore=/bundle.p12" in text


def test_options_of_java_that_are_set_stay_and_ours_stand_once():
    once = made({"JAVA_TOOL_OPTIONS": "-Xmx1g"}, java=True).values["JAVA_TOOL_OPTIONS"]
    assert made({"JAVA_TOOL_OPTIONS": once}, java=True).values["JAVA_TOOL_OPTIONS"] == once and once.startswith("-Xmx1g ")


def test_exceptions_are_written_as_java_reads_them():
    assert "-Dhttp.nonProxyHosts=127.*|*.intra|localhost|127.0.0.1" in java_options(
        "", Address("127.0.0.1", 1), [".intra", "localhost", "127.0.0.1", "::1"], TRUST
    )


def test_a_path_that_java_cannot_take_is_said():
    with pytest.raises(ConfigurationError, match="space"):
        java_options("", Address("127.0.0.1", 1), [], Trust(Path("a"), Path("b"), Path("c"), Path("/a b/c.p12")))


# Dummies.


@pytest.mark.parametrize("name", ["alice", "alice.web", "a-b_c.d"])
def test_the_gateway_knows_the_agent_by_the_dummy(name):
    rules = making.rules()
    found = identify(None, [dummy_key(name, rules)], rules)
    assert ".".join(filter(None, (found.agent, found.project))) == name


@pytest.mark.parametrize("name", ["a b", "a\nb", "é", "x" * 65, ".x"])
def test_a_name_that_the_gateway_would_not_know_is_refused(name):
    with pytest.raises(ConfigurationError, match="--agent"):
        dummy_key(name, making.rules())


def test_a_dummy_that_the_rules_do_not_know_is_refused():
    with pytest.raises(ConfigurationError, match="dummy_keys"):
        dummy_key("", making.rules('version: 1\ngateway: {dummy_keys: ["fake*"]}\n'))


def test_an_agents_own_key_is_its_dummy():
    assert dummy_key("alice", making.rules(WITH_KEY), {AGENT_KEY: KEY}) == KEY


@pytest.mark.parametrize("environ", [{}, {AGENT_KEY: "sk-dummy-alice-wrong"}])
def test_an_agents_own_key_is_asked_for(environ):
    with pytest.raises(ConfigurationError, match=AGENT_KEY):
        dummy_key("alice", making.rules(WITH_KEY), environ)


def test_no_message_holds_an_agents_key():
    with pytest.raises(ConfigurationError) as raised:
        dummy_key("alice", making.rules(WITH_KEY), {AGENT_KEY: "sk-dummy-alice-wrong"})
    assert "wrong" not in str(raised.value)
