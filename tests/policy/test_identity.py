"""Whose key a value is, and which agent a name claims to be."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.samples import rules
from valetkey.model import AgentRule
from valetkey.policy import identity
from valetkey.policy.identity import Login, Register, digest, read_login, register

KEY = "sk-dummy-alice-0123456789abcdef0123456789abcdef"
ALICE = AgentRule("alice", "sha256:" + hashlib.sha256(KEY.encode()).hexdigest())
MADE = Register(rules(agents=(ALICE, AgentRule("ci.bot", "sha256:" + "ab" * 32), AgentRule("carol"), AgentRule("alice-2"))))


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (basic("alice:secret"), Login("alice", digest("secret"))),
        (basic("alice:a:b"), Login("alice", digest("a:b"))),
        (basic("alice:"), Login("alice")),
        (basic("alice"), Login("alice")),
        (basic(":secret"), Login("", digest("secret"))),
        (basic(f"{KEY}:"), Login("", digest(KEY))),
        (basic(KEY), Login("", digest(KEY))),
        ("bEARER  secret ", Login("", digest("secret"))),
        (basic(""), None),
        (basic(":"), None),
        ("Basic ***", None),
        ("Bearer", None),
        ("Digest username=alice", None),
        ("", None),
    ],
)
def test_a_login_is_read(value: str, expected: Login | None) -> None:
    assert read_login(value) == expected


def test_a_login_does_not_show_its_secret() -> None:
    assert "secret" not in repr(read_login(basic("alice:secret")))


@given(st.text())
def test_no_header_breaks_the_reader(value: str) -> None:
    assert read_login(value) is None or isinstance(read_login(value), Login)


@given(st.binary())
def test_no_bytes_in_basic_break_the_reader(data: bytes) -> None:
    read = read_login("Basic " + base64.b64encode(data).decode())
    assert (read is None) == (data.partition(b":")[0] == b"" and data.partition(b":")[2] == b"")


@pytest.mark.parametrize(("value", "agent"), [(KEY, "alice"), (KEY[:-1], None), (KEY.upper(), None), ("alice", None), ("", None)])
def test_a_key_names_its_agent(value: str, agent: str | None) -> None:
    assert MADE.agent_of(value) == agent


@pytest.mark.parametrize("shown", [bytes(32), b"", b"short"])
def test_an_odd_digest_is_nobodys(shown: bytes) -> None:
    assert not MADE.holder(shown)


@pytest.mark.parametrize("value", [KEY, "wrong"])
def test_every_look_compares_once_in_constant_time(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(identity.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    MADE.agent_of(value)
    assert len(compared) == 1


@given(st.text())
def test_no_value_but_the_key_is_the_key(value: str) -> None:
    assert MADE.agent_of(value) is None


def test_a_digest_in_capitals_is_the_same() -> None:
    assert Register(
        rules(agents=(AgentRule("a", (ALICE.key or "").replace("sha256:", "SHA").upper().replace("SHA", "sha256:")),))
    )


@pytest.mark.parametrize("key", [None, "sha256:", "sha256:é", "secret"])
def test_what_is_no_digest_is_no_key(key: str | None) -> None:
    assert not Register(rules(agents=(AgentRule("a", key),)))


@pytest.mark.parametrize(
    ("name", "agent"),
    [
        ("alice", "alice"),
        ("ALICE", "alice"),
        ("alice.web", "alice"),
        ("alice-0123456789abcdef", "alice"),
        ("alice.web-0123456789abcdef", "alice"),
        ("ci.bot", "ci.bot"),
        ("ci.bot.web", "ci.bot"),
        ("ci.bot-0123456789abcdef", "ci.bot"),
        ("alice-2", None),
        ("alice-nightly", None),
        ("carol", None),
        ("carol-0123456789abcdef", None),
        ("ci", None),
        ("-0123456789abcdef", None),
        ("", None),
    ],
)
def test_which_agent_a_name_claims_to_be(name: str, agent: str | None) -> None:
    assert MADE.claimed(name) == agent


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alice", ("alice", None)),
        ("alice.web.v2", ("alice", "web.v2")),
        ("ci.bot.web", ("ci.bot", "web")),
        ("ci.other", ("ci", "other")),
        ("zoe.", ("zoe", None)),
        (".web", ("", "web")),
    ],
)
def test_a_name_is_split(name: str, expected: tuple[str, str | None]) -> None:
    assert MADE.split(name) == expected


def test_a_register_is_made_once() -> None:
    made = rules(agents=(ALICE,))
    assert register(made) is register(made)


def test_the_library_compares_digests_in_constant_time() -> None:
    assert identity.hmac is hmac
