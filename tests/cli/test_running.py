from __future__ import annotations

import os
import socket

import pytest

from valetkey.cli import running
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


@pytest.mark.parametrize(
    "extra",
    [
        ["-p", "9003"], ["-p9003"], ["--listen-port", "9003"], ["--listen-host=127.0.0.2"], ["--mode", "regular@9003"],
        ["-m", "regular@9003"], ["--set", "listen_port=9003"], ["--set", "mode=regular@9003"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_doors_that_the_user_names_win(rules, extra):
    assert not any("9001" in argument or "9002" in argument for argument in command(rules, False, extra))


@pytest.mark.parametrize("extra", [["-w", "model"], ["--set", "flow_detail=0"], ["-q"]], ids=" ".join)
def test_other_options_leave_the_doors_alone(rules, extra):
    assert "regular@127.0.0.1:9001" in command(rules, False, extra)


def option(argv, name):
    return argv[argv.index(name) + 1]


def test_mitmweb_is_on_loopback_and_opens_no_browser(rules):
    argv = command(rules, True, [])
    assert option(argv, "--web-host") == "127.0.0.1" and "--no-web-open-browser" in argv


def test_mitmweb_takes_another_port_when_its_own_is_taken(rules, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(running, "WEB_PORT", taken.getsockname()[1])
        port = int(option(command(rules, True, []), "--web-port"))
        assert 0 < port != taken.getsockname()[1]


def test_mitmweb_has_its_usual_port_when_that_is_free(rules, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    monkeypatch.setattr(running, "WEB_PORT", free)
    assert option(command(rules, True, []), "--web-port") == str(free)


@pytest.mark.parametrize("extra", [["--web-port", "1234"], ["--set", "web_port=1234"]], ids=" ".join)
def test_a_web_port_that_the_user_names_wins(rules, extra):
    assert command(rules, True, extra).count("--web-port") == extra.count("--web-port")
