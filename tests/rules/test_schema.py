from __future__ import annotations

import dataclasses
import math
from typing import get_args

import pytest
from pydantic import ValidationError

from valetkey.model import GatewayRules, KeySpec, Provider, Rotation, Timeouts, Window
from valetkey.rules.schema import (
    GatewayEntry,
    KeyEntry,
    PriceEntry,
    ProviderEntry,
    RouteEntry,
    RulesFile,
    TimeoutsEntry,
    WindowEntry,
)


def test_the_gateways_words_are_the_models_fields():
    assert set(GatewayEntry.model_fields) == {field.name for field in dataclasses.fields(GatewayRules)}


def test_one_or_many_may_be_written():
    entry = RulesFile.model_validate({"routes": [{"match": {"model": "a"}, "to": "openai"}]}).routes[0]
    assert (entry.match.model, entry.to) == (("a",), ("openai",))


@pytest.mark.parametrize("headers", [{"x evil": "1"}, {"x": "a\r\nb"}, {"x": "é"}])
def test_a_header_that_could_break_a_request_is_refused(headers):
    with pytest.raises(ValidationError):
        KeyEntry(ref="env:A", headers=headers)


@pytest.mark.parametrize(
    "reference", ["env:A", "env:openai_key", "file:/run/secrets/x", "file:x", "file:0123456789abcdef0123456789abcdef.txt"]
)
def test_references(reference):
    assert KeyEntry(ref=reference).ref == reference


@pytest.mark.parametrize("reference", ["env:", "env:A-B", "file:", "sk-x", "keyring:x", "env:A\n", "file:a\0b"])
def test_what_is_no_reference(reference):
    with pytest.raises(ValidationError):
        KeyEntry(ref=reference)


@pytest.mark.parametrize("written", [{"env": "A"}, {"file": "x"}])
def test_a_blank_after_the_colon_is_explained(written):
    with pytest.raises(ValidationError, match="no blank after its colon"):
        RulesFile.model_validate({"providers": {"openai": {"keys": [written]}}})


@pytest.mark.parametrize("value", [math.nan, math.inf, [math.nan], {"a": {"b": -math.inf}}])
def test_a_parameter_that_json_cannot_hold_is_refused(value):
    with pytest.raises(ValidationError, match="JSON has no such number"):
        RouteEntry(set={"x": value})


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b"])
def test_a_parameter_has_a_name(name):
    with pytest.raises(ValidationError):
        RouteEntry(set={name: 1})


@pytest.mark.parametrize("edit", [{"set": {"model": "x"}}, {"remove": "model"}])
def test_the_model_cannot_be_edited_past_the_lists(edit):
    with pytest.raises(ValidationError, match="to: provider/model"):
        RouteEntry(**edit)


def test_a_parameter_is_set_or_removed():
    with pytest.raises(ValidationError, match="a is set and removed"):
        RouteEntry(set={"a": 1}, remove=["a"])


def test_the_doors_differ():
    with pytest.raises(ValidationError, match="different ports"):
        GatewayEntry(proxy="127.0.0.1:1", api="127.0.0.1:1")


@pytest.mark.parametrize("kind", ["env", "file"])
def test_a_key_behind_the_word_for_a_reference_is_a_literal_all_the_same(kind):
    with pytest.raises(ValidationError, match="this is a literal key"):
        KeyEntry(ref=f"{kind}:gsk_REALrealREALrealREALreal0001")


@pytest.mark.parametrize("dollars", ["-1", "1000001", "1e999999", "1e-999999", "nan", "inf"])
def test_a_price_that_no_sum_can_hold_is_refused(dollars):
    with pytest.raises(ValidationError):
        PriceEntry(input=dollars, output=1)


@pytest.mark.parametrize("folder", ["", "a\0b", "a\nb"], ids=["empty", "NUL", "line break"])
def test_an_archive_is_a_folder(folder):
    with pytest.raises(ValidationError):
        GatewayEntry(archive=folder)


def test_receipts_are_not_deleted_at_once():
    with pytest.raises(ValidationError, match="nothing would be kept"):
        GatewayEntry(retention=0)


def test_the_limits_words_are_the_models_fields():
    assert set(TimeoutsEntry.model_fields) == {field.name for field in dataclasses.fields(Timeouts)}


def test_a_windows_words_and_defaults_are_the_models():
    assert Window(**WindowEntry().model_dump()) == Window()


@pytest.mark.parametrize("word", ["rotation", "spacing", "leave_at"])
def test_a_pools_defaults_are_the_models(word):
    default = next(field.default for field in dataclasses.fields(Provider) if field.name == word)
    assert getattr(ProviderEntry(), word) == default


@pytest.mark.parametrize("word", ["priority", "weight", "concurrency"])
def test_a_keys_defaults_are_the_models(word):
    assert getattr(KeyEntry(ref="env:A"), word) == getattr(KeySpec("env:A"), word)


@pytest.mark.parametrize("word", ["small_wait", "retry", "max_wait"])
def test_waiting_may_be_switched_off(word):
    assert getattr(TimeoutsEntry.model_validate({word: 0}), word) == 0


@pytest.mark.parametrize("rotation", get_args(Rotation))
def test_every_rotation_may_be_written(rotation):
    assert ProviderEntry(rotation=rotation).rotation == rotation


@pytest.mark.parametrize(
    "field", [each for each in dataclasses.fields(GatewayRules) if each.name != "callers"], ids=lambda field: field.name
)
def test_every_default_is_the_models(field):
    default = getattr(GatewayEntry(), field.name)
    made = Timeouts(**default.model_dump()) if field.name == "timeouts" else default
    assert made == getattr(GatewayRules(), field.name)
