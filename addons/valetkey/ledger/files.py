"""Database files of ours: private to their owner from the first moment, and closed when opening one goes wrong."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import LedgerError


def make_private(path: Path) -> tuple[int, int]:
    """Make folder and file with modes that let nobody else in, before SQLite could make them with others.

    Gives device and inode of the file. SQLite gives the mode of the database to its log. Raises LedgerError for a symbolic
    link and for what is no regular file, OSError for one that cannot be made.
    """
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink():
        raise LedgerError(f"{path} is a symbolic link; name the file itself")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise LedgerError(f"{path} is no regular file")
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    return found.st_dev, found.st_ino


@contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Close the connection when what is done with it fails with an error of SQLite's or ours; the error goes on."""
    try:
        yield
    except (sqlite3.Error, LedgerError):
        connection.close()
        raise
