from __future__ import annotations

import dataclasses

import pytest

from support.making import CATALOG
from support.pricing import published
from support.samples import call
from valetkey.ledger import write_prices
from valetkey.policy import routing
from valetkey.policy.pricelist import BUILT_IN
from valetkey.rules import Watcher, load_snapshot, renewed
from valetkey.secrets import Environment, Fetcher, fetching

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
    assert set(load(tmp_path, text).files) == {
        tmp_path / name for name in ("rules.yaml", ".env", "key", ".valetkey/ledger.prices.json")
    }


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


SLOW = "version: 1\nproviders: {openai: {keys: [{ref: 'cmd:op read x', ttl: 15m}]}}\n"


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A snapshot with a slow key; gives it, what the program prints, and how to look again a quarter of an hour later."""
    printed, now = [REAL], [0.0]
    monkeypatch.setattr(fetching.commands, "run", lambda *_: printed[0])
    path, environment, fetcher = tmp_path / "rules.yaml", Environment({}, tmp_path), Fetcher(tmp_path, clock=lambda: now[0])
    path.write_text(SLOW)

    def again(snapshot):
        now[0] += 900
        return renewed(snapshot, path, environment, fetcher)

    return load_snapshot(path, CATALOG, environment, 7, fetcher), printed, again


def test_slow_keys_are_read_with_the_rules(slow):
    snapshot, _, _ = slow
    assert snapshot.vault.reveal("openai/op") == REAL


def test_a_snapshot_is_renewed_when_a_slow_key_changed(slow):
    snapshot, printed, again = slow
    printed[0] = "sk-proj-REALrealREALrealREALreal0002"
    assert again(snapshot).vault.reveal("openai/op") == printed[0]


def test_a_call_keeps_the_key_that_it_began_with(slow):
    snapshot, printed, again = slow
    printed[0] = "sk-proj-REALrealREALrealREALreal0002"
    again(snapshot)
    assert snapshot.vault.reveal("openai/op") == REAL


def test_a_snapshot_stays_when_no_slow_key_changed(slow):
    snapshot, _, again = slow
    assert again(snapshot) is None


def test_a_renewed_snapshot_has_the_same_rules(slow):
    snapshot, printed, again = slow
    printed[0] = "sk-proj-REALrealREALrealREALreal0002"
    new = again(snapshot)
    assert (new.rules, new.revision, new.seen) == (snapshot.rules, 7, snapshot.seen)


def test_programs_of_rules_that_others_may_change_are_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.commands, "run", lambda *_: REAL)
    path = tmp_path / "rules.yaml"
    path.write_text(SLOW)
    path.chmod(0o666)
    snapshot = load_snapshot(path, CATALOG, Environment({}, tmp_path), 1, Fetcher(tmp_path))
    assert "is not run" in snapshot.states["openai/op"] and "may be changed by others" in snapshot.states["openai/op"]


def test_newer_prices_are_part_of_it(tmp_path):
    write_prices(tmp_path / ".valetkey" / "ledger.prices.json", published(), "https://prices.test", 1.0)
    assert load(tmp_path).prices.find("openai", "gpt-4o")


def test_newer_prices_stay_when_keys_are_read_anew(slow, tmp_path):
    write_prices(tmp_path / ".valetkey" / "ledger.prices.json", published(), "https://prices.test", 1.0)
    snapshot, printed, again = slow
    printed[0] = "sk-proj-REALrealREALrealREALreal0002"
    priced = dataclasses.replace(snapshot, prices=load(tmp_path).prices)
    assert again(priced).prices is priced.prices


def test_prices_that_cannot_be_used_are_a_notice(tmp_path):
    (tmp_path / ".valetkey").mkdir()
    (tmp_path / ".valetkey" / "ledger.prices.json").write_text("nonsense")
    found = load(tmp_path)
    assert (found.prices, "the built-in prices hold" in found.notices[-1]) == (BUILT_IN, True)
