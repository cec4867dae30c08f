from __future__ import annotations

from valetkey.simulator.wire_types import Request


def test_headers_are_found_whatever_their_case():
    assert Request("GET", "/", "h", [("X-Api-Key", "k")], b"", "h2").header("x-api-key") == "k"


def test_a_missing_header_is_none():
    assert Request("GET", "/", "h", [], b"", "h2").header("x-api-key") is None
