from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support import making
from valetkey.cli import app
from valetkey.cli.exports import Shell, dummy_key, line, variables, write_bundle
from valetkey.errors import ConfigurationError
from valetkey.policy.callers import identify


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


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Writes the bundle for a CA, with a file in SSL_CERT_FILE; gives the bundle's blocks without comments."""

    def write(own="OURS\n", known=None):
        authority, path = tmp_path / "ca.pem", tmp_path / "bundle.pem"
        authority.write_text(own)
        if known is not None:
            (tmp_path / "known.pem").write_text(known)
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "known.pem"))
        written = write_bundle(authority, path)
        monkeypatch.setenv("SSL_CERT_FILE", str(written))
        return [block for block in written.read_text().splitlines() if not block.startswith("#")]

    return write


def test_an_own_bundle_is_kept(bundle):
    assert bundle(known="COMPANY\n") == ["COMPANY", "OURS"]


def test_an_own_bundle_is_kept_when_it_is_made_again(bundle):
    bundle(known="COMPANY\n")
    assert bundle() == ["COMPANY", "OURS"]


def test_a_new_authority_takes_the_place_of_the_old_one(bundle):
    bundle(known="COMPANY\n")
    assert bundle(own="NEW\n") == ["COMPANY", "NEW"]


@pytest.mark.parametrize("known", ["OURS\n", ""], ids=["our CA alone", "an empty file"])
def test_the_public_authorities_are_never_missing(bundle, known):
    assert len(bundle(known=known)) > 1000


def test_everybody_may_read_the_bundle(tmp_path):
    (tmp_path / "ca.pem").write_text("OURS\n")
    assert write_bundle(tmp_path / "ca.pem", tmp_path / "bundle.pem").stat().st_mode & 0o777 == 0o644


def test_nothing_is_left_beside_the_bundle(bundle, tmp_path):
    bundle()
    assert {path.name for path in tmp_path.iterdir()} == {"ca.pem", "bundle.pem"}


@pytest.mark.parametrize("place", ["file/ca", "~there-is-no-such-user/ca"])
def test_a_folder_that_cannot_be_made_is_said(run, tmp_path, place):
    (tmp_path / "file").touch()
    assert isinstance(run("--confdir", place).exception, ConfigurationError)


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


def test_every_provider_gets_a_dummy(tmp_path):
    rules = making.rules().gateway
    values = variables(rules, making.CATALOG.values(), tmp_path, tmp_path, "sk-dummy")
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


@pytest.mark.parametrize(
    ("shell", "text"),
    [
        (Shell.sh, "export A='it'\"'\"'s \\'"),
        (Shell.fish, r"set -gx A 'it\'s \\'"),
        (Shell.powershell, "$env:A = 'it''s \\'"),
    ],
)
def test_each_shell_has_its_quotes(shell, text):
    assert line(shell, "A", "it's \\") == text
