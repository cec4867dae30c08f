"""The turns of the event loop: what can wait for a later one, and whether somebody waits for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from selectors import BaseSelector


def later(loop: asyncio.AbstractEventLoop, seconds: float, step: Callable[[], None]) -> None:
    """Run a step after so many seconds; after none, when the loop has handed over what it is busy with."""
    if seconds:
        loop.call_later(seconds, step)
    else:
        loop.call_soon(step)


def is_busy(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether something has come that the loop has not looked at. False for loops that cannot be asked without a turn."""
    if getattr(loop, "_ready", ()):
        return True
    # Asking takes nothing away here: what is ready stays so until it is read. Others, such as that of Windows, give it once.
    selector = getattr(loop, "_selector", None)
    return isinstance(selector, BaseSelector) and bool(selector.select(0))
