from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from valetkey.cli import app
from valetkey.cli.bundles import ensure_authority
from valetkey.cli.exports import Shell, line, lines
from valetkey.cli.variables import Wanted
from valetkey.errors import ConfigurationError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
ONE_LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"]), max_size=40)


@pytest.fixture(scope="module")
def confdir(tmp_path_factory):
    """One CA for all: to make a key takes a while."""
    folder = tmp_path_factory.mktemp("ca")
    ensure_authority(folder)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, confdir):
    monkeypatch.chdir(tmp_path)
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "rules.yaml").write_text("version: 1\ngateway: {proxy: 127.0.0.1:9999}\n")
    return lambda *arguments: CliRunner().invoke(app, ["env", "--confdir", str(confdir), *arguments])


def test_a_shell_can_read_it(run):
    code = run().stdout + 'printf "%s %s" "$HTTPS_PROXY" "$OPENAI_API_KEY"'
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "http://127.0.0.1:9999 sk-dummy"


def test_an_agent_is_named_in_its_dummies(run):
    assert json.loads(run("--agent", "alice", "--json").stdout)["ANTHROPIC_API_KEY"] == "sk-dummy-alice"


def test_the_bundle_is_beside_the_ledger(run, tmp_path):
    (tmp_path / "rules.yaml").write_text("version: 1\ngateway: {ledger: sqlite:///elsewhere/ledger.db}\n")
    assert json.loads(run("--json").stdout)["SSL_CERT_FILE"] == str(tmp_path / "elsewhere" / "ca-bundle.pem")


def test_the_bundle_holds_public_authorities_and_ours(run, confdir):
    bundle = Path(json.loads(run("--json").stdout)["SSL_CERT_FILE"]).read_text()
    ours = (confdir / "mitmproxy-ca-cert.pem").read_text().strip()
    assert ours in bundle and bundle.count("BEGIN CERTIFICATE") > 50


def test_java_is_set_on_request(run):
    assert "JAVA_TOOL_OPTIONS" in run("--java").stdout


def test_a_recipe_takes_variables_away(run):
    assert "unset ANTHROPIC_AUTH_TOKEN" in run("--for", "claude").stdout


def test_a_recipe_that_is_unknown_is_said(run):
    assert "there are claude, codex" in str(run("--for", "nobody").exception)


def test_remarks_are_not_for_the_shell(run, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "api.openai.com")
    done = run()
    assert "NO_PROXY: api.openai.com is left out" in done.stderr and "left out" not in done.stdout


def test_a_folder_that_nobody_owns_is_said(run):
    assert isinstance(run("--confdir", "~there-is-no-such-user/ca").exception, ConfigurationError)


@pytest.mark.parametrize(
    ("shell", "text"),
    [
        (Shell.sh, "export A='b c'"),
        (Shell.fish, "set -gx A 'b c'"),
        (Shell.powershell, "$env:A = 'b c'"),
        (Shell.dotenv, "A='b c'"),
        (Shell.docker, "A=b c"),
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
        (Shell.docker, "A=it's \\"),
    ],
)
def test_each_shell_has_its_quotes(shell, text):
    assert line(shell, "A", "it's \\") == text


@pytest.mark.parametrize(
    ("shell", "text"),
    [
        (Shell.sh, ["unset B"]),
        (Shell.fish, ["set -e B"]),
        (Shell.powershell, ["Remove-Item Env:B -ErrorAction SilentlyContinue"]),
        (Shell.dotenv, []),
        (Shell.docker, []),
    ],
)
def test_each_shell_takes_a_variable_away(shell, text):
    assert list(lines(shell, Wanted({}, ("B",)))) == text


@given(st.lists(TEXT, min_size=1, max_size=30))
@settings(max_examples=20, deadline=None)
def test_sh_reads_any_value_as_it_is(values):
    code = "\n".join([*(line(Shell.sh, f"V{at}", value) for at, value in enumerate(values)), "unset _ PWD SHLVL OLDPWD; env -0"])
    done = subprocess.run(["sh", "-c", code.encode()], capture_output=True, env={"PATH": "/usr/bin:/bin"}, check=True)
    read = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry.startswith("V"))
    assert [read[f"V{at}"] for at in range(len(values))] == values


@given(TEXT)
def test_fish_reads_any_value_as_it_is(value):
    """Inside its single quotes only a backslash before a quote or a backslash means anything."""
    quoted = line(Shell.fish, "A", value).removeprefix("set -gx A '")
    read, rest = "", quoted
    while rest[0] != "'":
        taken = 2 if rest[0] == "\\" and rest[1] in "\\'" else 1
        read, rest = read + rest[taken - 1], rest[taken:]
    assert (read, rest) == (value, "'")


@given(st.text(st.sampled_from("'’‘‚‛`$\"a\n "), max_size=20) | TEXT)
def test_powershell_reads_any_value_as_it_is(value):
    """Inside its single quotes two of any kind of single quote stand for the first."""
    quotes = "'\u2018\u2019\u201a\u201b"
    rest, read = line(Shell.powershell, "A", value).removeprefix("$env:A = '"), ""
    while not (rest[0] in quotes and rest[1:2] not in tuple(quotes)):
        read, rest = read + rest[0], rest[2 if rest[0] in quotes else 1 :]
    assert (read, rest) == (value, "'")


@given(ONE_LINE)
def test_a_dotenv_holds_a_value_or_refuses_it(value):
    try:
        text = line(Shell.dotenv, "A", value)
    except ConfigurationError:
        return
    assert dotenv_values(stream=io.StringIO(text + "\nB=1\n")) == {"A": value, "B": "1"}


@pytest.mark.parametrize("value", ["/a/b c", "http://127.0.0.1:8080", "", "a b#c", "x|y", '"', "-Da=b|c*"])
def test_a_dotenv_holds_what_we_write(value):
    assert dotenv_values(stream=io.StringIO(line(Shell.dotenv, "A", value))) == {"A": value}


@pytest.mark.parametrize("shell", [Shell.dotenv, Shell.docker])
@pytest.mark.parametrize("value", ["a\nB=1", "a\rB=1"])
def test_a_file_of_lines_takes_no_second_one(shell, value):
    with pytest.raises(ConfigurationError, match="more than one line"):
        line(shell, "A", value)


@given(ONE_LINE)
def test_docker_takes_what_stands_after_the_first_equals_sign(value):
    assert line(Shell.docker, "A", value).split("=", 1) == ["A", value]
