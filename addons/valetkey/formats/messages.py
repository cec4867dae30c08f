"""What goes over a WebSocket: which model a message asks for, when an answer began and ended, and what it used.

One class per protocol. Nothing here raises, whatever comes; sound and other binary data are not looked into, and no more than
`OPEN` answers are kept. The times that are handed in come back in the answers.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, override

from ..model import Format
from .folding import ResponsesFold, text_length
from .jsonscan import JsonScanError, Members, scan, scan_inner, value
from .request import read_request
from .splice import splice
from .usage import EVENT_LIMIT

OPEN = 64
"""Most answers of a connection that are open at a time; of more, the oldest is given up as it stands."""
_LIKE_JSON = re.compile(rb'[\s\0\xef\xbb\xbf\xfe\xff]*+\{[\s\0]*+["}]')
"""What a binary message begins with that a lenient server may take for JSON, in UTF-16 and UTF-32 too. No protocol here sends
sound as it is."""
_MOST_NAMED = 8
"""Most models that an address may name: each message is judged for all of them."""
_LONGEST = 200
"""Characters of an id or a model's name that a provider gives; longer ones are none."""
_STATUSES = {
    "invalid_request_error": 400, "authentication_error": 401, "permission_error": 403, "insufficient_quota": 429,
    "rate_limit_error": 429, "rate_limit_exceeded": 429,
}  # fmt: skip
"""The HTTP status that an error would have had, by its type or code; others are the server's (500)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A message of the agent. `models` are those it names or is meant for, None for one that should be named and is not.

    `wants`: it asks for an answer, or sets the connection up. `lane` and `event` say what it is called, so that an error can
    answer it. `problem` tells why it cannot be read. `size` is in bytes, of text that a model will read. `requested` and `route`
    are for whoever judges it: the first model as the agent wrote it, and the name of the rule.
    """

    models: tuple[str | None, ...] = ()
    wants: bool = False
    lane: str | None = None
    event: str | None = None
    problem: str | None = None
    size: int = 0
    kind: str = ""
    requested: str | None = None
    route: str | None = None
    writers: tuple[str, ...] = ()
    """Those of the models that only write down what is said."""


@dataclass(eq=False, slots=True)
class Answer:
    """One answer. Times are those handed in, `first` that of its first content; `document` holds what usage is read from.

    `flavor` is the kind of usage, in the catalogue's words. `status` is what an error says of itself.
    """

    flavor: str
    model: str | None
    asked: float
    asked_bytes: int = 0
    lane: str | None = None
    event: str | None = None
    requested: str | None = None
    route: str | None = None
    id: str | None = None
    begun: bool = False
    complete: bool = False
    """Whether its end was seen."""
    first: float | None = None
    ended: float | None = None
    output_chars: int = 0
    document: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    status: int | None = None

    def says(self, chars: int, now: float) -> None:
        """Note content: so many characters of text; sound has none."""
        self.output_chars += chars
        self.first = now if self.first is None else self.first

    def fails(self, error: object, status: object = None) -> None:
        """Note an error of the provider's."""
        details = error if isinstance(error, Mapping) else {"message": error if isinstance(error, str) else ""}
        self.error = {"error": details}
        known = [_STATUSES[word] for name in ("type", "code") if isinstance(word := details.get(name), str) and word in _STATUSES]
        self.status = status if type(status) is int and 400 <= status < 600 else (known or [500])[-1]


class Talk:
    """What is known of a connection. `models` are those that its address names; of several it cannot be told which counts."""

    format = Format.OPENAI_OTHER
    """What a message is for the rules."""
    nameless = Format.OPENAI_RESPONSES
    """The same for a message without a model where lists ask for one."""

    def __init__(self, models: Sequence[str] = ()) -> None:
        self.model = models[0] if models else None
        """The model of the connection, None where each message names its own."""
        self.named = tuple(models)
        """The models that its address names."""
        self._open: list[Answer] = []
        self._over: deque[str] = deque(maxlen=OPEN)
        """The ids of answers that ended lately; none ends twice."""

    def read(self, data: bytes, *, is_text: bool) -> Ask:
        """What a message of the agent asks for."""
        if not is_text and _LIKE_JSON.match(data) is None:
            return Ask()
        if len(self.named) > _MOST_NAMED:
            return Ask(problem=f"the address of the connection names more than {_MOST_NAMED} models")
        try:
            return self._read(data)
        except JsonScanError as error:
            # JSON in binary is read as text is: some servers take either, and more of it than the grammar has.
            return Ask(problem=str(error))

    def sent(self, ask: Ask, now: float) -> list[Answer]:
        """A message goes to the provider; gives the answers that are over with it."""
        raise NotImplementedError

    def heard(self, data: bytes, now: float) -> list[Answer]:
        """A message of the provider; gives the answers that ended with it."""
        if len(data) > EVENT_LIMIT:
            return []
        if self._matters(data):
            event = _decoded(data)
            return self._event(event, data, now) if isinstance(event, dict) else []
        return self._content(data, now)

    def close(self, now: float) -> list[Answer]:
        """The connection is over; gives the answers that were open."""
        found, self._open = self._open, []
        for answer in found:
            answer.ended = now
        return found

    def renamed(self, data: bytes, model: str, changes: Sequence[tuple[str, object]], remove: Sequence[str]) -> bytes | None:
        """The message for another model, and with the edits of a route; None where it cannot be changed."""
        return None

    def error(self, ask: Ask, status: int, reason: str, message: str) -> bytes | None:
        """The protocol's error in answer to a message; None where it has none, and closes the connection instead."""
        return None

    def _read(self, data: bytes) -> Ask:
        raise NotImplementedError

    def _matters(self, data: bytes) -> bool:
        raise NotImplementedError

    def _event(self, event: dict[str, Any], data: bytes, now: float) -> list[Answer]:
        raise NotImplementedError

    def _content(self, data: bytes, now: float) -> list[Answer]:
        raise NotImplementedError

    def _opened(self, answer: Answer) -> list[Answer]:
        self._open.append(answer)
        if len(self._open) <= OPEN:
            return []
        oldest = self._open.pop(0)
        oldest.ended = answer.asked
        return [oldest]

    def _ended(self, answer: Answer, now: float) -> list[Answer]:
        answer.ended = now
        if answer in self._open:
            self._open.remove(answer)
        if answer.id:
            self._over.append(answer.id)
        return [answer]

    def _waiting(self, lane: str | None = None) -> Answer | None:
        """The oldest answer that was asked for and has not begun."""
        return next((each for each in self._open if not each.begun and each.lane == lane), None)

    def _running(self, id: object, lane: str | None = None) -> Answer | None:
        """The answer with this id, or the oldest one of the lane that has begun and has none."""
        found = next((each for each in self._open if id and each.id == id), None)
        return found or next((each for each in self._open if each.begun and each.lane == lane and not (id and each.id)), None)


class ResponsesTalk(Talk):
    """OpenAI Responses: the events of its streams, without `event:` lines. Each `response.create` names its model.

    Answers come in the order asked for, per lane (`stream_id`). Some come unasked, after `response.steer`.
    https://platform.openai.com/docs/guides/websocket-mode
    """

    format = Format.OPENAI_RESPONSES
    _MARKS = re.compile(rb'"type"\s*:\s*"(?:response\.(?:created|completed|incomplete|failed)|error)"')
    _LANE = re.compile(rb'"stream_id"\s*:\s*"([^"\\]*)"')
    _LAST = ("response.completed", "response.incomplete", "response.failed")

    def __init__(self, models: Sequence[str] = ()) -> None:
        super().__init__()
        self._latest: str | None = None
        """The model of the latest answer; those that come unasked have it, too."""

    @override
    def sent(self, ask: Ask, now: float) -> list[Answer]:
        if not ask.wants:
            return []
        answer = Answer("responses", ask.models[0], now, ask.size, ask.lane, ask.event, ask.requested, ask.route)
        return self._opened(answer)

    @override
    def renamed(self, data: bytes, model: str, changes: Sequence[tuple[str, object]], remove: Sequence[str]) -> bytes | None:
        return splice(data, set={**dict(changes), "model": model}, remove=remove)

    @override
    def error(self, ask: Ask, status: int, reason: str, message: str) -> bytes | None:
        error = {"type": _error_type(status), "code": reason, "message": message, "param": None}
        lane = {"stream_id": ask.lane} if ask.lane is not None else {}
        return _dump({"type": "error", "status": status, "error": error, **lane})

    def _read(self, data: bytes) -> Ask:
        facts = read_request(data)
        members = facts.members
        _check_case(members, "type", "response")
        kind, lane = _text(data, members, "type"), _text(data, members, "stream_id")
        wants = kind == "response.create"
        inner = _inner(data, members, "response")
        named = _text(data, inner, "model") if inner else None
        models = (facts.model, *filter(None, [named])) if wants or facts.model else tuple(filter(None, [named]))
        return Ask(models, wants, lane, _text(data, members, "event_id"), size=len(data), kind=kind or "")

    def _matters(self, data: bytes) -> bool:
        return self._MARKS.search(data) is not None

    def _content(self, data: bytes, now: float) -> list[Answer]:
        if data.find(b'.delta"') < 0:
            return []
        lane = self._LANE.search(data)
        answer = self._running(None, lane[1].decode("utf-8", "replace") if lane else None)
        if answer is not None:
            answer.says(text_length(data), now)
        return []

    def _event(self, event: dict[str, Any], data: bytes, now: float) -> list[Answer]:
        kind, lane = event.get("type"), _word(event.get("stream_id"))
        if kind == "error":
            answer = next((each for each in self._open if each.lane == lane), None)
            if answer is None:
                return []
            answer.fails(event.get("error", event), event.get("status"))
            return self._ended(answer, now)
        response = event.get("response")
        if not isinstance(response, Mapping) or kind not in ("response.created", *self._LAST):
            return []
        if kind == "response.created":
            return self._create(response, lane, now)
        id = _word(response.get("id"))
        if id in self._over:
            return []
        answer = self._running(id, lane) or self._waiting(lane) or Answer("responses", self._latest, now)
        return self._finish(answer, event, response, now)

    def _create(self, response: Mapping[str, Any], lane: str | None, now: float) -> list[Answer]:
        answer, given_up = self._waiting(lane), []
        if answer is None:
            answer = Answer("responses", self._latest, now, lane=lane)
            given_up = self._opened(answer)
        answer.begun, answer.id = True, _word(response.get("id"))
        answer.model = self._latest = answer.model or _word(response.get("model"))
        return given_up

    def _finish(self, answer: Answer, event: Mapping[str, Any], response: Mapping[str, Any], now: float) -> list[Answer]:
        fold = ResponsesFold()
        fold.read(None, event)
        answer.document, answer.complete = fold.document, True
        answer.id = answer.id or _word(response.get("id"))
        if event.get("type") == "response.failed":
            answer.fails(response.get("error"))
        return self._ended(answer, now)


class RealtimeTalk(Talk):
    """OpenAI Realtime: one model per connection, in its address or its session. Answers may come unasked, after speech.

    What is spoken may be transcribed by a model of its own, which reports its usage as well.
    https://platform.openai.com/docs/api-reference/realtime-server-events
    """

    _SPOKEN = "conversation.item.input_audio_transcription.completed"
    _MARKS = re.compile(
        rb'"type"\s*:\s*"(?:response\.(?:created|done)|error|session\.(?:created|updated)'
        rb'|conversation\.item\.input_audio_transcription\.completed)"'
    )
    _DELTA = re.compile(rb'"type"\s*:\s*"response\.\w+(?:\.\w+)*\.delta"')
    _SOUND = re.compile(rb'"type"\s*:\s*"response\.(?:output_)?audio\.delta"')
    _ID = re.compile(rb'"response_id"\s*:\s*"([^"\\]*)"')
    _SESSION_MODELS = (("model",), ("audio", "input", "transcription", "model"), ("input_audio_transcription", "model"))

    def __init__(self, models: Sequence[str] = ()) -> None:
        super().__init__(models)
        self._reported: str | None = None
        self._transcriber: str | None = None
        self._writers: tuple[str, ...] = ()
        """The models that the agent wants to write down what is said."""
        self._errors = 0

    @override
    def sent(self, ask: Ask, now: float) -> list[Answer]:
        if ask.kind == "session.update":
            self._writers = ask.writers or self._writers
            self.model = ask.models[0] if len(ask.models) > len(ask.writers) else self.model
        if ask.kind != "response.create":
            return []
        return self._opened(Answer("realtime", self.model, now, ask.size, None, ask.event, ask.requested, ask.route))

    @override
    def error(self, ask: Ask, status: int, reason: str, message: str) -> bytes | None:
        self._errors += 1
        error = {"type": _error_type(status), "code": reason, "message": message, "param": None, "event_id": ask.event}
        return _dump({"type": "error", "event_id": f"event_valetkey_{self._errors}", "error": error})

    def _read(self, data: bytes) -> Ask:
        members = scan(data)
        _check_case(members, "type", "session")
        kind = _text(data, members, "type") or ""
        session = _inner(data, members, "session")
        found = [_at(data, session, path) for path in self._SESSION_MODELS] if session else []
        # A provider may ignore what a session calls its model, so those of the address are always asked for as well.
        own = tuple(dict.fromkeys(filter(None, (found[0] if found else None, self.model, *self.named)))) or (None,)
        writers = tuple(filter(None, found[1:])) or (self._writers if kind.startswith("input_audio_buffer.") else ())
        sets_up = kind.endswith("session.update")
        only_writes = session is None or (sets_up and _text(data, session, "type") == "transcription")
        if own == (None,) and writers and only_writes:
            own = ()  # no model answers here
        models = (*own, *writers)
        wants = kind in ("response.create", "session.update")
        size = 0 if kind == "input_audio_buffer.append" else len(data)
        return Ask(models, wants, None, _text(data, members, "event_id"), size=size, kind=kind, writers=writers)

    def _matters(self, data: bytes) -> bool:
        return self._MARKS.search(data) is not None

    def _content(self, data: bytes, now: float) -> list[Answer]:
        if self._DELTA.search(data) is None:
            return []
        found = self._ID.search(data)
        answer = self._running(found[1].decode("utf-8", "replace") if found else None)
        if answer is not None:
            answer.says(0 if self._SOUND.search(data) else text_length(data), now)
        return []

    def _event(self, event: dict[str, Any], data: bytes, now: float) -> list[Answer]:
        response, session = event.get("response"), event.get("session")
        match event.get("type"):
            case "session.created" | "session.updated" if isinstance(session, Mapping):
                self._reported = _word(session.get("model")) or self._reported
                self._transcriber = next(filter(None, (_word(_found(session, path)) for path in self._SESSION_MODELS[1:])), None)
            case "response.created" if isinstance(response, Mapping):
                return self._create(response, now)
            case "response.done" if isinstance(response, Mapping):
                return self._done(response, now)
            case "error":
                return self._fail(event.get("error"), now)
            case self._SPOKEN:
                return self._transcribed(event, now)
        return []

    def _create(self, response: Mapping[str, Any], now: float) -> list[Answer]:
        answer, given_up = self._waiting(), []
        if answer is None:
            answer = Answer("realtime", self.model, now)
            given_up = self._opened(answer)
        answer.begun, answer.id = True, _word(response.get("id"))
        return given_up

    def _done(self, response: Mapping[str, Any], now: float) -> list[Answer]:
        id = _word(response.get("id"))
        if id in self._over:
            return []
        answer = self._running(id) or self._waiting() or Answer("realtime", self.model, now)
        answer.id, answer.complete = answer.id or id, True
        answer.document = _with_model(self._reported, response.get("usage"))
        if response.get("status") == "failed":
            details = response.get("status_details")
            answer.fails(details.get("error") if isinstance(details, Mapping) else None)
        return self._ended(answer, now)

    def _fail(self, error: object, now: float) -> list[Answer]:
        """An error ends what it names, or the answer that waits to begin; most are about other messages."""
        event = error.get("event_id") if isinstance(error, Mapping) else None
        waiting = [each for each in self._open if not each.begun and (not event or event == each.event)]
        if not waiting:
            return []
        waiting[0].fails(error)
        return self._ended(waiting[0], now)

    def _transcribed(self, event: Mapping[str, Any], now: float) -> list[Answer]:
        usage = event.get("usage")
        if not isinstance(usage, Mapping):
            return []
        answer = Answer("realtime", self._transcriber, now, id=_word(event.get("item_id")), begun=True, complete=True)
        answer.document = _with_model(self._transcriber, usage)
        if usage.get("type") == "duration":
            answer.flavor, answer.document = "live", {"model": self._transcriber, "usage": dict(usage)}
        return self._ended(answer, now)


class LiveTalk(Talk):
    """Gemini Live: the model stands in `setup`, the first message. Totals so far come in messages of a turn; the last ones count.

    Servers send JSON in binary messages. There is no error message: a connection that is refused is closed.
    https://ai.google.dev/api/live
    """

    format = Format.GEMINI_OTHER
    nameless = Format.GEMINI_GENERATE
    _MARKS = re.compile(rb'"(?:usageMetadata|turnComplete)"')
    _CONTENT = re.compile(rb'"(?:modelTurn|outputTranscription|toolCall)"')
    _RENAMED: ClassVar = {"responseTokenCount": "candidatesTokenCount", "responseTokensDetails": "candidatesTokensDetails"}
    """Live's names for what `generateContent` calls otherwise, which usage is read by."""
    _PREFIX = "models/"

    def __init__(self, models: Sequence[str] = ()) -> None:
        super().__init__()
        self._asked, self._size = 0.0, 0
        self._requested: str | None = None
        self._route: str | None = None

    @override
    def sent(self, ask: Ask, now: float) -> list[Answer]:
        if ask.kind == "setup":
            self.model, self._requested, self._route = ask.models[0], ask.requested, ask.route
        elif ask.wants:
            self._size += ask.size
            self._asked = self._asked or now
        # What comes after the results of tools is generated, and counted, anew.
        return self._turn_over(now) if ask.kind == "toolResponse" else []

    @override
    def renamed(self, data: bytes, model: str, changes: Sequence[tuple[str, object]], remove: Sequence[str]) -> bytes | None:
        return splice(data, set={"setup.model": self._PREFIX + model})

    def _read(self, data: bytes) -> Ask:
        members = scan(data)
        _check_case(members, "setup")
        setup = _inner(data, members, "setup")
        if setup is not None:
            _check_case(setup, "model")
            model = _text(data, setup, "model")
            return Ask((model.removeprefix(self._PREFIX) if model else None,), True, kind="setup", size=len(data))
        kind = next((name for name in members if name in ("clientContent", "client_content")), "")
        tools = "toolResponse" in members or "tool_response" in members
        return Ask((self.model,), bool(kind) or tools, kind="toolResponse" if tools else kind, size=len(data))

    def _matters(self, data: bytes) -> bool:
        return self._MARKS.search(data) is not None

    def _content(self, data: bytes, now: float) -> list[Answer]:
        if self._CONTENT.search(data) is None:
            return []
        over = self._close_if_complete(now)  # a turn whose totals never came
        self._current(now).says(text_length(data), now)
        return over

    def _event(self, event: dict[str, Any], data: bytes, now: float) -> list[Answer]:
        over = self._content(data, now)
        content, usage = event.get("serverContent"), event.get("usageMetadata")
        if isinstance(usage, Mapping) and usage:
            counts = {self._RENAMED.get(name, name): count for name, count in usage.items()}
            self._current(now).document = {"model": self.model, "usageMetadata": counts}
        if isinstance(content, Mapping) and content.get("turnComplete") is True and self._open:
            self._open[0].complete = True
        has_totals = bool(self._open) and self._open[0].document is not None
        return over + (self._close_if_complete(now) if has_totals else [])

    def _current(self, now: float) -> Answer:
        """The answer of this turn."""
        if not self._open:
            answer = Answer("generate", self.model, self._asked or now, self._size, begun=True)
            answer.requested, answer.route = self._requested, self._route
            self._open.append(answer)
            self._asked, self._size = 0.0, 0
        return self._open[0]

    def _close_if_complete(self, now: float) -> list[Answer]:
        return self._ended(self._open[0], now) if self._open and self._open[0].complete else []

    def _turn_over(self, now: float) -> list[Answer]:
        if not self._open or self._open[0].document is None:
            return []
        self._open[0].complete = True
        return self._close_if_complete(now)


TALKS: Mapping[str, type[Talk]] = {"responses_socket": ResponsesTalk, "realtime": RealtimeTalk, "live": LiveTalk}
"""The protocols, by the names of their endpoints in the catalogue."""


def _check_case(members: Members, *names: str) -> None:
    """Some servers match names without regard to case: `Model` there overrides `model`. Raises `JsonScanError`."""
    for name in members:
        if name not in names and name.casefold() in names:
            raise JsonScanError(f"a member is called {name.casefold()!r} in another case")


def _inner(data: bytes, members: Members, name: str) -> Members | None:
    span = members.get(name)
    return scan_inner(data, span) if span else None


def _text(data: bytes, members: Members, name: str) -> str | None:
    """The text of a member; None where it is absent or null. Raises `JsonScanError` for one that cannot be printed."""
    span = members.get(name)
    found = value(data, span) if span else None
    if found is not None and not (isinstance(found, str) and found.isprintable()):
        raise JsonScanError(f"the member {name} is no text that can be printed")
    return found


def _at(data: bytes, members: Members | None, path: Sequence[str]) -> str | None:
    """The text at a path of members. Raises `JsonScanError`."""
    *outer, last = path
    for step in outer:
        if members is None:
            return None
        _check_case(members, step)
        members = _inner(data, members, step)
    if members is None:
        return None
    _check_case(members, last)
    return _text(data, members, last)


def _found(place: object, path: Sequence[str]) -> object:
    for step in path:
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


def _with_model(model: str | None, usage: object) -> Mapping[str, Any]:
    """A document of the shape that `realtime` usage is read from."""
    return {"model": model, "response": {"usage": dict(usage) if isinstance(usage, Mapping) else None}}


def _word(found: object) -> str | None:
    """A name or id that the provider gives, if it is a sensible one."""
    return found if isinstance(found, str) and 0 < len(found) <= _LONGEST and found.isprintable() else None


def _error_type(status: int) -> str:
    return next((name for name, its in _STATUSES.items() if its == status and name.endswith("_error")), "invalid_request_error")


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
