"""What providers say over a WebSocket: OpenAI Responses and Realtime, Gemini Live, with honest counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

from . import errors, gemini, openai
from .faults import Fault
from .text import answer, last_text, pieces, prompt_of, tokens

Body = dict[str, Any]
Spent = Callable[[int, int], None]
"""Told the tokens of an answer, in and out, before its last event is sent."""
_SOUND = 2000
"""Characters of sound in an event."""
_SOUND_TOKEN = 100
"""Characters of sound that are a token."""


class Conversation:
    """One connection. `greet` opens it, `hear` answers a message; both give the messages to send."""

    is_binary = False
    """Whether its JSON is sent in binary messages."""

    def __init__(self, path: str, fault: Fault, spent: Spent) -> None:
        self.model = dict(parse_qsl(path.partition("?")[2])).get("model", "")
        self.fault = fault
        self._spent = spent
        self._answers = 0

    def greet(self) -> Iterator[Body]:
        """What comes before the client has said anything."""
        yield from ()

    def hear(self, message: Body) -> Iterator[Body]:
        """The answer to a message."""
        raise NotImplementedError

    def _next(self) -> int:
        self._answers += 1
        return self._answers

    def _trouble(self) -> tuple[int, Body] | None:
        """The error that the fault asks for."""
        if not self.fault.error_first:
            return None
        status, body, _ = errors.error("openai", "openai", self.fault.kind or errors.usual("openai"))
        return status, json.loads(body)["error"]


class Responses(Conversation):
    """OpenAI Responses: the events of its streams; requests of one connection are answered in order."""

    def hear(self, message: Body) -> Iterator[Body]:
        """An answer to `response.create`."""
        lane = {"stream_id": message["stream_id"]} if "stream_id" in message else {}
        trouble = self._trouble()
        if message.get("type") != "response.create" or trouble:
            unknown = {"type": "invalid_request_error", "code": "unknown_event", "message": "Unknown event."}
            status, error = trouble or (400, unknown)
            yield {"type": "error", "status": status, "error": error, **lane}
            return
        number = self._next()
        for event in openai.responses_events(message, self.fault.words):
            if "response" in event:
                event["response"] = event["response"] | {"id": f"resp_sim{number}"}
            if event["type"] == "response.completed":
                usage = event["response"]["usage"]
                self._spent(usage["input_tokens"], usage["output_tokens"])
            yield event | lane


class Realtime(Conversation):
    """OpenAI Realtime: one model, a conversation of items, answers in text and sound. Sound that is sent is answered, too."""

    def __init__(self, path: str, fault: Fault, spent: Spent) -> None:
        super().__init__(path, fault, spent)
        self._items: list[Body] = []
        self._heard = 0
        self._session: Body = {}

    def greet(self) -> Iterator[Body]:
        """The session."""
        yield {"type": "session.created", "event_id": "event_0", "session": {"type": "realtime", "model": self.model}}

    def hear(self, message: Body) -> Iterator[Body]:
        """An item, sound, or an answer."""
        match message.get("type"):
            case "session.update":
                self._session = {"type": "realtime", "model": self.model, **message.get("session", {})}
                yield {"type": "session.updated", "event_id": "event_1", "session": self._session}
            case "conversation.item.create":
                self._items.append(message.get("item") or {})
                yield {"type": "conversation.item.added", "event_id": "event_2", "item": self._items[-1]}
            case "input_audio_buffer.append":
                self._heard += len(str(message.get("audio", "")))
            case "input_audio_buffer.commit":
                if ((self._session.get("audio") or {}).get("input") or {}).get("transcription"):
                    yield self._written()
                yield from self._answer(message)
            case "response.create":
                yield from self._answer(message)
            case kind:
                error = {"type": "invalid_request_error", "code": "unknown_event", "message": f"Unknown event {kind}."}
                yield {"type": "error", "event_id": "event_3", "error": error | {"event_id": message.get("event_id")}}

    def _answer(self, message: Body) -> Iterator[Body]:
        trouble = self._trouble()
        if trouble is not None:
            yield {"type": "error", "event_id": "event_3", "error": trouble[1] | {"event_id": message.get("event_id")}}
            return
        id = f"resp_sim{self._next()}"
        response: Body = {"id": id, "object": "realtime.response", "status": "in_progress", "output": [], "usage": None}
        text = answer(last_text(self._items), self.fault.words)
        yield {"type": "response.created", "event_id": "event_4", "response": response}
        for piece in pieces(text):
            yield {"type": "response.output_audio_transcript.delta", "event_id": "event_5", "response_id": id, "delta": piece}
        yield {"type": "response.output_audio.delta", "event_id": "event_6", "response_id": id, "delta": "A" * _SOUND}
        usage = self._usage(text)
        self._spent(usage["input_tokens"], usage["output_tokens"])
        yield {"type": "response.done", "event_id": "event_7", "response": response | {"status": "completed", "usage": usage}}

    def _written(self) -> Body:
        """What was said, written down by another model, which has tokens of its own."""
        text, sound = "what was said", self._heard // _SOUND_TOKEN
        usage = {
            "type": "tokens", "total_tokens": sound + tokens(text), "input_tokens": sound, "output_tokens": tokens(text),
            "input_token_details": {"text_tokens": 0, "audio_tokens": sound},
        }  # fmt: skip
        self._spent(sound, tokens(text))
        kind = "conversation.item.input_audio_transcription.completed"
        return {
            "type": kind,
            "event_id": "event_8",
            "item_id": "item_sim1",
            "content_index": 0,
            "transcript": text,
            "usage": usage,
        }

    def _usage(self, text: str) -> Body:
        """Text in, and a token for each hundred characters of sound; half of the text was in the cache."""
        words_in, sound_in = tokens(prompt_of(self._items)), self._heard // _SOUND_TOKEN
        words_out, sound_out = tokens(text), 20
        cached = words_in // 2
        return {
            "total_tokens": words_in + sound_in + words_out + sound_out,
            "input_tokens": words_in + sound_in,
            "output_tokens": words_out + sound_out,
            "input_token_details": {
                "text_tokens": words_in, "audio_tokens": sound_in, "image_tokens": 0, "cached_tokens": cached,
                "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": words_out, "audio_tokens": sound_out},
        }  # fmt: skip


class Live(Conversation):
    """Gemini Live: the model comes with `setup`; turns end with their totals. JSON is sent in binary messages.

    Sound is answered when its stream ends.
    """

    is_binary = True

    def __init__(self, path: str, fault: Fault, spent: Spent) -> None:
        super().__init__(path, fault, spent)
        self._heard = 0
        self._speaks = False

    def hear(self, message: Body) -> Iterator[Body]:
        """The answer to the set-up, to a turn, or to sound."""
        if "setup" in message:
            self.model = str(message["setup"].get("model", ""))
            self._speaks = "AUDIO" in (message["setup"].get("generationConfig") or {}).get("responseModalities", ())
            yield {"setupComplete": {}}
        turn, sound = message.get("clientContent") or message.get("client_content"), message.get("realtimeInput") or {}
        self._heard += len((sound.get("audio") or {}).get("data", ""))
        if turn or sound.get("audioStreamEnd"):
            sound_in, self._heard = self._heard // _SOUND_TOKEN, 0
            events, usage = gemini.live_turn((turn or {}).get("turns", ""), sound_in, self._speaks, self.fault.words)
            yield from events
            self._spent(usage["promptTokenCount"], usage["responseTokenCount"])
            yield {"serverContent": {"turnComplete": True}, "usageMetadata": usage}


def conversation(path: str, fault: Fault, spent: Spent) -> Conversation | None:
    """The conversation at a path; None where there is none."""
    bare = path.partition("?")[0]
    kinds = {"/responses": Responses, "/realtime": Realtime, ".BidiGenerateContent": Live}
    kind = next((kind for suffix, kind in kinds.items() if bare.endswith(suffix)), None)
    return kind(path, fault, spent) if kind is not None else None


def heard(data: bytes | str) -> Body:
    """A message as a document; an empty one where it is none."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def said(event: Body) -> bytes:
    """A message to send, in ASCII, so that it can be cut anywhere."""
    return json.dumps(event, separators=(",", ":")).encode()
