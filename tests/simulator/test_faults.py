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
    ],
)
def test_faults_are_written_as_words(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize("text", ["nonsense=1", "status=many", "status"])
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
