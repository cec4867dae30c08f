"""The JSON Schema of rules.yaml, for editors (`docs/rules.schema.json`)."""

from __future__ import annotations

import json
from typing import Any

from .schema import RulesFile


def json_schema() -> dict[str, Any]:
    """The schema as a document."""
    document = RulesFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document, "title": "valetkey rules.yaml"}


def as_text() -> str:
    """The schema as the file that is shipped."""
    return json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"
