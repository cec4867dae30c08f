"""Lists of prices as they are published."""

from __future__ import annotations

from typing import Any

GPT = {"input_mtok": 2.5, "cache_read_mtok": 1.25, "output_mtok": 10}


def model(name: str = "gpt-4o", prices: Any = None, match: Any = None) -> dict[str, Any]:
    """A model with prices."""
    return {"id": name, "match": match or {"equals": name}, "prices": GPT if prices is None else prices}


def published(*models: dict[str, Any], count: int = 120) -> list[dict[str, Any]]:
    """A list with these models at OpenAI, and enough others to be taken for a whole list."""
    others = [model(f"other-{number}") for number in range(count)]
    return [
        {"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": list(models or [model()]), "extractors": "left out"},
        {"id": "others", "name": "Others", "api_pattern": "y", "models": others},
    ]
