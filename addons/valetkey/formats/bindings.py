"""What a request needs from one certain key, and what an answer creates that only its key can use.

Nothing is parsed: members are found by their names in the bytes. A JSON text inside a string has its quotes escaped, so
`\\"file_id\\":` is never taken for a member. Names are opaque, and an agent may forge them: the worst that happens is that
another key of the same pool is tried.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import unquote

from ..model import Dialect, Format
from .decode import DecodeError, Decoder, decoder
from .jsonscan import JsonScanError, Members, scan, value

_MOST = 32
"""Most names of each kind that one call has."""
_LONGEST = 100
"""Longest name in characters; a longer one is hashed."""
_HITS = 2048
"""Most members of a body that are looked at. Real ones hold some hundreds; a forged body must not hold up other calls."""
_LISTED = 8 * 1024
"""Bytes of a list or an object that are read."""
_WINDOW = 16 * 1024
"""Bytes that are decoded at first for a message, and the longest text of one that is hashed whole."""
_VALUE_LIMIT = 1024 * 1024
"""Longest string that is kept from an answer. Encrypted reasoning takes some 10 to 100 kB."""
_TAIL = 64
"""Bytes kept between two chunks: a member's name with its colon fits."""
_FIRST_MESSAGES = 32
"""Most messages before the first one of the user."""

_HARD = (
    "response", "conversation", "interaction", "cached", "container", "file", "vector_store", "batch", "assistant", "thread",
    "upload", "job", "model", "encrypted",
)  # fmt: skip
"""The kinds of hard names, in the order in which they are given."""

_SOFT = ("prompt_cache_key", "session_id", "user_id")
"""Members that name a warm cache, the strongest first; session headers stand after the first."""

_SESSION_HEADERS = (
    "x-claude-code-session-id",  # https://code.claude.com/docs/en/llm-gateway-protocol
    "session_id",                # Codex CLI; `conversation_id` was a copy of it: https://github.com/openai/codex/pull/9107
    "session-id",                # Codex CLI, later spelling: https://github.com/earendil-works/pi/issues/4967
    "conversation_id",
    "x-opencode-session",        # OpenCode: https://github.com/ianjwhite99/opencode-with-claude/pull/48
    "x-session-affinity",        # OpenCode
    "x-grok-conv-id",            # https://docs.x.ai/developers/advanced-api-usage/prompt-caching/maximizing-cache-hits
    "x-session-id",
)  # fmt: skip

SESSION_HEADERS = frozenset(_SESSION_HEADERS)
"""Headers that name a warm cache; no others are looked at."""
_SOFT_NAMES = frozenset(_SOFT)

_OPENAI = {
    "previous_response_id": "response",
    "conversation": "conversation",
    "encrypted_content": "encrypted",
    "file_id": "file",
    "file_ids": "file",
    "input_file_id": "file",
    "input_files": "file",  # Mistral's batches
    "training_file": "file",
    "validation_file": "file",
    "vector_store_id": "vector_store",
    "vector_store_ids": "vector_store",
    "batch_id": "batch",
    "container": "container",
    "container_id": "container",
    "assistant_id": "assistant",
    "thread_id": "thread",
    "model": "model",
    "prompt_cache_key": "prompt_cache_key",
    "session_id": "session_id",
    "user_id": "user_id",
}
_CHAT = {name: _OPENAI[name] for name in ("file_id", "model", "prompt_cache_key", "session_id", "user_id")}
_ELSEWHERE = ("batch_id", "assistant_id", "thread_id", "input_file_id", "input_files", "training_file", "validation_file")
_RESPONSES = {name: kind for name, kind in _OPENAI.items() if name not in _ELSEWHERE}
_ANTHROPIC = {"file_id": "file", "container": "container", "user_id": "user_id"}
_GEMINI = {
    "cachedContent": "cached",
    "cached_content": "cached",
    "fileUri": "file",
    "file_uri": "file",
    "fileName": "file",  # the input of a batch
    "file_name": "file",
    "previous_interaction_id": "interaction",
    "model": "model",
}

_COLLECTIONS = {
    "responses": "response",
    "conversations": "conversation",
    "interactions": "interaction",
    "cachedContents": "cached",
    "containers": "container",
    "files": "file",
    "vector_stores": "vector_store",
    "batches": "batch",
    "assistants": "assistant",
    "threads": "thread",
    "uploads": "upload",
    "jobs": "job",
    "models": "model",
    "tunedModels": "model",
}
_NO_IDS = frozenset({"input_tokens", "compact"})
"""Paths under a collection that name an action."""
_PREFIXES = {
    "resp_": "response",
    "conv_": "conversation",
    "file-": "file",
    "file_": "file",
    "batch_": "batch",
    "msgbatch_": "batch",
    "cntr_": "container",
    "container_": "container",
    "vs_": "vector_store",
}
_PREFIX = re.compile("|".join(_PREFIXES))
_ANY = "|".join(_COLLECTIONS)
_IN_PATH = re.compile(rf"/({_ANY})/([^/?#]+)")
_CREATING = re.compile(rf"/({_ANY})(?:/[^/?#]+(?:/(?:cancel|complete))?)?/?(?:[?#]|\Z)")
_BATCH_OF_MODEL = re.compile(r":batch\w+(?:[?#]|\Z)")

_STRING = re.compile(rb'\s*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_IN_METADATA = re.compile(rb'"metadata"\s*+:\s*+\{[^{}]*+\Z')
_BASE_MODEL = re.compile(rb'\s*+"(?![^"]*?(?:ft:|tunedModels/))[^"\\]*+"')
"""A model that every key can use, its name without escapes."""
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*+\{")
_FILE_NAME = re.compile(r"(?:^|/)files/([^/?#:]+)")
_CREATED = re.compile(
    rb'"(id|name|uri|encrypted_content|(?:output_|error_)?file_id|(?:output|error)_file|responsesFile|container_id|vector_store_id'
    rb'|fine_tuned_model)"'
    rb'\s{0,8}:\s{0,8}"'
)
_CREATED_KINDS = {
    "file_id": "file",
    "output_file_id": "file",
    "error_file_id": "file",
    "output_file": "file",
    "error_file": "file",
    "responsesFile": "file",
    "container_id": "container",
    "vector_store_id": "vector_store",
    "fine_tuned_model": "model",
}
_decoder = json.JSONDecoder()


class Bindings(NamedTuple):
    """What ties a request to a key. Only the key that made a `hard` name can use it; a `soft` one means a warm cache.

    `response:resp_1`, `encrypted:<16 hex>`, …; `session:<16 hex>`. The strongest come first; of encrypted items the newest.
    Source: https://platform.openai.com/docs/guides/conversation-state, https://ai.google.dev/gemini-api/docs/caching
    """

    hard: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()


_NOTHING = Bindings()


# Requests.


def of_request(format: Format, path: str, headers: Mapping[str, str], body: bytes) -> Bindings:
    """What ties this request to a key: ids in the path, members of the JSON body, session headers (lower-case names)."""
    found = _members(format, body)
    if _IN_PATH.search(path):
        for kind, text in _of_path(path):
            found.setdefault(kind, []).insert(0, text)
    if not found and not headers:
        return _NOTHING
    hard = [name for kind in filter(found.__contains__, _HARD) for text in found[kind] if (name := _name(kind, text))]
    return Bindings(_some(hard), _some(_sessions(found, headers)))


def _some(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:_MOST]


def _sessions(found: Mapping[str, list[str]], headers: Mapping[str, str]) -> Iterable[str]:
    if SESSION_HEADERS.isdisjoint(headers) and _SOFT_NAMES.isdisjoint(found):
        return ()
    in_headers = [text for name in _SESSION_HEADERS if (text := headers.get(name, "").strip())]
    in_body = [text for kind in _SOFT[1:] for text in found.get(kind, ())]
    return [f"session:{_digest(text)}" for text in (*found.get(_SOFT[0], ()), *in_headers, *in_body)]


def _of_path(path: str) -> Iterator[tuple[str, str]]:
    for match in _IN_PATH.finditer(path):
        collection, text = match[1], unquote(match[2])
        if text not in _NO_IDS:
            kind = _COLLECTIONS[collection]
            text = text if collection == "models" else text.partition(":")[0]  # Gemini: `tunedModels/x:generateContent`
            yield kind, f"{collection}/{text}" if collection in ("tunedModels", "cachedContents") else text


def _pattern(names: Iterable[str]) -> re.Pattern[bytes]:
    """Finds the colon after members with such names, and after some others: only ends of names are compared.

    The fastest way by measurement: it begins at `":`, which is rarer than a quote, looks back, and sorts out most by the sets
    of the last three letters; `content` stands in every message.
    """
    ends = {f'"{name}'[-8:] for name in names}
    short = min(map(len, ends))
    by_length = {8: {end for end in ends if len(end) == 8}, short: {end[-short:] for end in ends if len(end) < 8}}
    letters = "".join(f"[{''.join(sorted({end[at] for end in ends}))}]" for at in (-3, -2, -1))
    behind = "|".join(f'(?<=(?:{"|".join(sorted(some))})":)' for some in by_length.values() if some)
    return re.compile(f'":(?<!"content":)(?<={letters}":)(?:{behind})'.encode())


def _table(members: Mapping[str, str]) -> tuple[re.Pattern[bytes], Mapping[bytes, str]]:
    return _pattern(members), {name.encode(): kind for name, kind in members.items()}


_BY_DIALECT = {Dialect.OPENAI: _table(_OPENAI), Dialect.ANTHROPIC: _table(_ANTHROPIC), Dialect.GEMINI: _table(_GEMINI)}
_BY_FORMAT = {
    **dict.fromkeys((Format.OPENAI_CHAT, Format.OPENAI_COMPLETIONS, Format.OPENAI_EMBEDDINGS), _table(_CHAT)),
    Format.OPENAI_RESPONSES: _table(_RESPONSES),
}


def _members(format: Format, body: bytes) -> dict[str, list[str]]:
    """The texts of the members that bind, by kind."""
    found: dict[str, list[str]] = {}
    table = _BY_FORMAT.get(format) or _BY_DIALECT.get(format.dialect)
    if table is None or not _OBJECT.match(body):  # a form's file may hold anything
        return found
    pattern, kinds = table
    for _, match in zip(range(_HITS), pattern.finditer(body), strict=False):
        start = body.rfind(b'"', max(0, match.start() - 32), match.start())
        kind = kinds.get(body[start + 1 : match.start()])
        if kind == "model" and _BASE_MODEL.match(body, match.end()):
            continue  # every body has one, but few bind
        if kind is None or (kind == "user_id" and not _IN_METADATA.search(body, max(0, start - 1024), start)):
            continue
        _keep(found.setdefault(kind, []), kind, _texts(body, match.end()))
    return found


def _keep(kept: list[str], kind: str, texts: list[str]) -> None:
    """Encrypted items are kept from the end, newest first: the key that answered last is the one that can read them all."""
    if kind == "encrypted":
        kept[:0] = texts
        del kept[_MOST:]
    elif len(kept) < _MOST:
        kept.extend(texts[:_MOST])


def _texts(body: bytes, at: int) -> list[str]:
    """The strings that the value at `at` is: a string, the strings of a list, or the `id` of an object."""
    if string := _STRING.match(body, at):
        return [_text(string[1])]
    head = body[at : at + _LISTED].decode("utf-8", "replace").lstrip()
    if not head.startswith(("[", "{")):
        return []
    try:
        found = _decoder.raw_decode(head)[0]
    except (ValueError, RecursionError):
        return []
    listed = [found.get("id")] if isinstance(found, dict) else found
    return [text for text in listed if isinstance(text, str)]


def _text(raw: bytes) -> str:
    """The text of a JSON string without its quotes."""
    if b"\\" in raw:
        try:
            return str(json.loads(b'"' + raw + b'"', strict=False))
        except ValueError:
            pass
    return raw.decode("utf-8", "replace")


# Names.


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _name(kind: str, text: str) -> str | None:
    """The bounded name of one thing; None for what every key can use (a public file, a base model)."""
    if kind == "encrypted":
        return f"encrypted:{_digest(text)}" if text else None
    text = _short(kind, text)
    plain = len(text) <= _LONGEST and text.isascii() and text.isprintable()
    return (f"{kind}:{text}" if plain else f"{kind}:{_digest(text)}") if text else None


def _short(kind: str, text: str) -> str:
    """One spelling for one thing: Gemini names a file by its URI, its name and its path."""
    if kind == "file":
        named = _FILE_NAME.search(text)
        return named[1] if named else "" if "://" in text else text
    if kind == "cached":
        return text[at:] if (at := text.find("cachedContents/")) >= 0 else f"cachedContents/{text}"
    if kind == "model":
        last = text[text.rfind("/") + 1 :]
        return last if last.startswith("ft:") else text[at:] if (at := text.find("tunedModels/")) >= 0 else ""
    return text[text.rfind("/") + 1 :]


# Conversations.


def conversation(format: Format, agent: str, body: bytes, members: Members | None = None) -> str | None:
    """The identity of a conversation that names none, the same in all its turns; None where there is no user's message yet.

    It is made of the agent, the system prompt and the messages up to the first one of the user. Marks for prompt caches do
    not count: they move from turn to turn. Costs one pass over the body, unless its `members` are known already.
    """
    names = _PARTS.get(format)
    if names is None:
        return None
    try:
        members = scan(body) if members is None else members
        first = _first_messages(body, members, names[-1])
        if first is None:
            return None
        system = [value(body, members[name]) for name in names[:-1] if name in members]
    except JsonScanError:
        return None
    digest = sha256()
    for text in _spoken([agent, system, first]):
        # A long text counts by its length and its ends: an image is not hashed anew in every turn.
        ends = text if len(text) <= _WINDOW else text[: _WINDOW // 2] + text[-_WINDOW // 2 :]
        digest.update(f"{len(text)}:{ends}".encode("utf-8", "surrogatepass"))
    return f"conversation:{digest.hexdigest()[:16]}"


_PARTS = {
    Format.OPENAI_CHAT: ("messages",),
    Format.OPENAI_RESPONSES: ("instructions", "input"),
    Format.ANTHROPIC_MESSAGES: ("system", "messages"),
    Format.GEMINI_GENERATE: ("systemInstruction", "system_instruction", "contents"),
    Format.OLLAMA_CHAT: ("messages",),
}
"""Where a conversation begins: its system prompt, and last its messages."""


def _first_messages(body: bytes, members: Members, name: str) -> list[Any] | None:
    """The messages up to and with the first one of the user."""
    span = members.get(name)
    if span is None:
        return None
    opening = body[span.value_start : span.value_start + 1]
    if opening != b"[":
        return [{"role": "user", "content": value(body, span)}] if opening == b'"' else None
    kept: list[Any] = []
    for message in _elements(body, span.value_start, span.value_end):
        kept.append(message)
        role = message.get("role", "user" if name == "contents" else None) if isinstance(message, dict) else "user"
        if role == "user":
            return kept
    return None


def _elements(body: bytes, start: int, end: int) -> Iterator[Any]:
    """The first elements of the array at `[start, end)`, decoded one by one: a long history is not read."""
    at = start + 1
    for _ in range(_FIRST_MESSAGES):
        found = _element(body, at, end)
        if found is None:
            return
        element, at = found
        yield element


def _element(body: bytes, at: int, end: int) -> tuple[Any, int] | None:
    size = _WINDOW
    while True:
        window = body[at : min(end, at + size)]
        # Latin-1 keeps an offset in the text an offset in the bytes; the texts are only hashed.
        text = window.decode("latin-1")
        lead = len(text) - len(text.lstrip(" \t\r\n,"))
        try:
            element, length = _decoder.raw_decode(text, lead)
        except (ValueError, RecursionError):
            if at + size >= end:
                return None
            size *= 8
            continue
        return element, at + length


def _spoken(found: Any) -> Iterator[str]:
    """What is said in it. A text is the same alone and as the only block of a message, which cache marks make of it."""
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict):
        for name in sorted(found.keys() - {"cache_control", "id", "status"}):
            if not (name == "type" and found[name] in ("text", "input_text", "message")):
                yield from _spoken(found[name])
    elif isinstance(found, list):
        for each in found:
            yield from _spoken(each)
    elif found is not None:
        yield str(found)


# Answers.


def may_create(format: Format, path: str) -> bool:
    """Whether an answer to such a request may create what only its key can use."""
    return _created_kind(format, path) is not None


class BindingTap:
    """Fed with an answer's body as it passes, whole or streamed; `names` are the hard names that it creates.

    Never raises, and keeps at most about 1 MiB. Answers that create nothing (a chat, a file's content) are not looked at.
    """

    def __init__(self, format: Format, path: str, content_encoding: str | None = None) -> None:
        self._gemini = format.dialect is Dialect.GEMINI
        self._kind = _created_kind(format, path)
        self._decoder: Decoder | None = None
        self._ids: dict[str, None] = {}
        self._encrypted: dict[str, None] = {}
        self._first_seen = False
        self._buffer = bytearray()
        self._member: str | None = None
        """The member whose string the buffer begins with."""
        self._searched = 0
        if self._kind is not None:
            try:
                self._decoder = decoder(content_encoding)
            except DecodeError:
                self._decoder = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names so far, at most 32: ids as they came, then encrypted items, newest first."""
        return (*self._ids, *reversed(self._encrypted))

    def feed(self, data: bytes) -> None:
        """Take a chunk as it came over the wire."""
        if self._decoder is None:
            return
        try:
            for piece in self._decoder.feed_iter(data):
                self._read(piece)
        except DecodeError:
            self._decoder = None
            self._buffer.clear()

    def _read(self, piece: bytes) -> None:
        self._buffer += piece
        at = 0
        while True:
            if self._member is not None:
                end = self._string_end(at)
                if end is None:
                    self._wait(at)
                    return
                self._take(self._member, _text(bytes(self._buffer[at:end])))
                self._member, at = None, end + 1
            match = _CREATED.search(self._buffer, at)
            if match is None:
                del self._buffer[: max(at, len(self._buffer) - _TAIL)]
                return
            self._member, at = match[1].decode(), match.end()
            self._searched = at

    def _string_end(self, start: int) -> int | None:
        """Where the string that begins at `start` ends. What was searched is not searched again with the next chunk."""
        buffer = self._buffer
        while (end := buffer.find(b'"', self._searched)) >= 0:
            before = end
            while before > start and buffer[before - 1] == 0x5C:
                before -= 1
            if (end - before) % 2 == 0:
                return end
            self._searched = end + 1
        self._searched = len(buffer)
        return None

    def _wait(self, start: int) -> None:
        """The string goes on in the next chunk, unless it is longer than any that matters."""
        if len(self._buffer) - start > _VALUE_LIMIT:
            self._member, start = None, len(self._buffer)
        del self._buffer[:start]
        self._searched -= start

    def _take(self, member: str, text: str) -> None:
        kind = self._kind_of(member, text)
        name = _name(kind, text) if kind else None
        if name is None:
            return
        if kind != "encrypted":
            if len(self._ids) < _MOST // 2:
                self._ids[name] = None
            return
        self._encrypted.pop(name, None)
        self._encrypted[name] = None
        if len(self._encrypted) > _MOST // 2:
            del self._encrypted[next(iter(self._encrypted))]

    def _kind_of(self, member: str, text: str) -> str | None:
        if member == "encrypted_content":
            return "encrypted" if self._kind == "response" else None
        if member in ("name", "uri"):
            return _COLLECTIONS.get(text.rpartition("/")[0].rpartition("/")[2]) if self._gemini else None
        if member != "id":
            return _CREATED_KINDS[member]
        known = _PREFIX.match(text)
        kind = _PREFIXES[known[0]] if known else None if self._first_seen else self._kind
        # The first id is that of the thing itself, unless it says otherwise (`"conversation": {"id": …}` may stand before it).
        self._first_seen = self._first_seen or kind == self._kind
        return kind or None


_OTHERS = (Format.OPENAI_OTHER, Format.ANTHROPIC_OTHER, Format.GEMINI_OTHER)


def _created_kind(format: Format, path: str) -> str | None:
    """The kind of what the answer's own `id` names, empty where that binds nothing; None for answers that create nothing."""
    if format is Format.OPENAI_RESPONSES:
        return "response"
    if format is Format.ANTHROPIC_MESSAGES:
        return ""
    if format is Format.GEMINI_OTHER and _BATCH_OF_MODEL.search(path):
        return "batch"
    last = _CREATING.search(path) if format in _OTHERS else None
    kind = _COLLECTIONS[last[1]] if last else None
    return kind if kind != "model" or "/tunedModels" in path else None
