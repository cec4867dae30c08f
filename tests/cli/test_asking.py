from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.proxy_receipts import receipt
from valetkey.cli import app, asking
from valetkey.ledger import open_store


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text("version: 1\ngateway: {archive: kept}\n")
    store = open_store(f"sqlite:///{tmp_path}/.valetkey/ledger.db")
    now = time.time()
    store.add(
        [
            receipt(id="old", time=now - 90_000, agent="bob"),
            receipt(id="new", time=now - 60, agent="alice"),
            receipt(id="no", time=now - 30, agent="alice", refused="no_key", outcome="refused", usage={}, cost_usd=None),
        ]
    )
    store.close()
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def ledger(tmp_path):
    return open_store(f"sqlite:///{tmp_path}/.valetkey/ledger.db")


def ids(done):
    return [json.loads(line)["id"] for line in done.output.splitlines()]


def test_receipts_are_one_per_line_newest_last(run):
    assert ids(run("flows", "--json")) == ["old", "new", "no"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--since", "1h"), ["new", "no"]),
        (("--until", "1h"), ["old"]),
        (("--agent", "bob"), ["old"]),
        (("--refused",), ["no"]),
        (("--not-refused",), ["old", "new"]),
        (("--limit", "1"), ["no"]),
        (("--limit", "0"), ["old", "new", "no"]),
    ],
)
def test_receipts_can_be_chosen(run, arguments, expected):
    assert ids(run("flows", "--json", *arguments)) == expected


def test_a_table_is_for_people(run):
    output = run("flows").output
    assert "openai/gpt-4o" in output and "refused: no_key" in output


def test_totals_are_exact(run):
    totals = [json.loads(line) for line in run("usage", "--by", "agent", "--json").output.splitlines()]
    assert {t["agent"]: (t["calls"], t["refused"], t["cost_usd"]) for t in totals} == {
        "bob": (1, 0, "0.0041"),
        "alice": (2, 1, "0.0041"),
    }


def test_an_unknown_group_is_wrong_usage(run):
    assert run("usage", "--by", "colour").exit_code == 2


def test_totals_for_people(run):
    assert "$0.0041" in run("usage").output


def test_purge_deletes_what_is_old(run):
    run("purge", "--older-than", "1d", "--yes")
    assert ids(run("flows", "--json")) == ["new", "no"]


def test_purge_asks_first(run):
    assert run("purge", "--older-than", "1d").exit_code == 1


def test_purge_takes_the_archive_along(run, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "2020-01-01.jsonl").write_text("{}\n")
    assert json.loads(run("purge", "--older-than", "1d", "--yes", "--json").output) == {"receipts": 1, "archive_days": 1}


def test_an_empty_answer_is_said(run):
    assert "no calls" in run("flows", "--agent", "nobody").output


def test_an_empty_answer_is_no_json(run):
    assert run("flows", "--agent", "nobody", "--json").output == ""


@pytest.fixture
def meanwhile(monkeypatch):
    """What happens while `--follow` waits, step by step; then Ctrl-C."""

    def script(*steps):
        left = list(steps)

        def sleep(_seconds):
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr(asking.time, "sleep", sleep)

    return script


def write(tmp_path, *ids):
    store = ledger(tmp_path)
    store.add([receipt(id=id, time=time.time()) for id in ids])
    store.close()


def test_following_prints_what_is_new_until_ctrl_c(run, tmp_path, meanwhile):
    meanwhile(lambda: write(tmp_path, "a"), lambda: None, lambda: write(tmp_path, "b", "c"))
    done = run("flows", "--follow", "--limit", "1", "--json")
    assert (done.exit_code, ids(done)) == (0, ["no", "a", "b", "c"])


def test_following_keeps_to_what_was_asked(run, tmp_path, meanwhile):
    meanwhile(lambda: write(tmp_path, "a"))
    assert ids(run("flows", "--follow", "--agent", "bob", "--json")) == ["old"]


def test_following_shows_a_receipt_once_that_comes_while_others_are_read(run, tmp_path, meanwhile, monkeypatch):
    original = asking._read

    def read(store, query, without=frozenset()):
        if query.after is None:
            write(tmp_path, "between")
        return original(store, query, without)

    monkeypatch.setattr(asking, "_read", read)
    meanwhile(lambda: None, lambda: write(tmp_path, "last"))
    assert ids(run("flows", "--follow", "--limit", "2", "--json")) == ["no", "between", "last"]


def test_following_has_one_header(run, tmp_path, meanwhile):
    meanwhile(lambda: write(tmp_path, "a"), lambda: write(tmp_path, "b"))
    assert run("flows", "--follow").output.count("provider/model") == 1


@pytest.mark.parametrize("how", [("--json",), ()])
def test_a_reader_that_leaves_is_no_error(run, tmp_path, how):
    store = ledger(tmp_path)
    store.add([replace(receipt(), id=f"more{number}") for number in range(2000)])
    store.close()
    command = [sys.executable, "-m", "valetkey", "flows", "--limit", "0", *how]
    environment = {"PYTHONPATH": str(Path(asking.__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_question_does_not_spoil_json(run):
    assert run("purge", "--older-than", "1d", "--json").stdout.strip() == ""


@pytest.fixture
def socket(run, tmp_path):
    """A connection with two answers, and nothing else of that agent's."""
    now = time.time()
    inside = [receipt(id=str(n), time=now + n, agent="eve", parent="socket", usage={"input_tokens": 10}) for n in (1, 2)]
    connection = receipt(
        id="socket", time=now, agent="eve", usage={}, cost_usd=None, status=101, messages_in=2, messages_out=9, answers=2
    )
    store = ledger(tmp_path)
    store.add([*inside, connection])
    store.close()
    return run


def test_answers_are_shown_inside_their_connection(socket):
    shown = [line for line in socket("flows").output.splitlines() if "eve" in line]
    assert ["> openai" in line for line in shown] == [False, True, True]


def test_a_connection_says_how_many_answers_it_had(socket):
    assert "ok, 2 answers" in socket("flows", "--agent", "eve").output


def test_the_tokens_of_a_connection_are_counted_once(socket):
    total = json.loads(socket("usage", "--agent", "eve", "--by", "agent", "--json").output)
    assert (total["calls"], total["usage"]) == (2, {"input_tokens": 20})
