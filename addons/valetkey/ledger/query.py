"""What one can ask the ledger, and the answer in sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

GROUPS = ("agent", "project", "client", "provider", "model", "key", "route", "format", "outcome", "day", "hour")
"""What totals can be broken down by. Days and hours are UTC."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which receipts. Times are Unix seconds, `since` included, `until` not; `limit` keeps the newest."""

    since: float | None = None
    until: float | None = None
    agent: str | None = None
    project: str | None = None
    model: str | None = None
    provider: str | None = None
    key: str | None = None
    route: str | None = None
    outcome: str | None = None
    refused: bool | None = None
    limit: int | None = None
    after: int | None = None
    """Only receipts written later than this row number (for following)."""


@dataclass(frozen=True, slots=True)
class Total:
    """Sums over one group.

    A connection whose answers have receipts of their own is not counted besides them. `failed` are the calls that went out
    and did not end well. `unpriced` counts calls that used tokens without a known price; their cost is not in `cost_usd`,
    which is exact.
    """

    group: Mapping[str, str | None]
    calls: int
    refused: int
    failed: int
    unpriced: int
    usage: Mapping[str, int]
    cost_usd: Decimal
