"""Events of a connection through its layers, with hooks that need no task of their own.

mitmproxy starts a task for each hook of a flow; its end waits for the lock of the connection, and for one more round of the
event loop. But nearly all hooks have nothing to wait for: their listeners are plain functions. Here such a hook runs where
it comes up, and its end is the next event of the same round; for a layer that asks for it (`hook_is_over`) it runs inside that
layer, and its end is no event at all. A hook with a coroutine among its listeners gets its task as ever, and one that turns
out to wait goes on in a task from there.

What comes from a connection goes to its layers as it arrives, in the name of the task that waits for it, and what goes to one,
with nothing else between, is written at once. Four differences remain. For a plain function
`asyncio.current_task` is the connection's own task, and the context variables that it sets are the connection's. A hook runs
before what the layers command after it in the same event, not when that is done. Lines for the log are written when all else
that the event led to is done. And what has arrived meanwhile is seen after the end of the hook, not before: the order in which
mitmproxy sees them is left to chance.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from mitmproxy import flow
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events, server
from mitmproxy.proxy.layers.http import HttpRequestHeadersHook
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.utils import asyncio_utils

from . import hooks
from .inlet import Inlet

logger = logging.getLogger(__name__)

_ORIGINAL = server.ConnectionHandler.server_event
_HANDLE_CONNECTION = server.ConnectionHandler.handle_connection
_HANDLE_HOOK = ProxyConnectionHandler.handle_hook
_HOOK_TASK = server.ConnectionHandler.hook_task


def install() -> bool:
    """Drive all connections from here from now on; False, with a notice in the log, when mitmproxy's internals differ."""
    problem = differences()
    if problem is not None:
        logger.warning("valetkey: each hook gets a task of its own, which is slower: %s", problem)
        return False
    server.ConnectionHandler.server_event = server_event  # type: ignore[method-assign]
    server.ConnectionHandler.handle_connection = handle_connection  # type: ignore[method-assign]
    return True


def uninstall() -> None:
    """Let mitmproxy drive its connections itself again."""
    if server.ConnectionHandler.server_event is server_event:
        server.ConnectionHandler.server_event = _ORIGINAL  # type: ignore[method-assign]
        server.ConnectionHandler.handle_connection = _HANDLE_CONNECTION  # type: ignore[method-assign]


# The names of the arguments are those of the method that this takes the place of.
async def server_event(self: server.ConnectionHandler, event: events.Event) -> None:
    """Give an event to the layers of a connection, and carry out what they command."""
    async with self._server_event_lock:
        # No `await` beyond this point: layers must never be entered twice.
        _drive(self, event)


@dataclass(slots=True)
class _Round:
    """One event on its way through the layers of a connection."""

    handler: server.ConnectionHandler
    unsent: list[commands.SendData] = field(default_factory=list)
    lines: list[commands.Log] = field(default_factory=list)
    """For the log. An agent need not wait while they are written."""
    has_run: bool = False
    """Whether a hook has run where it came up."""
    begun: commands.StartHook | None = None
    """A hook that runs already when its command comes up here."""


_now: _Round | None = None
"""The innermost round."""


def hook_is_over(hook: commands.StartHook) -> bool:
    """Run a hook of the present round here and now, rather than send it up through all layers and its end down again.

    False: it is not over. Then the command has to go up as ever, and its end will come down. That is so for a request that
    was read in the middle of the one before it, too: it must wait until that has let go of its connection.
    """
    here = _now
    if here is None or (here.has_run and isinstance(hook, HttpRequestHeadersHook)):
        return False
    here.has_run = True
    _send(here.handler, here.unsent)
    if not _start(here.handler, hook):
        here.begun = hook
        return False
    if hook.blocking:
        here.handler.timeout_watchdog.register_activity()
    return True


def replace_first(old: object, new: Any) -> bool:
    """Give the events of the present connection to another layer from the next one on; False where `old` does not get them."""
    if _now is None or _now.handler.layer is not old:
        return False
    _now.handler.layer = new
    return True


def _drive(handler: server.ConnectionHandler, event: events.Event) -> None:
    """Give an event to the layers. Only for who holds the connection's lock."""
    global _now
    outer, _now = _now, _Round(handler)
    try:
        _through_layers(_now, event)
    finally:
        _now = outer


def _through_layers(here: _Round, event: events.Event) -> None:
    handler, unsent, lines = here.handler, here.unsent, here.lines
    ended: deque[events.Event] = deque((event,))
    while ended:
        handler.timeout_watchdog.register_activity()
        try:
            for command in handler.layer.handle_event(ended.popleft()):
                if isinstance(command, commands.SendData):
                    if unsent and unsent[0].connection is not command.connection:
                        _send(handler, unsent)
                    unsent.append(command)
                    continue
                if type(command) is commands.Log:
                    lines.append(command)
                    continue
                if unsent:
                    _send(handler, unsent)
                if not isinstance(command, commands.StartHook):
                    _carry_out(handler, command)
                elif command is here.begun:
                    here.begun = None
                elif _start(handler, command) and command.blocking:
                    ended.append(events.HookCompleted(command))
            if unsent:
                _send(handler, unsent)
            if lines:
                _log(handler, lines)
        except Exception:
            _send(handler, unsent)
            _log(handler, lines)
            handler.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)


async def handle_connection(self: server.ConnectionHandler, connection: Connection) -> None:
    """As mitmproxy does, but what comes while the task waits for it goes to the layers without waking the task."""
    io = self.transports[connection]
    if type(io.reader) is asyncio.StreamReader:
        io.reader = Inlet(self, connection, io.reader, _drive)  # type: ignore[assignment]
    await _HANDLE_CONNECTION(self, connection)


def _send(handler: server.ConnectionHandler, unsent: list[commands.SendData]) -> None:
    """Send what goes to one connection, of a stream as one piece: a write is a system call. Datagrams stay apart. Forgets it."""
    if not unsent:
        return
    to, data = unsent[0].connection, [command.data for command in unsent]
    io = handler.transports.get(to)
    unsent.clear()
    if io is not None:
        assert io.writer
        if not io.writer.is_closing():
            for piece in data if to.transport_protocol == "udp" else (b"".join(data),):
                io.writer.write(piece)


def _log(handler: server.ConnectionHandler, lines: list[commands.Log]) -> None:
    """Write lines to the log. Forgets them."""
    while lines:
        line = lines.pop(0)
        handler.log(line.message, line.level)


def _carry_out(handler: server.ConnectionHandler, command: commands.Command) -> None:
    """What mitmproxy does for all other commands."""
    match command:
        case commands.OpenConnection():
            assert command.connection not in handler.transports
            name = f"server connection handler {command.connection.address}"
            task = asyncio_utils.create_task(
                handler.open_connection(command), name=name, keep_ref=False, client=handler.client.peername
            )
            handler.transports[command.connection] = server.ConnectionIO(handler=task)
        case commands.RequestWakeup():
            timer = asyncio_utils.create_task(
                handler.wakeup(command),
                name=f"wakeup timer ({command.delay:.1f}s)",
                keep_ref=False,
                client=handler.client.peername,
            )
            handler.wakeup_timer.add(timer)
        case commands.ConnectionCommand() if command.connection not in handler.transports:
            pass  # it has been closed already
        case commands.CloseTcpConnection():
            handler.close_connection(command.connection, command.half_close)
        case commands.CloseConnection():
            handler.close_connection(command.connection, False)
        case commands.Log():  # of a class of its own
            handler.log(command.message, command.level)
        case _:
            raise RuntimeError(f"Unexpected command: {command}")


def _start(handler: server.ConnectionHandler, hook: commands.StartHook) -> bool:
    """Run a hook; True when it is over, False when a task goes on with it."""
    kind = type(handler)
    if kind.handle_hook is not _HANDLE_HOOK or kind.hook_task is not _HOOK_TASK:
        return _in_task(handler, hook, handler.hook_task(hook))
    assert isinstance(handler, ProxyConnectionHandler)
    manager = handler.master.addons
    try:
        ran = hooks.run_plain(manager, hook)
        if ran is not None and ran[1] is not None:
            begun = hooks.Begun(ran[1], hooks.run_ahead(manager, ran[1]))
            return _in_task(handler, hook, _go_on(handler, hook, ran[0], begun))
    except StopIteration:
        pass
    except (Exception, asyncio.CancelledError) as error:
        return _in_task(handler, hook, _fail(error))
    if ran is None:
        return _in_task(handler, hook, handler.hook_task(hook))
    if getattr(getattr(hook, ran[0]), "intercepted", False):
        return _in_task(handler, hook, _go_on(handler, hook, ran[0], None))
    return True


def _in_task(handler: server.ConnectionHandler, hook: commands.StartHook, work: Coroutine[Any, Any, None]) -> bool:
    name, client = f"handle_hook({hook.name})", handler.client.peername
    asyncio_utils.create_task(work, name=name, keep_ref=True, client=client)
    return False


async def _go_on(handler: ProxyConnectionHandler, hook: commands.StartHook, subject: str, begun: hooks.Begun | None) -> None:
    """The rest of mitmproxy's `hook_task`, for a hook that has to wait after all."""
    with handler.timeout_watchdog.disarm():
        if begun is not None:
            await begun
        data = getattr(hook, subject)
        if isinstance(data, flow.Flow):
            await data.wait_for_resume()
    if hook.blocking:
        await handler.server_event(events.HookCompleted(hook))


async def _fail(error: BaseException) -> None:
    """An error that mitmproxy lets end the task of the hook ends one here, too."""
    raise error


_RELIED_UPON: dict[str, tuple[object, int, str]] = {
    "ConnectionHandler.server_event": (
        _ORIGINAL,
        2,
        "_server_event_lock timeout_watchdog register_activity layer handle_event isinstance commands OpenConnection connection "
        "transports asyncio_utils create_task open_connection address client peername ConnectionIO RequestWakeup wakeup delay "
        "wakeup_timer add ConnectionCommand SendData writer is_closing write data CloseTcpConnection close_connection half_close "
        "CloseConnection StartHook hook_task name Log log message level RuntimeError Exception logging ERROR",
    ),
    "ConnectionHandler.hook_task": (
        _HOOK_TASK, 2, "handle_hook blocking server_event events HookCompleted",
    ),
    "ConnectionHandler.handle_connection": (
        _HANDLE_CONNECTION,
        2,
        "transports reader read OSError asyncio CancelledError server_event events DataReceived drain_writers transport_protocol "
        "state ConnectionState CAN_READ CLOSED ConnectionClosed CAN_WRITE Event wait writer close pop",
    ),
    "ProxyConnectionHandler.handle_hook": (
        _HANDLE_HOOK, 2, "timeout_watchdog disarm args master addons handle_lifecycle isinstance flow Flow wait_for_resume",
    ),
}  # fmt: skip
"""Methods that this module repeats: how many arguments they take, and the names they use."""


def differences() -> str | None:
    """What is not as this module expects it in mitmproxy, or None."""
    if server.ConnectionHandler.server_event is not _ORIGINAL:
        return "ConnectionHandler.server_event is replaced already"
    for name, (function, arguments, used) in _RELIED_UPON.items():
        code = getattr(function, "__code__", None)
        if not isinstance(code, CodeType) or code.co_argcount != arguments or set(code.co_names) != set(used.split()):
            return f"{name} is not what it was in mitmproxy 12.2"
    return None
