"""Less noise: programs that send telemetry try again and again, and a closed gateway says so once.

mitmproxy logs a line when a client connects and leaves, and one more for each refused CONNECT. Those that open and close a
connection become debug lines; the refusal of a host that is known for telemetry is not shown after the first time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mitmproxy import http
from mitmproxy.exceptions import AddonHalt

from ..catalog import TelemetryHost, find_telemetry
from .guard import guarded
from .runtime import Runtime

logger = logging.getLogger(__name__)

_CONNECTIONS = "mitmproxy.proxy.server"
_ROUTINE = frozenset({"client connect", "client disconnect", "client kill connection"})


class ValetQuiet:
    """Keeps what happens all the time out of the log."""

    def __init__(self, runtime: Runtime, hosts: Sequence[TelemetryHost]) -> None:
        self.runtime = runtime
        self._hosts = hosts
        self._said: set[str] = set()

    def running(self) -> None:
        """From now on routine is logged as debug."""
        logging.getLogger(_CONNECTIONS).addFilter(demote)

    def done(self) -> None:
        """Leave mitmproxy's log as it was."""
        logging.getLogger(_CONNECTIONS).removeFilter(demote)

    @guarded
    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        """A refused tunnel: nobody else hears of one to a telemetry host."""
        if flow.response is None or flow.response.headers.get("x-valetkey-refusal") != "egress_denied":
            return
        host = find_telemetry(self._hosts, flow.request.host)
        if host is None:
            return
        if host.name not in self._said:
            self._said.add(host.name)
            logger.info("valetkey: %s (telemetry of %s) is closed by gateway.egress; said once", host.name, host.of)
        raise AddonHalt


def demote(record: logging.LogRecord) -> bool:
    """Make a routine line a debug one; all lines stay."""
    if record.levelno == logging.INFO and record.msg in _ROUTINE:
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(_CONNECTIONS).isEnabledFor(logging.DEBUG)
    return True
