from __future__ import annotations

import json

from support.proxy_receipts import receipt
from valetkey.ledger import from_dict, to_dict
from valetkey.model import Attempt, Outcome


def full():
    attempt = Attempt("openai", "gpt-4o", "openai/1", "https://api.openai.com", 200, Outcome.OK, 12.5)
    return receipt(attempts=(attempt,), notes=("usage_missing",))


def test_a_receipt_is_json():
    assert json.loads(json.dumps(to_dict(full())))["attempts"][0]["outcome"] == "ok"


def test_a_receipt_comes_back():
    assert from_dict(json.loads(json.dumps(to_dict(full())))) == full()


def test_no_cost_is_null():
    assert to_dict(receipt(cost_usd=None))["cost_usd"] is None
