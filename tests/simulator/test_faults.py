from __future__ import annotations

import pytest

from valetkey.simulator.faults import Fault, Faults, parse_fault
from valetkey.simulator.wire_types import Request


def request(headers=(), host="api.openai.com"):
    return Request("POST", "/v1/chat/completions", host, list(headers), b"", "h2")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("status=429", Fault(status=429)),
        ("slow=0.5, cut=3", Fault(slow=0.5, cut=3)),
        ("error-first", Fault(error_first=True)),
        ("host=api.openai.com,times=2,status=503", Fault(host="api.openai.com", times=2, status=503)),
        ("encode", Fault(encode="gzip")),
        ("chance=0.05,reset", Fault(chance=0.05, reset=True)),
        ("headers-stall", Fault(headers_stall=True)),
        ("error-first,kind=rate_limit", Fault(error_first=True, kind="rate_limit")),
        ("status=429, retry-after-ms=150", Fault(status=429, retry_after_ms=150)),
    ],
)
def test_faults_are_written_as_words(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize("text", ["nonsense=1", "status=many", "status", "chance=1.5", "kind=unlucky", "noise"])
def test_what_is_no_fault_is_said(text):
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        parse_fault(text)


def test_a_fault_is_counted_down():
    faults = Faults()
    faults.append(Fault(status=429, times=2))
    assert [faults.take(request(), "").status for _ in range(3)] == [429, 429, None]


def test_a_fault_is_for_its_host_only():
    faults = Faults()
    faults.append(Fault(host="api.anthropic.com", status=529))
    assert faults.take(request(), "").status is None


def test_the_requests_own_header_wins():
    faults = Faults()
    faults.append(Fault(status=429))
    assert faults.take(request([("x-simulate", "status=503")]), "").status == 503


def test_everything_can_go_well_again():
    faults = Faults()
    faults.append(Fault(status=429))
    faults.clear()
    assert list(faults) == []


def test_a_header_that_is_no_fault_is_said():
    with pytest.raises(ValueError, match="nonsense"):
        Faults().take(request([("x-simulate", "nonsense=1")]), "")


def taken(faults, count=1000, headers=()):
    return [faults.take(request(headers), "").status for _ in range(count)]


def test_a_chance_strikes_its_share():
    faults = Faults()
    faults.append(Fault(status=429, chance=0.3))
    assert 250 < taken(faults).count(429) < 350


def test_a_chance_in_the_requests_own_header_strikes_its_share():
    assert 250 < taken(Faults(), headers=[("x-simulate", "status=429,chance=0.3")]).count(429) < 350


@pytest.mark.parametrize(("chance", "count"), [(0.0, 0), (1.0, 1000)])
def test_a_chance_of_nothing_or_everything_is_no_chance(chance, count):
    faults = Faults()
    faults.append(Fault(status=429, chance=chance))
    assert taken(faults).count(429) == count


def test_faults_with_chances_stand_side_by_side():
    faults = Faults()
    for status in (429, 500, 503):
        faults.append(Fault(status=status, chance=0.2))
    drawn = taken(faults)
    assert [drawn.count(status) > 80 for status in (429, 500, 503)] == [True] * 3


def test_a_fault_that_does_not_strike_leaves_the_next_its_turn():
    faults = Faults()
    faults.append(Fault(status=429, chance=0.0))
    faults.append(Fault(status=503))
    assert faults.take(request(), "").status == 503


def test_a_fault_is_counted_down_only_when_it_strikes():
    faults = Faults()
    faults.append(Fault(status=429, chance=0.5, times=10))
    assert taken(faults).count(429) == 10


def drawn(seed):
    faults = Faults(seed)
    faults.append(Fault(status=429, chance=0.5))
    return taken(faults, 50)


def test_the_same_seed_draws_the_same():
    assert drawn(7) == drawn(7)


def test_another_seed_draws_otherwise():
    assert drawn(7) != drawn(8)


@pytest.mark.parametrize("word", ["reset", "eof", "headers-stall"])
def test_what_breaks_the_connection_is_named(word):
    assert parse_fault(word).broken == word.replace("-", "_")
