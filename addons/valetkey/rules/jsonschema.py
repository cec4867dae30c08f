"""The JSON Schema of rules.yaml, for editors (`docs/rules.schema.json`)."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from ..model import Address
from .schema import RulesFile


class _Generator(GenerateJsonSchema):
    """Defaults as they would be written."""

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Address) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """The schema as a document."""
    document = RulesFile.model_json_schema(schema_generator=_Generator)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document, "title": "valetkey rules.yaml"}


def as_text() -> str:
    """The schema as the file that is shipped."""
    return json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"
