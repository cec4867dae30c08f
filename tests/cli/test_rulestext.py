from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.making import CATALOG
from valetkey.cli.rulestext import compose
from valetkey.model import Address
from valetkey.rules import parse_rules

DOORS = (Address("127.0.0.1", 9001), Address("127.0.0.1", 9002))
KINDS = {
    "nothing": ({}, []),
    "one key": ({"openai": ["env:OPENAI_API_KEY"]}, []),
    "a pool": ({"openai": ["env:OPENAI_API_KEY_1", "env:OPENAI_API_KEY_2"], "groq": ["env:GROQ_API_KEY"]}, []),
    "a local server": ({}, ["ollama"]),
}


def text_of(kind):
    return compose(*KINDS[kind], *DOORS, Path("/opt/rules.schema.json"))


def uncommented(text):
    """The file with every word taken into use that is offered in a comment."""
    body = text.split("version: 1\n")[1]
    return "version: 1\n" + re.sub(r"^( +)# |^# (?=(?:providers|routes|agents):|  )", r"\1", body, flags=re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_loads_without_a_notice(kind):
    assert parse_rules(text_of(kind), "rules.yaml", CATALOG).notices == ()


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_in_a_comment_is_right(kind):
    rules = parse_rules(uncommented(text_of(kind)), "rules.yaml", CATALOG)
    assert len(rules.routes) == 2 and rules.gateway.egress == "deny" and rules.agents


def test_the_keys_are_named():
    specs = parse_rules(text_of("a pool"), "rules.yaml", CATALOG).providers["openai"].key_specs
    assert [spec.ref for spec in specs] == ["env:OPENAI_API_KEY_1", "env:OPENAI_API_KEY_2"]


def test_a_local_server_needs_none():
    assert parse_rules(text_of("a local server"), "rules.yaml", CATALOG).providers["ollama"].configured


def test_the_doors_are_those_given():
    gateway = parse_rules(text_of("nothing"), "rules.yaml", CATALOG).gateway
    assert (gateway.proxy, gateway.api) == DOORS


@pytest.mark.parametrize(("kind", "warned"), [("a pool", True), ("one key", False)])
def test_who_pools_keys_is_warned(kind, warned):
    assert ("Pool only keys" in text_of(kind)) is warned


def test_editors_find_the_schema():
    assert text_of("nothing").startswith("# yaml-language-server: $schema=/opt/rules.schema.json\n")


def test_no_line_is_too_long():
    assert max(map(len, text_of("a pool").splitlines())) <= 130
