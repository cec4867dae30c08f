"""Upstream TLS sessions are resumed across client connections, in the real process."""

from __future__ import annotations

import re

import pytest

from support.processes import REAL_KEYS, running, wait_for

pytestmark = pytest.mark.e2e

CHAT = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello there"}]}
BEARER = {"authorization": "Bearer sk-dummy"}
TELLTALE = """
import logging
from OpenSSL import SSL

def tls_established_server(data):
    resumed = SSL._lib.SSL_session_reused(data.ssl_conn._ssl)
    logging.warning("handshake %s resumed=%d certificates=%d", data.conn.sni, resumed, len(data.conn.certificate_list))
"""


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resumption")
    script = folder / "telltale.py"
    script.write_text(TELLTALE)
    with running(lab.gateway(folder, scripts=[script])) as started:
        yield started


def handshakes(gateway, sni="api.openai.com"):
    found = re.findall(rf"handshake {re.escape(sni)} resumed=(\d) certificates=(\d)", gateway.output())
    return [(resumed == "1", int(certificates)) for resumed, certificates in found]


def call(gateway, count, **options):
    """One call on a connection of its own, and how its handshake was; `count` handshakes come before it."""
    disconnects = gateway.output().count("server disconnect")
    with gateway.client(**options) as client:
        answer = client.post(CHAT, json=BODY, headers=BEARER)
    wait_for(lambda: gateway.output().count("server disconnect") > disconnects, "the end of the connection", gateway.process)
    return answer.status_code, handshakes(gateway)[count]


def test_a_resumed_connection_carries_the_real_key_and_the_certificate(lab, gateway):
    before = len(handshakes(gateway))
    call(gateway, before)
    found = call(gateway, before + 1)
    seen = next(each for each in reversed(lab.simulator.seen) if each.path.startswith("/v1/chat"))
    sent = {name.lower(): value for name, value in seen.headers}["authorization"].removeprefix("Bearer ")
    assert (found, sent in REAL_KEYS.values()) == ((200, (True, 1)), True)


def test_http2_has_sessions_of_its_own(gateway):
    before = len(handshakes(gateway))
    call(gateway, before)
    found = [call(gateway, before + 1 + number, http2=True) for number in range(2)]
    assert found == [(200, (False, 1)), (200, (True, 1))]


def test_a_reload_of_the_rules_ends_the_sessions(gateway):
    before = len(handshakes(gateway))
    call(gateway, before)
    gateway.write_rules("agents: []\n")
    wait_for(lambda: "rules reloaded" in gateway.output(), "the reload", gateway.process)
    assert call(gateway, before + 1) == (200, (False, 1))
