from __future__ import annotations

from pathlib import Path

import pytest

from valetkey.rules.jsonschema import as_text, json_schema

FILE = Path(__file__).resolve().parents[2] / "docs" / "rules.schema.json"


def test_the_shipped_schema_is_up_to_date():
    """`valetkey check --schema` prints it; docs/rules.schema.json is `as_text()`."""
    assert FILE.read_text() == as_text()


def test_unknown_words_are_errors_in_editors_too():
    assert json_schema()["additionalProperties"] is False


WITH_WORDS = [
    "GatewayEntry", "TimeoutsEntry", "ProviderEntry", "KeyEntry", "ConcurrencyEntry", "WindowEntry", "RouteEntry", "MatchEntry",
    "FallbackEntry", "AgentEntry",
]  # fmt: skip


@pytest.mark.parametrize("entry", WITH_WORDS)
def test_every_word_has_help_in_editors(entry):
    found = json_schema()["$defs"][entry]
    properties = found.get("properties") or found["anyOf"][1]["properties"]
    assert [word for word, schema in properties.items() if not schema.get("description")] == []


def test_a_number_of_calls_alone_is_fine_in_editors():
    assert {"type": "integer", "exclusiveMinimum": 0} in json_schema()["$defs"]["ConcurrencyEntry"]["anyOf"]


def test_defaults_are_as_they_would_be_written():
    assert json_schema()["$defs"]["GatewayEntry"]["properties"]["proxy"]["default"] == "127.0.0.1:8080"
