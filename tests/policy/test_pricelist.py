from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import making
from support.pricing import GPT, model, published
from valetkey.policy import metering, pricelist
from valetkey.policy.pricelist import BUILT_IN, Change

NOW = 1_795_235_309.0
USAGE = {"input_tokens": 1_000_000, "output_tokens": 0}


def costs(listing, name):
    provider = making.rules().providers["openai"]
    return metering.estimated(USAGE, provider, name, NOW, listing=listing).cost_usd


def test_a_newer_list_is_what_is_computed_with():
    assert costs(pricelist.parse(published(model(prices=GPT | {"input_mtok": 7}))), "gpt-4o") == 7


def test_lists_do_not_mix():
    before = costs(BUILT_IN, "gpt-4o")
    costs(pricelist.parse(published(model(prices=GPT | {"input_mtok": 7}))), "gpt-4o")
    assert costs(BUILT_IN, "gpt-4o") == before


def test_a_new_model_has_a_price():
    assert costs(pricelist.parse(published(model("gpt-99"))), "gpt-99") == Decimal("2.5")


def test_a_model_that_left_the_list_has_none():
    assert costs(pricelist.parse(published(model("gpt-99"))), "gpt-4o") is None


def test_usage_is_read_as_before():
    document = {"model": "gpt-4o", "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}}
    listing = pricelist.parse(published())
    found = metering.measure(document, making.rules().providers["openai"], "chat", None, NOW, listing=listing)
    assert found.usage == {"input_tokens": 10, "output_tokens": 1}


def test_names_are_found_as_the_library_finds_them():
    found = pricelist.parse(published(model(match={"starts_with": "gpt-4o"}))).find("openai", "GPT-4o-2024-08-06")
    assert found.id == "gpt-4o"


def test_an_unknown_provider_has_no_models():
    assert BUILT_IN.find("nobody", "gpt-4o") is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "no list of providers"),
        ("text", "no list of providers"),
        ([1], "no list of providers"),
        ([{}], "Field required"),
        (published(count=20), "fewer than 100 models"),
        (published(model(prices={"input_mtok": -1})), "cannot be meant"),
        (published(model(prices={"input_mtok": 1e9})), "cannot be meant"),
        (published(model(prices={"input_mtok": "NaN"})), "finite"),
        (published(model(prices={"input_mtok": {"base": 1, "tiers": [{"start": 1, "price": -1}]}})), "cannot be meant"),
        (published(model(prices=[{"prices": {"input_mtok": -1}}])), "cannot be meant"),
        (published(model(prices=[])), "no price"),
        (published(model(prices={"output_smell_mtok": 1})), "update it"),
        (published(model(match={"regex": "("})), "pattern"),
        (published(model(match={"regex": "a" * 501})), "pattern"),
        (published(model(match={"or": [{"regex": "("}]})), "pattern"),
        (published(model(match={"regex": "(a+)+$"})), "pattern"),
        (published(model(match={"regex": "(?:a|aa)*$"})), "pattern"),
        (published(model(match={"regex": "(a?){30}b"})), "pattern"),
        (published(model(match={"regex": "a?" * 30 + "a" * 30})), "pattern"),
        (published(model(match={"regex": "(a|a)" * 30 + "b"})), "pattern"),
        (published(model(match={"regex": ".*.*.*b"})), "pattern"),
        (published(model(match={"regex": "[a]*\\\\*a{1,}a{0,400}b"})), "pattern"),
        (published(model(match={"and": [{"or": [{"regex": "(?P<x>a)"}]}]})), "pattern"),
        (published(model(match={"sounds_like": "x"})), "not in the form"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(document, said):
    with pytest.raises(ValueError, match=said):
        pricelist.parse(document)


WORDS = st.sampled_from(["id", "models", "match", "prices", "name", "or"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner),
    max_leaves=20,
)


@given(JSON)
def test_nonsense_is_refused_and_nothing_worse(document):
    with pytest.raises(ValueError, match=r"it is|it has"):
        pricelist.parse(document)


def test_what_a_list_says_is_not_repeated_in_its_error():
    with pytest.raises(ValueError) as caught:
        pricelist.parse(published(model(prices={"input_mtok": "SECRET"})))
    assert "SECRET" not in str(caught.value)


def test_extractors_are_not_kept():
    assert [set(each) for each in pricelist.slim(published())] == [{"id", "name", "api_pattern", "models"}] * 2


def test_prices_are_told_by_unit():
    found = pricelist.parse(published()).find("openai", "gpt-4o")
    assert pricelist.amounts(found, NOW) == {name: Decimal(str(price)) for name, price in GPT.items()}


def test_tiers_are_told():
    prices = {"input_mtok": {"base": 1, "tiers": [{"start": 200_000, "price": 2}]}}
    found = pricelist.parse(published(model(prices=prices))).find("openai", "gpt-4o")
    assert pricelist.amounts(found, NOW)["input_mtok"] == {"base": 1, "tiers": [{"start": 200_000, "price": 2}]}


def test_prices_are_those_of_the_day():
    prices = [{"prices": {"input_mtok": 3}}, {"constraint": {"start_date": "2026-11-01"}, "prices": {"input_mtok": 1}}]
    found = pricelist.parse(published(model(prices=prices))).find("openai", "gpt-4o")
    assert [pricelist.amounts(found, when)["input_mtok"] for when in (NOW - 90 * 86400, NOW)] == [3, 1]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([model()], [model()], []),
        ([model()], [model(prices=GPT | {"output_mtok": 8})], [("gpt-4o", "output_mtok", Decimal(10), Decimal(8))]),
        ([model()], [model(), model("new", {"input_mtok": 1})], [("new", "input_mtok", None, Decimal(1))]),
        ([model(), model("old", {"input_mtok": 1})], [model()], [("old", "input_mtok", Decimal(1), None)]),
    ],
    ids=["same", "changed", "new", "gone"],
)
def test_changes(old, new, expected):
    lists = (pricelist.parse(published(*models)) for models in (old, new))
    assert list(pricelist.changes(*lists, NOW)) == [Change("openai", *each) for each in expected]


def test_every_built_in_price_would_be_taken():
    for provider in BUILT_IN.providers:
        for each in provider.models:
            pricelist._check(provider, each)


def test_updates_come_from_the_makers_of_the_library():
    assert pricelist.update_url().startswith("https://raw.githubusercontent.com/pydantic/genai-prices/")


@pytest.mark.parametrize(
    "pattern", [r"(?i)^GPT-4o$", r"^gpt-(4o|5)(-\d{8})?$", r"^(?!.*-[tT]ts(?:$|-))gpt-4o", r"^gpt-4o\[fast=[*+?|()]*\]$"]
)
def test_patterns_as_they_are_published_are_taken(pattern):
    assert len(pricelist.parse(published(model(match={"regex": pattern}))).providers) == 2


def test_the_built_in_patterns_would_be_taken():
    models = [each for provider in BUILT_IN.providers for each in provider.models]
    patterns = [pattern for each in models for pattern in pricelist._patterns(each.match)]
    assert patterns and all(pricelist._is_quick(pattern) for pattern in patterns)


def test_a_name_that_is_no_name_is_not_looked_for():
    listing = pricelist.parse(published(model(match={"starts_with": "gpt-4o"})))
    assert listing.find("openai", "gpt-4o" + "x" * 250) and not listing.find("openai", "gpt-4o" + "x" * 251)
