"""Adding receipts up, exactly."""

from __future__ import annotations

import json
from decimal import Context, Decimal, Inexact

from .query import Total

_EXACT = Context(prec=500, traps=[Inexact])
"""Python's usual context rounds to 28 digits. A sum that needs more than 500 is an error, not a rounded one."""


class Sum:
    """The sums of one group, row by row."""

    def __init__(self) -> None:
        self._calls = self._refused = self._failed = self._unpriced = 0
        self._usage: dict[str, int] = {}
        self._cost = Decimal(0)

    def add(self, outcome: str, refused: str | None, usage: str, cost: str | None) -> None:
        """Count one receipt, given as the ledger keeps it: usage as JSON, cost as a decimal text."""
        tokens = json.loads(usage)
        self._calls += 1
        self._refused += refused is not None
        self._failed += refused is None and outcome != "ok"
        self._unpriced += bool(tokens) and cost is None
        if cost is not None:
            self._cost = _EXACT.add(self._cost, Decimal(cost))
        for name, count in tokens.items():
            self._usage[name] = self._usage.get(name, 0) + count

    def total(self, group: dict[str, str | None]) -> Total:
        """The sums so far, under the group's name."""
        return Total(group, self._calls, self._refused, self._failed, self._unpriced, self._usage, self._cost)
