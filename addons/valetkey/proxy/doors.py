"""Which addresses the gateway listens on, and which mitmproxy options it cannot do without.

Scripts are loaded after mitmproxy has opened its default server; changing the option `mode` then closes that one and opens
ours. What the user passed (`--mode`, `-p`, `--listen-host`) wins over rules.yaml, except that nothing but loopback is served
unless callers show who they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mitmproxy.options import Options
from mitmproxy.proxy.mode_specs import ProxyMode

from ..errors import StartError
from ..model import Address, GatewayRules
from .admission import API_SENTINEL
from .identifying import is_local

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
OPENING = 10.0
"""Seconds that the doors may take to open."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the gateway listens. `api` is None when the user chose modes without it."""

    modes: tuple[str, ...]
    proxy: Address | None
    api: Address | None


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
        else:
            proxy = proxy or address
    return Doors(tuple(modes), proxy, api)


def _check(doors: Doors, gateway: GatewayRules) -> Doors:
    for address in filter(None, (ProxyMode.parse(mode).custom_listen_host for mode in doors.modes)):
        if not is_local(address) and gateway.callers != "known":
            raise StartError(
                f"refusing to listen on {address}: callers are not authenticated (gateway.callers: any), so anyone who reaches "
                "the port could spend your keys; give every agent a key (valetkey agents add NAME), or listen on 127.0.0.1 and "
                "use a tunnel (ssh -L) for other machines"
            )
    return doors


async def open_doors(options: Options, servers: object, doors: Doors) -> None:
    """Have mitmproxy listen on `doors` and nowhere else. Raises StartError when an address cannot be had."""
    if tuple(options.mode) != doors.modes:
        options.update(mode=list(doors.modes))
    wanted = [ProxyMode.parse(mode) for mode in doors.modes]
    deadline = asyncio.get_running_loop().time() + OPENING
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
