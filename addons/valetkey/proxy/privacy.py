"""Files that others must not read: the authority's key, and what mitmproxy writes of flows.

Whoever has the authority's key can be any host to everybody who trusts it, so a gateway does not start on one that others may
read. mitmproxy itself makes it with mode 0600; a copy, a backup or an image may not have kept that.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mitmproxy.options import Options
from mitmproxy.proxy.mode_specs import ProxyMode, WireGuardMode

from ..errors import StartError
from ..secrets import ownership

KEYS = ("mitmproxy-ca.pem", "mitmproxy-ca.p12")
"""What mitmproxy keeps the authority's private key in, in `confdir`."""
WIREGUARD = "wireguard.conf"
"""Where mitmproxy keeps the keys of its WireGuard door, that of the client too; it is made for all to read."""
_WRITTEN = ("save_stream_file", "hardump")
"""Options that name a file of flows."""


def check_authority(confdir: str) -> None:
    """Raise StartError when others may read or change the authority's key."""
    folder = Path(os.path.expanduser(confdir))  # noqa: PTH111 - that of Path raises for unknown users
    if not folder.is_dir():
        return
    if reason := ownership.writable(folder.stat()):
        raise StartError(f"{folder}, where the certificate authority is kept, {reason}; chmod 700 it")
    for path in (folder / name for name in KEYS):
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        if mode & 0o077:
            text = f"{path}, the key of the certificate authority, may be read by others (mode {mode:04o})"
            raise StartError(f"{text}; chmod 600 it, or make a new one")


def keep_private(options: Options) -> None:
    """From now on no file that this process makes is for others; those of flows and WireGuard that are there already, neither."""
    before = os.umask(0o077)
    os.umask(before | 0o077)
    for path in (*_flow_files(options), *_wireguard_files(options)):
        if path.is_file():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)


def _wireguard_files(options: Options) -> Iterator[Path]:
    for mode in map(ProxyMode.parse, options.mode):
        if isinstance(mode, WireGuardMode):
            path = mode.data or os.path.join(options.confdir, WIREGUARD)  # noqa: PTH118
            yield Path(os.path.expanduser(path))  # noqa: PTH111


def _flow_files(options: Options) -> Iterator[Path]:
    for name in _WRITTEN:
        value = getattr(options, name, None)
        if isinstance(value, str) and value.lstrip("+") not in ("", "-"):
            yield Path(os.path.expanduser(value.lstrip("+")))  # noqa: PTH111
