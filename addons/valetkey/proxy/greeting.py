"""The three lines at start: the doors, who can be called, what to export."""

from __future__ import annotations

from collections.abc import Iterator

from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_specs import ProxyMode

from ..rules import Snapshot
from .doors import Doors


def lines(snapshot: Snapshot, doors: Doors) -> Iterator[str]:
    """What a person needs to know once the gateway is ready."""
    yield f"valetkey is ready: {_doors(doors)}"
    yield f"providers with a usable key: {_providers(snapshot)}"
    if snapshot.rules.gateway.callers == "known":
        yield from _with_key(doors)
    elif doors.proxy is not None:
        yield f"export HTTPS_PROXY=http://{doors.proxy} OPENAI_API_KEY=sk-dummy ANTHROPIC_API_KEY=sk-dummy (all: valetkey env)"
    elif doors.api is not None:
        yield f"export OPENAI_BASE_URL=http://{doors.api}/v1 ANTHROPIC_BASE_URL=http://{doors.api} (all: valetkey env)"
    else:
        yield "agents need a dummy key (sk-dummy) and trust in the CA of mitmproxy's confdir; see docs/modes.md"


def _with_key(doors: Doors) -> Iterator[str]:
    """What to export where names are not believed."""
    made = "KEY is what `valetkey agents add NAME` printed"
    if doors.proxy is not None:
        yield f"export HTTPS_PROXY=http://{doors.proxy} OPENAI_API_KEY=KEY ANTHROPIC_API_KEY=KEY ({made})"
    elif doors.api is not None:
        yield f"export OPENAI_BASE_URL=http://{doors.api}/v1 OPENAI_API_KEY=KEY ANTHROPIC_API_KEY=KEY ({made})"
    else:
        yield f"agents need a key of their own and trust in the CA of mitmproxy's confdir; {made}"


def _doors(doors: Doors) -> str:
    named = [f"HTTPS_PROXY on http://{doors.proxy}"] if doors.proxy else []
    named += [f"base URL on http://{doors.api}"] if doors.api else []
    named += [_other(mode) for mode in doors.others]
    return ", ".join(named)


def _other(mode: ProxyMode) -> str:
    """A door that is neither for HTTPS_PROXY nor for all base URLs."""
    place = f"{mode.custom_listen_host}:{mode.custom_listen_port}"
    match mode:
        case mode_specs.ReverseMode():
            return f"{mode.data} on http://{place}"
        case mode_specs.Socks5Mode():
            return f"SOCKS5 on socks5h://{place}"
        case mode_specs.LocalMode():
            return f"traffic of {mode.data or 'all programs'} on this machine"
        case mode_specs.WireGuardMode():
            return f"WireGuard on {place} (the clients' configuration is printed above)"
    return f"{mode.description} on {place}"


def _providers(snapshot: Snapshot) -> str:
    usable = []
    for name, provider in snapshot.rules.providers.items():
        keys = snapshot.keys.get(name, ())
        if keys:
            usable.append(f"{name} ({len(keys)})" if len(keys) > 1 else name)
        elif not provider.keys_needed and provider.configured:
            usable.append(f"{name} (needs none)")
    return ", ".join(usable) or "none yet; set e.g. GATEWAY_OPENAI_API_KEY and restart, or see rules.yaml"
