"""Who makes a call."""

from __future__ import annotations

import hashlib

import pytest

from support.samples import rules
from valetkey.model import AgentRule, Caller
from valetkey.policy.callers import CONFLICT, UNKNOWN, claim, client_product, identify, recognise
from valetkey.policy.identity import Login, digest

AGENT_KEY = "vk-bob-0123456789abcdef"
BOB = AgentRule("bob", "sha256:" + hashlib.sha256(AGENT_KEY.encode()).hexdigest())


def proxy(agent: str, project: str | None = None) -> Caller:
    return Caller(agent, project, "proxy_auth")


def dummy(agent: str, project: str | None = None) -> Caller:
    return Caller(agent, project, "dummy")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        pytest.param("alice", proxy("alice"), id="agent"),
        pytest.param("alice.web", proxy("alice", "web"), id="agent and project"),
        pytest.param("alice.web.v2", proxy("alice", "web.v2"), id="only the first dot splits"),
        pytest.param("a" * 64, proxy("a" * 64), id="longest name"),
        pytest.param("alice.", proxy("alice"), id="empty project"),
    ],
)
def test_the_user_of_the_proxy_names_the_caller(user: str, expected: Caller) -> None:
    assert identify(user, (), rules()) == expected


@pytest.mark.parametrize("user", ["", ".web", "a" * 65, "al ice", "alice\n", "al/ice", "älice", "alice;drop", "../x"])
def test_a_name_that_is_no_plain_word_is_ignored(user: str) -> None:
    assert identify(user, ("sk-dummy-carol",), rules()) == dummy("carol")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("sk-dummy-alice", dummy("alice"), id="openai"),
        pytest.param("sk-dummy-alice.web", dummy("alice", "web"), id="with project"),
        pytest.param("sk-ant-dummy-alice", dummy("alice"), id="anthropic"),
        pytest.param("dummy-alice", dummy("alice"), id="bare"),
        pytest.param("sk-dummy", Caller(), id="no name"),
        pytest.param("sk-dummy-", Caller(), id="empty name"),
        pytest.param("sk-dummyalice", Caller(), id="no dash"),
        pytest.param("sk-dummy-" + "a" * 65, Caller(), id="too long"),
    ],
)
def test_a_dummy_key_may_carry_the_name(value: str, expected: Caller) -> None:
    assert identify(None, (value,), rules()) == expected


def test_the_name_is_found_behind_any_prefix_that_the_rules_call_a_dummy() -> None:
    assert identify(None, ("gsk_dummy-alice",), rules(gateway_dummy_keys=("gsk_dummy*",))) == dummy("alice")


def test_a_foreign_key_never_becomes_a_name() -> None:
    assert identify(None, ("sk-proj-dummy-REAL",), rules()) == Caller()


def test_a_configured_key_names_its_agent() -> None:
    assert identify(None, (AGENT_KEY,), rules(agents=(BOB,))) == Caller("bob", None, "agent_key")


def test_a_configured_key_counts_more_than_a_dummy() -> None:
    assert identify(None, ("sk-dummy-alice", AGENT_KEY), rules(agents=(BOB,))).agent == "bob"


def test_a_configured_key_counts_more_than_the_proxy_user() -> None:
    assert identify("alice", (AGENT_KEY,), rules(agents=(BOB,))).agent == "bob"


@pytest.mark.parametrize("user", ["bob", "bob.web", "BOB"])
def test_the_name_of_an_agent_with_a_key_does_not_count_without_it(user: str) -> None:
    assert identify(user, (f"sk-dummy-{user}",), rules(agents=(BOB,))) == Caller()


def test_a_configured_agent_with_a_dot_in_its_name_is_not_split() -> None:
    known = rules(agents=(AgentRule("ci"), AgentRule("ci.bot")))

    assert identify("ci.bot.nightly", (), known) == proxy("ci.bot", "nightly")


def test_a_configured_agent_with_a_dot_is_known_without_a_project_too() -> None:
    assert identify("ci.bot", (), rules(agents=(AgentRule("ci.bot"),))) == proxy("ci.bot")


def test_a_longer_name_is_no_configured_agent() -> None:
    assert identify("cider.x", (), rules(agents=(AgentRule("ci"),))) == proxy("cider", "x")


def test_without_anything_the_caller_is_default() -> None:
    assert identify(None, (), rules()) == Caller("default", None, "default")


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        ("claude-cli/2.1.0 (external, cli)", "claude-cli/2.1.0"),
        ("OpenAI/Python 1.60.0", "OpenAI/Python"),
        ("  curl/8.5.0", "curl/8.5.0"),
        ("", ""),
        ("   ", ""),
        ("(weird)", ""),
        ("x" * 100, "x" * 64),
        ("evil\x00name/1", "evil"),
    ],
)
def test_the_client_is_the_first_product(user_agent: str, expected: str) -> None:
    assert client_product(user_agent) == expected


# Agents with a key.

ALICE_KEY = "sk-dummy-alice-0123456789abcdef0123456789abcdef"
ALICE = AgentRule("alice", "sha256:" + hashlib.sha256(ALICE_KEY.encode()).hexdigest())
KEYED = rules(agents=(ALICE, BOB, AgentRule("carol")), gateway_callers="any")
WRONG = "sk-dummy-alice-ffffffffffffffffffffffffffffffff"


def login(user: str, secret: str | None = None) -> Login:
    return Login(user, digest(secret) if secret else None)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("logins", "presented", "expected"),
    [
        pytest.param((), (ALICE_KEY,), Caller("alice", None, "agent_key"), id="key in the call"),
        pytest.param((), ("sk-dummy", ALICE_KEY), Caller("alice", None, "agent_key"), id="beside another dummy"),
        pytest.param((login("alice", ALICE_KEY),), (), proxy("alice"), id="password"),
        pytest.param((login("alice.web", ALICE_KEY),), ("sk-dummy",), proxy("alice", "web"), id="password and project"),
        pytest.param((login("", ALICE_KEY),), ("sk-dummy-carol",), proxy("alice"), id="bearer"),
        pytest.param((login("alice", ALICE_KEY),), ("sk-dummy-alice.web",), proxy("alice", "web"), id="project in the dummy"),
        pytest.param((login("alice", ALICE_KEY),), (ALICE_KEY,), proxy("alice"), id="twice"),
        pytest.param((login("carol"),), (AGENT_KEY,), Caller("bob", None, "agent_key"), id="a key before a name"),
        pytest.param((login("alice.web"),), (ALICE_KEY,), Caller("alice", "web", "agent_key"), id="project from the proxy"),
    ],
)
def test_an_agent_is_known_by_its_key(logins: tuple, presented: tuple, expected: Caller, known: bool) -> None:
    assert recognise(logins, presented, KEYED, known=known) == expected


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("logins", "presented"),
    [
        pytest.param((), ("sk-dummy-alice",), id="name"),
        pytest.param((), ("sk-dummy-alice.web",), id="name and project"),
        pytest.param((), ("sk-dummy-Alice",), id="in capitals"),
        pytest.param((), (WRONG,), id="wrong key"),
        pytest.param((), (ALICE_KEY + "0",), id="longer key"),
        pytest.param((), (ALICE_KEY[:-1],), id="shorter key"),
        pytest.param((login("alice"),), (), id="user"),
        pytest.param((login("alice", "wrong"),), ("sk-dummy",), id="wrong password"),
        pytest.param((login("alice.web", WRONG),), ("sk-dummy",), id="wrong password with project"),
        pytest.param((login("bob", ALICE_KEY),), (), id="the key of another"),
        pytest.param((login("alice", ALICE_KEY),), ("sk-dummy-bob",), id="another name in the tunnel"),
        pytest.param((login(WRONG),), (), id="key as the user"),
    ],
)
def test_nobody_is_heard_who_claims_to_be_an_agent_without_its_key(logins: tuple, presented: tuple, known: bool) -> None:
    assert recognise(logins, presented, KEYED, known=known) == UNKNOWN


@pytest.mark.parametrize("known", [True, False])
def test_the_keys_of_two_agents_are_refused(known: bool) -> None:
    assert recognise((login("alice", ALICE_KEY),), (AGENT_KEY,), KEYED, known=known) == CONFLICT


@pytest.mark.parametrize("presented", [(), ("sk-dummy",), ("sk-dummy-carol",), ("sk-proj-foreign",)])
def test_where_callers_must_be_known_others_are_refused(presented: tuple) -> None:
    assert recognise((), presented, KEYED, known=True) == UNKNOWN


def test_where_any_may_call_others_are_named_as_ever() -> None:
    assert recognise((login("carol", "x"),), ("sk-dummy",), KEYED, known=False) == proxy("carol")


def test_without_any_key_names_are_believed() -> None:
    assert recognise((login("alice", "x"),), (), rules(), known=False) == proxy("alice")


def test_without_any_key_nobody_can_be_known() -> None:
    assert recognise((login("alice", "x"),), ("sk-dummy-alice",), rules(), known=True) == UNKNOWN


def test_an_agent_called_default_with_a_key_is_nobodys_default() -> None:
    made = rules(agents=(AgentRule("default", ALICE.key),))
    assert recognise((), ("sk-dummy",), made, known=False) == UNKNOWN


def test_the_refusal_does_not_tell_which_agents_there_are() -> None:
    assert recognise((), ("sk-dummy-alice",), KEYED, known=True) == recognise((), ("sk-dummy-nobody",), KEYED, known=True)


@pytest.mark.parametrize(
    ("logins", "presented", "expected"),
    [
        ((), (), None),
        ((), ("sk-dummy",), ""),
        ((), ("sk-proj-guess",), ""),
        ((login("carol", "x"),), (), ""),
        ((), ("sk-dummy-alice",), "alice"),
        ((), (WRONG,), "alice"),
        ((login("bob", "x"),), ("sk-dummy-alice",), "bob"),
        ((login("x", "x"),), ("sk-dummy-alice",), "alice"),
    ],
)
def test_what_a_call_claims(logins: tuple, presented: tuple, expected: str | None) -> None:
    assert claim(logins, presented, KEYED) == expected
