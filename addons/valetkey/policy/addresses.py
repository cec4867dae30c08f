"""Where connections may lead: which addresses and hosts are off limits unless the rules name them.

**Private addresses.** The gateway often stands where the agent could not reach: on a host with services on loopback, in a
network with databases, on a cloud machine whose metadata service gives credentials to whoever asks. So only addresses of the
public internet are open. An address that is not public is open when rules.yaml names it, in one of two ways:

- as an `upstream` of a provider, for the calls to that provider and nothing else;
- in `gateway.egress_allow`, by its name in full, its address or its network. A pattern (`*.corp`) opens no private address:
  who owns one name under it could lead it anywhere.

The gateway's own ports on this machine are open in no case. Names are judged before they are resolved (`destination`), the
address once more when it is dialled (`address_refusal`), for a name may lead elsewhere when it is asked again. Where an upstream
proxy dials, the address is its to judge.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ..model import Refusal, Rules
from .authority import Authority, is_address, parse_authority, parse_host

IPAddress = IPv4Address | IPv6Address

WEB_PORTS = (80, 443)
"""What a host that is no provider may be reached on, unless the rules name another port with it."""

_GLOBAL_SIX = ip_network("2000::/3")
"""The only part of IPv6 that is assigned to the public internet."""
_NAT64 = ip_network("64:ff9b::/96")
_WIRE_SERVER = IPv4Address("168.63.129.16")
"""Azure's platform endpoint: a public address that hands credentials to whoever asks from inside."""
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
_INSPECTOR_NAMES = frozenset({"mitm.it"})
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def address_refusal(ip: str, port: int, allow: tuple[str, ...], host: str | None, own_ports: Collection[int]) -> str | None:
    """Why a connection to `ip`:`port` may not be made, None when it may.

    Only addresses of the public internet are open; `allow` (hosts, addresses, networks, each also with a port) opens others
    by `host`, the name that was dialled, or by address. The gateway's own ports on this machine are never open.
    """
    address = _parse(ip)
    if address is None:
        return f"{ip!r} is no address that could be checked"
    if port in own_ports and (address.is_loopback or address.is_unspecified):
        return f"port {port} of this machine is the gateway's own"
    if _is_public(address) or _is_named(allow, host, address, port):
        return None
    place = f"{host} ({ip})" if host and host != ip else ip
    return f"{place} is not a public address; name it in gateway.egress_allow if agents may reach it"


def destination(host: str, port: int, rules: Rules, own_ports: Collection[int]) -> Refusal | None:
    """Why a host that is no provider may not be reached; None when it may, as far as its name tells.

    The address behind a name is judged by `address_refusal` when it is dialled.
    """
    allow = rules.gateway.egress_allow
    name = _ascii(host)
    # 1. A name that can be read in two ways, or an address in disguise (`0x7f.1`, `2130706433`).
    if name is None or (not is_address(name) and _NUMBER.fullmatch(name.rpartition(".")[2])):
        return Refusal(400, "bad_host", f"{host[:253]!r} is no plain host name or address")
    address = _parse(name) if is_address(name) else None
    # 2. The gateway's own doors, by whatever name of this machine.
    if port in own_ports and (_is_local_name(name) or (address and (address.is_loopback or address.is_unspecified))):
        return _refusal("own_port", f"port {port} of this machine is the gateway's own")
    # 3. Names and addresses of this machine, this network and its metadata services.
    named = _is_named(allow, name, address, port)
    if not named and (_is_local_name(name) or name in _METADATA_NAMES | _INSPECTOR_NAMES):
        return _refusal("egress_address", f"{name} is not reachable from here; name it in gateway.egress_allow if it may be")
    reason = address_refusal(str(address), port, allow, name, own_ports) if address else None
    if reason:
        return _refusal("egress_address", reason)
    # 4. Ports other than the web's.
    with_port = _is_named_with_port(allow, name, address, port) or _is_matched(allow, name, port, with_port=True)
    if port not in WEB_PORTS and not with_port:
        return _refusal("egress_port", f"port {port} is closed; name {name}:{port} in gateway.egress_allow if agents may use it")
    # 5. Everything else, where the rules close it.
    if rules.gateway.egress == "deny" and not (named or _is_matched(allow, name, port)):
        return _refusal("egress_denied", f"{name} is no provider, and gateway.egress is deny; gateway.egress_allow opens hosts")
    return None


def is_opened(ip: str, port: int, rules: Rules) -> bool:
    """Whether the rules themselves open an address, not only the name behind it."""
    return _is_named(rules.gateway.egress_allow, None, _parse(ip), port)


def _refusal(reason: str, text: str) -> Refusal:
    return Refusal(403, reason, text)


def _ascii(host: str) -> str | None:
    """The host as the resolver will read it: mitmproxy shows international names decoded (`münchen.de`)."""
    try:
        return parse_host(host.encode("idna").decode("ascii")) if not host.isascii() else parse_host(host)
    except UnicodeError:
        return None


def _parse(ip: str) -> IPAddress | None:
    """The address, an IPv4 one where IPv6 only wraps it (mapped, NAT64)."""
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _is_public(address: IPAddress) -> bool:
    """Whether it belongs to the public internet; transition addresses (6to4, Teredo) hide another one and do not."""
    if isinstance(address, IPv6Address):
        # Older Pythons call transition addresses global.
        return address in _GLOBAL_SIX and address.is_global and not (address.sixtofour or address.teredo)
    return address.is_global and not address.is_multicast and address != _WIRE_SERVER


def _is_local_name(name: str) -> bool:
    return name in _LOCAL_NAMES or name.endswith(".localhost")


def _is_named(allow: tuple[str, ...], host: str | None, address: IPAddress | None, port: int) -> bool:
    """Whether an entry opens the destination: by name, address or network, with this port or without any."""
    return any(_covers(entry, host, address, port) for entry in allow)


def _is_named_with_port(allow: tuple[str, ...], host: str, address: IPAddress | None, port: int) -> bool:
    return any((parsed := _read(entry)) and parsed.port and _covers(entry, host, address, port) for entry in allow)


def _is_matched(allow: tuple[str, ...], host: str, port: int, *, with_port: bool = False) -> bool:
    """Whether a pattern on names takes this one, `with_port` only one that has the port."""
    patterns = [_pattern(entry) for entry in allow if "*" in entry]
    wanted = (port,) if with_port else (port, None)
    return not is_address(host) and any(only in wanted and fnmatchcase(host, name) for name, only in patterns)


@lru_cache(maxsize=4096)
def _pattern(entry: str) -> tuple[str, int | None]:
    """The pattern on the name, and the port if there is one."""
    name, colon, port = entry.lower().partition(":")
    return name, int(port) if colon else None


def _covers(entry: str, host: str | None, address: IPAddress | None, port: int) -> bool:
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    written = _read(entry)
    if written is None or written.port not in (None, port):
        return False
    return written.host == (host or "").lower() or (address is not None and _parse(written.host) == address)


@lru_cache(maxsize=4096)
def _read(entry: str) -> Authority | None:
    """An entry without a network: `host`, `host:port`, an address, with brackets or without."""
    bare = parse_host(entry)
    return parse_authority(entry) or (Authority(bare) if bare else None)


def _in_network(address: IPAddress, entry: str) -> bool:
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False
