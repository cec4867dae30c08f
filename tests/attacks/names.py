"""Loaded into the gateway's process by the attack suite only: the names of the range.

Providers' names lead to the recording servers, every other name and public address to the attacker's, this machine's own
addresses where they always lead. Everything above the socket stays as in production: names, SNI, verification, ALPN.
`VALETKEY_RANGE` is JSON: `ports` (host -> port here), `evil`, `plain` and `local` (ports), `names` (host -> addresses given in
turn).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from ipaddress import ip_address
from typing import Any

_TABLE: dict[str, Any] = json.loads(os.environ.get("VALETKEY_RANGE", "{}"))
_PUBLIC = "93.184.216.34"
_original = asyncio.open_connection
_resolve = asyncio.BaseEventLoop.getaddrinfo


def _address(host: str) -> str:
    """The address of a name: its own list in turn, else a public one."""
    answers = _TABLE["names"].get(host.lower(), [_PUBLIC])
    return str(answers.pop(0) if len(answers) > 1 else answers[0])


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _getaddrinfo(loop: Any, host: str, port: int, **options: Any) -> Any:
    if host == "localhost" or _is_address(host) or host.isdigit():
        return await _resolve(loop, host, port, **options)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (_address(host), port))]


async def _open_connection(host: str | None = None, port: int | str | None = None, **options: Any) -> Any:
    if not _TABLE or host is None or port is None:
        return await _original(host, port, **options)
    known = _TABLE["ports"].get(host.lower().rstrip("."))
    if known is not None:
        return await _original("127.0.0.1", _TABLE["plain"] if int(port) == 80 else known, **options)
    address = host if _is_address(host) else _address(host)
    if not ip_address(address).is_global:
        return await _original("127.0.0.1", _TABLE["local"] if int(port) in (80, 443) else port, **options)
    return await _original("127.0.0.1", _TABLE["plain"] if int(port) == 80 else _TABLE["evil"], **options)


asyncio.open_connection = _open_connection  # type: ignore[assignment]
asyncio.BaseEventLoop.getaddrinfo = _getaddrinfo  # type: ignore[assignment,method-assign]
addons: list[object] = []
