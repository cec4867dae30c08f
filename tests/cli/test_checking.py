from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from valetkey.cli import app

KEY = "sk-proj-REALrealREALrealREALreal0001"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "rules.yaml").write_text("version: 1\n")

    def call(*arguments, rules=None, **env):
        if rules is not None:
            (tmp_path / "rules.yaml").write_text(rules)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(app, list(arguments))

    return call


def test_a_usable_key_is_well(run):
    done = run("check", OPENAI_API_KEY=KEY)
    assert done.exit_code == 0 and "openai/main" in done.output


def test_no_key_at_all_is_not(run):
    assert run("check").exit_code == 1


def test_a_dummy_is_noted(run):
    assert "looks like a dummy" in run("check", OPENAI_API_KEY="sk-dummy").output


def test_json_names_the_keys(run):
    assert json.loads(run("check", "--json", OPENAI_API_KEY=KEY).output)["providers"] == {"openai": ["openai/main"]}


def test_json_lists_problems(run):
    done = run("check", "--json", rules="version: 1\nroutez: []\n")
    assert (done.exit_code, json.loads(done.output)["problems"][0]["line"]) == (2, 2)


def test_json_says_when_there_is_no_such_file(run):
    done = run("check", "--json", "--rules", "nowhere.yaml")
    assert done.exit_code == 2 and "no such rules file" in json.loads(done.output)["problems"][0]["text"]


def test_the_schema_is_printed(run):
    assert run("check", "--schema").output == (Path(__file__).parents[2] / "docs" / "rules.schema.json").read_text()


@pytest.mark.parametrize("arguments", [("check",), ("check", "--json")])
def test_no_value_is_shown(run, arguments):
    assert KEY not in run(*arguments, OPENAI_API_KEY=KEY).output
