from __future__ import annotations

import pytest

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import Query, open_store


def test_a_store_is_found_by_its_uri(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    store.add([receipt()])
    assert [each.id for each in store.receipts(Query())] == ["1"]
    store.close()


@pytest.mark.parametrize("uri", ["postgres:///x", "ledger.db", "sqlite:x"])
def test_an_unknown_kind_is_said(uri):
    with pytest.raises(LedgerError, match="sqlite:///PATH"):
        open_store(uri)


def test_three_slashes_begin_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///here/ledger.db").close()
    assert (tmp_path / "here" / "ledger.db").exists()


@pytest.mark.parametrize("uri", ["", "sqlite", "sqlite://x.db", "sqlite:///"])
def test_a_uri_without_a_path_is_refused(uri):
    with pytest.raises(LedgerError, match="write sqlite:///PATH"):
        open_store(uri)


def test_a_password_in_a_uri_is_not_repeated():
    with pytest.raises(LedgerError) as caught:
        open_store("postgres://user:hunter2@host/db")
    assert "postgres" in str(caught.value) and "hunter2" not in str(caught.value)
