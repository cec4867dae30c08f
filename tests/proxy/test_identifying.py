"""At the doors: who is heard, and that guessing stays slow."""

from __future__ import annotations

import hashlib
import logging

import pytest
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from support.samples import rules
from valetkey.model import AgentRule, Caller, Refusal
from valetkey.policy.callers import CONFLICT, UNKNOWN
from valetkey.policy.guesses import BURST, REFILL
from valetkey.policy.identity import Login, digest
from valetkey.proxy.identifying import Doorkeeper, Visitor, is_exposed, is_local, proxy_refusal, requires_known

KEY, OTHER = "sk-dummy-alice-0123456789abcdef", "sk-dummy-bob-fedcba9876543210"
AGENTS = tuple(
    AgentRule(name, "sha256:" + hashlib.sha256(key.encode()).hexdigest()) for name, key in (("alice", KEY), ("bob", OTHER))
)
KNOWN, ANY = rules(agents=AGENTS, gateway_callers="known"), rules(agents=AGENTS)
WRONG = "sk-dummy-alice-ffffffffffffffff"


class Door:
    """A doorkeeper, and somebody in front of it."""

    def __init__(self, made=KNOWN, address="10.0.0.5", exposed=False):
        self.keeper, self.rules, self.address, self.exposed = Doorkeeper(), made, address, exposed

    def ask(self, *presented, tunnel=None, own=None, now=0.0, address=None):
        visitor = Visitor(self.keeper, address or self.address, self.exposed, tunnel, own)
        return self.keeper.recognise(visitor, presented, self.rules, now)

    def fail(self, times, value=WRONG, **options):
        for _ in range(times):
            self.ask(value, **options)
        return self


def reason(found):
    return found.reason if isinstance(found, Refusal) else found.agent


def test_the_key_opens():
    assert Door().ask(KEY) == Caller("alice", None, "agent_key")


def test_without_it_the_door_stays_shut():
    assert Door().ask("sk-dummy-alice") == UNKNOWN


def test_two_keys_are_refused():
    assert Door().ask(KEY, OTHER) == CONFLICT


def test_after_too_many_failures_not_even_the_right_key_is_looked_at():
    assert reason(Door().fail(BURST).ask(KEY)) == "too_many_failures"


def test_the_answer_says_how_long_to_wait():
    found = Door().fail(BURST).ask(WRONG)
    assert (found.status, found.retry_after) == (429, REFILL)


def test_refused_attempts_do_not_prolong_the_wait():
    assert reason(Door().fail(BURST + 50).ask(KEY, now=REFILL)) == "alice"


def test_another_agent_at_the_same_address_is_heard():
    assert reason(Door().fail(BURST).ask(OTHER)) == "bob"


def test_the_same_agent_at_another_address_is_heard():
    assert reason(Door().fail(BURST).ask(KEY, address="10.0.0.6")) == "alice"


def test_calls_in_a_tunnel_that_was_let_in_are_heard():
    assert reason(Door().fail(BURST).ask("sk-dummy", tunnel=Login("alice", digest(KEY)))) == "alice"


def test_guessing_another_agents_key_in_such_a_tunnel_is_slow_too():
    tunnel = Login("bob", digest(OTHER))
    assert reason(Door().fail(BURST, tunnel=tunnel).ask(WRONG, tunnel=tunnel)) == "too_many_failures"


def test_successes_do_not_count():
    assert reason(Door().fail(BURST * 3, KEY).ask(KEY)) == "alice"


def test_calls_without_anything_to_compare_do_not_count():
    door = Door()
    for _ in range(BURST * 2):
        door.ask()
    assert reason(door.ask("sk-dummy")) == "unknown_caller"


def test_where_any_may_call_ordinary_calls_do_not_count():
    assert reason(Door(ANY).fail(BURST * 3, "sk-dummy").ask("sk-dummy")) == "default"


def test_without_agents_nothing_is_counted():
    assert reason(Door(rules()).fail(BURST * 3, "sk-dummy-alice").ask("sk-dummy-alice")) == "alice"


def test_a_failure_is_logged_once(caplog):
    Door().fail(BURST * 3)
    assert len(caplog.records) == 1


def test_the_log_names_address_and_claim(caplog):
    Door().fail(1)
    assert "10.0.0.5 claimed to be alice" in caplog.text


def test_the_log_does_not_hold_what_was_shown(caplog):
    caplog.set_level(logging.DEBUG)
    Door().fail(1, "sk-proj-guessguessguess", own=Login("secret-user", digest("x")))
    assert "guess" not in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize(
    ("made", "exposed", "expected"),
    [
        (KNOWN, False, True),
        (ANY, False, False),
        (ANY, True, True),
        (rules(), True, True),
        (rules(), False, False),
        (rules(gateway_callers="known"), False, False),
    ],
)
def test_who_must_be_known(made, exposed, expected):
    assert requires_known(exposed, made) is expected


def test_a_door_that_others_reach_stays_shut_when_the_rules_lost_their_agents():
    assert Door(rules(), exposed=True).ask("sk-dummy-alice") == UNKNOWN


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("regular", False),
        ("regular@127.0.0.1:8080", False),
        ("regular@localhost:8080", False),
        ("regular@0.0.0.0:8080", True),
        ("reverse:http://valetkey.invalid@192.168.1.5:8045", True),
    ],
)
def test_whether_others_reach_a_door(mode, expected):
    client = tflow.tclient_conn()
    client.proxy_mode = ProxyMode.parse(mode)
    assert is_exposed(client) is expected


@pytest.mark.parametrize(
    ("host", "expected"), [("::1", True), ("[::1]", True), ("127.9.9.9", True), ("::", False), ("a.test", False)]
)
def test_what_is_local(host, expected):
    assert is_local(host) is expected


def test_a_proxy_challenges():
    answer = proxy_refusal(UNKNOWN)
    assert (answer.status_code, answer.headers["proxy-authenticate"]) == (407, 'Basic realm="valetkey"')


def test_other_refusals_are_no_challenge():
    answer = proxy_refusal(Refusal(429, "too_many_failures", "x", 6.0))
    assert (answer.status_code, "proxy-authenticate" in answer.headers) == (429, False)
