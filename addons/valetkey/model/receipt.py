"""The record of one call. Field names are a contract (docs/metering.md); do not change their meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from .outcome import Outcome

UsageSource = Literal["reported", "estimated", "none"]
CostSource = Literal["prices", "reported", "none"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one target with one key. `ms` is milliseconds; `status` None when no answer came."""

    provider: str
    model: str | None
    key: str | None
    upstream: str
    status: int | None = None
    outcome: Outcome | None = None
    ms: float | None = None


@dataclass(frozen=True, slots=True)
class Metering:
    """Usage and cost of one answer.

    `usage` has the field names of `genai-prices` and whole numbers; an absent field was not reported, a zero was.
    `cost_usd` is exact; None when no price is known.
    """

    usage: Mapping[str, int] = field(default_factory=dict)
    usage_source: UsageSource = "none"
    cost_usd: Decimal | None = None
    cost_source: CostSource = "none"
    model: str | None = None
    """The model that the provider says it used."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One call, settled. `time` is Unix seconds; `id` unique; `refused` the reason word or None."""

    id: str
    time: float
    agent: str
    project: str | None
    client: str
    provider: str | None
    model: str | None
    requested_model: str | None
    format: str | None
    route: str | None
    key: str | None
    status: int | None
    outcome: str
    streamed: bool
    attempts: tuple[Attempt, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict)
    usage_source: UsageSource = "none"
    cost_usd: str | None = None
    cost_source: CostSource = "none"
    ttft_ms: float | None = None
    duration_ms: float | None = None
    request_id: str | None = None
    refused: str | None = None
    parent: str | None = None
    """The receipt of the connection that this answer came over."""
    notes: tuple[str, ...] = ()
    """Facts worth keeping: `foreign_key_replaced`, `unmetered`, `client_left`."""
    messages_in: int | None = None
    """Messages that the agent sent over a connection; None for what is no connection."""
    messages_out: int | None = None
    """Messages that the provider sent over it."""
    answers: int | None = None
    """Receipts whose `parent` this connection is."""
