from __future__ import annotations

import dataclasses

import pytest

from valetkey.model import Auth, Endpoint, Format, ProviderFacts


def test_an_endpoint_is_for_inference_unless_said_otherwise():
    assert Endpoint("x", ("POST",), "/x", Format.OPENAI_OTHER).group == "inference"


def test_a_provider_needs_keys_unless_said_otherwise():
    assert ProviderFacts("x", "X", (), "https://x.test", ()).keys


def test_usage_is_never_asked_for_unless_said_otherwise():
    assert not ProviderFacts("x", "X", (), "https://x.test", ()).include_usage


def test_facts_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Auth("authorization").header = "x"
