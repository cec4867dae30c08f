from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from support.making import CATALOG
from valetkey.cli.importers import litellm
from valetkey.errors import ConfigurationError
from valetkey.rules import parse_rules

KEY = "sk-proj-THISisNOTaREALkeyTHISisNOTaREAL01"


@pytest.fixture
def made(tmp_path):
    """Read a configuration; `environ` is where addresses may be."""

    def read(config, **environ):
        path = tmp_path / "config.yaml"
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False))
        return litellm.draft(path, CATALOG, environ)

    return read


def entry(name="fast", model="openai/gpt-4o", info=None, **params):
    found = {"model_name": name, "litellm_params": {"model": model, "api_key": "os.environ/OPENAI_API_KEY", **params}}
    return found | ({"model_info": info} if info else {})


def rules(draft):
    return parse_rules(draft.render(), "rules.yaml", CATALOG)


def said(draft):
    return " / ".join(f"{', '.join(places)}: {text}" for places, text in draft.gaps)


def route(draft, number=0):
    return rules(draft).routes[number]


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("gpt-4o", "openai/gpt-4o"),
        ("o3-mini", "openai/o3-mini"),
        ("claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("openai/responses/gpt-5", "openai/gpt-5"),
        ("openrouter/anthropic/claude-sonnet-4.5", "openrouter/anthropic/claude-sonnet-4.5"),
        ("together_ai/meta-llama/Llama-3", "together/meta-llama/Llama-3"),
    ],
)
def test_models_find_their_provider(made, model, target):
    assert [str(each) for each in route(made({"model_list": [entry(model=model)]})).to] == [target]


def test_the_provider_may_be_said(made):
    draft = made({"model_list": [entry(model="my/model", custom_llm_provider="openai")]})
    assert str(route(draft).to[0]) == "openai/my/model"


def test_an_unknown_provider_is_left_out(made):
    draft = made({"model_list": [entry(model="replicate/x")]})
    assert draft.routes == [] and "not in the catalogue" in said(draft)


def test_names_with_many_deployments_have_many_targets(made):
    draft = made({"model_list": [entry(), entry(model="groq/llama", api_key="os.environ/GROQ_API_KEY")]})
    found = route(draft)
    assert ([str(each) for each in found.to], found.order) == (["openai/gpt-4o", "groq/llama"], "random")


@pytest.mark.parametrize(
    ("first", "second", "weights"),
    [
        ({"weight": 3}, {"weight": 1}, (3, 1)),
        ({"weight": 3}, {}, (3, 1)),
        ({"rpm": 90}, {"rpm": 60}, (90, 60)),
        ({"weight": 1, "rpm": 90}, {"weight": 2, "rpm": 60}, (1, 2)),
        ({"rpm": 100_000}, {"rpm": 50_000}, (1000, 500)),
    ],
)
def test_targets_share_the_calls(made, first, second, weights):
    draft = made({"model_list": [entry(**first), entry(model="groq/llama", **second)]})
    assert (route(draft).order, route(draft).weights) == ("weighted", weights)


def test_an_order_is_kept(made):
    draft = made({"model_list": [entry(order=2), entry(model="groq/llama", order=1)]})
    assert ([str(each) for each in route(draft).to], route(draft).order) == (["groq/llama", "openai/gpt-4o"], "priority")


def test_keys_of_one_target_share_by_their_weights(made):
    draft = made({"model_list": [entry(api_key="os.environ/A", weight=3), entry(api_key="os.environ/B")]})
    assert [spec.weight for spec in rules(draft).providers["openai"].key_specs] == [3, 1]


def test_a_key_in_the_open_is_not_copied(made):
    draft = made({"model_list": [entry(api_key=KEY)]})
    assert KEY not in draft.render() + said(draft) and draft.places == {
        "keys/openai-1": "config.yaml:5 model_list.litellm_params.api_key"
    }


@pytest.mark.parametrize("value", ["sk-1234", "dummy", "your-api-key"])
def test_what_is_no_key_is_left_out(made, value):
    draft = made({"model_list": [entry(api_key=value)]})
    assert not draft.literals and "looks like a dummy" in said(draft)


@pytest.mark.parametrize("value", ["EMPTY", "none", None, "sk-1234"])
def test_a_server_on_this_machine_needs_no_key(made, value):
    draft = made({"model_list": [entry(api_key=value, api_base="http://127.0.0.1:8000/v1")]})
    assert not next(each for each in rules(draft).providers.values() if each.configured).keys_needed


def test_without_a_key_the_environment_is_looked_through(made):
    draft = made({"model_list": [{"model_name": "a", "litellm_params": {"model": "gpt-4o"}}]})
    assert rules(draft).providers["openai"].key_specs is None


def test_credentials_may_have_a_name(made):
    credential = {"credential_name": "mine", "credential_values": {"api_key": "os.environ/MINE"}}
    config = {"model_list": [{"model_name": "a", "litellm_params": {"model": "gpt-4o", "litellm_credential_name": "mine"}}]}
    assert rules(made(config | {"credential_list": [credential]})).providers["openai"].key_specs[0].ref == "env:MINE"


def test_an_address_may_be_in_the_environment(made):
    draft = made({"model_list": [entry(api_base="os.environ/BASE")]}, BASE="https://x.test/v1")
    assert rules(draft).providers["openai-x-test"].upstream.origin == "https://x.test"


def test_an_address_that_is_nowhere_is_told(made):
    assert "variable BASE, which is not set" in said(made({"model_list": [entry(api_base="os.environ/BASE")]}))


def test_plain_http_to_elsewhere_is_left_out(made):
    draft = made({"model_list": [entry(api_base="http://gpu-box:8000/v1")]})
    assert draft.routes == [] and "plain HTTP to gpu-box" in said(draft)


def test_what_goes_with_a_key_is_kept(made):
    key = rules(made({"model_list": [entry(organization="org-1", max_parallel_requests=4)]})).providers["openai"].key_specs[0]
    assert (key.organization, key.concurrency) == ("org-1", 4)


@pytest.mark.parametrize("place", ["info", "params"])
def test_prices_are_taken_over(made, place):
    prices = {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06}
    draft = made({"model_list": [entry(info=prices) if place == "info" else entry(**prices)]})
    [found] = rules(draft).providers["openai"].prices
    assert (found.pattern, float(found.input), float(found.output), float(found.cache_read)) == ("gpt-4o", 2.5, 10, 1.25)


SECTIONS = ["litellm_settings", "router_settings"]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(("word", "place"), [("fallbacks", "exhausted"), ("context_window_fallbacks", "too_long")])
def test_fallbacks(made, section, word, place):
    models = [entry("a"), entry("b", "groq/llama", api_key="os.environ/GROQ_API_KEY")]
    draft = made({"model_list": models, section: {word: [{"a": ["b"]}]}})
    assert [str(each) for each in getattr(route(draft), place)] == ["groq/llama"]


def test_a_default_fallback_is_for_those_without_one(made):
    models = [entry("a"), entry("b", "groq/llama"), entry("c", "gpt-5")]
    draft = made(
        {"model_list": models, "litellm_settings": {"default_fallbacks": ["c"]}, "router_settings": {"fallbacks": [{"a": ["b"]}]}}
    )
    assert [[str(each) for each in found.exhausted] for found in rules(draft).routes] == [["groq/llama"], ["openai/gpt-5"], []]


def test_a_fallback_to_nowhere_is_told(made):
    draft = made({"model_list": [entry()], "router_settings": {"fallbacks": [{"fast": [KEY]}, {"x": ["fast"]}]}})
    assert "x is no name of the model list" in said(draft) and KEY not in said(draft)


def test_another_name_goes_the_same_way(made):
    draft = made({"model_list": [entry()], "router_settings": {"model_group_alias": {"gpt-4": "fast"}}})
    assert route(draft).match.model == ("fast", "gpt-4")


@pytest.mark.parametrize(("name", "model"), [("anthropic/*", "anthropic/*"), ("*", "*"), ("*", "openai/*")])
def test_some_names_need_no_route(made, name, model):
    draft = made({"model_list": [entry(name, model)]})
    assert draft.routes == [] and "no route" in said(draft)


def test_routes_for_many_models_come_last(made):
    draft = made({"model_list": [entry("gpt-*", "openai/*"), entry("gpt-4o", "groq/llama")]})
    assert [found.match.model for found in rules(draft).routes] == [("gpt-4o",), ("gpt-*",)]


def test_least_busy_is_a_rotation(made):
    models = [entry(api_key=f"os.environ/{name}") for name in "AB"]
    draft = made({"model_list": models, "router_settings": {"routing_strategy": "least-busy"}})
    assert rules(draft).providers["openai"].rotation == "least_busy"


def test_time_limits_and_attempts(made):
    draft = made(
        {"model_list": [entry()], "router_settings": {"num_retries": 2, "timeout": 30, "stream_timeout": 5, "retry_after": 2}}
    )
    gateway = rules(draft).gateway
    assert (gateway.attempts, gateway.timeouts.whole, gateway.timeouts.first_byte, gateway.timeouts.retry) == (3, 30, 5, 2)


@pytest.mark.parametrize(
    ("section", "word", "text"),
    [
        ("general_settings", "master_key", "valetkey agents add"),
        ("general_settings", "database_url", "virtual keys"),
        ("router_settings", "cooldown_time", "docs/pools.md"),
        ("litellm_settings", "cache", "not cached"),
        ("litellm_settings", "unheard_of", "has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_told_with_its_line(made, section, word, text):
    draft = made({"model_list": [entry()], section: {word: KEY}})
    assert f"config.yaml:7 {section}.{word}: " in said(draft) and text in said(draft) and KEY not in said(draft)


@pytest.mark.parametrize("word", ["rpm", "tpm", "temperature", "api_version", "vertex_credentials"])
def test_parameters_without_a_counterpart_are_told(made, word):
    assert f"litellm_params.{word}" in said(made({"model_list": [entry(**{word: 1})]}))


@pytest.mark.parametrize("text", ["", "a: b", "model_list: x", "- a", "\x00", "a: [", "x: &a [*a]"])
def test_a_file_that_is_none_is_an_error(made, text):
    with pytest.raises(ConfigurationError):
        made(text)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        litellm.draft(tmp_path / "config.yaml", CATALOG, {})


def test_bytes_are_an_error(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        litellm.draft(tmp_path / "config.yaml", CATALOG, {})


TEXTS = [
    "", "*", "a", "openai/gpt-4o", "gpt-*", "os.environ/A", "http://127.0.0.1:1/v1", "https://x.test", "groq/a?b", "azure/x",
    "é\n",
]  # fmt: skip
NUMBERS = st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False)
ODD = st.none() | st.booleans() | NUMBERS | st.sampled_from(TEXTS)
PARAMS = st.dictionaries(
    st.sampled_from(["model", "api_key", "api_base", "weight", "rpm", "order", "organization", "input_cost_per_token", "x"]), ODD
)
ENTRIES = st.lists(st.fixed_dictionaries({"model_name": ODD, "litellm_params": PARAMS}) | ODD, max_size=4)
PAIRS = ODD | st.lists(st.dictionaries(st.sampled_from(["a", "*"]), ODD | st.lists(ODD, max_size=2), max_size=2), max_size=2)
SETTINGS = ODD | st.fixed_dictionaries({"fallbacks": PAIRS, "default_fallbacks": PAIRS, "num_retries": ODD, "timeout": ODD})


@given(ENTRIES, SETTINGS, st.dictionaries(st.sampled_from(["a", "b"]), ODD))
def test_odd_configurations_make_rules_that_hold(tmp_path_factory, entries, settings, aliases):
    path = tmp_path_factory.getbasetemp() / "odd.yaml"
    router = {"model_group_alias": aliases}
    path.write_text(yaml.safe_dump({"model_list": entries, "litellm_settings": settings, "router_settings": router}))
    assert rules(litellm.draft(path, CATALOG, {}))


ODD = [5, 1.5, True, "text", ["a"], [["a"]], {"a": "b"}, {"a": ["b"]}, float("inf"), float("nan"), 10**400, "1e999999"]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("section", ["litellm_settings", "router_settings"])
@pytest.mark.parametrize(
    "word", ["fallbacks", "default_fallbacks", "model_group_alias", "routing_strategy", "num_retries", "timeout"]
)
def test_odd_settings_are_left_out(made, section, word, value):
    assert rules(made({"model_list": [entry()], section: {word: value}})).routes


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("word", ["model_info", "weight", "rpm", "order", "litellm_credential_name", "input_cost_per_token"])
def test_odd_words_of_a_model_are_left_out(made, word, value):
    odd = entry() | {"model_info": value} if word == "model_info" else entry(**{word: value})
    assert rules(made({"model_list": [odd, entry()]})).routes


@pytest.mark.parametrize(
    "value", [*ODD, [{"credential_name": ["a"]}, {"credential_name": "a", "credential_values": [1]}]], ids=repr
)
def test_odd_credentials_are_left_out(made, value):
    assert rules(made({"model_list": [entry()], "credential_list": value})).routes


def test_a_name_of_many_alphabets_stays_itself(made):
    assert route(made({"model_list": [entry("快\N{ROCKET}")]})).match.model == ("快\N{ROCKET}",)


def test_that_the_list_closes_nothing_here_is_said(made):
    assert "LiteLLM refuses other models" in said(made({"model_list": [entry()]}))


def test_a_list_with_all_models_closed_nothing(made):
    every = {"model_name": "*", "litellm_params": {"model": "*"}}
    assert "LiteLLM refuses other models" not in said(made({"model_list": [every]}))
