from __future__ import annotations

from decimal import Decimal

import pytest
import yaml

from support.making import CATALOG
from valetkey.cli.importers.draft import Draft, RouteDraft, flow, seconds, slug, whole
from valetkey.rules import parse_rules, values
from valetkey.secrets import Secret

KEY = "sk-proj-THISisNOTaREALkeyTHISisNOTaREAL01"


@pytest.fixture
def draft():
    return Draft("config.yaml", CATALOG)


def placed(draft, base, address):
    return draft.placed(base, values.upstream(address), address)


@pytest.mark.parametrize(
    "value",
    ["a", "gpt-4o", "*-preview*", "", "yes", "No", "null", "12", "a: b", "#x", "[x]", "é", 3, 0.5, True, ["a", "b: c"],
     {"a": "b", "c d": ["*"]}, {"nested": {"deep": [1, "2"]}}],
)  # fmt: skip
def test_a_value_means_the_same_to_a_reader_of_yaml(value):
    assert yaml.safe_load(flow(value)) == value


def test_prices_are_written_out():
    assert flow(Decimal("1E-7")) == "0.0000001"


@pytest.mark.parametrize(
    ("text", "name"), [("My Server", "my-server"), ("a.b:9", "a-b-9"), ("---", "imported"), ("x" * 99, "x" * 64)]
)
def test_names_are_made_fit(text, name):
    assert slug(text) == name


@pytest.mark.parametrize(
    ("value", "said"), [(30, "30s"), ("1.5", "1.5s"), (0, None), (-1, None), ("x", None), (None, None), ("inf", None)]
)
def test_seconds(value, said):
    assert seconds(value) == said


@pytest.mark.parametrize(("value", "number"), [(3, 3), ("3", 3), (-1, None), ("3.5", None), (True, None), (None, None)])
def test_whole_numbers(value, number):
    assert whole(value) == number


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("openai", "openai"), ("Together_AI", "together"), ("hosted_vllm", "vllm"), ("ollama_chat", "ollama"), ("replicate", None)],
)
def test_providers_by_their_names(draft, theirs, ours):
    assert draft.known(theirs) == ours


def test_a_provider_at_its_own_place_is_itself(draft):
    assert placed(draft, "openai", "https://api.openai.com/v1").words == {}


def test_this_machine_has_many_names(draft):
    assert placed(draft, "ollama", "http://localhost:11434").name == "ollama"


def test_another_place_is_a_provider_of_ones_own(draft):
    made = placed(draft, "openai", "https://llm.example.com/v1")
    assert (made.name, made.words) == ("openai-llm-example-com", {"like": "openai", "upstream": "https://llm.example.com/v1"})


def test_the_same_place_twice_is_one_provider(draft):
    assert placed(draft, "openai", "https://x.test/v1") is placed(draft, "openai", "https://x.test/v1")


def test_two_paths_of_a_host_are_two_providers(draft):
    names = [placed(draft, "openai", f"https://x.test/{path}").name for path in ("a", "b")]
    assert names == ["openai-x-test", "openai-x-test-b"]


def test_a_provider_without_an_address_takes_the_first(draft):
    found = [placed(draft, "azure", f"https://{name}.openai.azure.com") for name in ("eu", "us")]
    assert [(each.name, each.words.get("like")) for each in found] == [("azure", None), ("azure-us-openai-azure-com", "azure")]


def test_a_key_in_the_open_becomes_a_reference(draft):
    assert draft.literal("openai", Secret(KEY), "here") == "file:keys/openai-1"


def test_the_same_key_has_one_reference(draft):
    assert len({draft.literal("openai", Secret(KEY), place) for place in ("here", "there")}) == 1


def test_keys_are_numbered(draft):
    draft.literal("openai", Secret(KEY), "here")
    assert draft.literal("openai", Secret(KEY + "x"), "there") == "file:keys/openai-2"


def test_no_key_is_in_the_text(draft):
    draft.provider("openai").key(draft.literal("openai", Secret(KEY), "here"))
    assert KEY not in draft.render()


def test_a_key_that_goes_elsewhere_says_so(draft):
    placed(draft, "openai", "https://x.test").key("env:OPENAI_API_KEY")
    assert '{ref: "env:OPENAI_API_KEY", share: true}' in draft.render()


def test_a_key_of_this_machine_need_not(draft):
    placed(draft, "openai", "http://127.0.0.1:9").key("env:OPENAI_API_KEY")
    assert "share" not in draft.render()


def test_a_reference_that_two_name_says_so_the_second_time(draft):
    for host in ("a", "b"):
        placed(draft, "openai", f"https://{host}.test").key("env:MINE")
    assert draft.render().count("share: true") == 1


def test_what_was_noted_twice_is_said_once(draft):
    for place in ("a", "b", "a"):
        draft.gap(place, "has no counterpart")
    assert list(draft.gaps) == [(("a", "b"), "has no counterpart")]


def test_an_empty_draft_is_rules(draft):
    assert parse_rules(draft.render(), "rules.yaml", CATALOG)


def test_what_is_rendered_is_read(draft):
    draft.gateway, draft.timeouts = {"attempts": 3}, {"connect": "1s"}
    draft.provider("openai").key("env:A").words["weight"] = 2
    draft.provider("groq")
    draft.routes.append(RouteDraft(["a", "b"], ["openai/x"], exhausted=["groq/y"]))
    found = parse_rules(draft.render(), "rules.yaml", CATALOG)
    assert (found.gateway.attempts, found.routes[0].match.model, str(found.routes[0].exhausted[0])) == (3, ("a", "b"), "groq/y")
