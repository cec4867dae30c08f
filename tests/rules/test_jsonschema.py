from __future__ import annotations

from pathlib import Path

from valetkey.rules.jsonschema import as_text, json_schema

FILE = Path(__file__).resolve().parents[2] / "docs" / "rules.schema.json"


def test_the_shipped_schema_is_up_to_date():
    """`valetkey check --schema` prints it; docs/rules.schema.json is `as_text()`."""
    assert FILE.read_text() == as_text()


def test_unknown_words_are_errors_in_editors_too():
    assert json_schema()["additionalProperties"] is False
