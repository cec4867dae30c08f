from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import AuditLog, Head, Place, entries, verify
from valetkey.ledger.audit import ZERO, sealed, write_head
from valetkey.model import Attempt, Outcome

KEY = b"0123456789abcdef"
ATTEMPT = Attempt("openai", "gpt-4o", "openai/1", "https://api.openai.com", 200, Outcome.OK, 20.0)
COUNT = 6
BOTH = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])


def use(id):
    return receipt(id=str(id), attempts=(ATTEMPT,))


def make(folder, key=None, count=COUNT, max_bytes=1 << 20):
    place = Place(Path(folder), "ledger")
    if key:
        place.key.touch(0o600)
        place.key.write_bytes(key)
    log = AuditLog(place, max_bytes=max_bytes, clock=lambda: 5.0)
    for id in range(1, count + 1):
        log.append([use(id)])
    return place


@cache
def original(key=None):
    """The bytes of a log and of its head."""
    with tempfile.TemporaryDirectory() as folder:
        place = make(folder, key)
        return place.current.read_bytes(), place.head.read_bytes()


def judged(log, head=None, key=None):
    """What is said of a log with these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), "ledger")
        place.current.write_bytes(b"".join(log) if isinstance(log, list) else log)
        place.head.write_bytes(original(key)[1] if head is None else head)
        return verify([place.current], place, key, whole=True)


def lines(key=None):
    return original(key)[0].splitlines(keepends=True)


def found(verdict):
    """Line and kind of what is broken."""
    return (verdict.broken.line, verdict.broken.kind) if verdict.broken else None


@BOTH
def test_a_log_as_it_was_written_is_well(key):
    verdict = judged(original(key)[0], key=key)
    assert (verdict.well, verdict.entries, verdict.first, verdict.head.seq, verdict.notes) == (True, COUNT, 1, COUNT, [])


# Any single change.


@BOTH
@given(data=st.data())
def test_a_changed_byte_is_found_where_it_is(key, data):
    log = bytearray(original(key)[0])
    at = data.draw(st.integers(0, len(log) - 1))
    log[at] ^= data.draw(st.integers(1, 255))
    assert found(judged(bytes(log), key=key)) == (bytes(original(key)[0])[:at].count(b"\n") + 1, "changed")


@BOTH
@given(data=st.data())
def test_a_byte_more_or_less_is_found_where_it_is(key, data):
    log = original(key)[0]
    at = data.draw(st.integers(0, len(log) - 1))
    more = data.draw(st.binary(max_size=1))
    changed = log[:at] + more + log[at + (not more) :]
    assume(changed != log)
    assert judged(changed, key=key).broken.line in (log[:at].count(b"\n") + 1, log[: at + 1].count(b"\n") + 1)


@BOTH
@pytest.mark.parametrize("number", range(1, COUNT))
def test_a_removed_line_is_missed_where_it_was(key, number):
    log = lines(key)
    del log[number - 1]
    assert found(judged(log, key=key)) == (number, "deleted")


@BOTH
@given(count=st.integers(1, COUNT - 1))
def test_a_cut_end_is_missed(key, count):
    assert found(judged(lines(key)[:count], key=key)) == (count, "truncated")


@given(length=st.integers(0, 2000))
def test_an_end_cut_anywhere_is_missed(length):
    log = original()[0]
    assume(length < len(log))
    assert not judged(log[:length]).well


@BOTH
@given(data=st.data())
def test_swapped_lines_are_found(key, data):
    one, other = sorted(data.draw(st.lists(st.integers(0, COUNT - 1), min_size=2, max_size=2, unique=True)))
    log = lines(key)
    log[one], log[other] = log[other], log[one]
    assert found(judged(log, key=key)) == (one + 1, "reordered")


@given(data=st.data())
def test_a_line_that_was_moved_is_found(data):
    log = lines()
    moved = log.pop(data.draw(st.integers(0, COUNT - 1)))
    log.insert(data.draw(st.integers(0, COUNT - 1)), moved)
    assume(log != lines())
    assert judged(log).broken.kind == "reordered"


@BOTH
@given(data=st.data())
def test_a_line_that_stands_twice_is_found(key, data):
    source, at = data.draw(st.integers(0, COUNT - 1)), data.draw(st.integers(0, COUNT))
    log = lines(key)
    log.insert(at, log[source])
    # Of two equal neighbours the second is the one too many.
    expected = at + 2 if at == source else at + 1
    assert found(judged(log, key=key)) == (expected, "inserted")


@pytest.mark.parametrize("more", [b"\n", b"garbage\n", b'{"seq":3}\n', b"x" * 40_000 + b"\n"])
def test_a_line_that_is_no_entry_is_found(more):
    log = lines()
    log.insert(2, more)
    assert found(judged(log)) == (3, "inserted")


@given(log=st.binary(min_size=1, max_size=3000))
def test_garbage_is_not_well(log):
    assert not judged(log).well


@given(data=st.data())
def test_random_edits_are_never_well(data):
    chosen = data.draw(st.lists(st.sampled_from(lines()), max_size=8))
    assume(chosen != lines())
    assert not judged(chosen).well


# Lines with seals of their own, as everybody can make them without a key.


def forged(line, prev=None, changed=b"mallory", key=None):
    """The line with other content, and a seal that fits it."""
    body = line.replace(b"alice", changed)
    fields = body[body.index(b'"event"') : body.rindex(b',"h')].decode()
    seq, old = int(body[len(b'{"seq":') : body.index(b",")]), body.split(b'"prev":"')[1][:64].decode()
    return sealed(seq, prev or old, fields, key)


@pytest.mark.parametrize("number", range(1, COUNT))
def test_a_replaced_line_breaks_the_chain(number):
    log = lines()
    log[number - 1] = forged(log[number - 1])[0]
    assert found(judged(log)) == (number, "changed")


def test_a_replaced_last_line_is_not_that_of_the_head():
    log = lines()
    log[-1] = forged(log[-1])[0]
    assert found(judged(log)) == (COUNT, "changed")


def test_a_replaced_line_that_follows_from_nothing_is_found():
    log = lines()
    log[2] = forged(log[2], prev="f" * 64)[0]
    assert found(judged(log)) == (3, "changed")


def test_a_line_in_between_is_found():
    log = lines()
    log.insert(2, forged(log[2])[0])
    assert found(judged(log)) == (4, "inserted")


def chained_anew(key=None):
    """The whole log with another content, and its head's seal."""
    prev, made = ZERO, []
    for line in lines():
        raw, prev = forged(line, prev, key=key)
        made.append(raw)
    return made, prev


def test_a_log_that_was_chained_anew_is_not_that_of_the_head():
    assert found(judged(chained_anew()[0])) == (COUNT, "changed")


def test_without_a_key_who_can_write_all_can_make_all_anew():
    made, seal = chained_anew()
    assert judged(made, write_head(Head(COUNT, seal), None)).well


def test_a_head_kept_elsewhere_finds_that(tmp_path):
    made, seal = chained_anew()
    place = Place(tmp_path, "ledger")
    place.current.write_bytes(b"".join(made))
    place.head.write_bytes(write_head(Head(COUNT, seal), None))
    anchor = judged(original()[0]).head
    assert found(verify([place.current], place, None, anchor, whole=True)) == (COUNT, "changed")


@pytest.mark.parametrize("head_key", [None, KEY])
def test_with_a_key_who_does_not_have_it_can_not(head_key):
    made, seal = chained_anew()
    assert judged(made, write_head(Head(COUNT, seal), head_key), KEY).broken.kind == "changed"


def test_a_plain_line_behind_keyed_ones_is_found():
    prev = judged(original(KEY)[0], key=KEY).head
    line, _ = sealed(prev.seq + 1, prev.seal, '"event":"use"', None)
    assert found(judged([*lines(KEY), line], key=KEY)) == (COUNT + 1, "changed")


def test_a_key_of_ones_own_is_not_the_key():
    made, seal = chained_anew(b"mallory's own key")
    assert found(judged(made, write_head(Head(COUNT, seal), b"mallory's own key"), KEY)) == (1, "changed")


@pytest.mark.parametrize("log", [original(KEY)[0], b""], ids=["log", "head"])
def test_without_the_key_a_keyed_log_cannot_be_judged(log):
    assert judged(log, original(KEY)[1]).broken.kind == "keyed"


def test_entries_of_before_there_was_a_key_are_under_its_seal_too(tmp_path):
    place = make(tmp_path, count=2)
    make(tmp_path, KEY, count=2)
    assert verify(place.files(), place, KEY, whole=True).well


# Heads.


@pytest.mark.parametrize("head", [b"garbage", b" " * 200, original()[1][:-1]])
def test_a_head_that_is_not_ours_is_told_of(head):
    assert judged(original()[0], head).broken.kind == "changed"


def test_a_log_that_lost_its_head_may_have_lost_more():
    assert found(judged(original()[0], b"")) == (COUNT, "truncated")


def test_a_head_that_came_too_late_is_no_harm():
    assert judged(original()[0], write_head(Head(2, forged(lines()[1], changed=b"alice")[1]), None)).well


def test_a_log_that_is_gone_is_missed(tmp_path):
    place = make(tmp_path)
    place.current.unlink()
    assert verify(place.files(), place, None, whole=True).broken.kind == "truncated"


def test_no_log_is_well(tmp_path):
    assert verify([], Place(tmp_path / "none", "ledger"), None, whole=True).well


def test_a_head_kept_elsewhere_shows_a_cut_that_ours_does_not(tmp_path):
    anchor = judged(original()[0]).head
    place = make(tmp_path, count=COUNT - 1)
    assert found(verify(place.files(), place, None, anchor, whole=True)) == (COUNT - 1, "truncated")


# What a gateway noted.


def test_a_torn_end_is_said_to_be_that(tmp_path):
    place = make(tmp_path)
    with place.current.open("ab") as file:
        file.write(b'{"seq":7,')
    assert found(verify(place.files(), place, None, whole=True)) == (COUNT + 1, "torn")


def test_a_torn_line_that_was_named_is_a_note(tmp_path):
    place = make(tmp_path)
    with place.current.open("ab") as file:
        file.write(b'{"seq":7,')
    make(tmp_path, count=1)
    verdict = verify(place.files(), place, None, whole=True)
    assert (verdict.well, len(verdict.notes)) == (True, 1)


@given(data=st.data())
def test_a_torn_line_that_was_named_cannot_be_another(data):
    with tempfile.TemporaryDirectory() as folder:
        place = make(folder, count=1)
        start = place.current.stat().st_size
        with place.current.open("ab") as file:
            file.write(b'{"seq":7,')
        make(folder, count=1)
        log = bytearray(place.current.read_bytes())
        log[data.draw(st.integers(start, start + 9))] ^= data.draw(st.integers(1, 255))
        place.current.write_bytes(log)
        assert found(verify(place.files(), place, None, whole=True))[0] == 2


def test_losses_are_told_and_what_follows_is_read(tmp_path):
    place = make(tmp_path)
    place.current.write_bytes(b"".join(lines()[:3]))
    make(tmp_path, count=1)
    place.current.write_bytes(place.current.read_bytes()[:-3] + b"x" + place.current.read_bytes()[-2:])
    verdict = verify(place.files(), place, None, whole=True)
    assert ([loss.line for loss in verdict.losses], found(verdict)) == ([4], (5, "changed"))


def test_a_loss_is_not_well(tmp_path):
    place = make(tmp_path)
    place.current.write_bytes(b"".join(lines()[:3]))
    make(tmp_path, count=1)
    verdict = verify(place.files(), place, None, whole=True)
    assert ([(loss.line, loss.kind) for loss in verdict.losses], verdict.well) == ([(4, "truncated")], False)


# Several files.


@pytest.fixture
def parts(tmp_path):
    return make(tmp_path, max_bytes=1, count=3)


def test_all_files_together_are_well(parts):
    verdict = verify(parts.files(), parts, None, whole=True)
    assert (verdict.well, verdict.files) == (True, 3)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_file_that_is_gone_is_missed(parts, gone):
    parts.files()[gone].unlink()
    verdict = verify(parts.files(), parts, None, whole=True)
    assert (Path(verdict.broken.file), verdict.broken.line, verdict.broken.kind) == (parts.files()[gone], 1, "deleted")


def test_single_files_may_begin_later(parts):
    verdict = verify(parts.files()[1:], parts, None, whole=False)
    assert (verdict.well, verdict.first, len(verdict.notes)) == (True, 2, 1)


def test_of_files_that_are_not_the_last_the_end_is_not_known(parts):
    verdict = verify(parts.files()[:1], parts, None, whole=False)
    assert (verdict.well, len(verdict.notes)) == (True, 1)


def test_files_in_the_wrong_order_are_not_well(parts):
    assert not verify(parts.files()[::-1], parts, None, whole=False).well


def test_a_file_that_ends_torn_is_not_gone_on_from(parts):
    with parts.files()[0].open("ab") as file:
        file.write(b"x")
    verdict = verify(parts.files(), parts, None, whole=True)
    assert (verdict.broken.line, verdict.broken.kind) == (2, "inserted")


# Reading.


def test_entries_are_read_in_order(parts):
    assert [entry.get("receipt") for entry in entries(parts.files(), parts)] == ["1", None, "2", None, "3"]


@given(garbage=st.binary(max_size=300))
def test_what_is_no_entry_is_none(garbage):
    with tempfile.TemporaryDirectory() as folder:
        place = make(folder, count=1)
        place.current.write_bytes(place.current.read_bytes() + b"\n" + garbage.replace(b"{", b""))
        first, *rest = entries(place.files(), place)
        assert first["receipt"] == "1" and set(rest) == {None}


@pytest.mark.parametrize("line", [b"[" * 30_000 + b"\n", b"1" * 30_000 + b"\n", b'{"a":' * 5000 + b"\n", b"7\n"])
def test_json_that_is_no_entry_is_none(tmp_path, line):
    place = Place(tmp_path, "ledger")
    place.current.write_bytes(line)
    assert list(entries(place.files(), place)) == [None]


@pytest.mark.parametrize("what", ["verify", "entries"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, what):
    place = Place(tmp_path, "ledger")
    with pytest.raises(LedgerError, match="cannot be read"):
        verify([tmp_path], place, None, whole=False) if what == "verify" else list(entries([tmp_path / "no"], place))
