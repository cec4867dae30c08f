from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from support import making
from valetkey.cli import app
from valetkey.cli.registering import make_key, rules_line
from valetkey.errors import ConfigurationError
from valetkey.policy.callers import recognise
from valetkey.policy.identity import register


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text("version: 1\n")
    return lambda *arguments: CliRunner().invoke(app, ["agents", *arguments])


@pytest.mark.parametrize("name", ["alice", "ci.bot", "a-b_c", "1", "no", "1.5", "x" * 64])
def test_the_gateway_knows_the_agent_by_what_is_printed(run, name):
    made = json.loads(run("add", name, "--json").output)
    rules = making.rules(f"version: 1\nagents:\n  {made['rules']}\n")
    assert recognise((), (made["key"],), rules, known=True).agent == name


@pytest.mark.parametrize("name", ["alice", "ci.bot", "a-b_c"])
def test_a_wrong_key_is_known_for_what_it_claims(name):
    rules = making.rules(f"version: 1\nagents:\n{rules_line(name, 'x')}\n")
    assert register(rules).claimed(make_key(name, rules).removeprefix("sk-dummy-")) == name


def test_the_key_has_enough_randomness():
    assert len(re.fullmatch(r"sk-dummy-alice-([0-9a-f]+)", make_key("alice", making.rules()))[1]) * 4 >= 128


def test_every_key_is_another():
    assert make_key("alice", making.rules()) != make_key("alice", making.rules())


def test_key_and_line_are_printed(run):
    printed = run("add", "alice").output
    key = re.search(r"sk-dummy-alice-[0-9a-f]{40}", printed)[0]
    assert rules_line("alice", key) in printed


def test_the_key_is_kept_nowhere(run, tmp_path):
    key = json.loads(run("add", "alice", "--json").output)["key"]
    assert not any(key.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_new_key_for_an_agent_takes_the_place_of_the_old(run, tmp_path):
    (tmp_path / "rules.yaml").write_text("version: 1\nagents: [{name: alice}]\n")
    assert "in place of the key of alice" in run("add", "alice").output


@pytest.mark.parametrize("name", ["a b", "", "é", "x" * 65, "a\nb", '"'])
def test_a_name_that_no_agent_can_have_is_refused(name):
    with pytest.raises(ConfigurationError, match="letters"):
        make_key(name, making.rules())


def test_a_key_that_the_rules_would_take_for_a_real_one_is_refused():
    with pytest.raises(ConfigurationError, match="dummy_keys"):
        make_key("alice", making.rules('version: 1\ngateway: {dummy_keys: ["fake*"]}\n'))
