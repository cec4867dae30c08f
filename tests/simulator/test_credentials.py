from __future__ import annotations

import pytest

from valetkey.simulator.credentials import accepted, carried, key_of
from valetkey.simulator.wire_types import Request


def request(path="/", **headers):
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request("POST", path, "h", fields, b"", "http/1.1")


def test_every_carrier_is_found():
    found = carried(request("/?key=c", authorization="a", x_api_key="b", accept="x"))
    assert found == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("dialect", "made"),
    [
        ("openai", request(authorization="Bearer k")),
        ("anthropic", request(x_api_key="k")),
        ("anthropic", request(authorization="Bearer k")),
        ("gemini", request(x_goog_api_key="k")),
        ("gemini", request("/?key=k")),
    ],
)
def test_the_key_is_looked_for_where_the_provider_does(dialect, made):
    assert key_of(made, dialect) == "k"


@pytest.mark.parametrize(
    ("key", "known", "taken"),
    [(None, None, False), ("real", None, True), ("sk-dummy", None, False), ("real", {"other"}, False), ("real", {"real"}, True)],
)
def test_what_is_taken(key, known, taken):
    assert accepted(key, known) is taken
