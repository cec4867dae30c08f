"""What a provider lists is what the rules allow: the listing of each is an endpoint, and is trimmed by its lists."""

from __future__ import annotations

import json

import pytest
from mitmproxy import http

from support.catalogue import PLACED
from support.making import CATALOG, rules
from valetkey.model import Format
from valetkey.policy.paths import Place, locate
from valetkey.proxy.listing import trim
from valetkey.secrets.probe import free_places

LISTINGS = [
    (name, surface.base + endpoint.path)
    for name, facts in CATALOG.items()
    for surface in facts.surfaces
    for endpoint in surface.endpoints
    if endpoint.format is Format.OPENAI_MODELS and endpoint.methods == ("GET",) and endpoint.path == "/models"
]


@pytest.mark.parametrize(("name", "path"), LISTINGS)
def test_a_listing_costs_nothing(name, path):
    place = locate(CATALOG[name], "GET", path.replace("{organization}", "acme"))
    assert isinstance(place, Place) and place.endpoint.free


WITHOUT = {"vertex_ai", "voyage", "bedrock"}
"""They have no free endpoint that asks for nothing but the key."""


@pytest.mark.parametrize("name", sorted(set(CATALOG) - WITHOUT))
def test_keys_can_be_tested_for_free(name):
    place = f"upstream: '{PLACED[name]}'" if name in PLACED else ""
    assert [*free_places(rules(f"version: 1\nproviders: {{{name}: {{{place}}}}}\n").providers[name])]


@pytest.mark.parametrize("name", sorted({name for name, _ in LISTINGS}))
def test_models_on_the_black_list_are_not_listed(name):
    place = f"upstream: '{PLACED[name]}', " if name in PLACED else ""
    provider = rules(f"version: 1\nproviders: {{{name}: {{{place}models: {{deny: ['secret*']}}}}}}\n").providers[name]
    answer = http.Response.make(200, json.dumps({"data": [{"id": "open-1"}, {"id": "secret-1"}]}))
    trim(answer, provider, Format.OPENAI_MODELS)
    assert [each["id"] for each in json.loads(answer.content)["data"]] == ["open-1"]
