from __future__ import annotations

import shutil

import pytest

from support.making import CATALOG
from valetkey.catalog import like, load_catalog
from valetkey.catalog.loader import FOLDER
from valetkey.errors import CatalogError
from valetkey.model import Dialect


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "providers")


def edited(folder, name, old, new):
    path = folder / f"{name}.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder


def test_the_eight_providers_are_there():
    assert set(CATALOG) == {"openai", "anthropic", "gemini", "openrouter", "groq", "mistral", "deepseek", "ollama"}


@pytest.mark.parametrize("name", CATALOG)
def test_every_provider_names_its_sources(name):
    assert CATALOG[name].sources and all(source.startswith("https://") for source in CATALOG[name].sources)


@pytest.mark.parametrize("name", CATALOG)
def test_every_metered_endpoint_has_an_extractor(name):
    from genai_prices.data import providers

    usage = CATALOG[name].usage
    flavors = {e.api_flavor for p in providers if p.id == usage.extractor for e in p.extractors or ()}
    wanted = {e.flavor for s in CATALOG[name].surfaces for e in s.endpoints if e.flavor}
    assert {usage.flavors.get(f) or usage.flavors.get("*") or f for f in wanted} <= flavors


@pytest.mark.parametrize("dialect", Dialect)
def test_every_dialect_has_one_default(dialect):
    assert len([name for name, facts in CATALOG.items() if dialect in facts.default_for]) == 1


def test_mistral_is_never_asked_for_usage():
    assert not CATALOG["mistral"].include_usage


def test_a_host_belongs_to_one_provider(folder):
    with pytest.raises(CatalogError, match=r"api\.openai\.com is claimed by"):
        load_catalog(edited(folder, "groq", "api.groq.com]", "api.openai.com]"))


def test_an_unknown_word_names_file_and_place(folder):
    with pytest.raises(CatalogError, match=r"groq\.yaml: titel"):
        load_catalog(edited(folder, "groq", "title:", "titel:"))


def test_no_yaml_names_the_file(folder):
    (folder / "groq.yaml").write_text("{")
    with pytest.raises(CatalogError, match=r"groq\.yaml"):
        load_catalog(folder)


def test_same_as_needs_a_surface_above(folder):
    with pytest.raises(CatalogError, match="nowhere"):
        load_catalog(edited(folder, "gemini", "base: /v1, same_as: gemini", "base: /v1, same_as: nowhere"))


def test_a_likeness_has_no_hosts():
    assert like(CATALOG["openai"], "lab").hosts == ()


def test_a_likeness_has_its_own_variable():
    assert like(CATALOG["openai"], "my-lab").env == ("MY_LAB_API_KEY",)


def test_a_likeness_keeps_the_endpoints():
    assert like(CATALOG["openai"], "lab").surfaces == CATALOG["openai"].surfaces


def test_a_likeness_has_no_prices_and_is_not_asked_for_usage():
    made = like(CATALOG["openai"], "lab")
    assert made.usage.prices is None and not made.include_usage
