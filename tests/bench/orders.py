"""What the load generator is told to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

_FILLING = " the quick brown fox"


@dataclass(frozen=True)
class Order:
    """What to do. `pids` names the processes whose CPU time is wanted: `mock`, and `proxy` where there is one.

    `via`: `plain` HTTP, `tls`, or `connect` (CONNECT, then TLS). `request`: bytes of the body. `events`: of a stream; 0 asks
    for a whole answer. `pace`: ms between events. It ends after `seconds` or `calls`, what comes first (0: no bound). With
    `hold`, each connection makes one call, the streams stay open after so many events, and the RSS of `proxy` is taken when
    all are.
    """

    via: Literal["plain", "tls", "connect"]
    port: int
    host: str
    ca: str
    pids: Mapping[str, int]
    model: str = "gpt-4o"
    connections: int = 1
    request: int = 500
    events: int = 0
    pace: int = 0
    hold: int = 0
    keep_alive: bool = True
    seconds: float = 0.0
    calls: int = 0

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    def body(self) -> bytes:
        """A chat request, of as many bytes as asked for, or a few more."""
        text = f"bench {self.events} {self.pace} {self.hold}"
        missing = self.request - len(self._document(text))
        return self._document(text + _FILLING * -(-max(0, missing) // len(_FILLING)))

    def _document(self, text: str) -> bytes:
        document = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        return json.dumps(document | ({"stream": True} if self.events else {})).encode()

    def message(self) -> bytes:
        """The request as it goes on the wire."""
        body = self.body()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self.host}\r\naccept: application/json\r\n"
            "accept-encoding: identity\r\nuser-agent: OpenAI/Python 2.8.0\r\nauthorization: Bearer sk-dummy\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body
