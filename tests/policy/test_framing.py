from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.policy.framing import FIELDS_LIMIT, HEAD_LIMIT, fault, method_fault, sound

TARGET = b"/v1/chat/completions"
HOST = (b"Host", b"api.openai.com")


def reason(*fields, target=TARGET, version=b"HTTP/1.1"):
    found = fault(target, version, (HOST, *fields))
    return found and (found.status, found.reason)


MALFORMED = (400, "malformed_head")


@pytest.mark.parametrize(
    "field",
    [
        (b"X-A", b"b"),
        (b"X-A", b""),
        (b"X-A", b"a\tb"),
        (b"X-A", "smörgås".encode()),
        (b"X-A", b"\xe9"),
        (b"X-A", b"transfer-encoding"),
        (b"Transfer-Encoding", b"chunked"),
        (b"tRANSFER-eNCODING", b" CHUNKED\t"),
    ],
)
def test_a_plain_field_passes(field):
    assert reason(field) is None


@pytest.mark.parametrize("character", [bytes([code]) for code in (*range(9), *range(10, 32), 127)])
@pytest.mark.parametrize("place", ["name", "value", "target"])
def test_threat_41_a_control_character_is_refused(character, place):
    odd = b"a" + character + b"b"
    found = {"name": lambda: reason((odd, b"1")), "value": lambda: reason((b"X-A", odd)), "target": lambda: reason(target=odd)}
    assert found[place]() == MALFORMED


def test_threat_41_a_folded_line_is_refused():
    assert reason((b"X-A", b"a\r\n X-Api-Key: sk")) == MALFORMED


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"chunked, chunked", b"identity", b"", b"xchunked", b"chunked;a=b"])
def test_threat_41_another_transfer_coding_is_refused(coding):
    assert reason((b"Transfer-Encoding", coding)) == MALFORMED


def test_threat_41_two_transfer_codings_are_refused():
    assert reason((b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"chunked")) == MALFORMED


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"HTTP/3"])
def test_a_version_in_use_passes(version):
    assert reason(version=version) is None


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/3.0", b"http/1.1", b""])
def test_threat_41_another_version_is_refused(version):
    assert reason(version=version) == MALFORMED


def test_a_head_as_large_as_may_be_passes():
    size = HEAD_LIMIT - len(TARGET) - len(b"".join(HOST)) - 1
    assert reason((b"a", b"b" * size)) is None


def test_threat_46_a_larger_one_is_refused():
    assert reason((b"a", b"b" * HEAD_LIMIT)) == (431, "head_too_large")


def test_threat_46_a_longer_target_is_refused():
    assert reason(target=b"/" + b"a" * HEAD_LIMIT) == (431, "head_too_large")


def test_as_many_fields_as_may_be_pass():
    assert reason(*[(b"a", b"b")] * (FIELDS_LIMIT - 1)) is None


def test_threat_46_more_fields_are_refused():
    assert reason(*[(b"a", b"b")] * FIELDS_LIMIT) == (431, "head_too_large")


@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE"])
def test_a_method_in_capitals_passes(method):
    assert method_fault(method) is None


@pytest.mark.parametrize("method", [b"post", b"Post", b"", b"POST1", b"PO ST", b"PO\rST", "POSTÄ".encode(), b"P" * 33])
def test_threat_16_a_method_in_disguise_is_refused(method):
    assert method_fault(method).status == 400


def test_fields_without_odd_characters_may_be_shown():
    assert sound((HOST, (b"X-A", b"a\r\n X-Api-Key: sk-real"), (b"X\0B", b"c"))) == (HOST,)


def test_no_more_fields_are_shown_than_may_be_sent():
    assert len(sound([(b"a", b"b")] * 1000)) == FIELDS_LIMIT


def test_no_longer_fields_are_shown_than_may_be_sent():
    assert sound((HOST, (b"a", b"b" * HEAD_LIMIT))) == (HOST,)


FIELDS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=20)


@given(st.binary(max_size=60), st.binary(max_size=10), FIELDS)
def test_any_head_is_judged(target, version, fields):
    assert fault(target, version, fields) is None or fault(target, version, fields).status in (400, 431)


@given(FIELDS)
def test_what_may_be_shown_is_well_formed(fields):
    shown = sound(fields)
    assert fault(b"/", b"HTTP/1.1", [field for field in shown if field[0].lower() != b"transfer-encoding"]) is None
