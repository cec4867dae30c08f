"""How much work a piece of code does, counted instead of timed: lines and jumps of the package's own Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType

import valetkey

_TOOL = 4
_ROOT = str(valetkey.__path__[0])
_LINE, _JUMP = sys.monitoring.events.LINE, sys.monitoring.events.JUMP


class TooManySteps(BaseException):
    """The limit was passed. Not an `Exception`, so that no parser takes it for one of its own."""


class Counter:
    """Steps so far, of at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.steps, self.limit = 0, limit

    def count(self) -> None:
        """One more. Raises TooManySteps."""
        self.steps += 1
        if self.steps > self.limit:
            raise TooManySteps


_counters: list[Counter] = []
"""The one that counts now, or none."""


def _on_step(code: CodeType, *_: int) -> object:
    if not code.co_filename.startswith(_ROOT):
        return sys.monitoring.DISABLE
    if _counters:
        _counters[-1].count()
    return None


@contextmanager
def monitored() -> Iterator[None]:
    """Watch steps within the block. To begin and end this for each input would take longer than most inputs do."""
    monitoring = sys.monitoring
    if monitoring.get_tool(_TOOL) is not None:
        yield
        return
    monitoring.use_tool_id(_TOOL, "valetkey fuzz")
    try:
        for event in (_LINE, _JUMP):
            monitoring.register_callback(_TOOL, event, _on_step)
        monitoring.set_events(_TOOL, _LINE | _JUMP)
        yield
    finally:
        monitoring.set_events(_TOOL, 0)
        monitoring.free_tool_id(_TOOL)


@contextmanager
def counted(limit: int) -> Iterator[Counter]:
    """Count within the block. Raises AssertionError when more than `limit` steps were taken."""
    counter = Counter(limit)
    with monitored():
        _counters.append(counter)
        try:
            yield counter
        except TooManySteps:
            raise AssertionError(f"it takes more than {limit} steps") from None
        finally:
            _counters.pop()
