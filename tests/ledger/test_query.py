from __future__ import annotations

import dataclasses

from valetkey.ledger import GROUPS, Query
from valetkey.model import Receipt


def test_a_query_asks_for_everything_unless_told():
    assert set(dataclasses.asdict(Query()).values()) == {None}


def test_groups_are_fields_of_a_receipt_or_times():
    assert set(GROUPS) - {"day", "hour"} <= {field.name for field in dataclasses.fields(Receipt)}
