from __future__ import annotations

import dataclasses

import pytest

from support.making import CATALOG
from support.samples import call
from valetkey.policy import routing
from valetkey.rules import Watcher, load_snapshot
from valetkey.secrets import Environment

REAL = "sk-proj-REALrealREALrealREALreal0001"


def load(tmp_path, text="version: 1\n", **values):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return load_snapshot(path, CATALOG, Environment(values, tmp_path))


def test_rules_and_keys_come_together(tmp_path):
    assert [key.id for key in load(tmp_path, OPENAI_API_KEY=REAL).keys["openai"]] == ["openai/main"]


def test_a_snapshot_is_frozen(tmp_path):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(tmp_path).revision = 2


def test_what_changes_is_watched(tmp_path):
    text = "version: 1\nproviders: {openai: {keys: [file:key]}}\n"
    assert set(load(tmp_path, text).files) == {tmp_path / name for name in ("rules.yaml", ".env", "key")}


def test_the_state_of_every_key_is_told(tmp_path):
    assert load(tmp_path, OPENAI_API_KEY=REAL, GROQ_API_KEY="sk-dummy").states["openai/main"] is None


def test_no_file_takes_keys_from_the_environment():
    assert load_snapshot(None, CATALOG, Environment({"OPENAI_API_KEY": REAL})).keys["openai"]


def test_the_first_call_finds_the_routes_compiled(tmp_path, monkeypatch):
    rules = load(tmp_path).rules
    monkeypatch.setattr(routing, "RouteTable", None)

    assert routing.route(call(), rules).name == "default"


def test_it_shows_no_secret(tmp_path):
    assert REAL not in repr(load(tmp_path, OPENAI_API_KEY=REAL))


def test_files_are_marked_as_they_were_before_they_were_read(tmp_path):
    snapshot = load(tmp_path, "version: 1\nproviders: {openai: {keys: [file:key]}}\n")
    (tmp_path / "key").write_text(REAL)
    assert Watcher(snapshot.files, snapshot.seen).changed()
