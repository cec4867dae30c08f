"""One line per call: what a person wants to see scroll by, or JSON for a machine."""

from __future__ import annotations

import json
import logging
from typing import Any, Literal

from mitmproxy import log

from ..ledger import to_dict
from ..model import Receipt

logger = logging.getLogger("valetkey.calls")
_BRIDGE: Any = getattr(log, "LegacyLogEvents", ())


def log_call(receipt: Receipt, style: Literal["text", "json"], *, bridged: bool = True) -> None:
    """Log a settled call: INFO when it went well, WARNING when it did not.

    Not `bridged`, it is kept from mitmproxy's bridge to the hook `add_log`, which costs more than the call's receipt.
    """
    level = logging.INFO if receipt.outcome == "ok" else logging.WARNING
    if not logger.isEnabledFor(level):
        return
    takers = None if bridged else _takers(level)
    if takers == []:
        return
    text = json.dumps(to_dict(receipt), separators=(",", ":")) if style == "json" else line(receipt)
    record = logger.makeRecord(logger.name, level, __file__, 0, "%s", (text,), None)
    if takers is None:
        logger.handle(record)
        return
    for each in takers:
        each.handle(record)


def _takers(level: int) -> list[logging.Handler]:
    """All but the bridge that a record of ours is given to."""
    found: list[logging.Handler] = []
    place: logging.Logger | None = logger
    while place is not None:
        found += [each for each in place.handlers if each.level <= level and not isinstance(each, _BRIDGE)]
        place = place.parent if place.propagate else None
    return found


def line(receipt: Receipt) -> str:
    """`200 openai/gpt-4o · alice · openai/1 · 1.2k in (800 cached) 312 out · $0.0041 · 1.3 s`"""
    name = f"{receipt.provider or '?'}/{receipt.model}" if receipt.model else (receipt.provider or "?")
    seconds = f"{(receipt.duration_ms or 0) / 1000:.2g} s"
    return " · ".join(filter(None, [f"{receipt.status or '---'} {name}", *_rest(receipt), seconds]))


def comment(receipt: Receipt) -> str:
    """`gpt-4o · alice · openai/1 · 1.2k in (800 cached) 312 out · $0.0041`"""
    return " · ".join(filter(None, [receipt.model or receipt.provider or "?", *_rest(receipt)]))


def _rest(receipt: Receipt) -> list[str | None]:
    tries = f"{len(receipt.attempts)} attempts" if len(receipt.attempts) > 1 else None
    return [receipt.agent, receipt.key, tries, usage(receipt), cost(receipt), trouble(receipt)]


def usage(receipt: Receipt) -> str | None:
    """Tokens in and out, None where nothing is known."""
    if not receipt.usage:
        return None
    tokens_in, cached = receipt.usage.get("input_tokens", 0), receipt.usage.get("cache_read_tokens", 0)
    mark = "~" if receipt.usage_source == "estimated" else ""
    cache = f" ({count(cached)} cached)" if cached else ""
    return f"{mark}{count(tokens_in)} in{cache} {mark}{count(receipt.usage.get('output_tokens', 0))} out"


def cost(receipt: Receipt) -> str | None:
    """The cost in dollars; says so when there are tokens without a price."""
    if receipt.cost_usd is None:
        return "no price" if receipt.usage else None
    digits = 4 if float(receipt.cost_usd) >= 0.001 else 6
    return f"${float(receipt.cost_usd):.{digits}f}"


def trouble(receipt: Receipt) -> str | None:
    """What went wrong, None when nothing did."""
    if receipt.refused:
        return f"refused: {receipt.refused}"
    return None if receipt.outcome == "ok" else receipt.outcome


def count(number: int) -> str:
    """`312`, `1.2k`, `3.4M`."""
    for limit, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= limit:
            return f"{number / limit:.1f}".removesuffix(".0") + unit
    return str(number)
