from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from support.making import CATALOG
from valetkey.cli.bundles import ADDING, REPLACING
from valetkey.cli.recipes import FILE, Recipe, named, of_program, recipes
from valetkey.errors import ConfigurationError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text()
SECTIONS = dict(re.findall(r"^## .*?\(`(\w+)`\)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
NAMES = ("claude", "codex", "gemini", "opencode", "aider", "mini", "goose", "copilot", "cline", "cursor")


@pytest.mark.parametrize("name", NAMES)
def test_the_common_agents_are_known(name):
    assert named(name).title


def test_a_name_that_is_unknown_is_said():
    with pytest.raises(ConfigurationError, match="--for nobody"):
        named("nobody")


@pytest.mark.parametrize("path", ["claude", "/usr/local/bin/claude", "./claude"])
def test_an_agent_is_known_by_its_program(path):
    assert of_program(path) is recipes()["claude"]


def test_another_program_has_no_recipe():
    assert of_program("/bin/sh") is None


@pytest.mark.parametrize("change", [{"works": "maybe"}, {"programs": []}, {"more": 1}, {"trust": "A B"}, {"keys": ["A-B"]}])
def test_a_recipe_that_is_wrong_is_refused(change):
    entry = yaml.safe_load(FILE.read_text())["claude"]
    with pytest.raises(ValidationError):
        Recipe.model_validate(entry | change)


@pytest.mark.parametrize("name", NAMES)
def test_trust_comes_by_a_variable_that_is_set(name):
    assert recipes()[name].trust in (*REPLACING, *ADDING)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_set_and_taken_away(name):
    recipe = recipes()[name]
    assert not {*recipe.unset} & ({*recipe.set} | {*recipe.keys})


@pytest.mark.parametrize("name", NAMES)
def test_the_example_begins_with_its_program(name):
    assert recipes()[name].example.split()[0] in recipes()[name].programs


@pytest.mark.parametrize("name", [name for name in NAMES if recipes()[name].keys])
def test_a_dummy_is_one_of_a_provider(name):
    assert {*recipes()[name].keys} & {variable for facts in CATALOG.values() for variable in facts.env}


def test_no_two_recipes_have_a_program_in_common():
    programs = [program for recipe in recipes().values() for program in recipe.programs]
    assert len(programs) == len({*programs})


# The page says the same.


def test_every_recipe_is_documented():
    assert {*SECTIONS} == {*recipes()}


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_example(name):
    assert f"valetkey exec -- {recipes()[name].example}" in SECTIONS[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_ends_with_what_is_seen(name):
    assert SECTIONS[name].strip().splitlines()[-1] == f"You should see: {recipes()[name].see}."


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_was_tested(name):
    recipe = recipes()[name]
    assert f"Run through the gateway: {recipe.tested or 'not yet'}." in SECTIONS[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_cannot_work(name):
    text = " ".join(SECTIONS[name].split())
    assert [limit for limit in recipes()[name].limits if limit not in text] == []
