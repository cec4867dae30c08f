from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from support.making import CATALOG
from valetkey.cli import importing, main
from valetkey.cli.importers.draft import Draft
from valetkey.errors import ConfigurationError
from valetkey.secrets import Secret

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("importers") / "golden"
CASES = {
    "team_gateway": (["litellm", "config.yaml"], {"config.yaml": "config.yaml"}),
    "home_lab": (["litellm", "config.yaml", "--write-keys"], {"config.yaml": "config.yaml"}),
    "rotator": (["env", ".env"], {"dotenv": ".env"}),
    "folder": (["env", ".", "--write-keys"], {"dotenv": ".env", "team": "team.env"}),
}
"""Configuration -> arguments, and the files with the names that they have for the program."""
ENV = {
    "team_gateway": [
        "AZURE_API_KEY_EU", "AZURE_API_KEY_US", "OPENAI_API_KEY", "ANTHROPIC_API_KEY_1", "ANTHROPIC_API_KEY_2", "GEMINI_API_KEY",
    ],
    "home_lab": ["TOGETHERAI_API_KEY", "OPENROUTER_API_KEY", "OPENAI_API_KEY"],
}  # fmt: skip
"""Variables that the gateway of a configuration would have."""
KEY = "sk-proj-THISisNOTaREALkeyTHISisNOTaREAL01"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `valetkey`; gives status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture(params=CASES)
def imported(request, run, tmp_path):
    """A configuration that was imported; gives its name and what was said."""
    arguments, files = CASES[request.param]
    for source, name in files.items():
        shutil.copyfile(GOLDEN / request.param / source, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    status, said, errors = run("import", *arguments)
    assert status == 0, errors
    return request.param, said.replace(str(tmp_path), "FOLDER")


def test_the_rules_are_the_expected_ones(imported, tmp_path):
    assert (tmp_path / "rules.yaml").read_text() == (GOLDEN / imported[0] / "rules.yaml").read_text()


def test_the_report_is_the_expected_one(imported):
    assert imported[1] == (GOLDEN / imported[0] / "report.txt").read_text()


def test_the_rules_pass_the_check_with_every_key_usable(imported, run, monkeypatch):
    for number, name in enumerate(ENV.get(imported[0], ())):
        monkeypatch.setenv(name, f"{KEY}-{number}")
    status, said, _ = run("check", "--json")
    assert (status, [notice for notice in json.loads(said)["notices"] if "left out" in notice]) == (0, [])


def test_no_key_is_copied_into_the_rules_or_the_report(imported, tmp_path):
    assert "THISisNOTaREALkey" not in (tmp_path / "rules.yaml").read_text() + imported[1]


# What is written, and what is not.


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"model_list: [{{model_name: a, litellm_params: {{model: gpt-4o, api_key: {KEY}}}}}]\n")
    return path


def test_keys_are_written_when_that_is_asked_for(run, config, tmp_path):
    run("import", "litellm", str(config), "--write-keys")
    file = tmp_path / "keys" / "openai-1"
    assert (file.read_text(), file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (f"{KEY}\n", 0o600, 0o700)


def test_keys_are_not_written_otherwise(run, config, tmp_path):
    _, said, _ = run("import", "litellm", str(config))
    assert not (tmp_path / "keys").exists() and "write it to keys/openai-1 (mode 600)" in said


def test_another_key_is_not_written_over(run, config, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "openai-1").write_text("another")
    status, _, errors = run("import", "litellm", str(config), "--write-keys")
    assert (status, "with another key" in errors, (tmp_path / "rules.yaml").exists()) == (2, True, False)


def test_the_same_key_may_be_there_already(run, config):
    run("import", "litellm", str(config), "--write-keys")
    assert run("import", "litellm", str(config), "--write-keys", "--force")[0] == 0


def test_rules_that_are_there_stay(run, config, tmp_path):
    (tmp_path / "rules.yaml").write_text("version: 1\n")
    status, _, errors = run("import", "litellm", str(config))
    assert (status, "--force" in errors, (tmp_path / "rules.yaml").read_text()) == (2, True, "version: 1\n")


def test_force_keeps_the_old_ones(run, config, tmp_path):
    (tmp_path / "rules.yaml").write_text("version: 1\n")
    run("import", "litellm", str(config), "--force")
    assert (tmp_path / "rules.yaml.old").read_text() == "version: 1\n"


def test_another_place_may_be_named(run, config, tmp_path):
    run("import", "litellm", str(config), "--out", "lab.yaml")
    assert (tmp_path / "lab.yaml").exists()


def test_beside_another_folder_variables_are_keys_in_the_open(run, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    run("import", "env", "old")
    assert "file:keys/openai-1" in (tmp_path / "rules.yaml").read_text()


def test_a_program_may_read_the_report(run, config):
    found = json.loads(run("import", "litellm", str(config), "--json")[1])
    assert (found["keys"], found["remarks"][0]["places"]) == (1, ["config.yaml:1 model_list.litellm_params.api_key"])


def test_what_is_no_configuration_writes_nothing(run, tmp_path):
    (tmp_path / "config.yaml").write_text("a: b\n")
    status, _, errors = run("import", "litellm", "config.yaml")
    assert (status, "no model_list" in errors, (tmp_path / "rules.yaml").exists()) == (2, True, False)


# The documentation.


def test_the_commands_of_the_documentation_work(run, config, tmp_path):
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "openai-1").write_text(KEY)
    (tmp_path / "keys" / "openai-1").chmod(0o600)
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "importing.md").read_text(), re.DOTALL)
    commands = [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]
    assert [run(*words)[0] for words in commands] == [0] * 4


@pytest.mark.parametrize("word", ["env", "litellm"])
def test_every_option_of_the_documentation_exists(run, word):
    said = run("import", word, "--help")[1]
    assert all(option in said for option in ("--out", "--force", "--json", "--write-keys"))


def test_a_key_that_cannot_be_written_whole_leaves_no_file(tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            raise OSError(28, "No space left on device")

        def __exit__(self, *_):
            return None

    made = Draft("x", CATALOG)
    made.literal("openai", Secret(KEY), "here")
    monkeypatch.setattr(importing.os, "fdopen", lambda descriptor, mode: os.close(descriptor) or Full())
    with pytest.raises(ConfigurationError, match="No space left"):
        importing._write_keys(made, tmp_path)
    assert [*(tmp_path / "keys").iterdir()] == []
