from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from valetkey.model import GatewayRules
from valetkey.rules.schema import GatewayEntry, KeyEntry, RulesFile


def test_the_gateways_words_are_the_models_fields():
    assert set(GatewayEntry.model_fields) == {field.name for field in dataclasses.fields(GatewayRules)}


def test_the_gateways_defaults_are_the_models():
    assert GatewayEntry().max_body == GatewayRules().max_body and GatewayEntry().proxy == GatewayRules().proxy


def test_one_or_many_may_be_written():
    entry = RulesFile.model_validate({"routes": [{"match": {"model": "a"}, "to": "openai"}]}).routes[0]
    assert (entry.match.model, entry.to) == (("a",), ("openai",))


@pytest.mark.parametrize("headers", [{"x evil": "1"}, {"x": "a\r\nb"}, {"x": "é"}])
def test_a_header_that_could_break_a_request_is_refused(headers):
    with pytest.raises(ValidationError):
        KeyEntry(ref="env:A", headers=headers)


@pytest.mark.parametrize("reference", ["env:A", "file:/run/secrets/x", "file:x"])
def test_references(reference):
    assert KeyEntry(ref=reference).ref == reference


@pytest.mark.parametrize("reference", ["env:", "env:A-B", "file:", "sk-x", "keyring:x"])
def test_what_is_no_reference(reference):
    with pytest.raises(ValidationError):
        KeyEntry(ref=reference)
