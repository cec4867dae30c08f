"""Bytes from a connection go to its layers as they arrive.

mitmproxy has a task for each connection that waits for bytes; waking it takes a future and one more round of the event loop,
which is a twentieth of a small call. Here the task is woken for the end only, and when a receiver is slower than the sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mitmproxy.connection import Connection
from mitmproxy.proxy import events, server

READ_SIZE = 1 << 16
"""Bytes that are read at once. asyncio asks for four times as many, and gets the memory from the system each time, in 9 µs."""

Drive = Callable[[server.ConnectionHandler, events.Event], None]


class Inlet:
    """In the place of a connection's reader; made by the task that reads from it.

    While that task waits, data go to the layers in its name, by `drive`, which is called with the lock of the connection held.
    When not all was taken that was sent, the task is woken, waits until it is, and nothing goes to the layers meanwhile.
    """

    def __init__(
        self, handler: server.ConnectionHandler, connection: Connection, reader: asyncio.StreamReader, drive: Drive
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handler, self._connection, self._reader, self._drive = handler, connection, reader, drive
        self._task, self._context, self._loop = task, task.get_context(), task.get_loop()
        self._waits = False
        """Whether the task waits for data, and nothing has woken it."""
        self._is_ahead = False
        """Whether a receiver has to be waited for."""
        writer = handler.transports[connection].writer
        if isinstance(writer, asyncio.StreamWriter) and hasattr(writer.transport, "max_size"):
            writer.transport.max_size = READ_SIZE
        reader.feed_data = self._feed  # type: ignore[method-assign,assignment]

    async def read(self, size: int) -> bytes:
        """The next bytes that did not go to the layers by themselves; none at the end."""
        while True:
            self._waits = True
            try:
                data = await self._reader.read(size)
            finally:
                self._waits = False
            if self._is_ahead:
                self._is_ahead = False
                await self._handler.drain_writers()
            if data or self._reader.at_eof():
                return data

    def _feed(self, data: bytes) -> None:
        lock = self._handler._server_event_lock
        if not self._waits or self._task.cancelling() or asyncio.current_task() is not None or not _is_taken(lock):
            self._waits = False
            asyncio.StreamReader.feed_data(self._reader, data)
            return
        asyncio._enter_task(self._loop, self._task)
        try:
            self._context.run(self._drive, self._handler, events.DataReceived(self._connection, data))
        finally:
            asyncio._leave_task(self._loop, self._task)
            lock.release()
        if any(map(_is_behind, self._handler.transports.values())):
            self._waits, self._is_ahead = False, True
            self._reader._wakeup_waiter()  # type: ignore[attr-defined]


def _is_taken(lock: asyncio.Lock) -> bool:
    """Take a lock, if that needs no waiting. One that is free may still have to go to somebody who has waited for it."""
    steps = lock.acquire()
    try:
        steps.send(None)
    except StopIteration:
        return True
    steps.close()
    return False


def _is_behind(io: server.ConnectionIO) -> bool:
    """Whether a receiver has not taken all that was sent to it, or has gone."""
    writer = io.writer
    if writer is None:
        return False
    return not isinstance(writer, asyncio.StreamWriter) or writer.is_closing() or bool(writer.transport.get_write_buffer_size())
