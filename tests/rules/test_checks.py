from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import samples
from support.making import CATALOG
from valetkey.errors import RulesError
from valetkey.model import Match, RouteRule, Target
from valetkey.rules import checks, parse_rules
from valetkey.rules.checks import covers

GLOBS = st.lists(st.text("ab*", min_size=1, max_size=4) | st.sampled_from(["a?", "a[b]", "[ab]", "A*"]), max_size=3).map(tuple)
MATCHES = st.builds(
    Match,
    model=GLOBS,
    agent=st.just(()) | GLOBS,
    header=st.lists(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["a", "b*"])), max_size=2).map(tuple),
)


def said(text):
    """The problems of a file, empty when there are none."""
    try:
        parse_rules(f"version: 1\n{text}\n", "f", CATALOG)
    except RulesError as error:
        return str(error)
    return ""


def with_key(text):
    return said(f"providers: {{openai: {{keys: [{{ref: env:A, {text}}}]}}}}")


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (Match(), Match(model=("a",)), True),
        (Match(model=("a*",)), Match(model=("ab",)), True),
        (Match(model=("a*",)), Match(model=("ab*",)), True),
        (Match(model=("a*",)), Match(model=("b",)), False),
        (Match(model=("a",)), Match(), False),
        (Match(model=("a",), agent=("x",)), Match(model=("a",)), False),
        (Match(header=(("x", "1"),)), Match(), False),
        (Match(model=("a",)), Match(model=("a", "b")), False),
        (Match(model=("*]",)), Match(model=("x[ab]",)), False),
        (Match(model=("a?",)), Match(model=("a[b]",)), False),
    ],
)
def test_whether_one_match_covers_another(wide, narrow, covered):
    assert covers(wide, narrow) is covered


@given(st.lists(MATCHES, max_size=20))
def test_the_routes_that_are_never_reached_are_those_that_some_earlier_one_covers(matches):
    routes = tuple(RouteRule(f"r{at}", match, to=(Target("lab", "x"),)) for at, match in enumerate(matches))
    found = {f.text.split()[1]: f.text.split()[5] for f in checks.findings(samples.rules(routes=routes))}

    assert found == {
        narrow.name: blocker.name
        for at, narrow in enumerate(routes)
        if (blocker := next((wide for wide in routes[:at] if covers(wide.match, narrow.match)), None))
    }


def test_a_route_is_compared_with_few_of_many_others(monkeypatch):
    compared = []
    monkeypatch.setattr(checks, "covers", lambda wide, narrow: compared.append(wide) or covers(wide, narrow))
    kinds = ({"model": "m-{}"}, {"model": "team-{}-*"}, {"agent": "a-{}"}, {"host": "api.openai.com", "model": "*-{}"})
    routes = [Match(**{field: (glob.format(n),) for field, glob in kind.items()}) for n in range(500) for kind in kinds]
    list(checks.findings(samples.rules(routes=tuple(RouteRule("r", match, deny="no") for match in routes))))

    assert len(compared) <= 4 * len(routes)


@pytest.mark.parametrize(
    ("match", "to", "words"),
    [
        ("format: gemini_generate", "openai", "openai does not speak gemini_generate"),
        ("format: [openai_chat, gemini_generate]", "[openai, gemini]", ""),
        ("format: [openai_chat, ollama_chat]", "[openai, gemini]", "none of the targets speaks ollama_chat"),
        ("format: 'openai_*'", "[groq, anthropic]", "anthropic does not speak openai_*"),
        ("model: x", "openai", ""),
    ],
)
def test_targets_speak_the_formats_that_are_matched(match, to, words):
    found = said(f"routes: [{{match: {{{match}}}, to: {to}}}]")
    assert words in found and bool(words) == bool(found)


def test_a_target_that_the_providers_lists_forbid_is_an_error():
    text = "providers: {openai: {models: {allow: [gpt-4o]}}}\nroutes: [{match: {model: x}, to: openai/o1}]"
    assert "f:3: openai/o1: the lists of openai forbid this model - see providers.openai.models" in said(text)


@pytest.mark.parametrize("model", ["gpt-4o", "GPT-4o"])
def test_a_target_on_the_white_list_is_fine(model):
    assert (
        said(f"providers: {{openai: {{models: {{allow: [gpt-4o]}}}}}}\nroutes: [{{match: {{model: x}}, to: openai/{model}}}]")
        == ""
    )


@pytest.mark.parametrize("name", ["authorization", "X-Api-Key", "x_goog_api_key", "cookie", "Proxy-Authorization"])
def test_a_route_cannot_look_at_credentials(name):
    assert "carries a credential" in said(f"routes: [{{match: {{header: {{{name}: 'x*'}}}}, deny: x}}]")


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "Cookie", "proxy-authorization"])
def test_a_second_credential_beside_a_key_is_refused_without_its_value(name):
    found = with_key(f"headers: {{{name}: REALreal}}")
    assert "second credential" in found and "REALreal" not in found


@pytest.mark.parametrize("name", ["host", "content-length", "transfer-encoding", "connection", "te"])
def test_a_header_of_the_connection_cannot_go_with_a_key(name):
    assert "belongs to the connection" in with_key(f"headers: {{{name}: x}}")


def test_what_cannot_stand_in_a_header_is_refused_at_once():
    assert "cannot be sent" in with_key('organization: "a\\r\\nx-evil: 1"')


def test_other_headers_go_with_a_key():
    assert with_key("headers: {x-team: blue}, organization: org-1, project: proj-1") == ""


def test_an_organization_that_would_be_dropped_is_an_error():
    assert "groq knows no organization header" in said("providers: {groq: {keys: [{ref: env:A, organization: o}]}}")


@pytest.mark.parametrize("reference", ["file:/run/ключ", "file:/", "file:a b"])
def test_a_key_whose_name_could_not_stand_in_a_header_needs_one(reference):
    assert "give it one, with name:" in said(f"providers: {{openai: {{keys: ['{reference}']}}}}")


def test_two_keys_of_one_name_are_an_error():
    assert "f:2: two keys are called openai/1" in said(
        "providers: {openai: {keys: [env:OPENAI_API_KEY_1, env:GATEWAY_OPENAI_API_KEY_1]}}"
    )


def test_two_routes_of_one_name_could_not_be_told_apart_in_receipts():
    assert "two routes called a" in said("routes: [{name: a, match: {model: x}, deny: x}, {name: a, match: {model: y}, deny: x}]")


def test_two_agents_with_one_key_could_not_be_told_apart():
    key = "sha256:" + "0" * 64
    assert "agents with the same key" in said(f"agents: [{{name: a, key: '{key}'}}, {{name: b, key: '{key}'}}]")


@pytest.mark.parametrize("place", ["too_long", "exhausted"])
@pytest.mark.parametrize(
    ("match", "targets", "words"),
    [
        ("model: x", "opnai/x", "f:2: opnai/x: 'opnai' is no provider - did you mean openai?"),
        ("model: x", "'gemini/'", "a target is one model, as in gemini/MODEL - gemini alone keeps the model that is asked for"),
        ("format: openai_chat", "anthropic/x", "f:2: anthropic/x: anthropic does not speak openai_chat - route it to a provider"),
        ("format: [openai_chat, ollama_chat]", "[groq, mistral]", "none of the targets speaks ollama_chat"),
        ("format: openai_chat", "[groq, mistral]", ""),
    ],
)
def test_fallbacks_are_held_against_the_rules_as_targets_are(place, match, targets, words):
    found = said(f"routes: [{{match: {{{match}}}, to: openai, fallback: {{{place}: {targets}}}}}]")
    assert words in found and bool(words) == bool(found)


def test_a_fallback_that_the_providers_lists_forbid_is_an_error():
    text = "providers: {groq: {models: {deny: ['l*']}}}\nroutes: [{to: openai, fallback: {exhausted: groq/llama}}]"
    assert "f:3: groq/llama: the lists of groq forbid this model - see providers.groq.models" in said(text)


def test_a_fallback_stands_where_it_was_written():
    text = "routes:\n  - to: openai\n    fallback:\n      too_long: groq/x\n      exhausted: nowhere/x"
    assert said(text).startswith("f:6: nowhere/x")


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("to: [openai/a, groq/b], fallback: {exhausted: [groq/c, groq/b]}", "groq/b is among the targets of to"),
        ("to: openai/a, fallback: {too_long: openai/a}", "openai/a has just found the prompt too long - name a target"),
        ("to: [openai/a, groq/b], fallback: {too_long: [groq/b, openai/a]}", "openai/a has just found the prompt too long"),
        ("to: [openai/a, gemini/b], fallback: {too_long: gemini/b}", ""),
        ("to: [openai/a], fallback: {exhausted: openai/b}", ""),
        ("match: {model: x}, fallback: {too_long: openai/b}", ""),
    ],
)
def test_a_fallback_leads_somewhere_else(route, words):
    found = said(f"routes: [{{{route}}}]")
    assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize(
    ("keys", "tiers", "words"),
    [
        (
            "[{ref: env:A, priority: 2}]",
            "{'gpt-5*': 1}",
            "gpt-5* may use keys of priority 1 at most, and openai has none below 2",
        ),
        ("[{ref: env:A, priority: 3}, {ref: env:B, priority: 2}]", "{a: 2, b: 1}", "b may use keys of priority 1 at most"),
        ("[{ref: env:A, priority: 3}, {ref: env:B, priority: 2}]", "{a: 2, b: 3}", ""),
        ("[env:A]", "{a: 1}", ""),
        ("none", "{a: 1}", ""),
    ],
)
def test_a_model_has_a_key_of_its_tier(keys, tiers, words):
    found = said(f"providers: {{openai: {{keys: {keys}, model_tiers: {tiers}}}}}")
    assert words in found and bool(words) == bool(found)


def test_keys_from_the_environment_are_of_the_best_tier():
    assert said("providers: {openai: {model_tiers: {a: 1}}}") == ""


def test_a_tier_without_keys_is_told_of_with_what_to_do():
    found = said("providers:\n  openai:\n    keys: [{ref: env:A, priority: 2}]\n    model_tiers:\n      a: 1")
    assert found.startswith("f:6: a may use") and found.endswith(" - write 2 or more here, or give a key priority: 1")
