"""One request in, one script out: which provider is meant, whether its key is good, what it answers, and what goes wrong."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import brotli
import zstandard

from . import anthropic, errors, gemini, ollama, openai
from .anthropic import Anthropic
from .credentials import accepted, carried, key_of
from .faults import Fault, Faults
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
Body = dict[str, Any]


class App:
    """The simulated providers. `keys` are the ones taken, by provider name; None takes whatever is no dummy."""

    def __init__(self, keys: Mapping[str, Collection[str]] | None = None) -> None:
        self.faults = Faults()
        self._keys = keys
        self._anthropic = Anthropic()

    def answer(self, request: Request) -> Script:
        """The answer to a request."""
        path = request.path.partition("?")[0]
        dialect = _dialect(request, path)
        body = _json(request.body)
        model = str(body.get("model") or "")
        try:
            fault = self.faults.take(request, model)
        except ValueError as error:
            return _whole(400, json.dumps({"error": {"message": str(error)}}).encode())
        relative = _RELATIVES.get(request.host, "openai")
        problem = self._refused(request, dialect, relative) or _commanded(fault, dialect, relative)
        script = problem or self._content(dialect, relative, request, path, body, fault)
        return _spoiled(script, fault, dialect, relative, request)

    def _refused(self, request: Request, dialect: str, relative: str) -> Script | None:
        if dialect == "ollama" or request.host.startswith(("127.0.0.1", "localhost")):
            return None
        key = key_of(request, dialect)
        known = self._keys.get(relative if dialect == "openai" else dialect) if self._keys is not None else None
        return None if accepted(key, known) else _error(dialect, relative, "bad_key", None)

    def _content(self, dialect: str, relative: str, request: Request, path: str, body: Body, fault: Fault) -> Script:
        makers: Mapping[str, Callable[[], Body | Iterator[bytes] | None]] = {
            "anthropic": lambda: self._speak_anthropic(request, path, body, fault),
            "gemini": lambda: _speak_gemini(request, path, body, fault),
            "ollama": lambda: _speak_ollama(request, path, body, fault),
            "openai": lambda: _speak_openai(request, path, body, fault, relative),
        }
        made = makers[dialect]()
        if made is None:
            return _error(dialect, relative, "not_found", None)
        if isinstance(made, dict):
            return _whole(200, json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode(), _headers(dialect))
        kind = "text/event-stream" if dialect != "ollama" else "application/x-ndjson"
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
    if request.host == "api.anthropic.com" or "/messages" in path or request.header("anthropic-version"):
        return "anthropic"
    if _GEMINI.search(path) or (request.host == "generativelanguage.googleapis.com" and "/openai/" not in path):
        return "gemini"
    return "openai"


def _commanded(fault: Fault, dialect: str, relative: str) -> Script | None:
    """The error answer that a fault asks for."""
    if fault.kind is not None:
        return _error(dialect, relative, fault.kind, fault)
    return _error(dialect, relative, errors.KINDS.get(fault.status, "server"), fault) if fault.status is not None else None


def _error(dialect: str, relative: str, kind: str, fault: Fault | None) -> Script:
    status, body, headers = errors.error(dialect, relative, kind)
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
        case _:
            return [("x-request-id", "req_sim1"), ("alt-svc", 'h3=":443"; ma=2592000')]


def _spoiled(script: Script, fault: Fault, dialect: str, relative: str, request: Request) -> Script:
    """The same answer with whatever goes wrong on the way."""
    pieces: Iterable[Piece] = script.pieces
    headers = list(script.headers)
    if fault.error_first and not script.whole:
        pieces = [Piece(errors.event(dialect))]
    if fault.malformed:
        pieces = [Piece(b'data: {"choices": [{"delta": \n\ndata: nonsense\n\n: \n\n\xff\xfe{{{')]
    if fault.empty:
        pieces = []
    if fault.echo:
        reflected = " ".join(carried(request))
        headers.append(("x-echo", reflected))
        pieces = [Piece(json.dumps({"error": {"message": f"your key was {reflected}"}}).encode())]
    if fault.stall is not None or fault.cut is not None:
        pieces = _broken_off(pieces, fault)
    if fault.encode and fault.encode in _ENCODERS:
        body = b"".join(piece.data for piece in pieces)
        pieces, headers = [Piece(_ENCODERS[fault.encode](body))], [*headers, ("content-encoding", fault.encode)]
    cut_whole = script.whole and fault.cut is not None
    return Script(script.status, headers, pieces, script.whole and not cut_whole and fault.stall is None, fault.slow)


def _broken_off(pieces: Iterable[Piece], fault: Fault) -> Iterator[Piece]:
    """As many pieces as the fault lets through, then silence or a broken connection."""
    limit = fault.cut if fault.cut is not None else fault.stall or 0
    for at, piece in enumerate(pieces):
        if at >= limit:
            break
        yield piece
    yield Piece(cut=True) if fault.cut is not None else Piece(delay=3600.0)


def _json(body: bytes) -> Body:
    try:
        found = json.loads(body) if body else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
