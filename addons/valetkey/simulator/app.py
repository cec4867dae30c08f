"""One request in, one script out: which provider is meant, whether its key is good, what it answers, and what goes wrong."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

import brotli
import zstandard

from ..formats import EVENT_STREAM
from . import anthropic, bedrock, errors, gemini, ollama, openai, sockets
from .anthropic import Anthropic
from .conversations import conversation
from .counts import Counts
from .credentials import accepted, carried, key_of
from .faults import Fault, Faults
from .media import Media
from .wire_types import Fields, Piece, Request, Script

_RELATIVES = {
    "openrouter.ai": "openrouter", "api.groq.com": "groq", "api.mistral.ai": "mistral", "api.deepseek.com": "deepseek",
}  # fmt: skip
_GEMINI = re.compile(r"/v1(?:beta|alpha)?/(?:models|tunedModels)/([^/:]+):(\w+)$")
_ENCODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": functools.partial(gzip.compress, mtime=0),  # the same answer is the same bytes in the next second
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
_NOISE = {
    "anthropic": b'event: ping\ndata: {"type":"ping"}\n\n',
    "openai": b": keep-alive\n\n",
    "gemini": b": keep-alive\r\n\r\n",
}
_OPENED = ("anthropic", "openai", "bedrock")
"""Their streams begin with an event that holds no content."""
_STREAMS = {"ollama": "application/x-ndjson", "bedrock": EVENT_STREAM}
"""Content types of streams, where they are no server-sent events."""
Body = dict[str, Any]


class App:
    """The simulated providers. `keys` are the ones taken, by provider name; None takes whatever is no dummy."""

    def __init__(self, keys: Mapping[str, Collection[str]] | None = None, seed: int = 0) -> None:
        self.faults = Faults(seed)
        self.counts = Counts()
        self._keys = keys
        self._anthropic = Anthropic()
        self._media = Media()

    def answer(self, request: Request) -> Script:
        """The answer to a request, counted."""
        path = request.path.partition("?")[0]
        dialect = _dialect(request, path)
        script = self._answer(request, path, dialect)
        self.counts.add(key_of(request, dialect), script.trouble or str(script.status))
        good = script.status == 200 and script.trouble is None
        return replace(script, sent=self.counts.finished) if good else script

    def _answer(self, request: Request, path: str, dialect: str) -> Script:
        body = _json(request.body)
        try:
            fault = self.faults.take(request, str(body.get("model") or ""))
        except ValueError as error:
            return _whole(400, json.dumps({"error": {"message": str(error)}}).encode())
        if fault.broken is not None:
            return Script(0, [], [], delay=fault.slow, broken=fault.broken, trouble=fault.broken)
        relative = _RELATIVES.get(request.host, "openai")
        problem = self._refused(request, dialect, relative) or _commanded(fault, dialect, relative)
        if problem is None and sockets.is_asked_for(request):
            talk = conversation(request.path, fault, self.counts.spend)
            return Script(101, _headers(dialect), [], socket=talk) if talk else _error(dialect, relative, "not_found", None)
        script = problem or self._content(dialect, relative, request, path, body, fault)
        return _spoiled(script, fault, dialect, relative, request)

    def _refused(self, request: Request, dialect: str, relative: str) -> Script | None:
        if dialect == "ollama" or request.host.startswith(("127.0.0.1", "localhost")):
            return None
        key = key_of(request, dialect)
        known = self._keys.get(relative if dialect == "openai" else dialect) if self._keys is not None else None
        return None if accepted(key, known) else _error(dialect, relative, "bad_key", None)

    def _content(self, dialect: str, relative: str, request: Request, path: str, body: Body, fault: Fault) -> Script:
        media = self._media.answer(dialect, relative, request, path, body)
        if media is not None:
            return replace(media, headers=[*media.headers, *_headers(dialect)])
        makers: Mapping[str, Callable[[], Body | Iterator[bytes] | None]] = {
            "anthropic": lambda: self._speak_anthropic(request, path, body, fault),
            "gemini": lambda: _speak_gemini(request, path, body, fault),
            "ollama": lambda: _speak_ollama(request, path, body, fault),
            "bedrock": lambda: bedrock.speak(path, body, fault.words, self._anthropic),
            "openai": lambda: _speak_openai(request, path, body, fault, relative),
        }
        made = makers[dialect]()
        if made is None:
            return _error(dialect, relative, "not_found", None)
        if isinstance(made, dict):
            return _whole(200, json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode(), _headers(dialect))
        kind = _STREAMS.get(dialect, "text/event-stream")
        if dialect == "gemini" and "alt=sse" not in request.path:
            kind = "application/json; charset=UTF-8"
        pieces = (Piece(data, fault.delay) for data in made)
        return Script(200, [("content-type", kind), *_headers(dialect)], pieces, whole=False)

    def _speak_anthropic(self, request: Request, path: str, body: Body, fault: Fault) -> Body | Iterator[bytes] | None:
        if path.endswith("/messages"):
            make = self._anthropic.stream if body.get("stream") else self._anthropic.messages
            return make(body, fault.words)
        if path.endswith("/messages/count_tokens"):
            return anthropic.count_tokens(body)
        if path.endswith("/models"):
            return anthropic.models()
        return anthropic.model(path.rsplit("/", 1)[-1]) if "/models/" in path else None


def _speak_openai(request: Request, path: str, body: Body, fault: Fault, relative: str) -> Body | Iterator[bytes] | None:
    streamed, words = bool(body.get("stream")), fault.words
    if path.endswith("/chat/completions"):
        return openai.chat_stream(body, words, relative) if streamed else openai.chat(body, words, relative)
    if path.endswith("/responses"):
        return openai.responses_stream(body, words) if streamed else openai.responses(body, words)
    if path.endswith("/completions"):
        return openai.completion_stream(body, words, relative) if streamed else openai.completion(body, words, relative)
    if path.endswith("/embeddings"):
        return openai.embeddings(body)
    if path.endswith("/models"):
        return openai.models()
    return openai.model(path.rsplit("/", 1)[-1]) if "/models/" in path else None


def _speak_gemini(request: Request, path: str, body: Body, fault: Fault) -> Body | Iterator[bytes] | None:
    found = _GEMINI.fullmatch(path)
    if found is None:
        return gemini.models() if path.endswith("/models") else gemini.model(path.rsplit("/", 1)[-1])
    model, action = found.groups()
    match action:
        case "generateContent":
            return gemini.generate(body, model, fault.words)
        case "streamGenerateContent":
            return gemini.stream(body, model, fault.words, "alt=sse" in request.path)
        case "countTokens":
            return gemini.count(body)
        case "embedContent" | "batchEmbedContents":
            return gemini.embed(body)
        case _:
            return None


def _speak_ollama(request: Request, path: str, body: Body, fault: Fault) -> Body | Iterator[bytes] | None:
    if path in ("/api/chat", "/api/generate"):
        make = ollama.whole if body.get("stream") is False else ollama.stream
        return make(body, fault.words, path == "/api/chat")
    return ollama.tags() if path == "/api/tags" else None


def _dialect(request: Request, path: str) -> str:
    if path.startswith(("/api/chat", "/api/generate", "/api/tags")):
        return "ollama"
    if path.startswith("/model/"):
        return "bedrock"
    if request.host == "api.anthropic.com" or "/messages" in path or request.header("anthropic-version"):
        return "anthropic"
    if _GEMINI.search(path) or (request.host == "generativelanguage.googleapis.com" and "/openai/" not in path):
        return "gemini"
    return "openai"


def _commanded(fault: Fault, dialect: str, relative: str) -> Script | None:
    """The error answer that a fault asks for."""
    if fault.error_whole:
        _, body, _ = errors.error(dialect, relative, fault.kind or errors.usual(dialect), fault.retry_after_ms)
        return replace(_whole(200, body, _headers(dialect)), trouble="error_whole")
    if fault.kind is not None and not fault.error_first:
        return _error(dialect, relative, fault.kind, fault)
    return _error(dialect, relative, errors.KINDS.get(fault.status, "server"), fault) if fault.status is not None else None


def _error(dialect: str, relative: str, kind: str, fault: Fault | None) -> Script:
    status, body, headers = errors.error(dialect, relative, kind, fault.retry_after_ms if fault else None)
    if fault is not None:
        status = fault.status or status
        body = fault.body.encode() if fault.body is not None else body
        name, _, value = (fault.header or "").partition(":")
        headers = headers + ([(name.strip(), value.strip())] if name else [])
    return _whole(status, body, headers)


def _whole(status: int, body: bytes, headers: Fields | None = None) -> Script:
    return Script(status, [("content-type", "application/json"), *(headers or [])], [Piece(body)])


def _headers(dialect: str) -> Fields:
    """What a provider sends along."""
    match dialect:
        case "anthropic":
            return [("request-id", "req_sim1"), ("anthropic-ratelimit-requests-remaining", "999")]
        case "openai":
            return [("x-request-id", "req_sim1"), ("openai-version", "2020-10-01"), ("x-ratelimit-remaining-requests", "9999")]
        case "bedrock":
            return [("x-amzn-requestid", "req-sim1")]
        case _:
            return [("x-request-id", "req_sim1"), ("alt-svc", 'h3=":443"; ma=2592000')]


def _spoiled(script: Script, fault: Fault, dialect: str, relative: str, request: Request) -> Script:
    """The same answer with whatever goes wrong on the way."""
    if not script.whole and script.status == 200:
        script = _badly_begun(script, fault, dialect, request)
    if fault.malformed:
        nonsense = Piece(b'data: {"choices": [{"delta": \n\ndata: nonsense\n\n: \n\n\xff\xfe{{{')
        script = replace(script, pieces=[nonsense], trouble="malformed")
    if fault.empty:
        script = replace(script, pieces=[], trouble="empty")
    if fault.echo:
        script = _reflecting(script, request)
    if fault.stall is not None or fault.cut is not None:
        trouble = "stall" if fault.cut is None else "cut"
        script = replace(script, pieces=_broken_off(script.pieces, fault), whole=False, trouble=trouble)
    if fault.encode is not None and fault.encode in _ENCODERS:
        body = b"".join(piece.data for piece in script.pieces)
        headers = [*script.headers, ("content-encoding", fault.encode)]
        script = replace(script, pieces=[Piece(_ENCODERS[fault.encode](body))], headers=headers)
    return replace(script, delay=fault.slow)


def _badly_begun(script: Script, fault: Fault, dialect: str, request: Request) -> Script:
    """A stream that does not begin with content."""
    pieces = iter(script.pieces)
    # What stands before an error is what would stand before the content.
    opening = list(islice(pieces, 1 if fault.noise and dialect in _OPENED else 0))
    opening += repeat(Piece(_noise(dialect, request), fault.delay), fault.noise or 0)
    if fault.first_stall:
        return replace(script, pieces=[*opening, Piece(hold=True)], trouble="first_stall")
    if fault.error_first:
        responses = request.path.partition("?")[0].endswith("/responses")
        error = Piece(errors.event(dialect, fault.kind, fault.retry_after_ms, responses=responses), fault.delay)
        return replace(script, pieces=[*opening, error], trouble="error_first")
    return replace(script, pieces=chain(opening, pieces)) if opening else script


def _noise(dialect: str, request: Request) -> bytes:
    """A piece that means nothing."""
    return bedrock.noise(request.path) if dialect == "bedrock" else _NOISE.get(dialect, b"\n")


def _reflecting(script: Script, request: Request) -> Script:
    reflected = " ".join(carried(request))
    is_framed = ("content-type", EVENT_STREAM) in script.headers
    message = f"your key was {reflected}"
    body = bedrock.says(message) if is_framed else json.dumps({"error": {"message": message}}).encode()
    return replace(script, headers=[*script.headers, ("x-echo", reflected)], pieces=[Piece(body)], trouble="echo")


def _broken_off(pieces: Iterable[Piece], fault: Fault) -> Iterator[Piece]:
    """As many pieces as the fault lets through, then silence or a broken connection."""
    yield from islice(pieces, fault.cut if fault.cut is not None else fault.stall)
    yield Piece(cut=True) if fault.cut is not None else Piece(hold=True)


def _json(body: bytes) -> Body:
    try:
        found = json.loads(body) if body else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
