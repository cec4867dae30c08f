from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valetkey.errors import LedgerError
from valetkey.ledger import Order, StateStore, state, state_path

ADDONS = str(Path(state.__file__).parents[2])
DOCUMENTS = {"openai/1": {"state": "resting", "until": 1.5, "rests": [{"model": "gpt-4o"}]}, "openai/2": {}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "ledger.state.db"


@pytest.fixture
def store(path):
    made = StateStore(path)
    yield made
    made.close()


def change(path, *statements):
    """Do to the file what another program might."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(statement)


def test_documents_survive_a_restart(store, path):
    store.save({"keys": DOCUMENTS})
    store.close()
    again = StateStore(path)
    assert again.load("keys") == DOCUMENTS
    again.close()


def test_an_unknown_kind_is_empty(store):
    assert store.load("nothing") == {}


def test_kinds_are_kept_apart(store):
    store.save({"keys": {"a": 1}, "affinity": {"a": 2}})
    assert (store.load("keys"), store.load("affinity")) == ({"a": 1}, {"a": 2})


def test_a_later_document_takes_the_place_of_an_earlier(store):
    store.save({"keys": {"a": 1, "b": 1}})
    store.save({"keys": {"a": 2}})
    assert store.load("keys") == {"a": 2, "b": 1}


def test_none_deletes(store):
    store.save({"keys": {"a": 1, "b": 1}})
    store.save({"keys": {"a": None, "never": None}})
    assert store.load("keys") == {"b": 1}


def test_saving_is_all_or_nothing(store, path):
    change(path, "CREATE TRIGGER no BEFORE INSERT ON documents WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(LedgerError, match="cannot be written"):
        store.save({"keys": {"good": 1}, "other": {"bad": 1}})
    assert store.load("keys") == {}


def test_after_a_failure_the_next_saving_works(store):
    with pytest.raises(LedgerError):
        store.save({None: {"a": 1}})
    store.save({"keys": {"a": 1}})
    assert store.load("keys") == {"a": 1}


def test_nothing_to_save_waits_for_nobody(store, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.save({"keys": {}})
    assert store.load("keys") == {}


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_documents_come_back_as_they_were(tmp_path_factory, documents):
    store = StateStore(tmp_path_factory.mktemp("state") / "ledger.state.db")
    store.save({"any": documents})
    found = store.load("any")
    store.close()
    assert found == documents


def test_half_a_surrogate_pair_in_a_name_costs_nothing_else(store):
    store.save({"affinity": {"\ud800": 1, "good": 2}})
    assert store.load("affinity") == {"?": 1, "good": 2}


@pytest.mark.parametrize(
    "value", ["'{nonsense'", "''", "x'ff00'", "CAST(x'22ff22fe' AS TEXT)", "7", f"'{'[' * 100_000}'"], ids=lambda v: v[:20]
)
def test_a_damaged_document_is_left_out(store, path, value):
    store.save({"keys": {"bad": 1, "good": 2}})
    change(path, f"UPDATE documents SET document = {value} WHERE name = 'bad'")
    assert store.load("keys").get("good") == 2 and store.load("keys").get("bad") in (None, 7)


def test_orders_are_given_once_in_order(store):
    store.order("disable", "openai/1", 1.0)
    store.order("reset", "openai/2", 0.5)
    expected = [Order("disable", "openai/1", 1.0), Order("reset", "openai/2", 0.5)]
    assert (store.take_orders(), store.take_orders()) == (expected, [])


@pytest.mark.parametrize("readonly", [False, True])
def test_orders_that_wait_are_shown_and_stay(store, path, readonly):
    store.order("disable", "openai/1", 1.0)
    store.order("reset", "openai/2", 0.5)
    with closing(StateStore(path, readonly=readonly)) as other:
        shown = other.orders()
    assert shown == store.take_orders() == [Order("disable", "openai/1", 1.0), Order("reset", "openai/2", 0.5)]


def test_orders_that_were_taken_do_not_wait(store):
    store.order("disable", "openai/1", 1.0)
    store.take_orders()
    assert store.orders() == []


def test_an_order_of_another_program_is_not_shown(store, path):
    change(path, "INSERT INTO orders (verb, name, time) VALUES ('explode', 'openai/1', 1.0), ('reset', x'ff', 'soon')")
    assert store.orders() == []


def test_looking_at_orders_waits_for_nobody(store, path):
    store.order("disable", "openai/1", 1.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert len(store.orders()) == 1


def test_an_unknown_order_is_a_mistake(store):
    with pytest.raises(ValueError, match="explode is no order"):
        store.order("explode", "openai/1", 1.0)


def test_an_order_of_another_program_is_thrown_away(store, path):
    change(path, "INSERT INTO orders (verb, name, time) VALUES ('explode', 'openai/1', 1.0), ('reset', x'ff', 'soon')")
    store.order("reset", "openai/1", 1.0)
    assert (store.take_orders(), store.take_orders()) == ([Order("reset", "openai/1", 1.0)], [])


def test_asking_for_orders_in_vain_waits_for_nobody(store, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.take_orders() == []


def test_another_process_leaves_an_order(store, path):
    script = "import sys, pathlib; from valetkey.ledger import StateStore\n"
    script += "store = StateStore(pathlib.Path(sys.argv[1])); store.order('disable', 'openai/1', 2.0); store.close()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, env={"PYTHONPATH": ADDONS})
    assert store.take_orders() == [Order("disable", "openai/1", 2.0)]


def test_two_processes_make_the_file_and_write_at_once(path):
    script = (
        "import sys, pathlib; from valetkey.ledger import StateStore\n"
        "sys.stdin.readline(); store = StateStore(pathlib.Path(sys.argv[1]))\n"
        "[store.order('reset', sys.argv[2], float(n)) for n in range(20)]; store.close()"
    )
    command = [sys.executable, "-c", script, str(path)]
    both = [subprocess.Popen([*command, who], stdin=subprocess.PIPE, env={"PYTHONPATH": ADDONS}) for who in "ab"]
    for process in both:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    assert [process.wait() for process in both] == [0, 0]
    for process in both:
        process.stdin.close()
    store = StateStore(path)
    orders = store.take_orders()
    store.close()
    assert [[order.time for order in orders if order.name == who] for who in "ab"] == [[float(n) for n in range(20)]] * 2


def test_a_file_that_is_locked_for_a_moment_is_opened(path, monkeypatch):
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(state, "_BUSY", 0.01)
    monkeypatch.setattr(state.time, "sleep", lambda seconds: other.close())
    store = StateStore(path)
    store.save({"keys": {"a": 1}})
    assert store.load("keys") == {"a": 1}
    store.close()


def test_a_file_that_stays_locked_is_said(path, monkeypatch):
    path.parent.mkdir()
    monkeypatch.setattr(state, "_BUSY", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match=r"state\.db cannot be opened: database is locked"):
            StateStore(path)


def test_another_thread_may_use_it(store):
    thread = threading.Thread(target=store.save, args=({"keys": {"a": 1}},))
    thread.start()
    thread.join()
    assert store.load("keys") == {"a": 1}


def test_the_files_are_private(store, path):
    store.save({"keys": DOCUMENTS})
    assert {oct(each.stat().st_mode & 0o777) for each in path.parent.iterdir()} == {"0o600"}


def test_the_folder_is_private(store, path):
    assert path.parent.stat().st_mode & 0o77 == 0


def test_a_file_with_a_wide_mode_is_narrowed(tmp_path):
    path = tmp_path / "ledger.state.db"
    path.touch(0o644)
    StateStore(path).close()
    assert path.stat().st_mode & 0o77 == 0


def test_a_link_is_refused(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "other.db")
    with pytest.raises(LedgerError, match=r"link\.db is a symbolic link"):
        StateStore(tmp_path / "link.db")


@pytest.mark.parametrize("readonly", [False, True])
def test_a_newer_schema_is_refused(store, path, readonly):
    store.close()
    change(path, "PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match=r"state\.db .*99.*newer valetkey"):
        StateStore(path, readonly=readonly)


@pytest.mark.parametrize("readonly", [False, True])
def test_a_file_that_is_no_database_is_said(tmp_path, readonly):
    (tmp_path / "ledger.state.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(LedgerError, match=r"state\.db cannot be opened"):
        StateStore(tmp_path / "ledger.state.db", readonly=readonly)


def test_reading_creates_nothing(tmp_path):
    with pytest.raises(LedgerError, match="no state is kept yet"):
        StateStore(tmp_path / "none" / "ledger.state.db", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_reading_leaves_nothing_behind(store, path):
    store.save({"keys": DOCUMENTS})
    store.close()
    reader = StateStore(path, readonly=True)
    assert (reader.load("keys"), list(path.parent.iterdir())) == (DOCUMENTS, [path])
    reader.close()


def test_a_reader_sees_what_is_written_later(store, path):
    reader = StateStore(path, readonly=True)
    store.save({"keys": {"a": 1}})
    during = reader.load("keys")
    store.save({"keys": {"a": 2}})
    store.close()
    assert (during, reader.load("keys")) == ({"a": 1}, {"a": 2})


def test_an_empty_file_holds_nothing(tmp_path):
    (tmp_path / "ledger.state.db").touch()
    reader = StateStore(tmp_path / "ledger.state.db", readonly=True)
    assert (reader.load("keys"), reader.orders()) == ({}, [])


@pytest.mark.parametrize(
    "act", [lambda s: s.save({"keys": {"a": 1}}), lambda s: s.order("reset", "a", 1.0), StateStore.take_orders]
)
def test_a_reader_cannot_write(store, path, act):
    with pytest.raises(LedgerError, match="read only"):
        act(StateStore(path, readonly=True))


def test_a_deleted_file_is_noticed(store, path):
    path.unlink()
    with pytest.raises(LedgerError, match="deleted"):
        store.take_orders()


def test_a_replaced_file_is_noticed(store, path):
    path.rename(path.with_name("moved.db"))
    path.touch()
    with pytest.raises(LedgerError, match="replaced"):
        store.save({"keys": {"a": 1}})


def test_a_locked_file_is_said(store, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"state\.db cannot be written: database is locked"):
            store.save({"keys": {"a": 1}})


def test_thousands_of_rows_are_no_trouble(store):
    documents = {f"conversation {number}": {"key": "openai/1", "until": float(number)} for number in range(5000)}
    store.save({"affinity": documents})
    assert json.dumps(store.load("affinity"), sort_keys=True) == json.dumps(documents, sort_keys=True)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////var/lib/ledger.db", "/var/lib/ledger.state.db"),
        ("sqlite:////var/lib/calls.db", "/var/lib/calls.state.db"),
        ("postgresql://user@host/db", "/etc/valetkey/.valetkey/ledger.state.db"),
        ("sqlite:///", "/etc/valetkey/.valetkey/ledger.state.db"),
    ],
)
def test_state_is_kept_beside_the_ledger(uri, expected):
    assert state_path(uri, Path("/etc/valetkey")) == Path(expected)
