"""What people see of a call in mitmweb and the console: a comment, a marker, and metadata of primitives."""

from __future__ import annotations

from collections import deque
from typing import Any

from mitmproxy import http
from mitmproxy.master import Master

from ..model import GatewayRules, Receipt
from . import calllog

REFUSED, FAILED = ":no_entry:", ":warning:"
_READERS = ("save_stream_file", "hardump", "dumper_filter", "modify_body", "modify_headers")
"""Options of mitmproxy by which its own addons read or change a flow after our hooks."""


def is_watched(master: Master) -> bool:
    """Whether anybody may look at flows: mitmweb or the console, a file, a filter, an addon that is not mitmproxy's nor ours."""
    options = master.options
    if hasattr(master, "view") or any(getattr(options, name, None) for name in _READERS):
        return True
    # The one script is ours. Embedded in another program, we are no script at all.
    if len(options.scripts) != 1:
        return True
    return not all(type(addon).__module__.startswith("mitmproxy.") for addon in master.addons.chain)


def decorate(flow: http.HTTPFlow, receipt: Receipt) -> None:
    """Write the receipt's gist on the flow; nothing here names more than a key's id."""
    flow.comment = calllog.comment(receipt)
    if receipt.refused:
        flow.marked = REFUSED
    elif receipt.outcome != "ok":
        flow.marked = FAILED
    flow.metadata["valetkey_id"] = receipt.id
    flow.metadata["valetkey_outcome"] = receipt.outcome
    flow.metadata["valetkey_attempts"] = [
        f"{attempt.key or attempt.provider} at {attempt.upstream}: {attempt.status or attempt.outcome}"
        for attempt in receipt.attempts
    ]
    if receipt.attempts:
        flow.metadata["valetkey_upstream"] = receipt.attempts[-1].upstream
    if receipt.cost_usd is not None:
        flow.metadata["valetkey_cost_usd"] = receipt.cost_usd


class FlowKeeper:
    """Bounds the flows that mitmweb and the console keep: beyond the limit the oldest settled ones go."""

    def __init__(self) -> None:
        self.view: Any = None
        """mitmproxy's view addon; None in mitmdump, which keeps nothing."""
        self._settled: deque[tuple[http.HTTPFlow, int]] = deque()
        self._bytes = 0

    def keep(self, flow: http.HTTPFlow, gateway: GatewayRules) -> None:
        """Remember a settled flow, and let the oldest go."""
        if self.view is None:
            return
        size = _size(flow)
        self._settled.append((flow, size))
        self._bytes += size
        gone = []
        while len(self._settled) > 1 and (len(self._settled) > gateway.max_flows or self._bytes > gateway.max_flow_bytes):
            oldest, held = self._settled.popleft()
            self._bytes -= held
            gone.append(oldest)
        if gone:
            self.view.remove(gone)


def _size(flow: http.HTTPFlow) -> int:
    """Bytes that its bodies and messages hold."""
    bodies = sum(len(message.raw_content or b"") for message in (flow.request, flow.response) if message is not None)
    return bodies + (sum(len(message.content) for message in flow.websocket.messages) if flow.websocket is not None else 0)
