from __future__ import annotations

import dataclasses

import pytest

from valetkey import model
from valetkey.model import Metering, Receipt

CONTRACT = (
    "id, time, agent, project, client, provider, model, requested_model, format, route, key, status, outcome, "
    "streamed, attempts, usage, usage_source, cost_usd, cost_source, ttft_ms, duration_ms, request_id, refused"
)


def test_the_fields_are_the_contract():
    assert [field.name for field in dataclasses.fields(Receipt)][:23] == CONTRACT.split(", ")


def test_no_price_is_no_cost_not_zero():
    assert Metering().cost_usd is None


@pytest.mark.parametrize("kind", sorted(name for name in model.__all__ if dataclasses.is_dataclass(getattr(model, name))))
def test_everything_of_the_vocabulary_is_frozen_and_takes_no_other_words(kind):
    made = getattr(model, kind)
    assert made.__dataclass_params__.frozen and "__slots__" in vars(made)
