from __future__ import annotations

import io
import re
from pathlib import Path

import keyring as library
import pytest
from keyring.backend import KeyringBackend

from valetkey.cli import main, storing

KEY, OTHER = "sk-proj-REALrealREALrealREALreal0001", "sk-proj-REALrealREALrealREALreal0002"
ENTRY = ("valetkey", "openai/team")


class Store(KeyringBackend):
    """A store in memory."""

    priority = 1

    def __init__(self):
        super().__init__()
        self.held = {}

    def get_password(self, service, username):
        return self.held.get((service, username))

    def set_password(self, service, username, password):
        self.held[service, username] = password

    def delete_password(self, service, username):
        del self.held[service, username]


class Terminal(io.StringIO):
    """Where a person sits."""

    def isatty(self):
        return True


@pytest.fixture
def store():
    before = library.get_keyring()
    library.set_keyring(made := Store())
    yield made
    library.set_keyring(before)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, store):
    """Run `valetkey keys` with a line on stdin, None for a terminal; gives status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, stdin="", rules="version: 1\n"):
        (tmp_path / "rules.yaml").write_text(rules)
        monkeypatch.setattr("sys.stdin", Terminal() if stdin is None else io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main(["keys", *arguments])
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


def test_a_key_is_stored(run, store):
    run("add", "openai", "team", stdin=f"{KEY}\n")
    assert store.held == {ENTRY: KEY}


def test_without_a_name_it_is_the_main_one(run, store):
    run("add", "openai", stdin=f"{KEY}\n")
    assert store.held == {("valetkey", "openai/main"): KEY}


def test_the_line_for_the_rules_is_printed(run):
    _, said, _ = run("add", "openai", "team", stdin=f"{KEY}\n")
    assert "- keyring:valetkey/openai/team" in said


def test_the_printed_line_makes_the_key_usable(run):
    _, said, _ = run("add", "openai", "team", stdin=f"{KEY}\n")
    line = said.splitlines()[-1].strip()
    _, listed, _ = run("--json", rules=f"version: 1\nproviders:\n  openai:\n    keys:\n      {line}\n")
    assert '"id":"openai/team","reference":"keyring:valetkey/openai/team","usable":true' in listed


def test_the_key_is_not_printed(run):
    status, said, errors = run("add", "openai", "team", stdin=f"{KEY}\n")
    assert KEY not in said + errors and status == 0


@pytest.mark.parametrize("value", ["sk-dummy", "", f"{KEY} ", f"OPENAI_API_KEY={KEY}", "short", "<your-key-goes-here>"])
def test_what_is_no_key_is_not_stored(run, store, value):
    status, _, errors = run("add", "openai", "team", stdin=f"{value}\n")
    assert (status, store.held, "nothing was stored" in errors) == (2, {}, True)


def test_a_key_takes_the_place_of_the_one_before(run, store):
    store.held[ENTRY] = OTHER
    _, said, _ = run("add", "openai", "team", stdin=KEY)
    assert store.held == {ENTRY: KEY} and "in place of the one before" in said


RULES = "version: 1\nproviders: {openai: {keys: ['keyring:valetkey/openai/team']}}\n"


def test_a_key_that_the_rules_name_needs_no_line(run):
    _, said, _ = run("add", "openai", "team", stdin=KEY, rules=RULES)
    assert "under providers" not in said


@pytest.mark.parametrize(
    ("provider", "name", "said"), [("opnai", "x", "openai"), ("openai", "a b", "letters"), ("openai", "a/b", "letters")]
)
def test_a_wrong_word_is_an_error(run, provider, name, said):
    status, _, errors = run("add", provider, name, stdin=KEY)
    assert status == 2 and said in errors


def test_on_a_terminal_it_is_asked_for_without_an_echo(run, store, monkeypatch):
    monkeypatch.setattr(storing.getpass, "getpass", lambda prompt: KEY)
    run("add", "openai", "team", stdin=None)
    assert store.held == {ENTRY: KEY}


def test_a_key_is_taken_out(run, store):
    store.held[ENTRY] = KEY
    assert run("remove", "openai", "team")[0] == 0 and store.held == {}


def test_what_is_not_there_cannot_be_taken_out(run):
    status, _, errors = run("remove", "openai", "team")
    assert (status, errors) == (2, "valetkey: the keyring has no keyring:valetkey/openai/team\n")


def test_rules_that_still_name_it_are_told(run, store):
    store.held[ENTRY] = KEY
    _, said, _ = run("remove", "openai", "team", rules=RULES)
    assert "still names keyring:valetkey/openai/team" in said


def test_the_commands_of_the_documentation_work(run):
    [block] = re.findall(r"```sh\n(.*?)```", (Path(__file__).parents[2] / "docs" / "secrets.md").read_text(), re.DOTALL)
    assert [run(*line.split()[2:], stdin=KEY)[0] for line in block.splitlines()] == [0, 0]
