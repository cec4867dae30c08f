"""What is no chat: sound, images, files, batches, responses in the background. Things belong to the key that made them."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import gemini, openai
from .anthropic import Anthropic
from .credentials import key_of
from .text import dump, pieces, sse, tokens
from .wire_types import Piece, Request, Script

Body = dict[str, Any]
SOUND = "audio/mpeg"
_BYTES_PER_SECOND = 16_000
_BOUNDARY = re.compile(r'boundary="?([^";]+)')
_NAME = re.compile(rb'name="([^"]*)"')
_BATCH = re.compile(r"/(batches|files|responses)/([^/:]+)(?:[/:](\w+))?$")
_GEMINI_BATCH = re.compile(r"/models/([^/:]+):batchGenerateContent$")
_TRANSCRIPT = "Simulated words of what was said"


@dataclass(frozen=True, slots=True)
class _Thing:
    """Something that a key has made."""

    key: str | None
    document: Body
    content: bytes = b""


class Media:
    """Answers to whatever makes or fetches things; remembers them by their id."""

    def __init__(self) -> None:
        self._things: dict[str, _Thing] = {}
        self._anthropic = Anthropic()

    def answer(self, dialect: str, relative: str, request: Request, path: str, body: Body) -> Script | None:
        """The answer, None where the path is none of these."""
        if dialect == "anthropic":
            return self._speak_anthropic(request, path, body)
        if dialect == "gemini":
            return self._speak_gemini(request, path, body)
        if dialect != "openai":
            return None
        form = _form(request)
        body = body or {name: value.decode("utf-8", "replace") for name, value in form.items() if name != "file"}
        if path.endswith(("/audio/transcriptions", "/audio/translations")):
            return _transcribed(body, form.get("file", b""), relative)
        if path.endswith("/audio/speech"):
            return _spoken(body)
        if "/images/" in path:
            return _drawn(path, body)
        return self._kept_by_openai(request, path, body, form)

    def _kept_by_openai(self, request: Request, path: str, body: Body, form: Mapping[str, bytes]) -> Script | None:
        found = _BATCH.search(path)
        if found:
            return self._fetched(request, found[2], found[3], "openai")
        key = key_of(request, "openai")
        if path.endswith("/files") and request.method == "POST":
            return _json(self._file(key, form.get("file", b""), body.get("purpose", "")))
        if path.endswith("/batches") and request.method == "POST":
            return self._batch_of_openai(key, body)
        if path.endswith("/responses") and body.get("background") and not body.get("stream"):
            done = openai.responses(body, None) | {"id": self._id("resp"), "background": True}
            self._things[done["id"]] = _Thing(key, done)
            return _json(done | {"status": "queued", "output": [], "usage": None})
        if path.endswith("/responses") and body.get("store") and not body.get("stream"):
            done = openai.responses(body, None) | {"id": self._id("resp"), "background": False}
            self._things[done["id"]] = _Thing(key, done)
            return _json(done)
        return None

    def _fetched(self, request: Request, name: str, what: str | None, dialect: str) -> Script | None:
        thing = self._things.get(name)
        if thing is None or thing.key != key_of(request, dialect):
            return _script(404, "application/json", [openai.error(404, "not_found", f"No such object: {name}")])
        if what in ("content", "results", "download"):
            return _script(
                200, "application/octet-stream", [thing.content[at : at + 1000] for at in range(0, len(thing.content), 1000)]
            )
        return _json(thing.document)

    def _file(self, key: str | None, content: bytes, purpose: str) -> Body:
        name = self._id("file", "-")
        document = {
            "id": name, "object": "file", "bytes": len(content), "created_at": openai.CREATED, "filename": "a.jsonl",
            "purpose": purpose, "status": "processed",
        }  # fmt: skip
        self._things[name] = _Thing(key, document, content)
        return document

    def _batch_of_openai(self, key: str | None, body: Body) -> Script:
        source = self._things.get(body.get("input_file_id", ""))
        if source is None or source.key != key:
            return _script(404, "application/json", [openai.error(404, "not_found", "No such file")])
        output = self._file(key, b"".join(_results(source.content)), "batch_output")
        name = self._id("batch")
        document = {
            "id": name, "object": "batch", "endpoint": body.get("endpoint"), "input_file_id": body.get("input_file_id"),
            "completion_window": "24h", "status": "completed", "output_file_id": output["id"], "error_file_id": None,
            "created_at": openai.CREATED, "request_counts": {"total": 1, "completed": 1, "failed": 0},
        }  # fmt: skip
        self._things[name] = _Thing(key, document)
        return _json(document)

    def _speak_anthropic(self, request: Request, path: str, body: Body) -> Script | None:
        found = _BATCH.search(path)
        if found:
            return self._fetched(request, found[2], found[3], "anthropic")
        if not path.endswith("/messages/batches"):
            return None
        name = self._id("msgbatch")
        lines = []
        for each in body.get("requests", ()):
            message = self._anthropic.messages(each["params"], None)
            message["usage"]["service_tier"] = "batch"
            lines.append(dump({"custom_id": each["custom_id"], "result": {"type": "succeeded", "message": message}}) + b"\n")
        counts = {"processing": 0, "succeeded": len(lines), "errored": 0, "canceled": 0, "expired": 0}
        document = {
            "id": name, "type": "message_batch", "processing_status": "ended", "request_counts": counts,
            "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z", "ended_at": "2026-01-01T00:01:00Z",
            "archived_at": None, "cancel_initiated_at": None,
            "results_url": f"https://{request.host}/v1/messages/batches/{name}/results",
        }  # fmt: skip
        self._things[name] = _Thing(key_of(request, "anthropic"), document, b"".join(lines))
        return _json(document)

    def _speak_gemini(self, request: Request, path: str, body: Body) -> Script | None:
        found = _BATCH.search(path)
        if found:
            return self._fetched(request, found[2], found[3], "gemini")
        batch = _GEMINI_BATCH.search(path)
        if batch is None:
            return None
        asked = body.get("batch", {}).get("inputConfig", {}).get("requests", {}).get("requests", ())
        answers = {"inlinedResponses": [{"response": gemini.generate(each["request"], batch[1], None)} for each in asked]}
        name = self._id("batch", "-")
        output = {"inlinedResponses": answers}
        metadata = {"name": f"batches/{name}", "model": f"models/{batch[1]}", "state": "BATCH_STATE_SUCCEEDED", "output": output}
        document = {"name": f"batches/{name}", "metadata": metadata, "done": True, "response": output}
        self._things[name] = _Thing(key_of(request, "gemini"), document)
        begun = {"name": metadata["name"], "model": metadata["model"], "state": "BATCH_STATE_PENDING"}
        return _json({"name": f"batches/{name}", "metadata": begun})

    def _id(self, kind: str, glue: str = "_") -> str:
        return f"{kind}{glue}sim{len(self._things) + 1}"


def sound_of(text: str) -> bytes:
    """What a text sounds like: bytes of any value, the same for the same text."""
    return random.Random(text).randbytes(200 * len(text))  # noqa: S311


def _transcribed(body: Body, sound: bytes, relative: str) -> Script:
    seconds = max(1, -(-len(sound) // _BYTES_PER_SECOND))
    usage: Body = {"type": "duration", "seconds": seconds}
    if not str(body.get("model", "")).startswith("whisper"):
        details = {"text_tokens": 0, "audio_tokens": 10 * seconds}
        output = tokens(_TRANSCRIPT)
        usage = {
            "type": "tokens", "input_tokens": 10 * seconds, "input_token_details": details, "output_tokens": output,
            "total_tokens": 10 * seconds + output,
        }  # fmt: skip
    if body.get("response_format") == "text":
        return _script(200, "text/plain; charset=utf-8", [_TRANSCRIPT.encode() + b"\n"])
    if body.get("stream") in ("true", "True", True):
        deltas = [sse({"type": "transcript.text.delta", "delta": piece}) for piece in pieces(_TRANSCRIPT)]
        done = sse({"type": "transcript.text.done", "text": _TRANSCRIPT, "usage": usage})
        return _script(200, "text/event-stream", [*deltas, done])
    if relative == "groq":
        return _json({"text": _TRANSCRIPT, "x_groq": {"id": "req_sim"}})
    return _json({"text": _TRANSCRIPT, "usage": usage})


def _spoken(body: Body) -> Script:
    text = str(body.get("input", ""))
    sound = sound_of(text)
    if body.get("stream_format") != "sse":
        return _script(200, SOUND, [sound[at : at + 4096] for at in range(0, len(sound), 4096)])
    count = tokens(text)
    usage = {"input_tokens": count, "output_tokens": 5 * count, "total_tokens": 6 * count}
    delta = sse({"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()})
    return _script(200, "text/event-stream", [delta, sse({"type": "speech.audio.done", "usage": usage})])


def _drawn(path: str, body: Body) -> Script:
    image = base64.b64encode(sound_of("image" * 5)).decode()
    count = int(body.get("n") or 1)
    answer: Body = {"created": openai.CREATED, "data": [{"b64_json": image} for _ in range(count)]}
    if not str(body.get("model", "")).startswith("gpt-image"):
        return _json(answer)
    prompt = tokens(str(body.get("prompt", "")))
    seen = 0 if path.endswith("generations") else 300
    usage = {
        "input_tokens": prompt + seen, "input_tokens_details": {"text_tokens": prompt, "image_tokens": seen},
        "output_tokens": 1056 * count, "total_tokens": prompt + seen + 1056 * count,
    }  # fmt: skip
    if body.get("stream") in ("true", True):
        partial = {"type": "image_generation.partial_image", "b64_json": image, "partial_image_index": 0}
        return _script(
            200,
            "text/event-stream",
            [sse(partial), sse({"type": "image_generation.completed", "b64_json": image, "usage": usage})],
        )
    return _json(answer | {"size": "1024x1024", "quality": "high", "usage": usage})


def _results(source: bytes) -> Iterator[bytes]:
    for line in source.splitlines():
        asked = json.loads(line)
        chat = openai.responses if asked["url"].endswith("/responses") else None
        body = chat(asked["body"], None) if chat else openai.chat(asked["body"], None, "openai")
        response = {"status_code": 200, "request_id": "req_sim", "body": body}
        yield dump({"id": "batch_req_sim", "custom_id": asked["custom_id"], "response": response, "error": None}) + b"\n"


def _form(request: Request) -> dict[str, bytes]:
    """The fields of a form, as a simple server reads them."""
    boundary = _BOUNDARY.search(request.header("content-type") or "")
    if boundary is None or "multipart/" not in (request.header("content-type") or ""):
        return {}
    found = {}
    for part in (b"\r\n" + request.body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        found[name[1].decode() if name else ""] = content
    return found


def _json(document: Body) -> Script:
    return Script(200, [("content-type", "application/json")], [Piece(dump(document))])


def _script(status: int, kind: str, chunks: Iterable[bytes]) -> Script:
    return Script(
        status, [("content-type", kind)], [Piece(chunk) for chunk in chunks], whole=kind not in ("text/event-stream", SOUND)
    )
