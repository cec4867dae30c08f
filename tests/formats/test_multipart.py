"""Forms: which fields matter, found whatever the chunks, and nothing that two servers read differently."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.formats.jsonscan import JsonScanError
from valetkey.formats.multipart import FormReader, read_form, with_field

FORM = 'multipart/form-data; boundary="xYz"'
NAMES = ("model", "n")


def part(headers, content):
    return b"--xYz\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def field(name, content):
    return part(b'Content-Disposition: form-data; name="' + name + b'"', content)


CLOSE = b"--xYz--\r\n"
FILE = part(b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav', b"RIFF\0\xff\r\n" * 9)


def model_of(body, kind=FORM):
    found = read_form(body, kind, NAMES).fields.get("model")
    return None if found is None else found.value.strip()


FORMS = [
    pytest.param(field(b"model", b"whisper-1") + CLOSE, b"whisper-1", id="alone"),
    pytest.param(field(b"file", b"\0\xff" * 50) + field(b"model", b"whisper-1") + CLOSE, b"whisper-1", id="after a file"),
    pytest.param(b"preamble\r\n" + field(b"model", b"whisper-1") + CLOSE, b"whisper-1", id="after a preamble"),
    pytest.param(field(b"file", b"x") + CLOSE, None, id="absent"),
    pytest.param(part(b"content-disposition: FORM-DATA; NAME=model", b"a"), b"a", id="bare and in capitals, never closed"),
    pytest.param(part(b'X: y\r\nContent-Disposition: form-data; name="model"', b"a") + CLOSE, b"a", id="second header"),
    pytest.param(field(b"models", b"a") + CLOSE, None, id="another name"),
    pytest.param(part(b'Content-Disposition: form-data; filename="model"', b"a") + CLOSE, None, id="a file called so"),
    pytest.param(field(b"file", b'\r\nContent-Disposition: form-data; name="model"\r\n\r\nx') + CLOSE, None, id="inside a file"),
    pytest.param(field(b"file", b'x--xYz\r\nContent-Disposition: form-data; name="model"\r\n\r\nx') + CLOSE, None, id="mid-line"),
    pytest.param(b'--xYzz\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n' + CLOSE, None, id="longer boundary"),
    pytest.param(CLOSE + field(b"model", b"a"), None, id="after the end"),
    pytest.param(b"--xYz \t\r\n" + field(b"model", b"a")[7:] + CLOSE, b"a", id="blanks behind the boundary"),
    pytest.param(b'--xYz\r\nContent-Disposition: form-data; name="model"\r\n\r\n--xYz--', b"", id="empty, and closed at once"),
    pytest.param(field(b"model", b"a") + b"--xYz", b"a", id="ends with a mark"),
    pytest.param(b"", None, id="empty"),
]
DISPOSED = b"Content-Disposition: "
TYPED = b'--xYz\r\nContent-Disposition: form-data; name="model"\r\n%s\r\n\r\n%s\r\n'
TRANSFORMED = [b"Content-Transfer-Encoding: quoted-printable", b"Content-Type: text/plain; charset=utf-16"]
WRITTEN = [
    b'form-data;\r\n name="model"', b'form-data; name = "model"', b'form-data;\r\n\tname="model"',
    b'form-data; name="y"; name="model"',
]  # fmt: skip
REFUSED = [
    pytest.param(field(b"model", b"cheap") + field(b"model", b"dear") + CLOSE, "more than once", id="twice"),
    pytest.param(field(b"model", b"cheap") + field(b"MODEL", b"dear") + CLOSE, "more than once", id="twice, in capitals"),
    pytest.param(field(b"model", b"x" * 5000) + CLOSE, "longer", id="long"),
    pytest.param(field(b"a", b"") * 1001 + CLOSE, "more than 1000", id="many parts"),
    pytest.param(field(b"file", b"x").replace(b"\r\n", b"\n") + CLOSE, "line feed", id="bare line feeds"),
    pytest.param(field(b"file", b"x") + b"\n" + field(b"model", b"a") + CLOSE, "line feed", id="a line feed before the boundary"),
    pytest.param(part(b'X: y\nContent-Disposition: form-data; name="model"', b"a") + CLOSE, "bare line", id="in the headers"),
    pytest.param(field(b"file", b"x") + b"--xYz--junk\r\n" + field(b"model", b"a"), "behind a boundary", id="closed, and more"),
    pytest.param(field(b"file", b"x") + b"--xYz junk\r\n" + field(b"model", b"a"), "behind a boundary", id="junk"),
    pytest.param(b"--xYz\r\nA: b\r\n" + field(b"model", b"a") + CLOSE, "without an end", id="headers that do not end"),
    pytest.param(part(b"A: " + b"b" * 9000, b"x") + field(b"model", b"a") + CLOSE, "headers are longer", id="long headers"),
    *[
        pytest.param(part(b"Content-Disposition: form-data; " + name, b"gpt-4o-transcribe") + CLOSE, "encoded", id=str(name))
        for name in (b"name*=utf-8''model", b"name*0=mo; name*1=del", b"name * = utf-8''model", b'name="mod\\el"')
    ],
    *[pytest.param(TYPED % (header, b"gpt=2D4o") + CLOSE, "of its own", id=str(header)) for header in TRANSFORMED],
    *[
        pytest.param(field(b"model", b"x") + part(DISPOSED + written, b"y") + CLOSE, "more than once", id=str(written))
        for written in WRITTEN
    ],
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), FORMS)
def test_the_model_of_a_form(body, expected):
    assert model_of(body) == expected


@pytest.mark.parametrize(("body", "why"), REFUSED)
def test_threat_47_what_two_servers_could_read_differently_is_refused(body, why):
    with pytest.raises(JsonScanError, match=why):
        model_of(body)


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=xYz", "multipart/form-data;charset=x;BOUNDARY=xYz"])
def test_the_boundary_may_stand_bare(kind):
    assert model_of(field(b"model", b"a") + CLOSE, kind) == b"a"


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/json", ""])
def test_threat_47_a_form_without_a_boundary_is_refused(kind):
    with pytest.raises(JsonScanError, match="no part"):
        model_of(field(b"model", b"a") + CLOSE, kind)


@pytest.mark.parametrize("body", [b'{"model":"dear"}', b' {"model":"dear"}\r\n' + field(b"model", b"cheap") + CLOSE])
def test_threat_47_json_that_is_called_a_form_is_refused(body):
    with pytest.raises(JsonScanError, match="as JSON does"):
        model_of(body)


ODD = [
    b'Content-Disposition : form-data; name="model"', b' Content-Disposition: form-data; name="model"',
    b'X: y\r\n Content-Disposition: form-data; name="model"', b"Content-Disposition: form-data; name='model'",
    b"Content-Disposition: form-data; name=<model>", b'Content-Disposition: form-data, name="model"',
    b'Content-Disposition: form-data; a="b"name="model"', b'Content-Disposition: form-data; a=b name="model"',
    b'Content-Disposition: form-data;\x0bname="model"', b'Content-Disposition: form-data; name="model',
    b'Content-Disposition: form-data; name="mo""del"', b'Content-Disposition: form-data; a="\\"; name="model"',
    b'Content-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="model"',
    b'Content-Disposition: name="model"',
]  # fmt: skip
"""A lenient server finds a model here, a strict one does not."""


@pytest.mark.parametrize("headers", ODD)
def test_threat_47_a_part_whose_name_is_not_plain_is_refused(headers):
    with pytest.raises(JsonScanError, match="odd Content-Disposition"):
        model_of(part(headers, b"dear") + CLOSE)


@pytest.mark.parametrize(
    "kind",
    [
        "x; boundary=",
        "x; boundary=a; boundary=xYz",
        'x; a="; boundary=a"; boundary=xYz',
        "x; boundary=xYz, y",
        "x; boundary*=xYz",
        "x; boundary=<xYz>",
        "x; boundary='xYz'",
    ],
)
def test_threat_47_a_boundary_that_is_not_plain_is_refused(kind):
    with pytest.raises(JsonScanError, match="boundary"):
        model_of(field(b"model", b"a") + CLOSE, kind)


def test_the_name_of_a_file_may_be_encoded():
    file = part(b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''a.wav", b"RIFF")
    assert model_of(file + field(b"model", b"whisper-1") + CLOSE) == b"whisper-1"


def test_a_type_of_the_field_is_none_of_our_business():
    typed = part(b'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=utf-8', b"a")
    assert model_of(typed + CLOSE) == b"a"


def test_the_bytes_of_files_are_counted():
    assert read_form(field(b"model", b"a") + FILE + FILE + CLOSE, FORM, NAMES).file_bytes == 2 * 8 * 9


def pieces(body, size):
    reader = FormReader(FORM, NAMES)
    for at in range(0, len(body), size):
        reader.feed(body[at : at + size])
    reader.end()
    return reader.fields, reader.file_bytes, reader.first


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("body", [each.values[0] for each in FORMS] + [FILE + field(b"n", b"2") + field(b"model", b"a") + CLOSE])
def test_the_chunks_do_not_matter(body, size):
    whole = read_form(body, FORM, NAMES)
    assert pieces(body, size) == (whole.fields, whole.file_bytes, whole.first)


@pytest.mark.parametrize(("body", "why"), REFUSED)
def test_what_is_refused_is_refused_byte_by_byte(body, why):
    with pytest.raises(JsonScanError, match=why):
        pieces(body, 1)


SCRAPS = st.lists(
    st.sampled_from(
        [b"--xYz", b"\r\n", b"\n", b"--", b'Content-Disposition: form-data; name="model"', b"\r\n\r\n", b"a", b" ", b"xYz"]
    )
)


@given(SCRAPS, st.integers(1, 9))
def test_any_form_is_read_alike_in_pieces_or_raises_nothing_else(scraps, size):
    body = b"".join(scraps)
    try:
        found = read_form(body, FORM, NAMES)
    except JsonScanError:
        with pytest.raises(JsonScanError):
            pieces(body, size)
        return
    assert pieces(body, size) == (found.fields, found.file_bytes, found.first)


@given(st.binary())
def test_garbage_raises_nothing_else(body):
    with suppress(JsonScanError):
        read_form(body, FORM, NAMES)


def test_a_value_stands_where_it_is_said_to():
    body = FILE + field(b"model", b"whisper-1") + CLOSE
    found = read_form(body, FORM, NAMES).fields["model"]
    assert body[found.start : found.end] == found.value == b"whisper-1"


def test_another_model_is_spliced_in():
    before, after = FILE + b'--xYz\r\nContent-Disposition: form-data; name="model"\r\n\r\n', b"\r\n" + FILE + CLOSE
    body = before + b"whisper-1" + after
    assert with_field(body, FORM, read_form(body, FORM, NAMES), "model", "whisper-large") == before + b"whisper-large" + after


def test_a_model_that_is_missing_becomes_the_first_part():
    body = b"preamble\r\n" + FILE + CLOSE
    new = with_field(body, FORM, read_form(body, FORM, NAMES), "model", "whisper-1")
    assert new == b"preamble\r\n" + field(b"model", b"whisper-1") + FILE + CLOSE


def test_a_large_file_takes_no_memory():
    reader, chunk = FormReader(FORM, NAMES), b"\0\r\n--" * 20_000
    reader.feed(FILE[:-2])
    tracemalloc.start()
    for _ in range(100):
        reader.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(chunk)
