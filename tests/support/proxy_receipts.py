"""A receipt for tests of what is shown."""

from __future__ import annotations

from typing import Any

from valetkey.model import Receipt


def receipt(**changes: Any) -> Receipt:
    """A good call, with `changes`."""
    base: dict[str, Any] = {
        "id": "1", "time": 0.0, "agent": "alice", "project": None, "client": "", "provider": "openai", "model": "gpt-4o",
        "requested_model": "gpt-4o", "format": "openai_chat", "route": "default", "key": "openai/1", "status": 200,
        "outcome": "ok", "streamed": False, "duration_ms": 1300.0, "cost_usd": "0.0041",
        "usage": {"input_tokens": 1200, "cache_read_tokens": 800, "output_tokens": 312}, "usage_source": "reported",
    }  # fmt: skip
    return Receipt(**base | changes)
