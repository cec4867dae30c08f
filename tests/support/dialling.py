"""Loaded into the gateway's process by tests only: the providers' names lead to the simulator on this machine.

Everything above the socket stays as in production: host names, SNI, certificate verification, ALPN.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

_PORTS: dict[str, int] = json.loads(os.environ.get("VALETKEY_TEST_DIAL", "{}"))
_original = asyncio.open_connection


async def _open_connection(host: str | None = None, port: int | str | None = None, **options: Any) -> Any:
    if host in _PORTS and port == 443:
        host, port = "127.0.0.1", _PORTS[host]
    return await _original(host, port, **options)


asyncio.open_connection = _open_connection  # type: ignore[assignment]
addons: list[object] = []
