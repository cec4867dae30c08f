from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import CATALOG
from valetkey.cli.importers import llm_api_key_proxy
from valetkey.errors import ConfigurationError
from valetkey.rules import parse_rules

KEY = "AIzaTHISisNOTaREALkeyTHISisNOTaREAL001"
TWO = {"GEMINI_API_KEY_1": KEY, "OPENROUTER_API_KEY": KEY + "2"}


@pytest.fixture
def made(tmp_path):
    """Read variables from a `.env` beside the rules, or, with `in_dotenv=False`, from elsewhere."""

    def read(*groups, in_dotenv=True, **more):
        found = {name: value for group in (*groups, more) for name, value in group.items()}
        (tmp_path / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in found.items()))
        return llm_api_key_proxy.draft(tmp_path / ".env", CATALOG, in_dotenv=in_dotenv)

    return read


def rules(draft):
    return parse_rules(draft.render(), "rules.yaml", CATALOG)


def said(draft):
    return " / ".join(f"{', '.join(places)}: {text}" for places, text in draft.gaps)


def references(draft):
    return {name: [spec.ref for spec in each.key_specs] for name, each in rules(draft).providers.items() if each.key_specs}


def test_keys_are_referred_to_by_their_variables(made):
    assert references(made(TWO)) == {"gemini": ["env:GEMINI_API_KEY_1"], "openrouter": ["env:OPENROUTER_API_KEY"]}


def test_elsewhere_they_are_keys_in_the_open(made):
    draft = made(TWO, in_dotenv=False)
    assert (references(draft)["gemini"], draft.places["keys/gemini-1"]) == (["file:keys/gemini-1"], ".env: GEMINI_API_KEY_1")


def test_no_key_is_copied(made):
    draft = made(TWO)
    assert KEY not in draft.render() + said(draft)


@pytest.mark.parametrize(
    ("name", "ours"), [("NVIDIA_NIM_API_KEY_3", "nvidia"), ("TOGETHER_AI_API_KEY", "together"), ("OPENAI_API_KEY_WORK", "openai")]
)
def test_providers_find_their_names(made, name, ours):
    assert references(made({name: KEY})) == {ours: [f"env:{name}"]}


@pytest.mark.parametrize("value", ["YOUR_KEY", "sk-dummy", "", "a b"])
def test_what_is_no_key_is_left_out(made, value):
    draft = made(GEMINI_API_KEY=value)
    assert references(draft) == {} and "it was left out" in said(draft)


def test_a_secret_of_nobody_is_left_alone(made):
    draft = made(MAPS_API_KEY=KEY)
    assert draft.providers == {} and "no provider that is known" in said(draft)


def test_a_server_of_ones_own_is_like_openai(made):
    found = rules(made(LAB_API_BASE="https://lab.test/v1/", LAB_API_KEY=KEY)).providers["lab"]
    assert (found.facts.surfaces[0].dialect, found.upstream.origin, found.upstream.prefix) == (
        "openai",
        "https://lab.test",
        "/v1",
    )


def test_a_known_provider_may_be_elsewhere(made):
    found = rules(made(OPENAI_API_BASE="https://eu.api.openai.com/v1", OPENAI_API_KEY=KEY)).providers["openai"]
    assert found.upstream.host == "eu.api.openai.com"


def test_the_usual_address_needs_no_word(made):
    assert "upstream" not in made(OPENAI_API_BASE="https://api.openai.com/v1", OPENAI_API_KEY=KEY).render()


def test_an_address_that_cannot_be_used_leaves_its_keys_out(made):
    draft = made(LAB_API_BASE="http://lab.test/v1", LAB_API_KEY=KEY)
    assert draft.providers == {} and "plain HTTP to lab.test" in said(draft)


def test_a_server_on_this_machine_takes_anything_for_a_key(made):
    found = rules(made(LAB_API_BASE="http://127.0.0.1:8000/v1", LAB_API_KEY="anything")).providers["lab"]
    assert not found.keys_needed


def test_a_provider_without_an_address_is_told(made):
    draft = made(AZURE_API_KEY=KEY)
    assert draft.providers == {} and "azure has no address of its own" in said(draft)


def test_two_keys_of_one_name_get_two(made):
    draft = made(GEMINI_API_KEY=KEY, GOOGLE_API_KEY=KEY + "2")
    assert [spec.name for spec in rules(draft).providers["gemini"].key_specs] == [None, "google"]


@pytest.mark.parametrize(("value", "rotation"), [("sequential", "sequential"), ("Balanced", "balanced")])
def test_rotations(made, value, rotation):
    assert rules(made(TWO, ROTATION_MODE_GEMINI=value)).providers["gemini"].rotation == rotation


@pytest.mark.parametrize(
    ("variables", "soft", "hard"),
    [
        ({"MAX": "3"}, None, 3),
        ({"OPTIMAL": "2"}, 2, None),
        ({"MAX": "3", "OPTIMAL": "2"}, 2, 3),
        ({"MAX": "3", "OPTIMAL": "5"}, 3, 3),
        ({"MAX": "-1"}, None, None),
        ({"MAX": "0"}, None, None),
    ],
)
def test_concurrency(made, variables, soft, hard):
    found = {f"{word}_CONCURRENT_REQUESTS_PER_KEY_GEMINI": value for word, value in variables.items()}
    gemini = rules(made(TWO, found)).providers["gemini"]
    assert (gemini.soft_concurrency, gemini.concurrency) == (soft, hard)


@pytest.mark.parametrize(("mode", "hard"), [("sequential", 3), ("balanced", None)])
def test_concurrency_of_a_rotation(made, mode, hard):
    found = {"ROTATION_MODE_GEMINI": mode, "MAX_CONCURRENT_REQUESTS_PER_KEY_GEMINI_SEQUENTIAL": "3"}
    assert rules(made(TWO, found)).providers["gemini"].concurrency == hard


def test_models(made):
    gemini = rules(made(TWO, IGNORE_MODELS_GEMINI="*", WHITELIST_MODELS_GEMINI=" gemini/gemini-2.5-*, x ,")).providers["gemini"]
    assert (gemini.deny, gemini.allow) == (("*",), ("gemini-2.5-*", "x"))


def test_a_white_list_alone_hid_nothing(made):
    draft = made(TWO, WHITELIST_MODELS_GEMINI="x")
    assert "models" not in draft.providers["gemini"].words and "hid nothing" in said(draft)


def test_quota_groups(made):
    gemini = rules(made(TWO, QUOTA_GROUPS_GEMINI_FLASH="a,b")).providers["gemini"]
    assert gemini.quota_groups == (("flash", ("a", "b")),)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("TIMEOUT_CONNECT", "connect"),
        ("TIMEOUT_READ_STREAMING", "between_events"),
        ("TIMEOUT_READ_NON_STREAMING", "whole"),
        ("SMALL_COOLDOWN_RETRY_THRESHOLD", "small_wait"),
        ("TRANSIENT_RETRY_DELAY", "retry"),
    ],
)
def test_time_limits(made, name, word):
    assert getattr(rules(made({name: "7"})).gateway.timeouts, word) == 7


def test_the_global_limit_is_the_deadline(made):
    assert rules(made(GLOBAL_TIMEOUT="45")).gateway.deadline == 45


@pytest.mark.parametrize("name", ["GLOBAL_TIMEOUT", "TIMEOUT_CONNECT"])
def test_a_limit_of_nothing_is_told(made, name):
    assert f"{name}: is no number of seconds" in said(made({name: "0"}))


GROUP = {"FALLBACK_GROUP_SMART": "gemini/gemini-2.5-pro, openrouter/google/gemini-2.5-pro,nobody/x"}


def test_groups_of_targets_become_routes(made):
    route = rules(made(TWO, GROUP, MODEL_ROUTE_MY_MODEL="smart")).routes[0]
    assert (route.match.model, [str(target) for target in route.to]) == (
        ("my-model", "my_model"), ["gemini/gemini-2.5-pro", "openrouter/google/gemini-2.5-pro"],
    )  # fmt: skip


def test_what_a_route_leads_to_passes_the_lists(made):
    draft = made(TWO, GROUP, MODEL_ROUTE_X="smart", IGNORE_MODELS_GEMINI="gemini-*")
    assert rules(draft).providers["gemini"].allow == ("gemini-2.5-pro",)


@pytest.mark.parametrize(
    ("found", "text"), [({}, "no MODEL_ROUTE leads to it"), ({"MODEL_ROUTE_X": "other"}, "leads to no group")]
)
def test_groups_and_routes_that_miss_each_other_are_told(made, found, text):
    assert text in said(made(TWO, GROUP, found))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PROXY_API_KEY", "valetkey agents add"),
        ("GEMINI_CLI_OAUTH_1", "OAuth"),
        ("QWEN_CODE_REFRESH_TOKEN", "OAuth"),
        ("CUSTOM_CAP_GEMINI_T1_X", "caps"),
        ("FAIR_CYCLE_GEMINI", "fair cycles"),
        ("CONCURRENCY_MULTIPLIER_GEMINI_PRIORITY_1", "multipliers"),
        ("ROTATION_MODE_NOBODY", "no provider that has a key"),
        ("QUOTA_GROUPS_NOBODY_X", "no provider that has a key"),
        ("IGNORE_MODELS_NOBODY", "no provider that has a key"),
        ("EDITOR", "no word of the proxy"),
    ],
)
def test_what_has_no_counterpart_is_told(made, name, text):
    draft = made(TWO, {name: KEY + "x"})
    assert f"{name}: " in said(draft) and text in said(draft) and KEY not in said(draft)


def test_in_a_folder_the_first_file_counts(tmp_path):
    for name, value in ((".env", KEY), ("a.env", KEY + "2")):
        (tmp_path / name).write_text(f"OPENAI_API_KEY={value}\n")
    assert llm_api_key_proxy.read(tmp_path)["OPENAI_API_KEY"] == (KEY, ".env")


def test_keys_of_other_files_are_in_the_open(tmp_path):
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    (tmp_path / "a.env").write_text(f"OPENAI_API_KEY_2={KEY}2\n")
    draft = llm_api_key_proxy.draft(tmp_path, CATALOG, in_dotenv=True)
    assert references(draft)["openai"] == ["env:OPENAI_API_KEY", "file:keys/openai-1"]


def test_a_folder_without_files_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no \.env"):
        llm_api_key_proxy.read(tmp_path)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * (llm_api_key_proxy.LIMIT + 1)])
def test_a_file_that_is_none_is_an_error(tmp_path, data):
    (tmp_path / ".env").write_bytes(data)
    with pytest.raises(ConfigurationError):
        llm_api_key_proxy.read(tmp_path / ".env")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        llm_api_key_proxy.read(tmp_path / "missing")


WORDS = """
    GEMINI_API_KEY GEMINI_API_KEY_1 X_API_KEY X_API_BASE ROTATION_MODE_X IGNORE_MODELS_X WHITELIST_MODELS_GEMINI
    IGNORE_MODELS_GEMINI QUOTA_GROUPS_GEMINI_A MAX_CONCURRENT_REQUESTS_PER_KEY_GEMINI GLOBAL_TIMEOUT FALLBACK_GROUP_A
    OPTIMAL_CONCURRENT_REQUESTS_PER_KEY_X MODEL_ROUTE_A MODEL_ROUTE_B _API_KEY API_KEY AZURE_API_BASE AZURE_API_KEY
"""
NAMES = st.sampled_from(WORDS.split())
VALUES = st.sampled_from(
    [KEY, "a", "", "*", "[", "5", "-1", "gemini/a,x/b,gemini/*", "https://x.test/v1", "http://127.0.0.1:1", "é,'"]
)


@given(st.dictionaries(NAMES, VALUES | st.text(max_size=5), max_size=12), st.booleans())
def test_odd_variables_make_rules_that_hold(tmp_path_factory, found, in_dotenv):
    path = tmp_path_factory.getbasetemp() / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in found.items()), encoding="utf-8", errors="replace")
    assert rules(llm_api_key_proxy.draft(path, CATALOG, in_dotenv=in_dotenv))


@given(st.binary(max_size=300))
def test_garbage_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / ".env"
    path.write_bytes(data)
    try:
        assert rules(llm_api_key_proxy.draft(path, CATALOG, in_dotenv=True))
    except ConfigurationError as error:
        assert "UTF-8" in str(error)


def test_the_name_of_a_variable_writes_no_yaml(tmp_path):
    (tmp_path / ".env").write_text(f"'OPENAI_API_KEY_1: x # y'={KEY}\n")
    made = llm_api_key_proxy.draft(tmp_path / ".env", CATALOG, in_dotenv=True)
    assert '- "env:OPENAI_API_KEY_1: x # y"' in made.render()


def test_the_name_of_a_file_writes_no_yaml(tmp_path):
    path = tmp_path / "x\ngateway: {callers: any}\n.env"
    path.write_text(f"OPENAI_API_KEY={KEY}\n")
    assert "\ngateway:" not in llm_api_key_proxy.draft(path, CATALOG, in_dotenv=False).render()


def test_a_provider_of_its_own_does_not_become_one_of_the_catalogue(made):
    draft = made({"ANTHROPIC._API_BASE": "https://llm.example.com", "ANTHROPIC_API_KEY": KEY})
    assert "anthropic" in references(draft) and "llm.example.com" not in draft.render() and "would be taken for" in said(draft)
