from __future__ import annotations

import shutil

import pytest

from support.making import CATALOG
from valetkey.catalog import like, load_catalog
from valetkey.catalog.loader import FOLDER
from valetkey.errors import CatalogError
from valetkey.formats import LEAST_LENGTH
from valetkey.model import Dialect, LimitFacts, Outcome


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "providers")


def edited(folder, name, old, new):
    path = folder / f"{name}.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder


def test_the_providers_are_there():
    assert set(CATALOG) >= {
        "openai", "anthropic", "gemini", "openrouter", "groq", "mistral", "deepseek", "ollama", "vertex_ai", "azure", "xai",
        "together", "fireworks", "cerebras", "cohere", "perplexity", "moonshot", "zai", "minimax", "nvidia", "huggingface",
        "voyage", "chutes", "sambanova", "novita", "deepinfra", "github_models", "vllm", "lm_studio", "llama_cpp",
    }  # fmt: skip


@pytest.mark.parametrize("name", CATALOG)
def test_every_provider_names_its_sources(name):
    assert CATALOG[name].sources and all(source.startswith("https://") for source in CATALOG[name].sources)


@pytest.mark.parametrize("name", CATALOG)
def test_every_metered_endpoint_has_an_extractor(name):
    from genai_prices.data import providers

    usage = CATALOG[name].usage
    known = {f"{p.id}/{e.api_flavor}" for p in providers for e in p.extractors or ()}
    wanted = {e.flavor for s in CATALOG[name].surfaces for e in s.endpoints if e.flavor and e.flavor not in usage.counts}
    named = {usage.flavors.get(f) or usage.flavors.get("*") or f for f in wanted}
    assert {flavor if "/" in flavor else f"{usage.extractor}/{flavor}" for flavor in named} <= known


@pytest.mark.parametrize("dialect", Dialect)
def test_every_dialect_has_one_default(dialect):
    assert len([name for name, facts in CATALOG.items() if dialect in facts.default_for]) == 1


@pytest.mark.parametrize("name", ["mistral", "gemini"])
def test_who_does_not_document_it_is_not_asked_for_usage(name):
    assert not CATALOG[name].include_usage


@pytest.mark.parametrize("name", ["openai", "openrouter", "groq", "deepseek", "ollama"])
def test_who_documents_it_is_asked_for_usage(name):
    assert CATALOG[name].include_usage


def test_a_regional_host_is_nobodys():
    """Its calls would leave the region, and its keys are refused elsewhere."""
    assert [host for host in CATALOG["openai"].hosts if host != "api.openai.com"] == []


def test_the_source_of_include_usage_is_kept():
    assert "https://docs.ollama.com/api/openai-compatibility" in CATALOG["ollama"].sources


@pytest.mark.parametrize("name", CATALOG)
def test_the_words_of_usage_are_known(name):
    from genai_prices.data import providers

    usage = CATALOG[name].usage
    assert {usage.extractor, usage.prices} - {None} <= {provider.id for provider in providers}


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


def test_bytes_that_are_no_text_name_the_file(folder):
    (folder / "groq.yaml").write_bytes(b"title: \xff")
    with pytest.raises(CatalogError, match=r"groq\.yaml"):
        load_catalog(folder)


def test_a_file_that_cannot_be_read_is_named(folder):
    (folder / "groq.yaml").unlink()
    (folder / "groq.yaml").mkdir()
    with pytest.raises(CatalogError, match=r"groq\.yaml"):
        load_catalog(folder)


def test_a_folder_without_providers_is_an_error(tmp_path):
    with pytest.raises(CatalogError, match="no provider file"):
        load_catalog(tmp_path)


def test_a_variable_belongs_to_one_provider(folder):
    with pytest.raises(CatalogError, match="variable OPENAI_API_KEY is claimed by groq and by openai"):
        load_catalog(edited(folder, "groq", "GROQ_API_KEY", "OPENAI_API_KEY"))


def test_the_value_that_is_wrong_is_shown(folder):
    with pytest.raises(CatalogError, match=r"groq\.yaml: hosts\.0: .*got 'API\.groq\.com'"):
        load_catalog(edited(folder, "groq", "[api.groq.com]", "[API.groq.com]"))


def test_same_as_needs_a_surface_above(folder):
    with pytest.raises(CatalogError, match=r"gemini\.yaml: .*nowhere is no surface above it"):
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


@pytest.mark.parametrize("name", ["openai", "anthropic", "openrouter", "groq", "mistral"])
def test_who_sends_rate_limit_headers_has_them_here(name):
    assert CATALOG[name].limits


@pytest.mark.parametrize("name", ["gemini", "deepseek", "ollama"])
def test_who_sends_none_has_none(name):
    assert CATALOG[name].limits == ()


def test_the_headers_of_a_limit_are_frozen_facts():
    names = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens")
    assert LimitFacts("tokens", *names, reset="x-ratelimit-reset-tokens", format="duration") in CATALOG["groq"].limits


def test_the_source_of_limits_is_kept():
    assert "https://console.groq.com/docs/rate-limits#rate-limit-headers" in CATALOG["groq"].sources


def test_a_likeness_keeps_limits_and_errors():
    made = like(CATALOG["groq"], "lab")
    assert (made.limits, made.errors) == (CATALOG["groq"].limits, CATALOG["groq"].errors)


def test_an_error_line_carries_its_rest():
    assert [rule.rest for rule in CATALOG["openai"].errors if rule.text == "quota"] == [60]


def test_an_error_line_carries_its_least_rest():
    assert {rule.least for rule in CATALOG["gemini"].errors if rule.text == "PerDay"} == {3600}


def test_an_error_line_may_lead_to_a_page():
    assert [rule.outcome for rule in CATALOG["openai"].errors if rule.page and 401 in rule.statuses] == [Outcome.BAD_KEY]


@pytest.mark.parametrize("name", CATALOG)
def test_a_line_is_reached_only_if_no_line_above_says_less(name):
    """A line with a status alone swallows all that follow for that status."""
    seen: set[int] = set()
    for rule in CATALOG[name].errors:
        assert not set(rule.statuses) or not set(rule.statuses) <= seen, rule
        if not (rule.json or rule.text or rule.header or rule.without_header):
            seen |= set(rule.statuses)


def test_keys_of_ones_own_server_are_long_enough_to_be_told_from_words():
    assert like(CATALOG["openai"], "lab").min_key_length == LEAST_LENGTH
