from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.making import CATALOG
from valetkey.cli import app, firststeps
from valetkey.errors import ConfigurationError
from valetkey.model import Address, Outcome
from valetkey.rules import load_rules
from valetkey.secrets.probe import Trial

KEY = "sk-proj-REALrealREALrealREALreal0001"
OTHER = "sk-proj-REALrealREALrealREALreal0002"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder, an environment without keys, nothing on the ports of local servers."""
    for name in [name for name in os.environ if "API_KEY" in name or name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(firststeps, "_answers", lambda url: False)
    return tmp_path


@pytest.fixture
def asked(place, monkeypatch):
    """The ids of the keys that providers were asked of; they take them all."""
    ids = []

    def probe(client, id, providers, held):
        ids.append(id)
        return Trial(id, Outcome.OK, 200, 0.01)

    monkeypatch.setattr(firststeps, "probe_id", probe)
    return ids


@pytest.fixture
def terminal(monkeypatch):
    """Standard input as a terminal, on which a person answers."""
    monkeypatch.setattr(firststeps, "is_terminal", lambda: True)


def run(*arguments, typed=None):
    return CliRunner().invoke(app, ["init", *arguments], input=typed)


def rules_of(folder):
    return load_rules(folder / "rules.yaml", CATALOG)


def test_a_key_of_the_environment_is_named_in_the_rules(asked, place, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run()
    assert [spec.ref for spec in rules_of(place).providers["openai"].key_specs] == ["env:OPENAI_API_KEY"]


def test_a_key_of_dotenv_is_named_in_the_rules(asked, place):
    (place / ".env").write_text(f"GROQ_API_KEY={KEY}\n")
    run()
    assert rules_of(place).providers["groq"].key_specs


def test_a_key_is_tested(asked, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert "openai/main  ok" in run().output and asked == ["openai/main"]


def test_a_key_is_not_tested_when_that_is_not_wanted(asked, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert "openai/main" in run("--no-test").output and asked == []


def test_a_key_that_is_not_well_is_said(place, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(firststeps, "probe_id", lambda client, id, *_: Trial(id, Outcome.BAD_KEY, 401, 0.1, "no such key"))
    output = run().output
    assert "bad_key (401)  no such key" in output and "valetkey keys test" in output


@pytest.mark.parametrize("arguments", [[], ["--no-test"]])
def test_no_key_is_shown_or_written(asked, place, monkeypatch, arguments):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert KEY not in run(*arguments).output + (place / "rules.yaml").read_text()


def test_keys_stay_in_the_environment(asked, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run()
    assert os.environ["OPENAI_API_KEY"] == KEY


def test_a_dummy_is_no_key(asked, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-dummy")
    assert "looks like a dummy" in run().output and asked == []


def test_a_provider_at_an_address_of_ones_own_is_told_of(asked, place, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    assert "name it as providers.azure.upstream" in run().output and not rules_of(place).providers["azure"].configured


def test_a_file_that_is_there_stays(place):
    (place / "rules.yaml").write_text("version: 1\n")
    assert isinstance(run().exception, ConfigurationError) and (place / "rules.yaml").read_text() == "version: 1\n"


def test_a_file_that_is_replaced_is_kept(place):
    (place / "rules.yaml").write_text("version: 1 # mine\n")
    run("--force", "--no-test")
    assert (place / "rules.yaml.old").read_text() == "version: 1 # mine\n" and "gateway:" in (place / "rules.yaml").read_text()


@pytest.mark.parametrize("arguments", [["--dir", "a/b"], ["--rules", "a/b/rules.yaml"]])
def test_another_place_is_made(place, arguments):
    output = run("--no-test", *arguments).output
    assert rules_of(place / "a/b") and f"valetkey run --rules {place}/a/b/rules.yaml" in output


def test_a_place_that_cannot_be_written_is_said(place):
    (place / "file").write_text("")
    failed = run("--no-test", "--dir", "file/below").exception
    assert isinstance(failed, ConfigurationError) and "cannot be written" in str(failed)


def test_a_local_server_that_answers_is_used(place, monkeypatch):
    monkeypatch.setattr(firststeps, "_answers", lambda url: url == "http://127.0.0.1:11434/v1/models")
    run("--no-test")
    assert rules_of(place).providers["ollama"].configured


def test_nothing_that_listens_is_no_local_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not firststeps._answers(f"http://127.0.0.1:{port}/v1/models")


def test_a_port_that_is_taken_is_gone_around():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = Address("127.0.0.1", server.getsockname()[1])
        assert firststeps.free_door(taken).port > taken.port


def test_the_doors_are_two(place):
    wanted = Address("127.0.0.1", 39001)
    assert firststeps.free_door(wanted, but=wanted.port).port != wanted.port


def test_what_comes_next_are_commands_of_ours(place):
    done = run("--no-test")
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {*re.findall(r"^  valetkey (\w+)", done.output, re.MULTILINE)} <= known


def test_what_to_export_names_the_found_providers(asked, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert re.search(r"export HTTPS_PROXY=http://127.0.0.1:\d+ GROQ_API_KEY=sk-dummy ", run().output)


def test_without_keys_it_is_said_where_to_put_one(place):
    assert f"put a key into {place}/.env" in run("--no-test").output


# With a person at the terminal.


def test_a_key_that_is_typed_is_kept_in_dotenv(asked, terminal, place):
    output = run(typed=f"openai\n{KEY}\n").output
    assert (place / ".env").read_text() == f"OPENAI_API_KEY={KEY}\n" and KEY not in output and asked == ["openai/main"]


def test_nobody_else_reads_the_new_dotenv(asked, terminal, place):
    run(typed=f"openai\n{KEY}\n")
    assert stat.S_IMODE((place / ".env").stat().st_mode) == 0o600


def test_what_dotenv_held_stays(asked, terminal, place):
    (place / ".env").write_text("A=b")
    run(typed=f"openai\n{KEY}\n")
    assert (place / ".env").read_text() == f"A=b\nOPENAI_API_KEY={KEY}\n"


def test_a_dotenv_that_others_read_is_closed_before_a_key_goes_in(asked, terminal, place):
    (place / ".env").write_text("A=b\n")
    (place / ".env").chmod(0o644)
    run(typed=f"openai\n{KEY}\n")
    assert stat.S_IMODE((place / ".env").stat().st_mode) == 0o600


def test_a_dotenv_of_another_user_gets_no_key(asked, terminal, place, monkeypatch):
    (place / ".env").write_text("A=b\n")
    monkeypatch.setattr(firststeps.ownership, "foreign_owner", lambda status: "belongs to another user (uid 4711)")
    done = run(typed=f"openai\n{KEY}\n")
    assert done.exit_code and KEY not in (place / ".env").read_text() + done.output


def test_a_dotenv_that_is_no_text_keeps_its_bytes(asked, terminal, place):
    (place / ".env").write_bytes(b"A=\xff")
    run(typed=f"openai\n{KEY}\n")
    assert (place / ".env").read_bytes() == b"A=\xff\n" + f"OPENAI_API_KEY={KEY}\n".encode()


def test_each_file_that_makes_room_is_kept(place):
    path = place / "rules.yaml"
    for text in ("mine", "second", "third"):
        firststeps.write(path, text)
    assert [(place / f"rules.yaml{end}").read_text() for end in ("", ".old", ".old2")] == ["third", "mine", "second"]


def test_nothing_is_written_through_a_link(place):
    (place / "rules.yaml.new").symlink_to(place / "elsewhere")
    firststeps.write(place / "rules.yaml", "text")
    assert not (place / "elsewhere").exists() and (place / "rules.yaml").read_text() == "text"


@pytest.mark.parametrize("typed", ["openai\nsk-dummy\n", "openai\nshort\n", "openai\nsk-REAL'real'REAL'real\n", "nobody\n", "\n"])
def test_what_is_no_key_is_not_kept(asked, terminal, place, typed):
    done = run(typed=typed)
    assert done.exit_code == 0 and not (place / ".env").exists() and rules_of(place)


@pytest.mark.parametrize(("answer", "kept"), [("y", 2), ("n", 1)])
def test_several_keys_are_pooled_by_who_may_do_that(asked, terminal, place, monkeypatch, answer, kept):
    monkeypatch.setenv("OPENAI_API_KEY_1", KEY)
    monkeypatch.setenv("OPENAI_API_KEY_2", OTHER)
    run(typed=f"{answer}\n")
    assert len(rules_of(place).providers["openai"].key_specs) == kept == len(asked)


def test_yes_asks_nothing(asked, terminal, place):
    assert run("--yes").exit_code == 0 and not (place / ".env").exists()


def test_the_schema_for_editors_exists():
    assert firststeps.schema_file() is not None and Path(firststeps.schema_file()).is_file()
