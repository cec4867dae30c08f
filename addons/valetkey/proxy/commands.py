"""What a person can do from mitmweb or the console: the commands `valetkey.keys` and its kin, the same as `valetkey keys`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mitmproxy import command, exceptions

from ..ledger import Order
from .memory import document, upstreams
from .runtime import Runtime

logger = logging.getLogger(__name__)


class ValetCommands:
    """The commands."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @command.command("valetkey.keys")  # type: ignore[untyped-decorator]
    def keys(self) -> Sequence[str]:
        """How each key is: its state, calls in flight, calls made, what remains of its limits."""
        now, snapshot = self.runtime.now(), self.runtime.snapshot
        lines = [line(self.runtime, key, problem, now) for key, problem in snapshot.states.items()]
        lines += upstreams(self.runtime, now)
        for text in lines:
            logger.info("valetkey: %s", text)
        return lines

    @command.command("valetkey.keys.disable")  # type: ignore[untyped-decorator]
    def disable(self, key: str) -> None:
        """Use a key no more, until it is enabled."""
        self._order("disable", key)

    @command.command("valetkey.keys.enable")  # type: ignore[untyped-decorator]
    def enable(self, key: str) -> None:
        """Use a key again that was disabled or is out."""
        self._order("enable", key)

    @command.command("valetkey.keys.reset")  # type: ignore[untyped-decorator]
    def reset(self, key: str) -> None:
        """Forget why a key rests or is out."""
        self._order("reset", key)

    def _order(self, verb: str, key: str) -> None:
        if key not in self.runtime.snapshot.states:
            raise exceptions.CommandError(f"there is no key {key}; keys are {', '.join(self.runtime.snapshot.states) or 'none'}")
        if self.runtime.memory is None:
            raise exceptions.CommandError("the gateway is not ready yet")
        self.runtime.memory.obey(Order(verb, key, self.runtime.now()))
        logger.info("valetkey: %s %s: done", verb, key)


def line(runtime: Runtime, key: str, problem: str | None, now: float) -> str:
    """One key in one line; never its value."""
    if problem is not None:
        return f"{key}: {problem}"
    shown = document(runtime, key, now)
    rests = [f"{rest['model']} {rest['reason']} {rest['until'] - now:.0f} s" for rest in shown["rests"]]
    state = f"{shown['state']}" + (f" ({shown['reason']})" if shown["reason"] else "")
    left = f", {shown['remaining']:.0%} of {shown['remaining_dimension']} left" if shown["remaining"] is not None else ""
    return f"{key}: {state}{': ' + ', '.join(rests) if rests else ''}, {shown['in_flight']} in flight, {shown['used']} used{left}"
