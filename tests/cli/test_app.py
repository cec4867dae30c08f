from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from valetkey import __version__
from valetkey.cli import app as program
from valetkey.cli.app import ago, main, table


def tree(command, *names):
    """Each command that does something, with the words that lead to it."""
    below = getattr(command, "commands", {})
    for name, each in below.items():
        yield from tree(each, *names, name)
    if not below or command.invoke_without_command:
        yield pytest.param(command, names, id=" ".join(names) or "valetkey")


COMMANDS = list(tree(typer.main.get_command(program)))


@pytest.mark.parametrize(("command", "names"), COMMANDS)
def test_every_command_has_help_with_an_example(command, names):
    done = CliRunner().invoke(program, [*names, "--help"])
    assert done.exit_code == 0 and "Example" in done.output


@pytest.mark.parametrize(("command", "names"), COMMANDS)
def test_every_command_begins_its_help_with_a_sentence(command, names):
    assert re.match(r"[A-Z].*[.:]", command.help or "")


@pytest.mark.parametrize(("command", "names"), COMMANDS)
def test_every_option_and_argument_has_help(command, names):
    assert [
        param.name for param in command.params if not getattr(param, "help", None) and not getattr(param, "hidden", False)
    ] == []


@pytest.mark.parametrize(("command", "names"), COMMANDS)
def test_every_example_calls_the_command_itself(command, names):
    examples = re.split(r"\*\*Examples?:\*\*", command.help or "")[-1]
    assert f"valetkey {' '.join(names)}".strip() in examples


@pytest.mark.parametrize(("command", "names"), COMMANDS)
def test_every_command_takes_rules(command, names):
    assert any("--rules" in param.opts for param in command.params)


def test_the_version_is_shown():
    assert CliRunner().invoke(program, ["--version"]).output == f"valetkey {__version__}\n"


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
