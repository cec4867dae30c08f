"""Which addresses the gateway listens on, and which mitmproxy options it cannot do without.

Scripts are loaded after mitmproxy has opened its default server; changing the option `mode` then closes that one and opens
ours. What the user passed (`--mode`, `-p`, `--listen-host`) wins over rules.yaml, except that nothing but loopback is served
unless callers show who they are.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mitmproxy.options import Options
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode

from ..errors import StartError
from ..model import Address, GatewayRules
from .admission import API_SENTINEL
from .identifying import is_open_to_others

REQUIRED: dict[str, object] = {
    "connection_strategy": "lazy",  # routes may change the host, and no connection is opened that is not used
    "upstream_cert": False,  # the certificate for the agent is made without asking the provider
    "keep_host_header": True,  # or DNS rebinding against the base-URL door could not be seen
    "onboarding": False,  # no mitm.it
    "rawtcp": False,  # inside a provider's tunnel there is HTTP or nothing
}
FORBIDDEN = {
    "proxy_debug": "it logs what goes on the wire, and with it the real keys",
    "ssl_insecure": "keys are only sent to upstreams whose certificate is verified",
    "stream_large_bodies": "streaming follows gateway.max_body in rules.yaml",
    "body_size_limit": "body sizes follow gateway.max_body in rules.yaml",
}
READABLE = ("https", "http", "http3")
"""What `reverse:` may lead to."""
OPENING = 10.0
"""Seconds that the doors may take to open."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the gateway listens. `proxy` is the first door for HTTPS_PROXY, `api` the one for base URLs; None where the user
    chose modes without one."""

    modes: tuple[str, ...]
    proxy: Address | None
    api: Address | None

    @property
    def ports(self) -> frozenset[int]:
        """All ports that are listened on."""
        return frozenset(filter(None, (ProxyMode.parse(mode).custom_listen_port for mode in self.modes)))

    @property
    def others(self) -> tuple[ProxyMode, ...]:
        """The doors besides `proxy` and `api`."""
        known = {f"{address.host}:{address.port}" for address in (self.proxy, self.api) if address}
        return tuple(ProxyMode.parse(mode) for mode in self.modes if mode.rpartition("@")[2] not in known)


def check_options(options: Options) -> str | None:
    """The first option that must not be on, with the reason; None when all is well."""
    for name, reason in FORBIDDEN.items():
        if getattr(options, name, None):
            return f"mitmproxy's option {name} cannot be used with valetkey: {reason}"
    if not options.validate_inbound_headers:
        return "mitmproxy's option validate_inbound_headers must stay on: it stops request smuggling"
    return None


def plan(options: Options, gateway: GatewayRules) -> Doors:
    """The doors, from the user's options and the rules. Raises StartError for a listener beyond loopback that hears anyone."""
    host = options.listen_host or None
    if options.has_changed("mode"):
        return _check(_named_by_user(options.mode, host, options.listen_port), gateway)
    proxy = Address(host or gateway.proxy.host, options.listen_port or gateway.proxy.port)
    return _check(Doors((f"regular@{proxy.host}:{proxy.port}", api_mode(gateway.api)), proxy, gateway.api), gateway)


def api_mode(address: Address) -> str:
    """The mode that opens the base-URL door."""
    return f"reverse:http://{API_SENTINEL}@{address.host}:{address.port}"


def _named_by_user(specs: Sequence[str], host: str | None, port: int | None) -> Doors:
    """The user's modes, each with a loopback address where it names none."""
    modes = []
    proxy: Address | None = None
    api: Address | None = None
    for spec in specs:
        mode = ProxyMode.parse(spec)
        head = spec.rpartition("@")[0] if mode.custom_listen_port is not None else spec
        listen_port = mode.listen_port(port)
        if listen_port is None:
            modes.append(spec)
            continue
        address = Address(mode.custom_listen_host or host or "127.0.0.1", listen_port)
        modes.append(f"{head}@{address.host}:{address.port}")
        if API_SENTINEL in head:
            api = api or address
        elif isinstance(mode, mode_specs.RegularMode | mode_specs.UpstreamMode):
            proxy = proxy or address
    return Doors(tuple(modes), proxy, api)


def _check(doors: Doors, gateway: GatewayRules) -> Doors:
    for mode in map(ProxyMode.parse, doors.modes):
        if is_open_to_others(mode) and gateway.callers != "known":
            raise StartError(
                f"refusing to listen on {mode.custom_listen_host}: callers are not authenticated (gateway.callers: any), so "
                "anyone who reaches the port could spend your keys; give every agent a key (valetkey agents add NAME), or listen "
                "on 127.0.0.1 and use a tunnel (ssh -L) for other machines"
            )
    return doors


def check_targets(doors: Doors, is_provider: Callable[[str, int], bool]) -> None:
    """Raise StartError for a `reverse:` mode that leads to no provider, or in which no calls could be read."""
    for mode in map(ProxyMode.parse, doors.modes):
        if not isinstance(mode, ReverseMode) or mode.address[0] == API_SENTINEL:
            continue
        if mode.scheme not in READABLE:
            raise StartError(f"--mode {mode.full_spec}: calls cannot be read in {mode.scheme}; use {', '.join(READABLE)}")
        if not is_provider(*mode.address):
            raise StartError(
                f"--mode {mode.full_spec}: {mode.address[0]}:{mode.address[1]} is no provider; "
                "define one in rules.yaml (like: openai, upstream: …), or use --mode regular for other hosts"
            )


async def open_doors(options: Options, servers: object, doors: Doors) -> None:
    """Have mitmproxy listen on `doors` and nowhere else. Raises StartError when an address cannot be had."""
    deadline = asyncio.get_running_loop().time() + OPENING
    wanted = [ProxyMode.parse(mode) for mode in doors.modes]
    if tuple(options.mode) != doors.modes:
        if any(map(_is_udp, wanted)):
            options.update(mode=[])
            await _udp_is_free(wanted, deadline)
        options.update(mode=list(doors.modes))
    while True:
        running = {instance.mode: instance for instance in servers}  # type: ignore[attr-defined]
        failed = next((running[m] for m in wanted if m in running and running[m].last_exception), None)
        if failed is not None:
            raise StartError(f"cannot listen for {failed.mode.full_spec}: {failed.last_exception}")
        if all(mode in running and running[mode].is_running for mode in wanted) and len(running) == len(wanted):
            return
        if asyncio.get_running_loop().time() > deadline:
            raise StartError(f"the doors did not open within {OPENING:.0f} s: {', '.join(doors.modes)}")
        await asyncio.sleep(0.01)


def _is_udp(mode: ProxyMode) -> bool:
    return mode.transport_protocol != "tcp" and mode.custom_listen_port is not None


async def _udp_is_free(wanted: Sequence[ProxyMode], deadline: float) -> None:
    """mitmproxy's sockets for UDP are closed a moment after it says so, and until then cannot be opened again."""
    while not all(_can_be_bound(mode) for mode in wanted if _is_udp(mode)):
        if asyncio.get_running_loop().time() > deadline:
            return  # then it is somebody else's, which opening it will tell
        await asyncio.sleep(0.01)


def _can_be_bound(mode: ProxyMode) -> bool:
    try:
        found = socket.getaddrinfo(mode.custom_listen_host, mode.custom_listen_port, type=socket.SOCK_DGRAM)
        with socket.socket(found[0][0], socket.SOCK_DGRAM) as probe:
            probe.bind(found[0][4])
    except OSError:
        return False
    return True
