from __future__ import annotations

import dataclasses

from valetkey.model import Metering, Receipt

CONTRACT = (
    "id, time, agent, project, client, provider, model, requested_model, format, route, key, status, outcome, "
    "streamed, attempts, usage, usage_source, cost_usd, cost_source, ttft_ms, duration_ms, request_id, refused"
)


def test_the_fields_are_the_contract():
    assert [field.name for field in dataclasses.fields(Receipt)][:23] == CONTRACT.split(", ")


def test_no_price_is_no_cost_not_zero():
    assert Metering().cost_usd is None
