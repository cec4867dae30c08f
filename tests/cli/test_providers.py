from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from support.making import CATALOG
from valetkey.cli import app, main

KEY = "xai-REALrealREALrealREALreal0001"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for facts in CATALOG.values():
        for name in facts.env:
            monkeypatch.delenv(name, raising=False)

    def call(*arguments, rules="version: 1\n", **env):
        (tmp_path / "rules.yaml").write_text(rules)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(app, ["providers", *arguments])

    return call


def documents(done):
    return {each["name"]: each for each in map(json.loads, done.output.splitlines())}


def test_every_provider_is_listed(run):
    assert {*documents(run("--json"))} == {*CATALOG}


def test_a_provider_of_the_rules_is_listed_too(run):
    rules = "version: 1\nproviders: {lab: {like: openai, upstream: 'http://127.0.0.1:8000', keys: none}}\n"
    assert documents(run("--json", rules=rules))["lab"]["keys_needed"] is False


@pytest.mark.parametrize(("env", "found"), [({"XAI_API_KEY": KEY}, ["xai/main"]), ({"XAI_API_KEY": "sk-dummy"}, []), ({}, [])])
def test_it_is_said_whether_a_key_was_found(run, env, found):
    document = documents(run("--json", **env))["xai"]
    assert (document["keys"], document["key_found"]) == (found, bool(found))


def test_no_value_of_a_key_is_shown(run):
    assert KEY not in run("xai", XAI_API_KEY=KEY).output + run("--json", XAI_API_KEY=KEY).output + run(XAI_API_KEY=KEY).output


def test_a_key_for_an_unnamed_resource_is_not_taken(run):
    document = documents(run("--json", AZURE_OPENAI_API_KEY=KEY))["azure"]
    assert (document["key_found"], document["upstream"]) == (False, None)


def test_what_is_to_be_done_about_it_is_said(run):
    assert "providers.azure.upstream" in run("azure").output


def test_a_key_is_taken_for_the_resource_that_the_rules_name(run):
    rules = "version: 1\nproviders: {azure: {upstream: 'https://acme.openai.azure.com'}}\n"
    assert documents(run("--json", rules=rules, AZURE_OPENAI_API_KEY=KEY))["azure"]["keys"] == ["azure/main"]


@pytest.mark.parametrize("words", [("xai", "api.x.ai", "XAI_API_KEY"), ("ollama", "needs none"), ("vertex_ai", "more")])
def test_the_table_tells_what_matters(run, words):
    line = next(line for line in run().output.splitlines() if line.startswith(words[0]))
    assert all(word in line for word in words)


@pytest.mark.parametrize("name", CATALOG)
def test_one_provider_is_told_with_its_sources(run, name):
    done = run(name)
    assert done.exit_code == 0 and all(f"source: {link}" in done.output for link in CATALOG[name].sources)


def test_a_group_that_is_closed_is_said_to_be(run):
    assert "(closed: files)" in run("azure").output


def test_a_name_that_is_not_known_is_wrong_usage(run, capsys):
    run()
    with pytest.raises(SystemExit) as end:
        main(["providers", "grok"])
    assert (end.value.code, "no provider grok" in capsys.readouterr().err) == (2, True)
