from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.errors import LedgerError
from valetkey.ledger import Head, Place, read_key
from valetkey.ledger.audit import LONGEST, ZERO, link, needs_key, read_head, sealed, write_head

KEY = b"0123456789abcdef"
FIELDS = '"event":"use","agent":"alice"'
BOTH = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])


@BOTH
def test_a_line_is_json_that_is_read_back(key):
    line, seal = sealed(7, ZERO, FIELDS, key)
    assert json.loads(line) == {"seq": 7, "prev": ZERO, "event": "use", "agent": "alice", "hmac" if key else "hash": seal}


@BOTH
def test_a_line_is_a_link_of_the_chain(key):
    line, seal = sealed(7, ZERO, FIELDS, key)
    found = link(line, key)
    assert (found.seq, found.prev, found.event, found.seal, found.keyed) == (7, ZERO, "use", seal, key is not None)


@BOTH
@given(data=st.data())
def test_no_byte_of_a_line_can_be_another(key, data):
    line = bytearray(sealed(7, ZERO, FIELDS, key)[0])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))
    assert link(bytes(line), key) is None


@BOTH
@given(garbage=st.binary(max_size=300))
def test_garbage_is_no_link(key, garbage):
    assert link(garbage, key) is None


@given(place=st.integers(0, 400))
def test_half_a_line_is_no_link(place):
    line = sealed(7, ZERO, FIELDS, None)[0]
    assert (link(line[:place], None) is None) == (place < len(line))


@pytest.mark.parametrize("other", [None, b"another key, which is as long"])
def test_a_keyed_line_needs_its_key(other):
    assert link(sealed(7, ZERO, FIELDS, KEY)[0], other) is None


def test_what_needs_a_key_says_so():
    lines = [sealed(7, ZERO, FIELDS, key)[0] for key in (None, KEY)] + [write_head(Head(1, ZERO), key) for key in (None, KEY)]
    assert [needs_key(line) for line in lines] == [False, True, False, True]


@BOTH
def test_a_head_is_read_back(key):
    head = read_head(write_head(Head(12, "a" * 64), key), key)
    assert (head.seq, head.seal, head.keyed) == (12, "a" * 64, key is not None)


def test_a_head_is_always_as_long():
    assert len(write_head(Head(), None)) == len(write_head(Head(10**17, ZERO), KEY))


@BOTH
@given(data=st.data())
def test_no_byte_of_a_head_can_be_another(key, data):
    raw = bytearray(write_head(Head(12, "a" * 64), key))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    assert read_head(bytes(raw), key) is None


def test_a_head_of_another_key_is_none():
    assert read_head(write_head(Head(12, "a" * 64), KEY), b"another key, which is as long") is None


def test_a_head_is_written_down_and_read():
    head = Head(12, "a" * 64)
    assert Head.parse(f" {head}\n") == head


@pytest.mark.parametrize("text", ["", "12", "12:xyz", "-1:" + ZERO, "12:" + ZERO + "0"])
def test_what_is_no_head_is_an_error(text):
    with pytest.raises(ValueError, match="write SEQ:HASH"):
        Head.parse(text)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////var/lib/x/ledger.db", "/var/lib/x/ledger.audit.jsonl"),
        ("postgres://x/y", "here/.valetkey/ledger.audit.jsonl"),
    ],
)
def test_the_log_is_beside_the_ledger(uri, expected):
    assert Place.beside(uri, Path("here")).current == Path(expected)


@pytest.mark.parametrize("name", ["x.audit.jsonl", "x.audit.000000000012.jsonl"])
def test_a_file_belongs_to_a_log_by_its_name(name):
    assert Place.of(Path("d") / name) == Place(Path("d"), "x")


def test_files_are_in_the_order_they_were_written(tmp_path):
    place = Place(tmp_path, "x")
    expected = [place.closed(2), place.closed(10), place.closed(10**12), place.current]
    for path in [*expected, tmp_path / "xy.audit.jsonl", tmp_path / "x.audit.12.jsonl", place.head]:
        path.touch()
    assert place.files() == expected


def test_a_place_that_is_not_there_has_no_files(tmp_path):
    assert Place(tmp_path / "no", "x").files() == []


def written(path, content, mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_key_is_what_stands_in_its_file(tmp_path):
    assert read_key(written(tmp_path / "k", KEY + b"\n")) == KEY


def test_without_a_file_there_is_no_key(tmp_path):
    assert read_key(tmp_path / "k") is None


@pytest.mark.parametrize(
    ("content", "mode", "expected"), [(KEY[1:], 0o600, "has 15 bytes"), (KEY, 0o640, "chmod 600"), (b"", 0o600, "has 0 bytes")]
)
def test_an_unfit_key_is_an_error_that_says_what_to_do(tmp_path, content, mode, expected):
    with pytest.raises(LedgerError, match=expected):
        read_key(written(tmp_path / "k", content, mode))


def test_a_key_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "k").symlink_to(written(tmp_path / "other", KEY))
    with pytest.raises(LedgerError, match="symbolic link"):
        read_key(tmp_path / "k")


def test_a_line_as_long_as_can_be_is_a_link():
    fields = '"event":"use","agent":"' + "x" * (LONGEST - 300) + '"'
    assert link(sealed(7, ZERO, fields, None)[0], None)
