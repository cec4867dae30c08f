"""What ties a request to a key, and what an answer creates."""

from __future__ import annotations

import gzip
import json
import timeit
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chunks import chunkings
from valetkey.formats.bindings import Bindings, BindingTap, conversation, may_create, of_request
from valetkey.formats.jsonscan import scan
from valetkey.model import Format

CHAT, RESPONSES, OPENAI = Format.OPENAI_CHAT, Format.OPENAI_RESPONSES, Format.OPENAI_OTHER
MESSAGES, ANTHROPIC = Format.ANTHROPIC_MESSAGES, Format.ANTHROPIC_OTHER
GENERATE, GEMINI = Format.GEMINI_GENERATE, Format.GEMINI_OTHER
URI = "https://generativelanguage.googleapis.com/v1beta/files/abc-1"


def digest(text):
    return sha256(text.encode()).hexdigest()[:16]


def session(text):
    return f"session:{digest(text)}"


def encrypted(text):
    return f"encrypted:{digest(text)}"


def packed(document):
    return json.dumps(document, separators=(",", ":")).encode()


def of(format, document, headers=None):
    return of_request(format, "/v1/x", headers or {}, json.dumps(document).encode())


# Requests: hard.

HARD = [
    (RESPONSES, {"previous_response_id": "resp_1", "input": "x"}, ["response:resp_1"]),
    (RESPONSES, {"previous_response_id": None, "input": "x"}, []),
    (RESPONSES, {"conversation": "conv_1"}, ["conversation:conv_1"]),
    (RESPONSES, {"conversation": {"id": "conv_1"}}, ["conversation:conv_1"]),
    (RESPONSES, {"conversation": None}, []),
    (RESPONSES, {"input": [{"type": "reasoning", "encrypted_content": "gAAA"}]}, [encrypted("gAAA")]),
    (RESPONSES, {"input": [{"encrypted_content": "old"}, {"encrypted_content": "new"}]}, [encrypted("new"), encrypted("old")]),
    (RESPONSES, {"input": [{"encrypted_content": "x" * 300_000}]}, [encrypted("x" * 300_000)]),
    (RESPONSES, {"input": [{"encrypted_content": None}]}, []),
    (RESPONSES, {"input": [{"content": [{"type": "input_file", "file_id": "file-1"}]}]}, ["file:file-1"]),
    (RESPONSES, {"tools": [{"vector_store_ids": ["vs_1", "vs_2"]}]}, ["vector_store:vs_1", "vector_store:vs_2"]),
    (RESPONSES, {"tools": [{"container": {"type": "auto", "file_ids": ["file-1"]}}]}, ["file:file-1"]),
    (RESPONSES, {"tools": [{"container": "cntr_1"}]}, ["container:cntr_1"]),
    (RESPONSES, {"model": "ft:gpt-4o:acme::x"}, ["model:ft:gpt-4o:acme::x"]),
    (CHAT, {"model": "gpt-4o"}, []),
    (CHAT, {"model": "openai/ft:gpt-4o:acme::x"}, ["model:ft:gpt-4o:acme::x"]),
    (CHAT, {"messages": [{"content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}, ["file:file-1"]),
    (OPENAI, {"input_file_id": "file-1", "endpoint": "/v1/responses"}, ["file:file-1"]),
    (OPENAI, {"training_file": "file-1", "batch_id": "batch_1"}, ["file:file-1", "batch:batch_1"]),
    (MESSAGES, {"container": "container_1"}, ["container:container_1"]),
    (MESSAGES, {"container": {"skills": [{"type": "custom"}], "id": "container_1"}}, ["container:container_1"]),
    (MESSAGES, {"messages": [{"content": [{"source": {"type": "file", "file_id": "file_1"}}]}]}, ["file:file_1"]),
    (GENERATE, {"cachedContent": "cachedContents/x"}, ["cached:cachedContents/x"]),
    (GENERATE, {"cached_content": "cachedContents/x"}, ["cached:cachedContents/x"]),
    (GENERATE, {"contents": [{"parts": [{"fileData": {"fileUri": URI}}]}]}, ["file:abc-1"]),
    (GENERATE, {"contents": [{"parts": [{"file_data": {"file_uri": "files/abc-1"}}]}]}, ["file:abc-1"]),
    (GENERATE, {"contents": [{"parts": [{"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}}]}]}, []),
    (Format.OLLAMA_CHAT, {"file_id": "file-1"}, []),
]  # fmt: skip


@pytest.mark.parametrize("format, document, names", HARD)
def test_members_that_bind_are_found(format, document, names):
    assert list(of(format, document).hard) == names


@pytest.mark.parametrize("format, document, names", HARD)
def test_they_are_found_without_blanks(format, document, names):
    assert list(of_request(format, "/x", {}, packed(document)).hard) == names


@pytest.mark.parametrize("format, document, names", HARD)
def test_what_is_quoted_in_a_message_does_not_count(format, document, names):
    quoted = json.dumps(json.dumps(document))
    assert of(format, {"messages": [{"content": json.dumps(document)}, {"content": quoted}]}) == Bindings()


@pytest.mark.parametrize("path, names", [
    ("/v1/responses/resp_1", ["response:resp_1"]),
    ("/v1/responses/resp_1/cancel", ["response:resp_1"]),
    ("/v1/responses/input_tokens", []),
    ("/v1/responses/compact", []),
    ("/v1/files/file-1/content", ["file:file-1"]),
    ("/v1/batches/batch_1", ["batch:batch_1"]),
    ("/v1/conversations/conv_1/items", ["conversation:conv_1"]),
    ("/v1/messages/batches/msgbatch_1/results", ["batch:msgbatch_1"]),
    ("/v1/vector_stores/vs_1/files/file-1", ["file:file-1", "vector_store:vs_1"]),
    ("/v1/containers/cntr_1", ["container:cntr_1"]),
    ("/v1/models/ft%3Agpt-4o:acme::x", ["model:ft:gpt-4o:acme::x"]),
    ("/v1/models/gpt-4o", []),
    ("/v1beta/cachedContents/x", ["cached:cachedContents/x"]),
    ("/v1beta/files/abc-1:download", ["file:abc-1"]),
    ("/v1beta/tunedModels/t-1:generateContent", ["model:tunedModels/t-1"]),
    ("/v1/files", []),
    ("/v1/files?after=file-1", []),
    ("/v1/chat/completions", []),
])  # fmt: skip
def test_ids_in_the_path_are_found(path, names):
    assert list(of_request(OPENAI, path, {}, b"").hard) == names


def test_a_long_name_is_hashed():
    assert of(RESPONSES, {"previous_response_id": "r" * 101}).hard == (f"response:{digest('r' * 101)}",)


def test_a_name_that_is_no_plain_text_is_hashed():
    assert of(RESPONSES, {"previous_response_id": "r\n"}).hard == (f"response:{digest('r' + chr(10))}",)


def test_half_a_surrogate_pair_is_hashed():
    assert of(RESPONSES, {"previous_response_id": "r\ud800"}).hard[0].isascii()


def test_escapes_in_an_encrypted_item_make_no_difference():
    assert of_request(RESPONSES, "/x", {}, rb'{"encrypted_content": "a\/b\u003d"}').hard == (encrypted("a/b="),)


def test_names_are_bounded_in_number():
    many = of(RESPONSES, {"input": [{"file_id": f"file-{i}", "encrypted_content": f"e{i}"} for i in range(500)]})
    assert len(many.hard) == 32


def test_a_response_comes_before_what_is_replayed():
    found = of(RESPONSES, {"input": [{"encrypted_content": "e"}, {"file_id": "f"}], "previous_response_id": "r"})
    assert found.hard == ("response:r", "file:f", encrypted("e"))


def test_a_name_given_twice_is_one():
    assert of(RESPONSES, {"input": [{"file_id": "f"}, {"file_id": "f"}]}).hard == ("file:f",)


def test_a_member_whose_name_only_ends_alike_does_not_count():
    assert of(CHAT, {"profile_id": "file-1", "superuser": "u"}) == Bindings()


def test_the_file_in_a_form_is_not_read():
    assert of_request(OPENAI, "/v1/files", {}, b'--x\r\n\r\n{"file_id": "file-1"}') == Bindings()


# Requests: soft.


@pytest.mark.parametrize("format, document, names", [
    (CHAT, {"prompt_cache_key": "p"}, ["p"]),
    (RESPONSES, {"user": "u", "prompt_cache_key": "p"}, ["p"]),
    (CHAT, {"user": "u"}, []),
    (CHAT, {"messages": [{"role": "user"}]}, []),
    (CHAT, {"tools": [{"properties": {"user": {"type": "string"}}}]}, []),
    (CHAT, {"session_id": "s", "user": "u"}, ["s"]),
    (MESSAGES, {"metadata": {"user_id": "u"}}, ["u"]),
    (MESSAGES, {"messages": [{"content": [{"type": "tool_use", "input": {"user_id": "u", "user": "v"}}]}]}, []),
])  # fmt: skip
def test_members_that_name_a_cache_are_found(format, document, names):
    assert list(of(format, document).soft) == [session(name) for name in names]


@pytest.mark.parametrize("header", [
    "session_id", "session-id", "x-session-id", "x-claude-code-session-id", "conversation_id", "x-opencode-session",
    "x-session-affinity", "x-grok-conv-id",
])  # fmt: skip
def test_session_headers_name_a_cache(header):
    assert of(CHAT, {}, {header: "s"}).soft == (session("s"),)


def test_other_headers_name_none():
    assert of(CHAT, {}, {"x-request-id": "s", "session_id": " "}).soft == ()


def test_the_strongest_comes_first():
    found = of(CHAT, {"user": "u", "prompt_cache_key": "p"}, {"session_id": "s"})
    assert found.soft == (session("p"), session("s"))


@given(st.sampled_from(list(Format)), st.binary(max_size=300))
def test_garbage_binds_nothing_by_force(format, body):
    assert isinstance(of_request(format, body[:50].decode("latin-1"), {}, b'{"user":' + body), Bindings)


@given(
    st.lists(
        st.sampled_from([b'"user":', b'"file_ids":', b"[", b"{", b'"', b"\\", b"}", b"]", b",", b'"x"', b'"metadata":']),
        max_size=40,
    )
)
def test_broken_members_raise_nothing(parts):
    assert isinstance(of_request(OPENAI, "/x", {}, b"{" + b"".join(parts)), Bindings)


def test_deep_nesting_raises_nothing():
    assert of_request(OPENAI, "/x", {}, b'{"file_ids":' + b"[" * 100_000) == Bindings()


def plain(size):
    text = "the quick user reads a file of a conversation with its container, then the response " * 6
    return packed({"model": "gpt-5", "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}] * (size // 570)})


def best(work):
    return min(timeit.repeat(work, number=5, repeat=10))


@pytest.mark.parametrize("format", [CHAT, RESPONSES, MESSAGES, GENERATE])
def test_a_body_that_binds_nothing_costs_less_than_reading_its_members(format):
    body = plain(100_000)
    assert best(lambda: of_request(format, "/v1/x", {}, body)) < best(lambda: scan(body))


def test_a_forged_body_is_not_read_to_its_end():
    assert of_request(CHAT, "/v1/x", {}, b"{" + b'"user_id":{},' * 3000 + b'"prompt_cache_key":"p"}') == Bindings()


# Conversations.

USER = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}
SYSTEM = {"role": "system", "content": "be brief"}
TURNS = [
    (CHAT, lambda *m: {"model": "g", "messages": [SYSTEM, *m]}),
    (MESSAGES, lambda *m: {"messages": [*m], "system": "be brief", "model": "c"}),
    (RESPONSES, lambda *m: {"instructions": "be brief", "input": [*m]}),
    (Format.OLLAMA_CHAT, lambda *m: {"messages": [SYSTEM, *m]}),
    (
        GENERATE,
        lambda *m: {"systemInstruction": {"parts": [{"text": "be brief"}]}, "contents": [
            {"role": each["role"], "parts": [{"text": each["content"]}]} for each in m
        ]},
    ),
]  # fmt: skip


def talk(format, document, agent="alice"):
    return conversation(format, agent, json.dumps(document).encode())


@pytest.mark.parametrize("format, turn", TURNS)
def test_a_conversation_stays_itself(format, turn):
    assert talk(format, turn(USER)) == talk(format, turn(USER, ANSWER, {"role": "user", "content": "more"}))


@pytest.mark.parametrize("format, turn", TURNS)
def test_another_first_message_is_another_conversation(format, turn):
    assert talk(format, turn(USER)) != talk(format, turn({"role": "user", "content": "bye"}))


@pytest.mark.parametrize("format, turn", TURNS)
def test_another_agent_has_another_conversation(format, turn):
    assert talk(format, turn(USER)) != talk(format, turn(USER), "bob")


@pytest.mark.parametrize("format, turn", TURNS)
def test_the_identity_has_its_form(format, turn):
    name, _, rest = talk(format, turn(USER)).partition(":")
    assert (name, len(rest), int(rest, 16) >= 0) == ("conversation", 16, True)


@pytest.mark.parametrize("format, turn", TURNS)
def test_members_that_are_known_give_the_same_identity(format, turn):
    body = json.dumps(turn(USER)).encode()
    assert conversation(format, "alice", body, scan(body)) == conversation(format, "alice", body)


def test_another_system_prompt_is_another_conversation():
    assert talk(MESSAGES, {"system": "a", "messages": [USER]}) != talk(MESSAGES, {"system": "b", "messages": [USER]})


def test_marks_for_the_prompt_cache_do_not_count():
    marked = {"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}]}
    assert talk(MESSAGES, {"messages": [marked]}) == talk(MESSAGES, {"messages": [USER]})


def test_a_text_as_input_is_a_message():
    assert talk(RESPONSES, {"input": "hello"}) == talk(RESPONSES, {"input": [USER]})


def test_a_first_message_larger_than_the_window_counts():
    one, other = ({"messages": [{"role": "user", "content": "x" * 200_000 + end}]} for end in "ab")
    assert talk(CHAT, one) != talk(CHAT, other)


def test_a_message_after_a_large_system_prompt_counts():
    one, other = ({"messages": [{"role": "system", "content": "ä" * 50_000}, {"role": "user", "content": each}]} for each in "ab")
    assert talk(CHAT, one) != talk(CHAT, other)


@pytest.mark.parametrize("format, body", [
    (CHAT, b""), (CHAT, b"nonsense"), (CHAT, b"{}"), (CHAT, b'{"messages": []}'), (CHAT, b'{"messages": {"a": 1}}'),
    (CHAT, b'{"messages": [{"role": "system", "content": "x"}]}'), (CHAT, b'{"messages": 3}'),
    (Format.OPENAI_EMBEDDINGS, b'{"input": "x"}'), (OPENAI, b'{"messages": [{"role": "user"}]}'),
])  # fmt: skip
def test_without_a_message_of_the_user_there_is_no_conversation(format, body):
    assert conversation(format, "alice", body) is None


@given(st.sampled_from(list(Format)), st.binary(max_size=200))
def test_garbage_is_no_conversation(format, body):
    assert conversation(format, "alice", b'{"messages":[' + body) is None


# Answers.


def names(format, path, body, encoding=None):
    found = set()
    for chunks in chunkings(body):
        tap = BindingTap(format, path, encoding)
        for chunk in chunks:
            tap.feed(chunk)
        found.add(tap.names)
    assert len(found) == 1, "the chunks make a difference"
    return list(found.pop())


def sse(*events):
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


ITEM = {"id": "rs_1", "type": "reasoning", "encrypted_content": "gAAA" * 100}
DONE = {
    "id": "resp_1",
    "object": "response",
    "previous_response_id": "resp_0",
    "output": [ITEM],
    "conversation": {"id": "conv_1"},
}
ALL = ["response:resp_1", "conversation:conv_1", encrypted("gAAA" * 100)]
STREAM = sse(
    {"type": "response.created", "response": {"id": "resp_1", "output": []}},
    {"type": "response.output_text.delta", "delta": '{"id": "resp_9", "encrypted_content": "no"}'},
    {"type": "response.output_item.done", "item": ITEM},
    {"type": "response.completed", "response": DONE},
)
BATCH = packed({"id": "batch_1", "input_file_id": "file-0", "output_file_id": "file-1"})
UPLOAD = packed({"id": "upload_1", "file": {"id": "file-1"}})
GEMINI_FILE = {"file": {"name": "files/abc-1", "displayName": "x", "uri": URI, "source": "UPLOADED"}}
CREATED = [
    (RESPONSES, "/v1/responses", packed(DONE), ALL),
    (RESPONSES, "/v1/responses", json.dumps(DONE, indent=1).encode(), ALL),
    (RESPONSES, "/v1/responses", STREAM, ALL),
    (RESPONSES, "/v1/responses", packed({"id": "gen-1", "output": [{"id": "msg_1"}]}), ["response:gen-1"]),
    (RESPONSES, "/v1/responses", rb'{"id":"r","encrypted_content":"a\/b\\"}', ["response:r", encrypted("a/b\\")]),
    (OPENAI, "/v1/responses/compact", packed({"id": "resp_2", "encrypted_content": "c"}), ["response:resp_2", encrypted("c")]),
    (OPENAI, "/v1/files", packed({"id": "file-1", "object": "file"}), ["file:file-1"]),
    (OPENAI, "/v1/files", packed({"data": [{"id": "file-1"}, {"id": "file-2"}]}), ["file:file-1", "file:file-2"]),
    (OPENAI, "/v1/files/file-1/content", b'{"id":"file-2"}', []),
    (OPENAI, "/v1/batches", BATCH, ["batch:batch_1", "file:file-1"]),
    (OPENAI, "/v1/vector_stores", packed({"id": "vs_1"}), ["vector_store:vs_1"]),
    (OPENAI, "/v1/conversations", packed({"id": "conv_1"}), ["conversation:conv_1"]),
    (OPENAI, "/v1/containers", packed({"id": "cntr_1"}), ["container:cntr_1"]),
    (OPENAI, "/v1/threads", packed({"id": "thread_1", "tool": {"id": "x"}}), ["thread:thread_1"]),
    (OPENAI, "/v1/uploads/upload_1/complete", UPLOAD, ["upload:upload_1", "file:file-1"]),
    (OPENAI, "/v1/fine_tuning/jobs/j1", packed({"id": "j1", "fine_tuned_model": "ft:g:a::x"}), ["job:j1", "model:ft:g:a::x"]),
    (ANTHROPIC, "/v1/files", packed({"id": "file_1", "type": "file"}), ["file:file_1"]),
    (ANTHROPIC, "/v1/messages/batches", packed({"id": "msgbatch_1"}), ["batch:msgbatch_1"]),
    (ANTHROPIC, "/v1/messages/batches/msgbatch_1/results", packed({"id": "file_1"}), []),
    (MESSAGES, "/v1/messages", packed({"id": "msg_1", "container": {"id": "container_1"}}), ["container:container_1"]),
    (MESSAGES, "/v1/messages", sse({"type": "message_delta", "container": {"id": "container_1"}}), ["container:container_1"]),
    (MESSAGES, "/v1/messages", packed({"content": [{"type": "code_execution_output", "file_id": "file_1"}]}), ["file:file_1"]),
    (GEMINI, "/upload/v1beta/files", packed(GEMINI_FILE), ["file:abc-1"]),
    (GEMINI, "/v1beta/cachedContents", packed({"name": "cachedContents/x", "model": "models/g"}), ["cached:cachedContents/x"]),
    (GENERATE, "/v1beta/tunedModels/t:generateContent", packed({"name": "files/x"}), []),
    (CHAT, "/v1/chat/completions", packed({"id": "chatcmpl-1", "file_id": "file-1"}), []),
]  # fmt: skip


@pytest.mark.parametrize("format, path, body, expected", CREATED)
def test_what_an_answer_creates_is_named(format, path, body, expected):
    assert names(format, path, body) == expected


def test_a_compressed_answer_is_read():
    assert names(RESPONSES, "/v1/responses", gzip.compress(packed(DONE), mtime=0), "gzip")[0] == "response:resp_1"


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "unheard-of"])
def test_an_answer_that_cannot_be_decoded_creates_nothing(encoding):
    tap = BindingTap(RESPONSES, "/v1/responses", encoding)
    tap.feed(b'{"id": "resp_1"}')
    assert tap.names == ()


@pytest.mark.parametrize("format, path, body", [
    (RESPONSES, "/v1/responses", packed({"id": "resp_1", "output": [{"encrypted_content": "x" * 200_000}]})),
    (GEMINI, "/upload/v1beta/files", packed(GEMINI_FILE)),
    (OPENAI, "/v1/conversations", packed({"id": "conv_1"})),
])  # fmt: skip
def test_what_one_answer_creates_the_next_request_needs(format, path, body):
    tap = BindingTap(format, path)
    tap.feed(body)
    document = json.loads(body)
    follow = {
        RESPONSES: (RESPONSES, {"previous_response_id": document.get("id"), "input": document.get("output")}),
        GEMINI: (GENERATE, {"contents": [{"parts": [{"fileData": {"fileUri": URI}}]}]}),
        OPENAI: (RESPONSES, {"conversation": document.get("id")}),
    }[format]
    assert of(*follow).hard == tap.names


def test_the_newest_encrypted_items_are_kept():
    tap = BindingTap(RESPONSES, "/v1/responses")
    tap.feed(packed({"id": "resp_1", "output": [{"encrypted_content": f"e{i}"} for i in range(100)]}))
    assert tap.names == ("response:resp_1", *(encrypted(f"e{i}") for i in range(99, 83, -1)))


def test_names_of_an_answer_are_bounded_in_number():
    tap = BindingTap(OPENAI, "/v1/files")
    tap.feed(packed({"data": [{"id": f"file-{i}"} for i in range(1000)]}))
    assert len(tap.names) <= 32


def test_a_string_without_end_does_not_stay_in_memory():
    tap = BindingTap(RESPONSES, "/v1/responses")
    tap.feed(b'{"encrypted_content":"')
    for _ in range(64):
        tap.feed(b"x" * 65536)
    assert len(tap._buffer) <= 1024 * 1024 + 65536


def test_what_follows_a_string_that_is_too_long_is_read():
    tap = BindingTap(RESPONSES, "/v1/responses")
    for chunk in [b'{"encrypted_content":"', *[b"x" * 65536] * 20, b'","id":"resp_1"}']:
        tap.feed(chunk)
    assert tap.names == ("response:resp_1",)


@given(
    st.sampled_from([RESPONSES, MESSAGES, OPENAI, GEMINI]),
    st.lists(st.binary(max_size=40)),
    st.sampled_from([None, "gzip", "deflate", "br"]),
)
def test_garbage_never_raises(format, chunks, encoding):
    tap = BindingTap(format, "/v1/files", encoding)
    for chunk in [b'{"id":"', *chunks]:
        tap.feed(chunk)
    assert len(tap.names) <= 32


BATCH = json.dumps({"name": "batches/b1", "metadata": {"output": {"responsesFile": "files/f1"}}}).encode()


def test_a_batch_of_gemini_is_known_by_its_name():
    path = "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
    tap = BindingTap(Format.GEMINI_OTHER, path)
    tap.feed(BATCH)
    assert set(tap.names) == {*of_request(Format.GEMINI_OTHER, "/v1beta/batches/b1", {}, b"").hard,
                              *of_request(Format.GEMINI_OTHER, "/download/v1beta/files/f1:download", {}, b"").hard}  # fmt: skip


def test_a_batch_of_mistral_and_its_file_are_known():
    tap = BindingTap(Format.OPENAI_OTHER, "/v1/batch/jobs")
    tap.feed(b'{"id":"j1","output_file":"f1","error_file":null}')
    assert set(tap.names) == {"job:j1", "file:f1"}


def test_a_batch_of_mistral_is_bound_to_its_files():
    found = of_request(Format.OPENAI_OTHER, "/v1/batch/jobs", {}, b'{"input_files":["f1"],"model":"x"}')
    assert found.hard == ("file:f1",)


@pytest.mark.parametrize(
    ("format", "path", "expected"),
    [
        (Format.OPENAI_CHAT, "/v1/chat/completions", False),
        (Format.OPENAI_EMBEDDINGS, "/v1/embeddings", False),
        (Format.OPENAI_RESPONSES, "/v1/responses", True),
        (Format.ANTHROPIC_MESSAGES, "/v1/messages", True),
        (Format.OPENAI_OTHER, "/v1/files", True),
        (Format.OPENAI_OTHER, "/v1/moderations", False),
    ],
)
def test_which_answers_may_create_something(format, path, expected):
    assert may_create(format, path) is expected


@given(st.sampled_from(Format), st.sampled_from(["/v1/files", "/v1/models/x", "/v1/responses", "/v1beta/cachedContents", "/x"]))
def test_what_may_create_nothing_names_nothing(format, path):
    tap = BindingTap(format, path)
    tap.feed(b'{"id": "file-1", "name": "files/2", "encrypted_content": "x", "file_id": "file-3"}')
    assert may_create(format, path) or not tap.names


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"model":"\\u0066t:g"}', ("model:ft:g",), id="escaped letter"),
        pytest.param(b'{"model":"tunedModels\\/t"}', ("model:tunedModels/t",), id="escaped slash"),
        pytest.param(b'{"model": [ "ft:g" ]}', ("model:ft:g",), id="a list"),
        pytest.param(b'{"model":"g","x":{"model":"ft:g"}}', ("model:ft:g",), id="the second one"),
        pytest.param(b'{"model":"gft:x"}', (), id="in the middle"),
        pytest.param(b'{"model":"g","x":"ft:"}', (), id="elsewhere"),
        pytest.param(b'{"model":"g', (), id="cut off"),
    ],
)
def test_a_model_that_binds_is_found_however_it_is_written(body, expected):
    assert of_request(CHAT, "/v1/chat/completions", {}, body).hard == expected
