from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import asdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import GROUPS, Query
from valetkey.ledger.sqlite import SqliteStore
from valetkey.model import Attempt, Outcome


@pytest.fixture
def store(tmp_path):
    made = SqliteStore(tmp_path / "kept" / "ledger.db")
    yield made
    made.close()


def ids(store, **query):
    return [each.id for each in store.receipts(Query(**query))]


def test_the_files_are_private(store, tmp_path):
    store.add([receipt()])
    folder = tmp_path / "kept"
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"} and folder.stat().st_mode & 0o77 == 0


def test_a_file_with_a_wide_mode_is_narrowed(tmp_path):
    path = tmp_path / "ledger.db"
    path.touch(0o644)
    SqliteStore(path).close()
    assert path.stat().st_mode & 0o77 == 0


def test_a_link_is_refused(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "other.db")
    with pytest.raises(LedgerError, match="symbolic link"):
        SqliteStore(tmp_path / "link.db")


def test_a_call_has_one_receipt(store):
    store.add([receipt(agent="a")])
    store.add([receipt(agent="b")])
    assert [each.agent for each in store.receipts(Query())] == ["a"]


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_batches_of_any_size_are_written_in_order(store, count):
    store.add([receipt(id=str(number), time=float(number)) for number in range(count)])
    assert ids(store) == [str(number) for number in range(count)]


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_a_receipt_that_is_there_does_not_keep_others_out(store, count):
    store.add([receipt(id="0", time=0.0), receipt(id="7", time=7.0)])
    store.add([receipt(id=str(number), time=float(number)) for number in range(count)])
    assert len(ids(store)) == len({"0", "7", *map(str, range(count))})


def test_a_large_batch_is_all_or_nothing(store):
    with pytest.raises(LedgerError):
        store.add([*(receipt(id=str(number)) for number in range(99)), receipt(id="99", agent=None)])
    assert ids(store) == []


def test_a_batch_is_all_or_nothing(store):
    with pytest.raises(LedgerError):
        store.add([receipt(id="1"), receipt(id="2", agent=None)])
    assert ids(store) in ([], ["1"])


def test_receipts_come_back_as_they_were(store):
    store.add([receipt()])
    assert list(store.receipts(Query())) == [receipt()]


def test_the_newest_is_last(store):
    store.add([receipt(id="b", time=2.0), receipt(id="a", time=1.0)])
    assert ids(store) == ["a", "b"]


def test_a_limit_keeps_the_newest(store):
    store.add([receipt(id=str(n), time=float(n)) for n in range(5)])
    assert ids(store, limit=2) == ["3", "4"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"since": 2.0}, ["b", "c"]),
        ({"until": 2.0}, ["a"]),
        ({"agent": "bob"}, ["b"]),
        ({"model": "gpt-4o"}, ["a", "b", "c"]),
        ({"outcome": "server"}, ["c"]),
        ({"refused": True}, ["b"]),
        ({"refused": False}, ["a", "c"]),
        ({"agent": "bob'; DROP TABLE receipts; --"}, []),
    ],
)
def test_receipts_can_be_chosen(store, query, expected):
    store.add(
        [
            receipt(id="a", time=1.0),
            receipt(id="b", time=2.0, agent="bob", refused="no_key"),
            receipt(id="c", time=3.0, outcome="server"),
        ]
    )
    assert ids(store, **query) == expected


def test_totals_count_each_kind(store):
    store.add(
        [
            receipt(id="1"),
            receipt(id="2", outcome="refused", refused="x", usage={}, cost_usd=None),
            receipt(id="3", outcome="server", usage={}, cost_usd=None),
            receipt(id="4", cost_usd=None),
        ]
    )
    total = store.totals(["agent"], Query())[0]
    assert (total.calls, total.refused, total.failed, total.unpriced) == (4, 1, 1, 1)


@settings(max_examples=20)
@given(st.lists(st.decimals(min_value=0, max_value=100, places=10), max_size=20))
def test_sums_of_money_are_exact(tmp_path_factory, costs):
    store = SqliteStore(tmp_path_factory.mktemp("sums") / "a.db")
    store.add([receipt(id=str(n), cost_usd=format(cost, "f")) for n, cost in enumerate(costs)])
    totals = store.totals([], Query())
    store.close()
    assert sum((total.cost_usd for total in totals), Decimal(0)) == sum(costs, Decimal(0))


def test_tokens_add_up(store):
    store.add([receipt(id="1"), receipt(id="2")])
    assert store.totals(["model"], Query())[0].usage == {"input_tokens": 2400, "cache_read_tokens": 1600, "output_tokens": 624}


@pytest.mark.parametrize(("group", "value"), [("day", "2026-11-21"), ("hour", "2026-11-21T04:00Z"), ("key", "openai/1")])
def test_groups(store, group, value):
    store.add([receipt(time=1795235309.0)])
    assert store.totals([group], Query())[0].group == {group: value}


def test_an_unknown_group_is_said(store):
    with pytest.raises(ValueError, match="colour"):
        store.totals(["colour"], Query())


def test_purging(store):
    store.add([receipt(id="a", time=1.0), receipt(id="b", time=2.0)])
    assert (store.purge(Query(until=2.0)), ids(store)) == (1, ["b"])


def test_others_can_read_while_it_is_written(store, tmp_path):
    store.add([receipt()])
    reader = SqliteStore(tmp_path / "kept" / "ledger.db", readonly=True)
    assert ids(reader) == ["1"]
    reader.close()


def test_reading_creates_nothing(tmp_path):
    with pytest.raises(LedgerError, match="no ledger yet"):
        SqliteStore(tmp_path / "none.db", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_cannot_write(store, tmp_path):
    reader = SqliteStore(tmp_path / "kept" / "ledger.db", readonly=True)
    with pytest.raises(LedgerError):
        reader.add([receipt()])
    reader.close()


def test_a_file_that_is_no_database_is_said(tmp_path):
    (tmp_path / "a.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(LedgerError, match="cannot be opened"):
        SqliteStore(tmp_path / "a.db")


def test_following_by_row(store):
    store.add([receipt(id="1")])
    last = store.last_row()
    store.add([receipt(id="2")])
    assert ids(store, after=last) == ["2"]


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "x" * 5000], ids=["half a surrogate pair", "zero", "endless"])
def test_no_text_that_an_agent_chooses_stops_the_ledger(store, text):
    store.add([receipt(id="odd", model=text), receipt(id="good")])
    assert ids(store) == ["odd", "good"]


def test_a_text_is_bounded(store):
    store.add([receipt(model="x" * 5000)])
    assert len(next(store.receipts(Query())).model) == 1000


def test_texts_within_an_attempt_are_bounded_too(store):
    store.add([receipt(attempts=(Attempt("openai", "x" * 5000, None, "https://api.openai.com"),))])
    assert len(next(store.receipts(Query())).attempts[0].model) == 1000


def test_half_a_surrogate_pair_within_an_attempt_can_be_written_out_later(store):
    store.add([receipt(attempts=(Attempt("openai", "\ud800", None, "https://api.openai.com"),))])
    assert next(store.receipts(Query())).attempts[0].model.encode() == b"?"


def test_a_deleted_file_is_noticed(store, tmp_path):
    (tmp_path / "kept" / "ledger.db").unlink()
    with pytest.raises(LedgerError, match="deleted"):
        store.add([receipt()])


def test_a_replaced_file_is_noticed(store, tmp_path):
    (tmp_path / "kept" / "ledger.db").rename(tmp_path / "kept" / "moved.db")
    (tmp_path / "kept" / "ledger.db").touch()
    with pytest.raises(LedgerError, match="replaced"):
        store.add([receipt()])


def test_after_a_deletion_a_new_file_is_made(store, tmp_path):
    (tmp_path / "kept" / "ledger.db").unlink()
    store.close()
    again = SqliteStore(tmp_path / "kept" / "ledger.db")
    again.add([receipt(id="new")])
    assert ids(again) == ["new"]
    again.close()


def test_a_locked_file_is_said(store, tmp_path):
    other = sqlite3.connect(tmp_path / "kept" / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="cannot be written: database is locked"):
        store.add([receipt()])
    other.close()


def test_an_umask_that_takes_nothing_away_changes_nothing(tmp_path):
    before = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "kept" / "ledger.db")
        store.add([receipt()])
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "kept").iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert (modes, (tmp_path / "kept").stat().st_mode & 0o777) == ({0o600}, 0o700)


def test_a_folder_that_was_there_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    SqliteStore(tmp_path / "ledger.db").close()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


@pytest.fixture
def closed(tmp_path):
    """The path of a ledger with one receipt that nobody has open."""
    store = SqliteStore(tmp_path / "ledger.db")
    store.add([receipt(id="first")])
    store.close()
    return tmp_path / "ledger.db"


def test_reading_a_closed_ledger_leaves_nothing_behind(closed):
    reader = SqliteStore(closed, readonly=True)
    assert ids(reader) == ["first"]
    reader.close()
    assert list(closed.parent.iterdir()) == [closed]


def test_a_reader_that_came_first_sees_what_is_written_later(closed):
    reader, writer = SqliteStore(closed, readonly=True), SqliteStore(closed)
    before = ids(reader)
    writer.add([receipt(id="second")])
    during = reader.last_row()
    writer.close()
    assert (before, during, ids(reader)) == (["first"], 2, ["first", "second"])
    reader.close()


def test_an_empty_file_is_no_ledger_to_read(tmp_path):
    (tmp_path / "a.db").touch()
    with pytest.raises(LedgerError, match="no ledger"):
        SqliteStore(tmp_path / "a.db", readonly=True)


def test_a_damaged_receipt_is_said(closed):
    with closing(sqlite3.connect(closed)) as connection, connection:
        connection.execute("UPDATE receipts SET usage = 'nonsense'")
    store = SqliteStore(closed)
    with pytest.raises(LedgerError, match="cannot be read"):
        list(store.receipts(Query()))
    store.close()


def test_a_purge_gives_the_space_back(store, tmp_path):
    store.add([receipt(id=str(n), time=float(n), client="x" * 900) for n in range(500)])
    store.close()
    large = (tmp_path / "kept" / "ledger.db").stat().st_size
    again = SqliteStore(tmp_path / "kept" / "ledger.db")
    again.purge(Query(until=490.0))
    again.close()
    assert (tmp_path / "kept" / "ledger.db").stat().st_size < large / 5


def test_what_was_purged_is_not_in_the_file_any_more(store, tmp_path):
    store.add([receipt(id="a", time=1.0, agent="forget-me"), receipt(id="b", time=2.0)])
    store.purge(Query(until=2.0))
    store.close()
    assert b"forget-me" not in (tmp_path / "kept" / "ledger.db").read_bytes()


def test_a_purged_row_number_never_comes_back(store):
    store.add([receipt(id="1"), receipt(id="2")])
    last = store.last_row()
    store.purge(Query())
    store.add([receipt(id="3")])
    assert ids(store, after=last) == ["3"]


def test_receipts_of_one_moment_come_as_they_were_written(store):
    store.add([receipt(id=id, time=1.0) for id in "xyz"])
    assert (ids(store), ids(store, limit=2)) == (["x", "y", "z"], ["y", "z"])


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_works_alone(store, group):
    store.add([receipt(id="1"), receipt(id="2", agent="bob")])
    assert sum(total.calls for total in store.totals([group], Query())) == 2


def test_groups_can_be_crossed(store):
    store.add([receipt(id="1"), receipt(id="2", key=None), receipt(id="3", key=None)])
    found = {tuple(total.group.values()): total.calls for total in store.totals(["agent", "key"], Query())}
    assert found == {("alice", "openai/1"): 1, ("alice", None): 2}


def test_totals_obey_the_query(store):
    store.add([receipt(id="1", time=1.0), receipt(id="2", time=2.0)])
    assert store.totals([], Query(until=2.0))[0].calls == 1


def test_the_dearest_group_comes_first(store):
    store.add([receipt(id="1", agent="thrifty", cost_usd="0.9"), receipt(id="2", agent="lavish", cost_usd="10")])
    assert [total.group["agent"] for total in store.totals(["agent"], Query())] == ["lavish", "thrifty"]


SOCKET = receipt(id="socket", usage={}, cost_usd=None, messages_in=2, messages_out=30, answers=2)
ANSWERS = [receipt(id=str(n), parent="socket", usage={"input_tokens": 10}, cost_usd="0.1") for n in range(2)]


def test_a_connection_is_not_counted_besides_its_answers(store):
    store.add([SOCKET, *ANSWERS])
    total = store.totals([], Query())[0]
    assert (total.calls, total.usage, total.cost_usd) == (2, {"input_tokens": 20}, Decimal("0.2"))


def test_a_connection_without_answers_is_a_call(store):
    store.add([SOCKET])
    assert store.totals([], Query())[0].calls == 1


def test_the_counts_of_a_connection_are_kept(store):
    store.add([SOCKET])
    assert list(store.receipts(Query())) == [SOCKET]


TEXTS = st.text(max_size=6) | st.sampled_from(["\ud800", "é" * 999, "a" * 1001, "\\", '"', "'", "\0", "openai/1"])
NUMBERS = st.none() | st.booleans() | st.integers(0, 2) | st.floats()
ATTEMPTS = st.builds(
    Attempt, TEXTS, st.none() | TEXTS, st.none() | TEXTS, TEXTS, NUMBERS, st.none() | st.sampled_from(Outcome), NUMBERS
)
NAMES = st.sampled_from(["input_tokens", "output_tokens", "it's", '"', "é"]) | st.text(max_size=6)
USAGE = st.dictionaries(NAMES, st.integers(0, 10**15) | st.booleans(), max_size=4)


def storable(value):
    return value[:1000].encode("utf-8", "replace").decode() if isinstance(value, str) else value


@settings(deadline=None)
@given(st.lists(ATTEMPTS, max_size=3), USAGE, TEXTS, st.none() | TEXTS)
def test_what_is_written_the_fast_way_is_what_python_would_write(tmp_path_factory, attempts, usage, agent, model):
    path = tmp_path_factory.mktemp("rows") / "a.db"
    store = SqliteStore(path)
    store.add([receipt(attempts=tuple(attempts), usage=usage, agent=agent, model=model)])
    with closing(sqlite3.connect(path)) as file:
        found = file.execute("SELECT attempts, usage, agent, model FROM receipts").fetchone()
    store.close()
    documents = [{name: storable(value) for name, value in asdict(attempt).items()} for attempt in attempts]
    assert found == (json.dumps(documents), json.dumps(usage), storable(agent), storable(model))
