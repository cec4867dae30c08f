from __future__ import annotations

import os

import pytest

from valetkey.cli.running import command, script, tool
from valetkey.errors import ConfigurationError

KEY = "sk-proj-REALrealREALrealREALreal0001"


@pytest.fixture
def rules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\ngateway: {proxy: 127.0.0.1:9001, api: 127.0.0.1:9002}\n")
    return str(path)


def test_the_doors_of_the_rules_are_opened(rules):
    argv = command(rules, False, [])
    assert "regular@127.0.0.1:9001" in argv and "reverse:http://valetkey.invalid@127.0.0.1:9002" in argv


def test_mitmweb_is_started_on_request(rules):
    assert command(rules, True, [])[0].endswith("mitmweb")


def test_what_follows_goes_to_mitmproxy(rules):
    assert command(rules, False, ["-w", "x"])[-2:] == ["-w", "x"]


def test_keys_stay_in_the_environment_for_the_gateway_itself(rules, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    command(rules, False, [])
    assert os.environ["OPENAI_API_KEY"] == KEY


def test_wrong_rules_are_said_before_anything_starts(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("routez: []\n")
    with pytest.raises(ConfigurationError):
        command(str(path), False, [])


def test_the_script_is_found():
    assert script().name == "gateway.py"


def test_a_missing_tool_is_said():
    with pytest.raises(ConfigurationError, match="nonsense"):
        tool("nonsense")
