from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import Query, open_store
from valetkey.ledger.migrations import STEPS, migrate


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
