from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import Query
from valetkey.ledger.sqlite import SqliteStore


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
