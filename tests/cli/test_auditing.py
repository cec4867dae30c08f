from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from support.proxy_receipts import receipt
from valetkey.cli import app
from valetkey.ledger import AuditLog, Place
from valetkey.model import Attempt, Outcome

KEY = b"0123456789abcdef"


def use(id, key, ago, **changes):
    attempt = Attempt("openai", "gpt-4o", key, "https://api.openai.com", 200, Outcome.OK, 20.0)
    return receipt(id=id, time=time.time() - ago, attempts=(attempt,), **changes)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / ".valetkey", "ledger")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text("version: 1\n")
    return lambda *arguments: CliRunner().invoke(app, ["audit", *map(str, arguments)])


@pytest.fixture
def log(run, place):
    foreign = receipt(
        id="no", time=time.time() - 30, attempts=(), key=None, refused="foreign_key", outcome="refused", status=401, agent="eve"
    )
    made = AuditLog(place)
    made.append([use("old", "openai/1", 90_000, agent="bob"), use("new", "openai/2", 60, project="p"), foreign])
    return made


def change(place, old, new):
    place.current.write_bytes(place.current.read_bytes().replace(old, new))


def ids(done):
    return [json.loads(line)["receipt"] for line in done.stdout.splitlines()]


def verdict(done):
    return json.loads(done.stdout)


# verify


def test_a_log_that_holds_is_well(run, log):
    done = run("verify")
    assert (done.exit_code, done.output.partition(";")[0]) == (0, "3 entries in 1 files are as they were written")


def test_no_log_is_well(run):
    assert run("verify").exit_code == 0


def test_a_change_is_named_with_its_place(run, log, place):
    change(place, b'"bob"', b'"eve"')
    done = run("verify")
    assert (done.exit_code, done.output.partition(": this")[0]) == (1, f"{place.current}:1: changed")


def test_a_program_is_told_the_place(run, log, place):
    change(place, b'"bob"', b'"eve"')
    found = verdict(run("verify", "--json"))
    assert (found["well"], found["broken"]["line"], found["broken"]["kind"]) == (False, 1, "changed")


def test_the_head_can_be_kept_elsewhere_and_asked_for(run, log):
    head = verdict(run("verify", "--json"))["head"]
    log.append([use("later", "openai/1", 0)])
    assert run("verify", "--head", head).exit_code == 0


def test_a_head_that_is_not_there_is_not_well(run, log):
    assert run("verify", "--head", "3:" + "f" * 64).exit_code == 1


@pytest.mark.parametrize("arguments", [("--head", "3"), ("--key-file", "none"), ("--rules", "none.yaml")])
def test_wrong_usage_is_status_2(run, log, arguments):
    done = run("verify", *arguments)
    status = 2 if done.exit_code == 2 or type(done.exception).__name__ == "ConfigurationError" else done.exit_code
    assert status == 2


def test_named_files_are_read_wherever_they_are(run, log, place, tmp_path):
    place.current.rename(tmp_path / "kept.audit.jsonl")
    done = run("verify", tmp_path / "kept.audit.jsonl", "--json")
    assert (verdict(done)["well"], len(verdict(done)["notes"])) == (True, 1)


def test_a_key_can_be_kept_elsewhere(run, place, tmp_path):
    AuditLog(place).check()
    place.key.touch(0o600)
    place.key.write_bytes(KEY)
    AuditLog(place).append([use("1", "openai/1", 0)])
    place.key.rename(tmp_path / "key")
    assert [run("verify").exit_code, run("verify", "--key-file", tmp_path / "key").exit_code] == [1, 0]


def test_losses_are_told(run, log, place):
    place.current.write_bytes(place.current.read_bytes().splitlines(keepends=True)[0])
    log.append([use("later", "openai/1", 0)])
    done = run("verify")
    assert done.exit_code == 1 and "ending with entry 1, where it had written entry 3" in done.output


# show


def test_uses_are_one_per_line_newest_last(run, log):
    assert ids(run("show", "--json")) == ["old", "new", "no"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--agent", "bob"), ["old"]),
        (("--key", "openai/2"), ["new"]),
        (("--since", "1h"), ["new", "no"]),
        (("--limit", "1"), ["no"]),
        (("--limit", "0"), ["old", "new", "no"]),
        (("--agent", "nobody"), []),
    ],
)
def test_uses_can_be_chosen(run, log, arguments, expected):
    assert ids(run("show", "--json", *arguments)) == expected


@pytest.mark.parametrize("expected", ["alice.p", "api.openai.com", "openai_chat", "$0.0041", "refused: foreign_key"])
def test_a_table_is_for_people(run, log, expected):
    assert expected in run("show").output


def test_what_the_log_tells_of_itself_is_shown(run, log, place):
    with place.current.open("ab") as file:
        file.write(b"{")
    log.append([use("later", "openai/1", 0)])
    assert "recovered" in run("show").output


def test_without_uses_it_says_so(run):
    assert run("show").output == "no uses of keys\n"


def test_lines_that_are_no_entries_are_counted_aside(run, log, place):
    change(place, b'{"seq":2', b"xx")
    done = run("show", "--json")
    assert (ids(done), "1 lines are no entries" in done.stderr) == (["old", "no"], True)


@pytest.mark.parametrize("moment", [b"1e999", b'"x"', b"1e300", b"null"])
def test_entries_that_are_not_ours_do_no_harm(run, log, place, moment):
    place.current.write_bytes(b'{"time":%b,"agent":["\\u001b[2J"]}\n' % moment)
    assert run("show").exit_code == 0


def test_nothing_that_a_terminal_obeys_is_printed(run, log, place):
    log.append([use("x", "openai/1", 0, agent="\x1b[2Jeve")])
    assert "\x1b" not in run("show").output
