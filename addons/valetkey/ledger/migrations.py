"""The schema, step by step. A step is never changed once released; a new one is added."""

from __future__ import annotations

import sqlite3

from ..errors import LedgerError

STEPS = (
    """
    CREATE TABLE receipts (
        id TEXT PRIMARY KEY, time REAL NOT NULL, agent TEXT NOT NULL, project TEXT, client TEXT, provider TEXT, model TEXT,
        requested_model TEXT, format TEXT, route TEXT, key TEXT, status INTEGER, outcome TEXT NOT NULL, streamed INTEGER NOT NULL,
        attempts TEXT NOT NULL, usage TEXT NOT NULL, usage_source TEXT NOT NULL, cost_usd TEXT, cost_source TEXT NOT NULL,
        ttft_ms REAL, duration_ms REAL, request_id TEXT, refused TEXT, parent TEXT, notes TEXT NOT NULL
    );
    CREATE INDEX receipts_time ON receipts (time);
    """,
    """
    CREATE INDEX receipts_agent_time ON receipts (agent, time);
    CREATE INDEX receipts_model_time ON receipts (model, time);
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to the newest schema, in one transaction. Raises LedgerError for one from a newer program."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    check(version)
    if version == len(STEPS):
        return
    script = "".join(STEPS[version:])
    connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {len(STEPS)}; COMMIT;")


def check(version: int) -> None:
    """Refuse a ledger that this program does not understand."""
    if version > len(STEPS):
        raise LedgerError(f"the ledger has schema version {version}, this program knows {len(STEPS)}; use a newer valetkey")
