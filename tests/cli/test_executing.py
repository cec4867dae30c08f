from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support import making
from support.processes import wait_for
from valetkey.cli import app, executing
from valetkey.cli.app import Loaded
from valetkey.cli.bundles import ensure_authority
from valetkey.cli.executing import check_gateway, child, free_doors, without_keys
from valetkey.cli.reaching import Reached
from valetkey.cli.recipes import recipes
from valetkey.errors import ConfigurationError, ValetkeyError
from valetkey.settings import Settings, instance_id

REAL = "sk-proj-REALrealREALrealREALreal0001"


@pytest.fixture(scope="module")
def confdir(tmp_path_factory):
    """One CA for all: to make a key takes a while."""
    folder = tmp_path_factory.mktemp("ca")
    ensure_authority(folder)
    return folder


@pytest.fixture
def loaded(tmp_path):
    snapshot = replace(making.snapshot(), references={"lab/main": "env:COMPANY_TOKEN"})
    return Loaded(Settings(None, tmp_path), snapshot, dict(making.CATALOG))


@pytest.fixture
def answer(monkeypatch):
    """What the door of the rules says."""

    def say(what, **state):
        monkeypatch.setattr(executing, "reach", lambda door: Reached(what, state))

    return say


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "OPENAI_API_KEY_2",
        "GATEWAY_OPENAI_API_KEY",
        "COMPANY_TOKEN",
        "GATEWAY_COMPANY_TOKEN",
        "VALETKEY_AGENT_KEY",
    ],
)
def test_a_real_key_is_taken_out(loaded, name):
    assert without_keys(loaded, {name: REAL, "HOME": "/root"}) == {"HOME": "/root"}


@pytest.mark.parametrize("name", ["PATH", "OPENAI_BASE_URL", "MY_OPENAI_API_KEY", "OPENAI_API_KEYS"])
def test_everything_else_stays(loaded, name):
    assert without_keys(loaded, {name: "x"}) == {name: "x"}


@pytest.mark.parametrize("value", [REAL, f"Authorization: Bearer {REAL}", f'{{"key": "{REAL}"}}', making.REAL])
def test_a_key_under_another_name_is_taken_out(loaded, value):
    assert "EXTRA" not in without_keys(loaded, {"OPENAI_API_KEY": REAL, "EXTRA": value})


@pytest.mark.parametrize(
    ("key", "value"), [("changeme", "http://changeme"), ("sk-dummy-alice-and-more", "x sk-dummy-alice-and-more")]
)
def test_words_and_dummies_under_another_name_stay(loaded, key, value):
    assert "EXTRA" in without_keys(loaded, {"OPENAI_API_KEY": key, "EXTRA": value})


@pytest.mark.parametrize(
    ("reference", "name", "left"),
    [
        ("cmd:op read op://work/openai/credential", "OP_SERVICE_ACCOUNT_TOKEN", False),
        ("cmd:op read op://work/openai/credential", "OP_SESSION_work", False),
        ("cmd:/usr/local/bin/vault kv get -field=key secret/openai", "VAULT_TOKEN", False),
        ("cmd:pass show openai", "VAULT_TOKEN", True),
        ("env:COMPANY_TOKEN", "AWS_SECRET_ACCESS_KEY", True),
    ],
)
def test_what_opens_the_store_of_a_key_is_taken_out(loaded, reference, name, left):
    rules = replace(loaded, snapshot=replace(loaded.snapshot, references={"openai/main": reference}))
    assert (name in without_keys(rules, {name: "hvs.something-or-other"})) == left


def test_the_key_of_an_agent_may_stand_in_its_proxy(loaded):
    key = "an-agents-own-key-0001"
    environ = {"VALETKEY_AGENT_KEY": key, "HTTPS_PROXY": f"http://alice:{key}@127.0.0.1:8080", "ODD": "\udcff"}
    assert {*without_keys(loaded, environ)} == {"HTTPS_PROXY", "ODD"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_gateway_that_is_still_starting_ends_with_us(tmp_path, number):
    """One that says nothing for ever stands for one that takes long."""
    script = f"""
import os, sys, time
from pathlib import Path
from support import making
from valetkey.cli import executing
from valetkey.cli.app import Loaded
from valetkey.settings import Settings
silent = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
executing.running.command = lambda *_: [sys.executable, "-c", silent]
loaded = Loaded(Settings(None, Path({str(tmp_path)!r})), making.snapshot(), dict(making.CATALOG))
with executing.started(loaded, None, os.environ, Path({str(tmp_path)!r})):
    pass
"""
    tests, log = str(Path(__file__).parents[1]), tmp_path / ".valetkey" / "exec-gateway.log"
    environ = _with_package()
    environ["PYTHONPATH"] += os.pathsep + tests
    with subprocess.Popen([sys.executable, "-c", script], env=environ, cwd=tmp_path) as process:
        started = wait_for(lambda: log.exists() and log.read_text().strip(), "a gateway")
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int(started), 0)


def test_the_command_gets_dummies_in_their_place(loaded, confdir):
    assert child(loaded, {"OPENAI_API_KEY": REAL}, "alice", None, confdir)["OPENAI_API_KEY"] == "sk-dummy-alice"


def test_no_real_key_is_left_in_any_value(loaded, confdir):
    environ = {"OPENAI_API_KEY": REAL, "GATEWAY_GROQ_API_KEY": REAL, "COMPANY_TOKEN": REAL}
    assert REAL not in child(loaded, environ, "", None, confdir).values()


def test_a_recipe_takes_out_what_leads_elsewhere(loaded, confdir):
    assert "ANTHROPIC_BASE_URL" not in child(loaded, {"ANTHROPIC_BASE_URL": "x"}, "", recipes()["claude"], confdir)


def test_what_cannot_work_is_said(loaded, confdir, capsys):
    child(loaded, {}, "", recipes()["cursor"], confdir)
    assert "valetkey: Cursor: keys of providers are held by" in capsys.readouterr().err


def test_what_works_says_nothing(loaded, confdir, capsys):
    child(loaded, {}, "", recipes()["claude"], confdir)
    assert capsys.readouterr().err == ""


def test_the_gateway_of_the_rules_will_do(loaded, answer):
    answer("gateway", instance=instance_id(loaded.settings))
    assert check_gateway(loaded) is None


@pytest.mark.parametrize(
    ("what", "state", "text"),
    [
        ("nobody", {}, "no gateway runs on 127.0.0.1:8080; start one with `valetkey run`"),
        ("other", {}, "is not the gateway"),
        ("gateway", {"instance": "xyz"}, "is that of other rules"),
    ],
)
def test_without_it_the_way_out_is_said(loaded, answer, what, state, text):
    answer(what, **state)
    with pytest.raises(ValetkeyError, match=text):
        check_gateway(loaded)


@pytest.fixture
def executed(tmp_path, monkeypatch, answer, confdir):
    """Runs `valetkey exec` up to the moment in which the process would become the command; gives its arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", REAL)
    answer("gateway", instance=instance_id(Settings(None, tmp_path)))
    monkeypatch.setattr(
        executing, "load", lambda rules: Loaded(Settings(None, tmp_path), making.snapshot(), dict(making.CATALOG))
    )
    seen = []
    monkeypatch.setattr(executing.os, "execve", lambda *words: seen.append(words))

    def run(*arguments):
        done = CliRunner().invoke(app, ["exec", "--confdir", str(confdir), *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return seen[0]

    return run


def test_the_command_keeps_its_arguments(executed):
    assert executed("--", "sh", "-c", "x", "--rules", "y")[1] == ["sh", "-c", "x", "--rules", "y"]


def test_the_marker_may_be_left_out(executed):
    assert executed("sh", "-c", "x")[1] == ["sh", "-c", "x"]


def test_the_command_never_sees_the_key(executed):
    assert REAL not in executed("--", "sh")[2].values()


def test_the_agent_is_named(executed):
    assert executed("--agent", "alice", "--", "sh")[2]["OPENAI_API_KEY"] == "sk-dummy-alice"


def test_a_recipe_can_be_named(executed):
    assert "OPENAI_API_KEY" not in executed("--for", "claude", "--", "sh")[2]


def test_a_recipe_is_found_by_the_program(executed, tmp_path, monkeypatch):
    (tmp_path / "claude").write_text("#!/bin/sh\n")
    (tmp_path / "claude").chmod(0o755)
    assert "OPENAI_API_KEY" not in executed("--", str(tmp_path / "claude"))[2]


def test_a_command_that_does_not_exist_is_said(executed):
    with pytest.raises(ConfigurationError, match="no program on PATH"):
        executed("--", "there-is-no-such-program")


def test_two_doors_are_free_and_not_the_same():
    one, other = free_doors()
    assert one != other and one.port != other.port


@pytest.mark.parametrize(("code", "status"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_the_status_is_that_of_the_command(code, status):
    script = (
        f"import os, sys; from valetkey.cli.executing import _run; sys.exit(_run('/bin/sh', ['sh', '-c', {code!r}], os.environ))"
    )
    assert subprocess.run([sys.executable, "-c", script], env=_with_package()).returncode == status


def test_the_end_is_passed_on_to_the_command():
    code = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    script = (
        f"import os, sys; from valetkey.cli.executing import _run; sys.exit(_run('/bin/sh', ['sh', '-c', {code!r}], os.environ))"
    )
    with subprocess.Popen([sys.executable, "-c", script], env=_with_package(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 3


def _with_package():
    import valetkey

    return os.environ | {"PYTHONPATH": str(Path(valetkey.__file__).parents[1])}
