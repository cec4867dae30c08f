"""The answer in the stream layer, played: what is held, what passes, and what is given up when nothing comes."""

from __future__ import annotations

import zlib

import pytest

from support.assembling import Assembled
from support.scripted import (
    DONE,
    GOOD_STREAM,
    HEAD,
    OVERLOADED,
    ROLE,
    STOP,
    STREAM,
    WORD,
    A,
    answer,
    chunks,
    error,
    play,
    receipt,
    status,
    tries,
)
from valetkey.proxy.answers import ValetAnswers


def test_an_error_as_first_event_is_spared_the_agent():
    one = play(HEAD + chunks(OVERLOADED), GOOD_STREAM, body=STREAM)
    assert status(one) == 200 and b"overloaded" not in one.to_client and one.to_client.count(WORD) == 1


def test_an_error_after_noise_is_spared_the_agent():
    one = play(HEAD + chunks(b": ping\n\n", ROLE, OVERLOADED), GOOD_STREAM, body=STREAM)
    assert tries(one)[0][1] == "overloaded" and one.to_client.count(ROLE) == 1


def test_an_error_after_content_passes():
    one = play(HEAD + chunks(WORD, OVERLOADED) + b"0\r\n\r\n", GOOD_STREAM, body=STREAM)
    assert b"overloaded" in one.to_client and len(tries(one)) == 1


def test_a_stream_that_breaks_before_content_is_tried_again():
    one = play(HEAD + chunks(ROLE), GOOD_STREAM, body=STREAM, break_after_answer=True)
    assert tries(one)[0] == ("lab/a", "network") and one.to_client.count(ROLE) == 1


def test_a_stream_that_breaks_after_content_is_not_tried_again():
    one = play(HEAD + chunks(WORD), GOOD_STREAM, body=STREAM, break_after_answer=True)
    assert (len(tries(one)), receipt(one).outcome, b"[DONE]" in one.to_client) == (1, "server", False)


def test_a_stream_is_passed_whole():
    one = play(GOOD_STREAM, body=STREAM)
    assert [one.to_client.count(part) for part in (ROLE, WORD, STOP, DONE)] == [1, 1, 1, 1]


# What is done while content is waited for.

IN_PIECES = (HEAD, chunks(ROLE), chunks(b": ping\n\n"), chunks(WORD), chunks(STOP, DONE) + b"0\r\n\r\n")


def test_a_stream_in_pieces_is_passed_whole():
    one = play(IN_PIECES, body=STREAM)
    assert [one.to_client.count(part) for part in (ROLE, b": ping", WORD, STOP, DONE)] == [1, 1, 1, 1, 1]


def test_its_pieces_keep_their_order():
    told = play(IN_PIECES, body=STREAM).to_client
    assert sorted((ROLE, b": ping", WORD, STOP, DONE), key=told.index) == [ROLE, b": ping", WORD, STOP, DONE]


def test_it_is_known_when_its_first_content_came():
    assert receipt(play(IN_PIECES, body=STREAM)).ttft_ms is not None


def test_a_stream_is_made_ready_once(monkeypatch):
    seen, original = [], ValetAnswers.prepare
    monkeypatch.setattr(ValetAnswers, "prepare", lambda *arguments: seen.append(1) or original(*arguments))
    play(IN_PIECES, body=STREAM)
    assert seen == [1]


def test_nothing_of_a_stream_that_failed_is_passed():
    one = play((HEAD, chunks(ROLE), chunks(OVERLOADED)), IN_PIECES, body=STREAM)
    assert (one.to_client.count(ROLE), b"overloaded" in one.to_client) == (1, False)


def test_an_error_that_is_shown_after_all_bears_our_marks_once():
    one = play((HEAD, chunks(ROLE), chunks(OVERLOADED)), body=STREAM, keys=1)
    assert one.to_client.count(b"x-valetkey-id") == 1


def test_the_hook_of_an_answer_runs_when_it_passes():
    one = play((HEAD, chunks(ROLE), chunks(OVERLOADED)), IN_PIECES, body=STREAM)
    assert one.hooks.count("responseheaders") == 1


class Upper:
    """Another addon, which puts something of its own in the place of the stream."""

    def responseheaders(self, flow):
        flow.response.stream = bytes.upper


def test_who_takes_the_place_of_the_stream_gets_all_of_it():
    one = play(IN_PIECES, body=STREAM, others=(Upper(),))
    assert [one.to_client.count(part.upper()) for part in (ROLE, b": ping", WORD)] == [1, 1, 1]


class Wrapper:
    """Another addon, which stands before our stream."""

    def responseheaders(self, flow):
        inner = flow.response.stream
        flow.response.stream = lambda data: inner(data)


def body_of(one):
    return one.to_client.partition(b"\r\n\r\n")[2]


CUT_KEY = (HEAD, chunks(b": " + A[:12].encode()), chunks(A[12:].encode() + b"\n\n"), *IN_PIECES[1:])
ZIPPED_HEAD = HEAD.replace(b"transfer-", b"content-encoding: gzip\r\ntransfer-")


def zipped(*pieces):
    """A compressed stream in these pieces."""
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return (ZIPPED_HEAD, *(chunks(piece) for piece in packed), chunks(packer.flush()) + b"0\r\n\r\n")


@pytest.mark.parametrize("pieces", [IN_PIECES, CUT_KEY, zipped(ROLE, WORD, STOP + DONE)], ids=["plain", "cut key", "gzip"])
def test_who_stands_before_the_stream_changes_nothing(pieces):
    assert body_of(play(pieces, body=STREAM, others=(Wrapper(),))) == body_of(play(pieces, body=STREAM)) != b""


def test_usage_is_counted_once_when_another_addon_stands_before_the_stream():
    found = [receipt(play(IN_PIECES, body=STREAM, others=others)).usage for others in ((), (Wrapper(),))]
    assert found[0] == found[1]


def test_a_key_in_what_is_held_does_not_cost_the_failover():
    one = play(zipped(b": " + A.encode() + b"\n\n" + ROLE, OVERLOADED), IN_PIECES, body=STREAM)
    assert ([outcome for _, outcome in tries(one)], WORD in one.to_client) == (["overloaded", "ok"], True)


def test_a_key_in_what_is_held_does_not_pass():
    one = play(zipped(b": " + A.encode() + b"\n\n" + ROLE, WORD), body=STREAM)
    assert (body_of(one), receipt(one).outcome) == (b"", "refused")


class Rewriter:
    """Another addon, which comes before ours and changes the head."""

    def __init__(self, **headers):
        self.headers = headers

    def responseheaders(self, flow):
        flow.response.headers.update(self.headers)


def test_a_head_that_another_addon_has_changed_is_read_anew(monkeypatch):
    monkeypatch.setattr(Assembled, "on_the_way", property(lambda self: (Rewriter(x_echo=A), *self[:3])))
    assert A.encode() not in play(IN_PIECES, body=STREAM).to_client


BAD_HEAD = HEAD.replace(b"content-type", b"content-length: 1\r\ncontent-type")


def test_a_head_that_is_not_valid_is_refused_all_the_same():
    one = play((BAD_HEAD, *IN_PIECES[1:]), body=STREAM)
    assert (status(one), WORD in one.to_client) == (502, False)


# Whole answers.


def test_an_error_inside_a_whole_answer_is_spared_the_agent():
    hidden = answer(b'{"error":{"message":"upstream failed","code":502}}')
    assert tries(play(hidden, answer())) == [("lab/a", "server"), ("lab/a", "ok")]


def test_an_empty_answer_passes():
    assert len(tries(play(answer(b'{"choices":[]}'), answer()))) == 1


def test_an_empty_answer_is_asked_for_again_where_the_rules_say_so():
    one = play(answer(b'{"choices":[]}'), answer(), gateway=", retry_empty: true")
    assert tries(one) == [("lab/a", "server"), ("lab/a", "ok")]


# Silence.


def test_a_stream_that_sends_nothing_is_given_up():
    assert tries(play(HEAD, GOOD_STREAM, body=STREAM, gateway=", timeouts: {hold: 2s}"))[0] == ("lab/a", "timeout")


def test_a_stream_that_only_pings_is_let_through_after_a_while():
    one = play(HEAD + chunks(b": ping\n\n"), GOOD_STREAM, body=STREAM, gateway=", timeouts: {hold: 2s}", patience=30.0)
    assert b": ping" in one.to_client and one.runtime.writer.all == []


def test_a_stream_that_falls_silent_is_ended():
    one = play(HEAD + chunks(WORD), body=STREAM, gateway=", timeouts: {between_events: 20s}", patience=30.0)
    assert receipt(one).outcome == "timeout" and one.to_client.count(WORD) == 1


def test_a_second_silence_is_taken_for_thought():
    one = play(HEAD, HEAD, GOOD_STREAM, body=STREAM, gateway=", timeouts: {hold: 2s}", patience=30.0)
    assert one.to_client.startswith(b"HTTP/1.1 200") and one.runtime.writer.all == []


def test_a_stream_that_is_passed_and_stays_silent_is_ended():
    one = play(HEAD, HEAD, body=STREAM, gateway=", timeouts: {hold: 2s, between_events: 20s}")
    assert (receipt(one).outcome, len(tries(one))) == ("timeout", 2)


# Answers whose body stalls.


@pytest.mark.parametrize("status", [200, 500])
def test_a_whole_answer_that_stalls_is_tried_again(status):
    one = play(answer(b"{", status, length=1000), answer(), patience=2000.0)
    outcomes = [outcome for _, outcome in tries(one)]
    assert (outcomes, one.to_client.count(b"HTTP/1.1 ")) == (["timeout", "ok"], 1)


def test_an_error_that_is_too_long_to_be_heard_and_stalls_is_ended():
    one = play(answer(b"x" * 300_000, 500, length=900_000), patience=2000.0)
    assert (receipt(one).outcome, one.layer.streams) == ("timeout", {})


def test_an_answer_that_stalls_has_its_hooks_once():
    one = play(answer(b"{", length=1000), answer(), patience=2000.0)
    assert one.hooks == ["requestheaders", "request", "responseheaders", "response"]


def trickling(whole):
    """An answer whose body comes in ten pieces."""
    head, _, body = whole.partition(b"\r\n\r\n")
    size = len(body) // 10 + 1
    return (head + b"\r\n\r\n", *(body[at : at + size] for at in range(0, len(body), size)))


HIDDEN = answer(b'{"error":{"message":"upstream failed","code":502}}')


@pytest.mark.parametrize(("slow", "outcome"), [(error(429), "throttled"), (HIDDEN, "server")], ids=["error", "hidden error"])
def test_an_answer_that_trickles_is_heard_to_its_end(slow, outcome):
    one = play(trickling(slow), answer(), gateway=", timeouts: {between_events: 20s}", patience=900.0, pace=6.0)
    assert [found for _, found in tries(one)] == [outcome, "ok"]
