from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner

from valetkey.cli import app as program
from valetkey.cli.app import ago, main, table

COMMANDS = ["run", "env", "check", "keys", "flows", "usage", "purge", "demo", "simulate"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = CliRunner().invoke(program, [command, "--help"])
    assert done.exit_code == 0 and "Example" in done.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_rules(command):
    assert "--rules" in CliRunner().invoke(program, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output


def test_a_wrong_rules_file_is_one_line_and_status_2(tmp_path, capsys):
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\nroutez: []\n")
    with pytest.raises(SystemExit) as ended:
        main(["check", "--rules", str(path)])
    assert (ended.value.code, capsys.readouterr().err.count("\n")) == (2, 1)


def test_a_missing_ledger_is_status_1(tmp_path, capsys, monkeypatch):
    (tmp_path / "rules.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["flows"])
    assert ended.value.code == 1 and "no ledger yet" in capsys.readouterr().err


def test_wrong_usage_is_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["flows", "--nonsense"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1h", 6400.0), ("2m", 9880.0), ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC).timestamp()), (None, None)],
)
def test_times_are_durations_or_dates(text, expected):
    assert ago(text, lambda: 10_000.0) == expected


def test_a_wrong_time_is_said():
    with pytest.raises(typer.BadParameter, match="yesterday"):
        ago("yesterday", time.time)


@pytest.mark.parametrize("text", ["[/]", "[red]", ":smile:"])
def test_a_table_shows_names_as_they_are(text, capsys):
    table(["model"], [[text]])
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x07", "\u202e"])
def test_a_table_holds_nothing_that_a_terminal_obeys(text, capsys):
    table(["model"], [[text]])
    assert "\N{REPLACEMENT CHARACTER}" in capsys.readouterr().out


def test_a_table_has_no_colours_in_a_file(capsys):
    table(["model"], [["gpt-4o"]])
    assert "\x1b" not in capsys.readouterr().out
