from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support import making
from valetkey.cli import app
from valetkey.cli.exports import Shell, line, variables, write_bundle


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    (tmp_path / "rules.yaml").write_text("version: 1\ngateway: {proxy: 127.0.0.1:9999}\n")
    return lambda *arguments: CliRunner().invoke(app, ["env", "--confdir", str(tmp_path / "ca"), *arguments])


def test_a_shell_can_read_it(run):
    code = run().output + 'printf "%s %s" "$HTTPS_PROXY" "$OPENAI_API_KEY"'
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "http://127.0.0.1:9999 sk-dummy"


def test_an_agent_is_named_in_its_dummies(run):
    assert json.loads(run("--agent", "alice", "--json").output)["ANTHROPIC_API_KEY"] == "sk-dummy-alice"


def test_both_kinds_of_trust_are_set(run):
    values = json.loads(run("--json").output)
    assert values["SSL_CERT_FILE"] != values["NODE_EXTRA_CA_CERTS"]


def test_the_bundle_holds_public_authorities_and_ours(run, tmp_path):
    values = json.loads(run("--json").output)
    ours = (tmp_path / "ca" / "mitmproxy-ca-cert.pem").read_text()
    bundle = Path(values["SSL_CERT_FILE"]).read_text()
    assert ours in bundle and bundle.count("BEGIN CERTIFICATE") > 50


def test_the_bundle_does_not_grow_when_it_is_made_again(run):
    first = Path(json.loads(run("--json").output)["SSL_CERT_FILE"]).read_text()
    assert Path(json.loads(run("--json").output)["SSL_CERT_FILE"]).read_text() == first


def test_an_own_bundle_is_kept(tmp_path, monkeypatch):
    own, authority = tmp_path / "own.pem", tmp_path / "ca.pem"
    own.write_text("COMPANY\n")
    authority.write_text("OURS\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert write_bundle(authority, tmp_path / "bundle.pem").read_text() == "COMPANY\nOURS\n"


def test_every_provider_gets_a_dummy(tmp_path):
    rules = making.rules().gateway
    values = variables(rules, making.CATALOG.values(), tmp_path, tmp_path, "")
    assert {name for facts in making.CATALOG.values() for name in facts.env} <= set(values)


@pytest.mark.parametrize(
    ("shell", "text"),
    [
        (Shell.sh, "export A='b c'"),
        (Shell.fish, "set -gx A 'b c'"),
        (Shell.powershell, "$env:A = 'b c'"),
        (Shell.dotenv, "A=b c"),
    ],
)
def test_each_shell_has_its_words(shell, text):
    assert line(shell, "A", "b c") == text
