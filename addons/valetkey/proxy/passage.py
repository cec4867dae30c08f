"""What the gateway knows about a call while it passes through: one `Passage` per flow, never in the flow itself.

A flow is saved, shown and replayed; so whatever could name a secret or is no primitive lives here, keyed weakly by the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from os import urandom
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple
from weakref import ref

from mitmproxy import http

from ..model import Attempt, Call, Caller, Dialect, Door, Key, Outcome, Provider, Refusal, Route, Surface
from ..policy.paths import Place
from ..rules import Snapshot
from .pump import Pump

if TYPE_CHECKING:
    from .dispatch import Dispatch
    from .measuring import Sheet

_NOBODY = Caller()
_NO_TERMS: Mapping[str, int | str] = MappingProxyType({})
TargetForm = Literal["origin", "absolute", "authority"]


@dataclass(slots=True)
class Ready:
    """What the head of an answer leads to, and its first pieces as they are to pass, made before it is known whether they may."""

    answer: http.Response
    fields: tuple[tuple[bytes, bytes], ...]
    status: int
    reason: bytes
    is_providers: bool
    """Whether a provider sent it, not we."""
    request_id: str | None = None
    pump: Pump | None = None
    """What the body is to go through, if it is to pass as it comes."""
    pieces: list[bytes] = field(default_factory=list)
    """What has gone through the pump."""
    fed: int = 0
    """Events that it came in."""

    def is_for(self, answer: http.Response) -> bool:
        """Whether this is still true of an answer: an addon may have changed it, or given another."""
        told = answer.data
        return (
            answer is self.answer
            and told.headers.fields is self.fields
            and told.status_code == self.status
            and told.reason is self.reason
        )

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises what the pump does."""
        if self.pump is not None:
            self.pieces += self.pump(data)
            self.fed += 1


class Arrival(NamedTuple):
    """How the request line reached us, before mitmproxy fills in what is missing.

    `form` is the request-target's form (RFC 9112, section 3.2; `authority` for HTTP/2). `tunnelled` tells whether the
    request came inside a CONNECT tunnel or a fixed destination rather than to the proxy port itself.
    """

    form: TargetForm
    authority: str
    tunnelled: bool


class WirePlan(NamedTuple):
    """One attempt, ready to be put on the wire except for the credential itself.

    `path` holds the query; `body` is None where the agent's own bytes go out; `decoded` says that `body`
    lost its content encoding; `identity` asks for an uncompressed answer.
    """

    provider: Provider
    surface: Surface
    key: Key | None
    model: str | None
    path: str
    body: bytes | None = None
    decoded: bool = False
    identity: bool = False
    strip_usage_chunk: bool = False


@dataclass(slots=True, weakref_slot=True)
class Passage:
    """One call on its way. `mark` is a monotonic time in seconds, `started` Unix time."""

    id: str
    started: float
    mark: float
    door: Door
    snapshot: Snapshot
    caller: Caller = _NOBODY
    client: str = ""
    dialect: Dialect = Dialect.OPENAI
    provider: str | None = None
    place: Place | None = None
    call: Call | None = None
    route: Route | None = None
    plan: WirePlan | None = None
    refusal: Refusal | None = None
    attempts: list[Attempt] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ready: Ready | None = None
    """Of an answer that is being heard."""
    pump: Pump | None = None
    sheet: Sheet | None = None
    """What the answers inside the answer come to, where it holds some."""
    dispatch: Dispatch | None = None
    wake: Callable[[], None] = lambda: None
    """Wakes the stream that waits for a permit; set by the stream layer."""
    attempt_mark: float = 0.0
    silent: bool = False
    """Whether an attempt was given up because its stream began and nothing came."""
    first_byte: float | None = None
    first_content: float | None = None
    request_id: str | None = None
    request_bytes: int = 0
    terms: Mapping[str, int | str] = _NO_TERMS
    """What of the request a price may depend on: characters, number and size of images."""
    outcome: Outcome | None = None
    asked: bool = False
    """Whether a request has gone out that did not fail, so that a provider may bill it."""
    settled: bool = False

    def note(self, word: str) -> None:
        """Remember a fact for the receipt, once."""
        if word not in self.notes:
            self.notes.append(word)


def new_id(now: float) -> str:
    """A call id that sorts by time: 12 hex digits of milliseconds, 16 random ones."""
    return f"{int(now * 1000):012x}{urandom(8).hex()}"


class Passages:
    """The passages of all live flows, and how their requests arrived."""

    def __init__(self) -> None:
        # A dictionary of weak references, without the calls that `WeakKeyDictionary` adds to each of many looks.
        self._passages: dict[ref[http.HTTPFlow], Passage] = {}
        self._arrivals: dict[ref[http.HTTPFlow], Arrival] = {}
        passages, arrivals = self._passages, self._arrivals

        def gone(flow: ref[http.HTTPFlow]) -> None:
            passages.pop(flow, None)
            arrivals.pop(flow, None)

        self._gone = gone

    def arrived(self, flow: http.HTTPFlow, arrival: Arrival) -> None:
        """Keep how the request of `flow` arrived, until it is read."""
        self._arrivals[ref(flow, self._gone)] = arrival

    def arrival(self, flow: http.HTTPFlow) -> Arrival | None:
        """How the request arrived; None for a flow that our stream layer never saw (a replay)."""
        return self._arrivals.pop(ref(flow), None)

    def open(self, flow: http.HTTPFlow, passage: Passage) -> Passage:
        """Bind `passage` to `flow`."""
        self._passages[ref(flow, self._gone)] = passage
        return passage

    def close(self, flow: http.HTTPFlow) -> None:
        """Forget `flow`: it is no call."""
        self._passages.pop(ref(flow), None)

    def of(self, flow: http.HTTPFlow) -> Passage | None:
        """The passage of `flow`, if it is a call."""
        return self._passages.get(ref(flow))

    def __len__(self) -> int:
        """How many calls there are, about: some are over."""
        return len(self._passages)

    def unsettled(self) -> Iterator[tuple[http.HTTPFlow, Passage]]:
        """Flows whose call has no receipt yet."""
        alive = [(held(), passage) for held, passage in list(self._passages.items())]
        yield from [(flow, passage) for flow, passage in alive if flow is not None and not passage.settled]
