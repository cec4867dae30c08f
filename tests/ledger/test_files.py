from __future__ import annotations

import os
import sqlite3

import pytest

from valetkey.errors import LedgerError
from valetkey.ledger.files import closed_on_error, make_private


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "any.db"


def test_the_place_of_the_file_is_given(path):
    assert make_private(path) == (path.stat().st_dev, path.stat().st_ino)


def test_file_and_folder_are_private(path):
    make_private(path)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_a_file_with_a_wide_mode_is_narrowed(tmp_path):
    (tmp_path / "any.db").touch(0o666)
    make_private(tmp_path / "any.db")
    assert mode(tmp_path / "any.db") == 0o600


def test_a_folder_that_exists_keeps_its_mode(path):
    path.parent.mkdir(mode=0o755)
    make_private(path)
    assert mode(path.parent) == 0o755


def test_what_the_file_holds_stays(tmp_path):
    (tmp_path / "any.db").write_bytes(b"kept")
    make_private(tmp_path / "any.db")
    assert (tmp_path / "any.db").read_bytes() == b"kept"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_refused(tmp_path, exists):
    if exists:
        (tmp_path / "other.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "other.db")
    with pytest.raises(LedgerError, match=r"link\.db is a symbolic link; name the file itself"):
        make_private(tmp_path / "link.db")


def test_a_pipe_in_its_place_is_refused(tmp_path):
    os.mkfifo(tmp_path / "any.db")
    with pytest.raises(LedgerError, match="no regular file"):
        make_private(tmp_path / "any.db")


def test_a_folder_in_its_place_is_an_error_of_the_system(tmp_path):
    with pytest.raises(IsADirectoryError):
        make_private(tmp_path)


@pytest.mark.parametrize("error", [sqlite3.OperationalError("locked"), LedgerError("newer")])
def test_an_error_closes_the_connection_and_goes_on(error):
    connection = sqlite3.connect(":memory:")
    with pytest.raises(type(error)), closed_on_error(connection):
        raise error
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_without_an_error_the_connection_stays_open():
    connection = sqlite3.connect(":memory:")
    with closed_on_error(connection):
        pass
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.close()
