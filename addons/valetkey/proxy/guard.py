"""Fail closed: mitmproxy lets a flow go on when a hook raises, so no hook of ours ever does.

Every hook that sees traffic wears `@guarded`. Until the gateway is ready, and after a defect, the call ends with a refusal
in place of an answer; the traceback goes to the log, which never holds a secret because no hook ever has one in reach.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from mitmproxy import connection, http, tls
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy import commands, events, layer, server_hooks

from ..model import Dialect, Outcome, Refusal
from . import refusals
from .runtime import Runtime

logger = logging.getLogger(__name__)

STARTING = Refusal(503, "starting", "the gateway is not ready yet; try again in a second", retry_after=1)
DEFECT = Refusal(502, "gateway_error", "a defect in the gateway stopped this call; nothing was passed on. See the gateway's log")
LAST_HOOKS = ("response", "error", "websocket_end")
"""After these no other hook comes that could write the receipt."""
PATIENCE = 10.0
"""Seconds that a replayed flow waits for the gateway to be ready."""
_SLICE = 0.05
STOPPED = "valetkey stopped this connection"


class Guarded(Protocol):
    """An addon with guarded hooks."""

    runtime: Runtime


def guarded[A: Guarded, D](hook: Callable[[A, D], Any]) -> Callable[[A, D], Any]:
    """Wrap a hook (plain or async): refuse while not ready, refuse on any exception."""

    @functools.wraps(hook)
    def wrapper(addon: A, data: D) -> Awaitable[None] | None:
        try:
            if not addon.runtime.ready:
                if isinstance(data, http.HTTPFlow) and data.is_replay == "request":
                    return _when_ready(addon, wrapper, data)
                _stop(addon.runtime, data, STARTING)
                return None
            result = hook(addon, data)
        except AddonHalt:
            raise  # meant for mitmproxy: no other addon is to hear of this event
        except Exception:
            _defect(addon.runtime, hook.__name__, data)
            return None
        if result is None or not inspect.isawaitable(result):
            return None
        return _watched(addon.runtime, hook.__name__, data, result)

    wrapper.__guarded__ = True  # type: ignore[attr-defined]
    return wrapper


async def _when_ready[A: Guarded](addon: A, hook: Callable[[A, Any], Any], flow: http.HTTPFlow) -> None:
    """A replay begins with mitmproxy itself, before our doors are open; it waits for them."""
    for _ in range(round(PATIENCE / _SLICE)):
        if addon.runtime.ready:
            break
        await asyncio.sleep(_SLICE)
    else:
        _stop(addon.runtime, flow, STARTING)
        return
    result = hook(addon, flow)
    if inspect.isawaitable(result):
        await result


async def _watched(runtime: Runtime, name: str, data: object, result: Awaitable[None]) -> None:
    try:
        await result
    except Exception:
        _defect(runtime, name, data)


def _defect(runtime: Runtime, name: str, data: object) -> None:
    logger.exception("valetkey: defect in %s; the call is refused", name)
    try:
        _stop(runtime, data, DEFECT)
        if name in LAST_HOOKS and isinstance(data, http.HTTPFlow):
            runtime.settle(data)
    except Exception:
        logger.exception("valetkey: the call could not be refused in order; it is killed")
        if isinstance(data, http.HTTPFlow) and data.killable:
            data.kill()


def _stop(runtime: Runtime, data: object, refusal: Refusal) -> None:
    """End whatever a hook was given: a flow gets an answer, a connection an error."""
    match data:
        case http.HTTPFlow():
            stop_flow(runtime, data, refusal)
        case server_hooks.ServerConnectionHookData():
            data.server.error = STOPPED
        case connection.Client():
            data.error = STOPPED
        case layer.NextLayer():
            data.layer = ClosingLayer(data.context)
        case tls.TlsData():
            pass  # mitmproxy's own TlsConfig has made the handshake as it should be
        case _:
            raise TypeError(f"a hook was given {type(data).__name__}, which the guard cannot stop")


def stop_flow(runtime: Runtime, flow: http.HTTPFlow, refusal: Refusal) -> None:
    """Put a refusal in place of the answer, or kill a flow whose answer is already on its way."""
    passage = runtime.passages.of(flow)
    if flow.response is not None and flow.response.stream:
        if passage is not None:
            passage.outcome = Outcome.GATEWAY
        if flow.killable:
            flow.kill()
        return
    flow.response = refusals.response(refusal, passage.dialect if passage else Dialect.OPENAI)
    if passage is not None:
        passage.plan = None
        passage.refusal = refusal
        passage.outcome = Outcome.GATEWAY if refusal is DEFECT else Outcome.REFUSED


def shielded[T, *A](what: str, otherwise: T, step: Callable[[*A], T], *args: *A) -> T:
    """Run a step that must not cost the receipt: on a defect, log it and go on with `otherwise`."""
    try:
        return step(*args)
    except Exception:
        logger.exception("valetkey: defect in %s; the receipt is written without it", what)
        return otherwise


def closing(steps: layer.CommandGenerator[None], client: connection.Client) -> layer.CommandGenerator[None]:
    """Go through the steps of a connection's layers; on a defect, log it and close the connection."""
    try:
        yield from steps
    except Exception:
        logger.exception("valetkey: defect in the layers of a connection; it is closed")
        yield commands.CloseConnection(client)


class ClosingLayer(layer.Layer):
    """A layer that closes the client's connection, whatever comes."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield commands.CloseConnection(self.context.client)
