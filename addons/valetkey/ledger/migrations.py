"""The schema, step by step. A step is never changed once released; a new one is added."""

from __future__ import annotations

import sqlite3

from ..errors import LedgerError

# The number of a row never comes back, also after a purge: readers that follow the ledger go by it.
STEPS = (
    """
    CREATE TABLE receipts (
        row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, time REAL NOT NULL, agent TEXT NOT NULL, project TEXT,
        client TEXT, provider TEXT, model TEXT, requested_model TEXT, format TEXT, route TEXT, key TEXT, status INTEGER,
        outcome TEXT NOT NULL, streamed INTEGER NOT NULL, attempts TEXT NOT NULL, usage TEXT NOT NULL, usage_source TEXT NOT NULL,
        cost_usd TEXT, cost_source TEXT NOT NULL, ttft_ms REAL, duration_ms REAL, request_id TEXT, refused TEXT, parent TEXT,
        notes TEXT NOT NULL
    );
    CREATE INDEX receipts_time ON receipts (time);
    """,
    """
    CREATE INDEX receipts_agent_time ON receipts (agent, time);
    CREATE INDEX receipts_model_time ON receipts (model, time);
    """,
    """
    CREATE INDEX receipts_parent ON receipts (parent) WHERE parent IS NOT NULL;
    """,
    """
    ALTER TABLE receipts ADD COLUMN messages_in INTEGER;
    ALTER TABLE receipts ADD COLUMN messages_out INTEGER;
    ALTER TABLE receipts ADD COLUMN answers INTEGER;
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to the newest schema, in one transaction. Raises LedgerError for one from a newer program."""
    if check(connection) == len(STEPS):
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Asked again now that nobody else can migrate: another process may have been first.
        for statement in "".join(STEPS[check(connection) :]).split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")


def check(connection: sqlite3.Connection) -> int:
    """The schema version of a database. Raises LedgerError for one that this program does not understand."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(STEPS):
        raise LedgerError(f"the ledger has schema version {version}, this program knows {len(STEPS)}; use a newer valetkey")
    return version
