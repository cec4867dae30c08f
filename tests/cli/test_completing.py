from __future__ import annotations

import shutil
import subprocess
import time

import pytest
from typer.testing import CliRunner

from support.proxy_receipts import receipt
from valetkey.cli import app
from valetkey.cli.completing import RECENT
from valetkey.ledger import open_store

SHELLS = ["bash", "zsh", "fish", "powershell"]


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """What a shell would offer for the last of these words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY_1", "sk-proj-REALrealREALrealREALreal0001")
    (tmp_path / "rules.yaml").write_text("version: 1\nproviders: {groq: {keys: [{name: team, ref: env:NOT_SET}]}}\n")

    def offer(*words):
        env = {"_VALETKEY_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["valetkey", *words]), "COMP_CWORD": str(len(words))}
        return CliRunner().invoke(app, [], env=env, prog_name="valetkey").output.split()

    return offer


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_its_script(shell):
    done = CliRunner().invoke(app, ["completion", shell])
    assert done.exit_code == 0 and "_VALETKEY_COMPLETE" in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_takes_its_script(shell):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = CliRunner().invoke(app, ["completion", shell]).output
    assert subprocess.run([program, "-n"], input=script, text=True, timeout=30).returncode == 0


@pytest.mark.parametrize(("words", "expected"), [(["fl"], "flows"), (["flows", "--mo"], "--model"), (["keys", "dis"], "disable")])
def test_commands_and_options_are_offered(offered, words, expected):
    assert offered(*words) == [expected]


@pytest.mark.parametrize(("begun", "expected"), [("o", ["openai/1"]), ("gr", ["groq/team"]), ("x", [])])
@pytest.mark.parametrize("command", ["disable", "test"])
def test_keys_are_offered_by_id(offered, command, begun, expected):
    assert offered("keys", command, begun) == expected


def test_the_rules_that_were_named_are_looked_at(offered, tmp_path):
    (tmp_path / "other.yaml").write_text("version: 1\nproviders: {openai: {keys: [{name: spare, ref: env:NOT_SET}]}}\n")
    assert offered("keys", "disable", "--rules", "other.yaml", "o") == ["openai/spare"]


def test_rules_that_are_wrong_offer_nothing(offered, tmp_path):
    (tmp_path / "rules.yaml").write_text("routez: []\n")
    assert offered("keys", "disable", "o") == []


def test_without_a_ledger_no_name_is_offered(offered):
    assert offered("flows", "--agent", "a") == []


NAMES = [("--agent", "a", ["alice"]), ("--model", "gpt", ["gpt-4o"]), ("--agent", "b", [])]


@pytest.mark.parametrize(("option", "begun", "expected"), NAMES)
def test_names_of_the_ledger_are_offered(offered, tmp_path, option, begun, expected):
    store = open_store(f"sqlite:///{tmp_path}/.valetkey/ledger.db")
    old = time.time() - RECENT - 60
    store.add([receipt(id="1", time=time.time(), agent="alice", model="gpt-4o"), receipt(id="2", time=old, agent="bob")])
    store.close()
    assert offered("flows", option, begun) == expected


@pytest.mark.parametrize("name", ["x;id", "x$(id)", "x`id`", "x'id", "-x", "x\nid", "x id", "~/x", "x*", "x>y"])
def test_a_name_that_a_shell_would_obey_is_not_offered(offered, tmp_path, name):
    store = open_store(f"sqlite:///{tmp_path}/.valetkey/ledger.db")
    store.add([receipt(id="1", time=time.time(), model=name)])
    store.close()
    assert offered("flows", "--model", "") == []
