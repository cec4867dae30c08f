"""`valetkey doctor` against a real gateway and the runtimes of this machine; then with one fault planted at a time."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from support.certifying import certificate
from support.processes import REAL_KEYS, running
from valetkey.cli import app, runtimes

pytestmark = pytest.mark.e2e
PYTHON = "python urllib"


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    """With a CA of its own, which is spoilt later, and one key that is a dummy."""
    folder = tmp_path_factory.mktemp("doctor")
    rules = "providers:\n  groq: {keys: [env:GROQ_API_KEY]}\n  openai: {keys: [env:OPENAI_API_KEY_1]}\n"
    keys = REAL_KEYS | {"GROQ_API_KEY": "sk-dummy"}
    with running(lab.gateway(folder, rules=rules, confdir=folder / "confdir", env=keys)) as started:
        yield started


@pytest.fixture(scope="module")
def agent(gateway):
    """What `valetkey env` gives."""
    plain = {"PATH": os.environ["PATH"], "HOME": str(gateway.folder)}
    with mock.patch.dict(os.environ, plain, clear=True):
        done = CliRunner().invoke(app, ["env", "--rules", str(gateway.rules), "--confdir", str(gateway.confdir), "--json"])
    return plain | json.loads(done.stdout)


@pytest.fixture
def examine(gateway, agent, monkeypatch):
    """Has the doctor look, with changes to the agent's environment; by default only curl and one Python are asked to call."""

    def look(*, confdir=None, rules=None, asked=("curl", PYTHON), **changes):
        python = list(runtimes._pythons(sys.executable, os.environ)) if PYTHON in asked else []
        known = [each for each in runtimes.RUNTIMES if shutil.which(each.program)]
        monkeypatch.setattr(runtimes, "found", lambda environ: [each for each in (*python, *known) if each.name in asked])
        command = ["doctor", "--json", "--rules", str(rules or gateway.rules), "--confdir", str(confdir or gateway.confdir)]
        environ = {name: value for name, value in (agent | changes).items() if value is not None}
        with mock.patch.dict(os.environ, environ, clear=True):
            done = CliRunner().invoke(app, command)
        assert done.stdout, done.exception
        document = json.loads(done.stdout)
        assert document["status"] == done.exit_code
        return document

    return look


def faults(document):
    return {each["subject"].partition(" (")[0]: each for each in document["findings"] if each["level"] == "fault"}


def proofs(document):
    return {each["runtime"]: (each["through"], each["trusts"]) for each in document["runtimes"]}


EXPECTED = {"keys"}
"""The gateway's one dummy, which is planted from the start."""


def test_every_runtime_here_is_led_and_trusts(examine):
    """Those that no variable helps are noted, and are no faults: wget with GnuTLS, an old Node, Java unasked."""
    document = examine(asked=tuple(each.name for each in (*runtimes.RUNTIMES, *runtimes._pythons(sys.executable, os.environ))))
    assert faults(document).keys() == EXPECTED and proofs(document)["curl"] == proofs(document)[PYTHON] == (True, True)


def test_1_a_wrong_bundle(examine, tmp_path):
    public = tmp_path / "other.pem"
    public.write_text("".join(certificate(f"Root {number}") for number in range(12)))
    document = examine(SSL_CERT_FILE=str(public), CURL_CA_BUNDLE=str(public))
    assert proofs(document) == {"curl": (True, False), PYTHON: (True, False)}
    assert "sets CURL_CA_BUNDLE" in faults(document)["curl"]["fix"] and "SSL_CERT_FILE" in faults(document)["trust"]["text"]


def test_2_the_ca_alone_in_a_replacing_variable(examine, gateway):
    document = examine(SSL_CERT_FILE=str(gateway.ca))
    assert proofs(document)[PYTHON] == (True, True)
    assert faults(document)["trust"]["text"].startswith("SSL_CERT_FILE: ") and "CA alone" in faults(document)["trust"]["text"]


def test_3_a_variable_that_is_missing_in_one_case(examine):
    document = examine(https_proxy=None)
    assert "https_proxy is not set, only HTTPS_PROXY" in faults(document)["proxy"]["text"]


def test_4_an_exception_that_leads_past_the_gateway(examine):
    document = examine(NO_PROXY="*", no_proxy="*", asked=("curl",))
    assert proofs(document)["curl"] == (False, False)
    assert faults(document)["proxy"]["fix"] == "take * out of no_proxy" and "leads past it" in faults(document)["curl"]["text"]


def test_5_an_expired_ca(examine, tmp_path):
    (tmp_path / "mitmproxy-ca-cert.pem").write_text(certificate("mitmproxy", days=-1))
    found = [each["text"] for each in examine(confdir=tmp_path, asked=())["findings"] if each["subject"] == "CA"]
    assert "has expired" in found[0] and "not the CA that the running gateway signs with" in found[1]


def test_6_a_port_that_is_taken(examine, gateway, lab, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"version: 1\ngateway: {{proxy: 127.0.0.1:{lab.simulator.port}, api: 127.0.0.1:{gateway.api_port}}}\n")
    found = faults(examine(rules=rules, asked=()))["ports"]
    assert "is taken by" in found["text"] and "choose another port" in found["fix"]


def test_7_a_dummy_as_a_key(examine):
    found = faults(examine(asked=()))["keys"]
    assert found["text"].startswith("groq/main: GROQ_API_KEY looks like a dummy")


def test_8_a_gateway_that_does_not_run(examine, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\ngateway: {proxy: 127.0.0.1:1, api: 127.0.0.1:2}\n")
    document = examine(rules=rules)
    assert faults(document)["gateway"]["fix"] == "valetkey run" and document["runtimes"] == []


def test_9_verification_that_is_switched_off(examine):
    assert faults(examine(NODE_TLS_REJECT_UNAUTHORIZED="0", asked=()))["trust"]["fix"] == "unset NODE_TLS_REJECT_UNAUTHORIZED"


def test_10_a_ledger_that_others_may_read(examine, gateway):
    ledger = gateway.folder / ".valetkey" / "ledger.db"
    ledger.chmod(0o644)
    try:
        assert faults(examine(asked=()))["ledger"]["fix"] == f"chmod 600 {ledger}"
    finally:
        ledger.chmod(0o600)


def test_11_rules_that_are_wrong(examine, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\nroutez: []\n")
    document = examine(rules=rules)
    assert document["status"] == 2 and "rules.yaml:2" in faults(document)["rules"]["text"]


def test_12_a_switch_that_is_off(examine):
    assert "NODE_USE_ENV_PROXY is not 1" in faults(examine(NODE_USE_ENV_PROXY=None, asked=()))["proxy"]["text"]


def test_the_canary_leaves_no_receipt(examine, gateway):
    before = len(gateway.receipts())
    examine()
    assert len(gateway.receipts()) == before == 0


def test_nothing_shows_a_key(examine):
    text = json.dumps(examine(OPENAI_API_KEY=REAL_KEYS["OPENAI_API_KEY_1"], asked=()))
    assert REAL_KEYS["OPENAI_API_KEY_1"] not in text and "holds a key that is no dummy" in text


def test_the_bundle_is_beside_the_ledger(agent, gateway):
    assert Path(agent["SSL_CERT_FILE"]).parent == gateway.folder / ".valetkey"
