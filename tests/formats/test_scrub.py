"""The echo scrub: no spelling of a key passes, whatever the chunks, and nothing else is touched."""

import base64
import html
import json
import os
import random
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valetkey.formats.scrub import LEAST_LENGTH, MIN_LENGTH, Scrubber, ScrubStream

OPENAI = "sk-proj-9fQ2mZ-x7LkV_0aTqYcR4bN8sT3BlbkFJwE6uH1pGdJ5vKoXiM3yA"
ANTHROPIC = "sk-ant-api03-h7Gk2_pQ9-LmZ4xV8cB1nT6yR3wE5uJ0sD-fA2kH9oI7gX4bAA"
GEMINI = "AIzaSyD3x9Kq7_Lm2-Pz5Rt8Vw1Yb4Nc6Hj0Gf"
SHORTEST = "k9/Zq+4vW=x7Lm2P"
REGEX = "sk-(a|b)*[c-d]+.$^?{2}#0123456789"
ODD = 'sk-"q\\uo%41te&amp;d-0123456789'
KEYS = (OPENAI, ANTHROPIC, GEMINI, SHORTEST, REGEX, ODD)
SCRUBBER = Scrubber(KEYS)
LONGER = OPENAI + "-and-more"
STEPS = {1: SHORTEST, 2: GEMINI[:24], 4: OPENAI}
"""Keys by the words that are skipped from probe to probe when they are the only ones."""


def escaped(pattern, every=1, start=0):
    return lambda key: "".join(pattern.format(ord(c)) if i % every == start else c for i, c in enumerate(key))


def in_json(text):
    return json.dumps(text)[1:-1]


def base64_after(before, encode=base64.b64encode):
    # Three characters behind, so that no partial group is left.
    return lambda key: encode((before + key + "...").encode()).decode()


SPELLINGS = {
    "raw": str, "reversed": lambda key: key[::-1], "hex": lambda key: key.encode().hex(),
    "upper hex": lambda key: key.encode().hex().upper(),
    "json": in_json, "json, all": escaped("\\u{:04x}"), "json, all, upper": escaped("\\u{:04X}"),
    "json, even": escaped("\\u{:04x}", 2), "json, odd": escaped("\\u{:04x}", 2, 1), "json, last": escaped("\\u{:04x}", 15, 14),
    "json in json": lambda key: in_json(escaped("\\u{:04x}", 3)(key)),
    "json in json in json": lambda key: in_json(in_json(escaped("\\u{:04x}", 5, 2)(key))),
    "json, slash": lambda key: key.replace("/", "\\/"), "repr": escaped("\\x{:02x}"),
    "url": lambda key: quote(key, safe=""), "url, all": escaped("%{:02x}"), "url, all, upper": escaped("%{:02X}"),
    "url, some": escaped("%{:02X}", 7, 3), "url in url": escaped("%25{:02X}", 2),
    "url in json": lambda key: escaped("\\u{:04x}", 4)(escaped("%{:02x}", 4, 2)(key)) if key.isalnum() else quote(key, safe=""),
    "html": escaped("&#{};"), "html hex": escaped("&#x{:x};", 3), "html, quoted": html.escape,
    "base64, 0": base64_after(""), "base64, 1": base64_after("a"), "base64, 2": base64_after("ab"),
    "basic": base64_after("user:"), "base64url, 0": base64_after("", base64.urlsafe_b64encode),
    "base64url, 1": base64_after("a", base64.urlsafe_b64encode), "base64url, 2": base64_after("ab", base64.urlsafe_b64encode),
    "base64 in json": lambda key: base64_after("?")(key).replace("/", "\\/").replace("+", "\\u002b"),
    "base64 in a url": lambda key: quote(base64_after("?")(key), safe=""),
}  # fmt: skip
PLAIN = (OPENAI, ANTHROPIC, GEMINI, SHORTEST, REGEX)
NATURAL = ("raw", "reversed", "hex", "json", "url", "basic", "html, quoted")
# With each spelling, how many characters of it may stay: digits of base64 for what stands around the key.
CASES = [
    pytest.param(write(key), 20 if "bas" in name else 0, id=f"{name}-{key[:8]}")
    for name, write in SPELLINGS.items()
    for key in (*PLAIN, *((ODD,) if name in NATURAL else ()))
]


def fed(scrubber, chunks):
    stream = ScrubStream(scrubber)
    return b"".join([*map(stream.feed, chunks), stream.end()])


def singly(data):
    return [data[i : i + 1] for i in range(len(data))]


def hides(data, spelling, stays):
    """Whether a spelling is hidden, but for `stays` characters."""
    return data.count(b"*") >= len(spelling) - stays


@pytest.mark.parametrize("spelling, stays", CASES)
def test_each_spelling_is_hidden(spelling, stays):
    body = f'{{"error": {{"message": "Incorrect API key: {spelling}. Café 100%"}}}}'.encode()
    assert hides(SCRUBBER.scrub(body), spelling, stays)


@pytest.mark.parametrize("spelling, stays", CASES)
def test_what_stands_around_a_key_stays(spelling, stays):
    scrubbed = SCRUBBER.scrub(f"é{{{spelling}}}é".encode())
    assert (scrubbed[:3], scrubbed[-3:], len(scrubbed)) == ("é{".encode(), "}é".encode(), len(spelling.encode()) + 6)


@pytest.mark.parametrize("spelling, stays", CASES)
def test_each_boundary_within_a_key_leaves_the_same(spelling, stays):
    """Two chunks, cut anywhere, and characters of several bytes around."""
    data = f"日本{spelling}\u00e9 end".encode()
    whole = SCRUBBER.scrub(data)
    assert {fed(SCRUBBER, [data[:cut], data[cut:]]) for cut in range(len(data) + 1)} == {whole}


@pytest.mark.parametrize("spelling, stays", CASES)
def test_no_part_of_a_key_passes_before_it_is_complete(spelling, stays):
    """A stream that ends no sooner than a key does gave away nothing of it."""
    stream = ScrubStream(SCRUBBER)
    shown = b"".join(map(stream.feed, singly(b"\n" + spelling.encode() + b"\n")))
    assert hides(shown + stream.end(), spelling, stays)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_over_three_chunks_is_hidden(key):
    data = key.encode()
    assert fed(SCRUBBER, [b"at " + data[:5], data[5:10], data[10:] + b" end"]) == b"at " + b"*" * len(data) + b" end"


@pytest.mark.parametrize("words", STEPS)
@pytest.mark.parametrize("place", range(33))
def test_a_key_is_found_wherever_it_lies_to_the_probes(words, place):
    data = b"\n" * place + STEPS[words].encode()
    assert Scrubber([STEPS[words]]).scrub(data) == b"\n" * place + b"*" * len(STEPS[words])


@pytest.mark.parametrize("words", STEPS)
@pytest.mark.parametrize("before", [400, 2000, 2001, 70_007])
@pytest.mark.parametrize("behind", [0, 3, 5000])
def test_a_key_is_found_in_large_bodies(words, before, behind):
    assert Scrubber([STEPS[words]]).finds(b"." * before + STEPS[words].encode() + b"." * behind)


@pytest.mark.parametrize("keys", [(OPENAI, LONGER), (LONGER, OPENAI)])
@pytest.mark.parametrize("key", [OPENAI, LONGER])
def test_one_key_may_begin_with_another(keys, key):
    assert fed(Scrubber(keys), singly(f"[{key}]".encode())) == b"[" + b"*" * len(key) + b"]"


def test_a_longer_key_that_breaks_off_hides_the_shorter_one():
    data = f"[{OPENAI}-and-mo]".encode()
    assert fed(Scrubber([OPENAI, LONGER]), singly(data)) == b"[" + b"*" * len(OPENAI) + b"-and-mo]"


def test_a_key_may_begin_within_another():
    first, second = "abcdefghijklmnopqrst", "opqrstuvwxyz01234567"
    data = b"<abcdefghijklmnopqrstuvwxyz01234567>"
    assert fed(Scrubber([first, second]), singly(data)) == b"<" + b"*" * 34 + b">"


def test_a_key_may_repeat_itself():
    key = "ab" * 12
    assert fed(Scrubber([key]), singly(b"-" + b"ab" * 13 + b"-")) == b"-" + b"*" * 26 + b"-"


@pytest.mark.parametrize(
    "key, data",
    [
        # The raw beginning of a key lies within an escape of another character.
        ("u0058bcdefghijklmnop", b"\\u0058b\\u0063defghijklmnop"),
        # The last character of a key may turn out to be the beginning of another one.
        ("abcdefghijklmnopqrs%", b"\\u0061bcdefghijklmnopqrs%2573"),
    ],
)
def test_single_bytes_are_read_as_the_whole_is(key, data):
    assert fed(Scrubber([key]), singly(data)) == Scrubber([key]).scrub(data)


def test_the_end_of_a_key_at_the_beginning_of_the_data_is_no_key():
    shorter, longer = "0123456789abcdef", "ABCDEFGHIJKLMNOPQRSTUVWX"
    data = longer[16:].encode() + b"\n" + shorter.encode()
    assert Scrubber([shorter, longer]).scrub(data) == data[:9] + b"*" * 16


def test_many_keys_are_all_found():
    keys = [f"sk-proj-{number:040d}" for number in range(700)]
    assert Scrubber(keys).scrub("\n".join(keys).encode()) == b"\n".join([b"*" * 48] * 700)


def test_a_key_of_sixteen_characters_is_looked_for():
    assert Scrubber(["x" * MIN_LENGTH]).finds(b"-" + b"x" * MIN_LENGTH)


def test_a_still_shorter_key_is_not_looked_for():
    assert not Scrubber(["x" * (LEAST_LENGTH - 1)]).finds(b"-" + b"x" * 100)


SHORT = "lab-key1"


@pytest.mark.parametrize("keys", [[SHORT], [SHORT, OPENAI]])
@pytest.mark.parametrize("spelling", [SHORT, escaped("\\u{:04x}")(SHORT), quote(SHORT), escaped("%{:02x}", 3)(SHORT)])
def test_a_short_key_is_looked_for_literally_and_under_escapes(keys, spelling):
    data = f"token {spelling}.".encode()
    assert Scrubber(keys).scrub(data) == b"token " + b"*" * len(spelling) + b"."


@pytest.mark.parametrize("spelling", [SHORT[::-1], SHORT.encode().hex(), base64_after("")(SHORT)])
def test_a_short_key_is_not_looked_for_in_other_encodings(spelling):
    assert not Scrubber([SHORT]).finds(spelling.encode())


@pytest.mark.parametrize("cut", range(len(SHORT) + 9))
def test_a_short_key_is_hidden_wherever_it_is_cut(cut):
    data = f"<<<{SHORT}>>> <{SHORT}>".encode()
    assert fed(Scrubber([SHORT]), [data[:cut], data[cut:]]) == data.replace(SHORT.encode(), b"*" * len(SHORT))


def test_a_short_key_that_overlaps_itself_is_hidden_whole():
    assert Scrubber(["abababab"]).scrub(b"<abababababa>") == b"<**********a>"


@pytest.mark.parametrize("keys, any_", [([], False), (["short"], False), ([SHORT], True), ([OPENAI], True)])
def test_a_scrubber_without_keys_is_false(keys, any_):
    assert bool(Scrubber(keys)) is any_


@pytest.mark.parametrize("data", [b"", b"abc", b"%", b"\\u0073", b"data: {}\n\n" * 1000])
def test_without_keys_all_passes(data):
    assert fed(Scrubber([]), [data]) == data


@pytest.mark.parametrize("masked", [f"{OPENAI[:3]}...{OPENAI[-4:]}", f"{OPENAI[:12]}***{OPENAI[-4:]}", "sk-proj-", OPENAI[:-1]])
def test_a_part_of_a_key_is_not_hidden(masked):
    assert SCRUBBER.scrub(masked.encode()) == masked.encode()


def test_data_without_a_key_is_the_same_object():
    data = b'data: {"delta": "Bonjour \\u00e9"}\n\n'
    assert ScrubStream(SCRUBBER).feed(data) is data


@pytest.mark.parametrize("spelling", [pytest.param(write(OPENAI), id=name) for name, write in SPELLINGS.items()])
def test_json_stays_json(spelling):
    body = json.dumps({"message": "key: ?!", "next": [1, "\u00e9\\"]}).replace("?", spelling)
    assert list(json.loads(SCRUBBER.scrub(body.encode()))) == ["message", "next"]


# --- what is held back


@pytest.mark.parametrize(
    "chunk",
    [
        b'data: {"choices":[{"delta":{"content":"sk-"}}]}\n\n', b"data: sk-proj-9fQ2\n\n", b"hello sk-x", b"sk-proj-8", b"100%.",
        b"\xff\xfe\x00", b"a\\n", b'{"a": "\\u4e16"}', b"data: [DONE]\r\n\r\n",
    ],
)  # fmt: skip
def test_a_chunk_that_ends_with_no_beginning_of_a_key_is_not_held(chunk):
    assert ScrubStream(SCRUBBER).feed(chunk) == chunk


@pytest.mark.parametrize(
    "chunk, held",
    [
        (b"hello sk-", b"sk-"), (b"hello s", b"s"), (b"ask-proj-9fQ2", b"sk-proj-9fQ2"), (b"risks", b"s"), 
        (b"x \\u0073k", b"\\u0073k"),
        (b"x \\", b"\\"), (b"x sk%2", b"sk%2"), (b"x \\u00", b"\\u00"), (b"x &#11", b"&#11"), (b"%73k-pro", b"%73k-pro"),
        (b"sk-sk-sk-pro", b"sk-pro"), (b"x AIzaSyD3\\u007", b"AIzaSyD3\\u007"), (b"5%", b"%"), (OPENAI[:-1].encode(),) * 2,
    ],
)  # fmt: skip
def test_only_the_beginning_of_a_key_is_held(chunk, held):
    assert ScrubStream(Scrubber([OPENAI, GEMINI])).feed(chunk) == chunk.removesuffix(held)


@pytest.mark.parametrize("chunk", [b"hello sk-", b"x \\u00", b"ends with 5%", OPENAI[:-1].encode()])
def test_what_is_held_comes_with_the_end(chunk):
    assert fed(SCRUBBER, [chunk]) == chunk


def test_what_is_held_comes_with_the_chunk_that_proves_it_harmless():
    stream = ScrubStream(SCRUBBER)
    stream.feed(b"hello sk-")
    assert stream.feed(b"is\n") == b"sk-is\n"


def test_a_complete_key_comes_at_once_when_none_is_longer():
    """But for its last character, with which the reversed key begins."""
    assert ScrubStream(Scrubber([OPENAI])).feed(b"key " + OPENAI.encode()) == b"key " + b"*" * (len(OPENAI) - 1)


def test_a_stream_tells_how_much_it_holds():
    stream = ScrubStream(SCRUBBER)
    stream.feed(b"hello sk-")
    assert stream.held == 3


@pytest.mark.parametrize("text, found", [(OPENAI, True), (OPENAI[:-1] + "-", False), (base64_after("u:")(GEMINI), True)])
def test_a_stream_tells_whether_a_key_was_found(text, found):
    stream = ScrubStream(SCRUBBER)
    for chunk in singly(f"< {text} >".encode()):
        stream.feed(chunk)
    assert stream.found is found


def test_little_is_held_of_endless_backslashes():
    stream = ScrubStream(SCRUBBER)
    assert len(stream.feed(b"\\" * 100_000)) == 100_000 - 8


# --- text


@pytest.mark.parametrize("spelling, stays", CASES)
def test_text_is_scrubbed(spelling, stays):
    assert hides(SCRUBBER.scrub_text(f"reason: {spelling}").encode(), spelling, stays)


@pytest.mark.parametrize("text", ["", "OK", "Café 日本 😀", "raw \udcff\udc80 bytes", "lone \ud800"])
def test_other_text_stays(text):
    key = f" {OPENAI}"
    assert SCRUBBER.scrub_text(text + key) == text + " " + "*" * len(OPENAI)


def test_text_without_a_key_is_the_same_object():
    text = "application/json; charset=utf-8"
    assert SCRUBBER.scrub_text(text) is text


# --- properties

HOSTILE = (
    "aaaaaaaaaaaaaaaaaaaa",
    "u0061bu0061b00616",
    "%61%61%61bbbbbbbb%25%25",
    "25ab25ab25ab25ab/x73;",
    'a\\"b\\\\/u00a"bcdef"\\u',
)
HOSTILE_SCRUBBER = Scrubber(HOSTILE)
FRAGMENTS = st.sampled_from(
    [
        part.encode()
        for key in HOSTILE
        for part in (key, key[:5], key[5:], key[::-1], SPELLINGS["json, even"](key), key.encode().hex())
    ]
    + [write(key).encode() for key in HOSTILE for write in (SPELLINGS["url, some"], SPELLINGS["base64, 1"], in_json, html.escape)]
    + [
        b"\\",
        b"\\u00",
        b"61",
        b"%",
        b"25",
        b"&#",
        b"x61;",
        b"97;",
        b"/",
        b"a",
        b"b",
        b"\xc3",
        b"\xa9",
        b"\n\n",
        b"u",
        b"00",
        b"\\x",
    ]
)
HOSTILE_DATA = st.lists(FRAGMENTS | st.binary(max_size=3), max_size=25).map(b"".join)


@settings(max_examples=400)
@given(HOSTILE_DATA, st.lists(st.integers(1, 40)))
def test_any_chunks_give_what_the_whole_gives(data, sizes):
    chunks, rest = [], data
    for size in sizes:
        chunks, rest = [*chunks, rest[:size]], rest[size:]
    assert fed(HOSTILE_SCRUBBER, [*chunks, rest]) == HOSTILE_SCRUBBER.scrub(data)


@settings(max_examples=200)
@given(HOSTILE_DATA)
def test_single_bytes_give_what_the_whole_gives(data):
    assert fed(HOSTILE_SCRUBBER, singly(data)) == HOSTILE_SCRUBBER.scrub(data)


@given(HOSTILE_DATA, st.sampled_from(HOSTILE), HOSTILE_DATA)
def test_no_hostile_key_survives_raw(before, key, behind):
    assert key.encode() not in HOSTILE_SCRUBBER.scrub(before + key.encode() + behind)


@given(HOSTILE_DATA)
def test_only_hidden_bytes_differ(data):
    scrubbed = HOSTILE_SCRUBBER.scrub(data)
    assert [new for old, new in zip(data, scrubbed, strict=True) if new not in (old, ord("*"))] == []


@given(st.binary() | st.text().map(str.encode), st.lists(st.integers(1, 20)))
def test_content_without_a_key_is_untouched(data, sizes):
    stream, out, rest = ScrubStream(SCRUBBER), [], data
    for size in sizes:
        out.append(stream.feed(rest[:size]))
        rest = rest[size:]
    assert b"".join([*out, stream.feed(rest), stream.end()]) == data


SPELT = st.sampled_from(
    ["{}", "\\u{:04x}", "\\u{:04X}", "\\\\u{:04x}", "%{:02x}", "%{:02X}", "%25{:02x}", "&#{};", "&#x{:X};", "\\x{:02x}"]
)


@given(st.data(), st.sampled_from((OPENAI, ANTHROPIC, GEMINI, SHORTEST)), st.text(), st.text())
def test_any_mixture_of_escapes_is_hidden(data, key, before, behind):
    chosen = data.draw(st.lists(SPELT, min_size=len(key), max_size=len(key)))
    spelling = "".join(c if form == "{}" else form.format(ord(c)) for c, form in zip(key, chosen, strict=True)).encode()
    around = (before.encode("utf-8", "replace") + b" ", b" " + behind.encode("utf-8", "replace"))
    assert SCRUBBER.scrub(spelling.join(around)) == (b"*" * len(spelling)).join(around)


# --- real bodies

FOLDER = Path(os.environ.get("VALETKEY_RECORDINGS") or Path(__file__).resolve().parents[2].parent / "shared" / "recordings")
BODIES = [
    pytest.param((json.loads(path.read_text())["response"] or "").encode(), id=path.stem)
    for path in sorted(FOLDER.glob("*.json"))
]
needs_recordings = pytest.mark.skipif(not BODIES, reason=f"no recordings in {FOLDER} (set VALETKEY_RECORDINGS)")
REAL = Scrubber(KEYS[:4])


@needs_recordings
@pytest.mark.parametrize("body", BODIES)
def test_a_recorded_answer_is_untouched(body):
    dice = random.Random(len(body))
    chunks, rest = [], body
    while rest:
        size = dice.choice((1, 7, 150, 1500, 16_384))
        chunks, rest = [*chunks, rest[:size]], rest[size:]
    assert (REAL.scrub(body) is body, fed(REAL, chunks)) == (True, body)


@needs_recordings
@pytest.mark.parametrize("body", [body for body in BODIES if b"data:" in body.values[0]])
def test_no_recorded_event_is_held(body):
    stream = ScrubStream(REAL)
    events = [event + b"\n\n" for event in body.split(b"\n\n")]
    assert [stream.feed(event) for event in events] == events
