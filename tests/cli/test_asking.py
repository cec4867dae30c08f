from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from support.proxy_receipts import receipt
from valetkey.cli import app
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
