"""WebSockets of the tests: `websockets` on a loop of its own, spoken to without `await`.

Its client of threads is not used: two of its threads share one TLS object, which OpenSSL answers with `internal error` at times.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterable, Iterable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from support.processes import PATIENCE, Gateway

RESPONSES = "wss://api.openai.com/v1/responses"
REALTIME = "wss://api.openai.com/v1/realtime?model=gpt-realtime"
LIVE = "wss://generativelanguage.googleapis.com/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


def opening(gateway: Gateway, url: str = RESPONSES, dummy: str = "sk-dummy", simulate: str = "", **options: Any) -> connect:
    """A connection, not open yet: through the proxy door, or to the base-URL door where that is what `url` names."""
    name, value = ("x-goog-api-key", dummy) if url == LIVE else ("authorization", f"Bearer {dummy}")
    headers = {name: value} if dummy else {}
    headers |= {"x-simulate": simulate} if simulate else {}
    if url.startswith("wss:"):
        options |= {"proxy": gateway.proxy, "ssl": ssl.create_default_context(cafile=str(gateway.ca))}
    options = {
        "proxy": None,
        "additional_headers": headers,
        "open_timeout": PATIENCE,
        "close_timeout": PATIENCE,
        "max_size": None,
    } | options
    return connect(url, **options)


class Socket:
    """An open connection."""

    def __init__(self, gateway: Gateway, url: str = RESPONSES, **options: Any) -> None:
        self._runner = asyncio.Runner()
        try:
            self.connection: ClientConnection = self._runner.run(self._open(opening(gateway, url, **options)))
        except BaseException:
            self._runner.close()
            raise

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    async def _open(waiting: connect) -> ClientConnection:
        return await waiting

    def send(self, message: dict[str, Any] | str | bytes | Iterable[str] | AsyncIterable[str]) -> None:
        """Send a message; a document as JSON, a list of texts in as many fragments."""
        self._runner.run(self.connection.send(json.dumps(message) if isinstance(message, dict) else message))

    def receive(self) -> dict[str, Any]:
        """The next message, a document."""
        found: dict[str, Any] = json.loads(self.receive_raw())
        return found

    def receive_raw(self) -> str | bytes:
        """The next message as it came."""
        return self._runner.run(asyncio.wait_for(self.connection.recv(), PATIENCE))

    def until(self, *ends: str) -> list[dict[str, Any]]:
        """All messages up to one of these types; of Gemini's messages the names of their members count."""
        events = [self.receive()]
        while not {events[-1].get("type"), *events[-1], *events[-1].get("serverContent", {})} & set(ends):
            events.append(self.receive())
        return events

    def ask(
        self, text: str = "hello", model: str = "gpt-4.1", end: str = "response.completed", **more: Any
    ) -> list[dict[str, Any]]:
        """Ask for a response, and give its events."""
        self.send({"type": "response.create", "model": model, "input": text, **more})
        return self.until(end)

    def ask_either(self) -> dict[str, Any]:
        """Ask for a response, and give its end: its last event or an error."""
        self.send({"type": "response.create", "model": "gpt-4.1", "input": "hello"})
        return self.until("response.completed", "error")[-1]

    def close(self) -> None:
        """Close it in good order."""
        self._runner.run(self.connection.close())
        self._runner.close()

    def abort(self) -> None:
        """Leave without a word."""
        self.connection.transport.abort()
        self._runner.run(self.connection.wait_closed())
        self._runner.close()

    def wait_closed(self) -> tuple[int, str]:
        """Wait for the end; code and reason of the close."""
        self._runner.run(asyncio.wait_for(self.connection.wait_closed(), PATIENCE))
        return self.connection.close_code or 0, self.connection.close_reason or ""
