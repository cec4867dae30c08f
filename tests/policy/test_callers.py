"""Who makes a call."""

from __future__ import annotations

import hashlib

import pytest

from support.samples import rules
from valetkey.model import AgentRule, Caller
from valetkey.policy.callers import client_product, identify

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


def test_the_proxy_user_counts_more_than_a_configured_key() -> None:
    assert identify("alice", (AGENT_KEY,), rules(agents=(BOB,))) == proxy("alice")


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
