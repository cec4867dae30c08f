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


CONTRACT = [
    "id", "time", "agent", "project", "client", "provider", "model", "requested_model", "format", "route", "key", "status",
    "outcome", "streamed", "attempts", "usage", "usage_source", "cost_usd", "cost_source", "ttft_ms", "duration_ms", "request_id",
    "refused",
]  # fmt: skip


def test_the_fields_come_in_the_contracts_order():
    assert list(to_dict(full()))[: len(CONTRACT)] == CONTRACT


def test_an_attempt_has_the_contracts_fields():
    assert list(to_dict(full())["attempts"][0]) == ["provider", "model", "key", "upstream", "status", "outcome", "ms"]


def test_an_attempt_without_outcome_comes_back():
    receipt_ = receipt(attempts=(Attempt("gemini", None, None, "https://x.test"),))
    assert from_dict(json.loads(json.dumps(to_dict(receipt_)))) == receipt_


def test_a_document_shares_nothing_with_its_receipt():
    made = full()
    to_dict(made)["usage"]["input_tokens"] = -1
    assert made.usage["input_tokens"] == 1200


def test_the_counts_of_a_connection_come_back():
    connection = receipt(messages_in=3, messages_out=40, answers=2)
    assert from_dict(json.loads(json.dumps(to_dict(connection)))) == connection
