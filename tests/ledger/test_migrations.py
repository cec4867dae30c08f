from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import Query, open_store
from valetkey.ledger.migrations import STEPS, check, migrate


def versioned(path, version):
    with closing(sqlite3.connect(path)) as connection:
        for step in STEPS[:version]:
            connection.executescript(step)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()


@pytest.mark.parametrize("version", range(len(STEPS) + 1))
def test_every_older_file_is_brought_up(tmp_path, version):
    versioned(tmp_path / "a.db", version)
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    store.add([receipt()])
    assert len(list(store.receipts(Query()))) == 1
    store.close()


def test_a_file_of_a_newer_program_is_refused(tmp_path):
    versioned(tmp_path / "a.db", len(STEPS))
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    with pytest.raises(LedgerError, match="newer valetkey"):
        open_store(f"sqlite:///{tmp_path}/a.db")


def test_a_step_that_fails_changes_nothing(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("CREATE TABLE receipts (x)")
        with pytest.raises(sqlite3.Error):
            migrate(connection)
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)


def schema(connection):
    return sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


@pytest.mark.parametrize("version", range(len(STEPS)))
def test_an_older_file_gets_the_schema_of_a_new_one(tmp_path, version):
    for name, steps in (("old", version), ("new", len(STEPS))):
        versioned(tmp_path / name, steps)
    with closing(sqlite3.connect(tmp_path / "old")) as old, closing(sqlite3.connect(tmp_path / "new")) as new:
        migrate(old)
        assert (schema(old), check(old)) == (schema(new), len(STEPS))


OLD_ROW = """
    INSERT INTO receipts (id, time, agent, outcome, streamed, attempts, usage, usage_source, cost_source, notes)
    VALUES ('old', 1.0, 'alice', 'ok', 0, '[]', '{"input_tokens": 7}', 'reported', 'none', '[]')
"""


@pytest.mark.parametrize("version", range(1, len(STEPS) + 1))
def test_the_receipts_of_an_older_file_stay(tmp_path, version):
    versioned(tmp_path / "a.db", version)
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute(OLD_ROW)
    with closing(open_store(f"sqlite:///{tmp_path}/a.db")) as store:
        assert [(each.id, each.usage) for each in store.receipts(Query())] == [("old", {"input_tokens": 7})]


def test_a_step_that_fails_half_way_is_undone(tmp_path):
    versioned(tmp_path / "a.db", 1)
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("CREATE INDEX receipts_model_time ON receipts (time)")  # in the way of the second half of step 2
        before = schema(connection)
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection)
        assert schema(connection) == before


def test_several_processes_may_migrate_at_once(tmp_path):
    versioned(tmp_path / "a.db", 0)
    together, problems = threading.Barrier(4), []

    def run():
        with closing(sqlite3.connect(tmp_path / "a.db", timeout=30)) as connection:
            together.wait()
            try:
                migrate(connection)
            except sqlite3.Error as error:
                problems.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_reader_refuses_a_newer_file_too(tmp_path):
    versioned(tmp_path / "a.db", len(STEPS) + 1)
    with pytest.raises(LedgerError, match="newer valetkey"):
        open_store(f"sqlite:///{tmp_path}/a.db", readonly=True)


@pytest.mark.parametrize("version", range(1, len(STEPS)))
def test_an_older_file_can_be_read_before_it_is_brought_up(tmp_path, version):
    versioned(tmp_path / "a.db", version)
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute(OLD_ROW)
    with closing(open_store(f"sqlite:///{tmp_path}/a.db", readonly=True)) as store:
        assert [each.id for each in store.receipts(Query())] == ["old"]
