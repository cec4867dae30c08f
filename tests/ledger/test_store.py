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
