"""A host that only the gateway answers: whoever gets its answer went through this gateway, and trusts its CA.

`valetkey doctor` and `valetkey exec` ask it. The name can be resolved nowhere (RFC 6761, section 6.4), it is never dialled, needs
no key and leaves no receipt. Each port is the same host, and what came to a port is remembered: a tunnel proves that a runtime
uses the proxy, a request inside it that the runtime trusts the CA, whatever the runtime makes of the answer.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Literal

from mitmproxy import ctx, http

from .. import __version__
from ..settings import instance_id
from .admission import door_of
from .guard import guarded
from .identifying import is_exposed
from .runtime import Runtime

HOST = "canary.valetkey.invalid"
SEEN = "/seen/"
"""`GET http://canary.valetkey.invalid/seen/PORT` tells how many seconds ago a tunnel to that port was asked for, and a request
came through it over TLS."""
KEPT = 256
"""Ports that are remembered; the oldest goes."""


def is_canary(host: str) -> bool:
    """Whether a destination is the canary host."""
    return host.lower() == HOST


class ValetCanaryHost:
    """Answers for the canary host. It comes before all addons that judge destinations and callers."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._seen: OrderedDict[int, dict[str, float]] = OrderedDict()

    @guarded
    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Remember that a tunnel was asked for."""
        if is_canary(flow.request.host):
            self._saw(flow.request.port, "tunnel")

    @guarded
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Answer, whatever was asked."""
        request = flow.request
        if flow.response or not is_canary(request.host) or door_of(flow.client_conn) == "api":
            return
        if request.scheme == "https":
            self._saw(request.port, "request")
        path = request.path.partition("?")[0]
        document = self._since(path.removeprefix(SEEN)) if path.startswith(SEEN) else self._state(flow)
        flow.response = http.Response.make(200, json.dumps(document) + "\n", {"content-type": "application/json"})
        # Its head was not judged, so nobody reads on from where its body would end.
        request.stream = True
        if not (request.is_http2 or request.is_http3):
            flow.response.headers["connection"] = "close"

    def _saw(self, port: int, what: Literal["tunnel", "request"]) -> None:
        self._seen.setdefault(port, {})[what] = self.runtime.monotonic()
        self._seen.move_to_end(port)
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)

    def _since(self, port: str) -> dict[str, object]:
        known = self._seen.get(int(port), {}) if port.isascii() and port.isdecimal() and len(port) <= 5 else {}
        now = self.runtime.monotonic()
        return {what: now - known[what] if what in known else None for what in ("tunnel", "request")}

    def _state(self, flow: http.HTTPFlow) -> dict[str, object]:
        settings, snapshot = self.runtime.settings, self.runtime.snapshot
        state: dict[str, object] = {
            "gateway": "valetkey",
            "version": __version__,
            "instance": instance_id(settings) if settings else None,
            "ca": _authority(),
            "tls": flow.request.scheme == "https",
            "time": self.runtime.clock(),
        }
        if is_exposed(flow.client_conn):
            return state  # other machines need not know which keys there are
        usable = [key.id for keys in snapshot.keys.values() for key in keys]
        left_out = {key: reason for key, reason in snapshot.states.items() if reason is not None}
        return state | {"keys": usable, "left_out": left_out}


def _authority() -> str:
    """SHA-256 of the certificate that this process signs with, which need not be the one on the disk any more."""
    return str(ctx.master.addons.get("tlsconfig").certstore.default_ca.fingerprint().hex())
