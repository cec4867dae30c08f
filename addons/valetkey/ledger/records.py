"""A receipt as a plain document, in the contract's order of fields, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..model import Attempt, Outcome, Receipt

FIELDS = tuple(field.name for field in fields(Receipt))
ATTEMPT_FIELDS = tuple(field.name for field in fields(Attempt))


def to_dict(receipt: Receipt) -> dict[str, Any]:
    """The receipt as JSON has it: attempts as a list of objects, cost as a decimal string or null."""
    document = {name: getattr(receipt, name) for name in FIELDS}
    document["attempts"] = [{name: getattr(attempt, name) for name in ATTEMPT_FIELDS} for attempt in receipt.attempts]
    document["usage"] = dict(receipt.usage)
    document["notes"] = list(receipt.notes)
    return document


def from_dict(document: Mapping[str, Any]) -> Receipt:
    """The receipt that a document describes."""
    values = {name: document[name] for name in FIELDS if name in document}
    values["attempts"] = tuple(_attempt(entry) for entry in document.get("attempts", ()))
    values["notes"] = tuple(document.get("notes", ()))
    return Receipt(**values)


def _attempt(entry: Mapping[str, Any]) -> Attempt:
    outcome = entry.get("outcome")
    return Attempt(**{**entry, "outcome": Outcome(outcome) if outcome else None})
