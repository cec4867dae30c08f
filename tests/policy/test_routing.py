"""Where a call goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.samples import ANTHROPIC_SURFACE, call, provider, rules
from valetkey.model import AgentRule, Call, Caller, Format, Match, Provider, Refusal, Route, RouteRule, Rules, Target
from valetkey.policy.routing import others_refusal, route, visible_models

LAB = Target("lab", "llama-3.3-70b")


def rule(name: str = "r1", to: tuple[Target, ...] = (LAB,), deny: str | None = None, **conditions: Any) -> RouteRule:
    return RouteRule(name, Match(**conditions), to=() if deny else to, deny=deny)


def openai(**lists: tuple[str, ...]) -> dict[str, Provider]:
    return {**rules().providers, "openai": provider(**lists)}


def refusal_of(result: Route | Refusal) -> Refusal:
    assert isinstance(result, Refusal)
    return result


# Matching.


def test_without_a_rule_a_call_goes_where_it_was_sent() -> None:
    assert route(call(), rules()) == Route("default", (Target("openai", "gpt-4o"),), weights=(1.0,))


def test_the_first_rule_that_matches_wins() -> None:
    found = route(call(), rules(routes=(rule("no", model=("o3",)), rule("first"), rule("second"))))

    assert isinstance(found, Route) and found.name == "first"


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        pytest.param({}, True, id="no condition"),
        pytest.param({"host": ("api.openai.com",)}, True, id="host"),
        pytest.param({"host": ("*.openai.com",)}, True, id="host glob"),
        pytest.param({"host": ("openai.com",)}, False, id="other host"),
        pytest.param({"path": ("/v1/chat/*",)}, True, id="path"),
        pytest.param({"path": ("/v1/embeddings",)}, False, id="other path"),
        pytest.param({"format": ("openai_*",)}, True, id="format"),
        pytest.param({"format": ("anthropic_messages",)}, False, id="other format"),
        pytest.param({"model": ("gpt-4*",)}, True, id="model"),
        pytest.param({"model": ("openai/gpt-4*",)}, True, id="model with its provider"),
        pytest.param({"model": ("GPT-4o",)}, True, id="model in other case"),
        pytest.param({"model": ("o3", "gpt-4o")}, True, id="one of several models"),
        pytest.param({"model": ("gpt-4",)}, False, id="a prefix is no match"),
        pytest.param({"agent": ("ci-*",)}, True, id="agent"),
        pytest.param({"agent": ("alice",)}, False, id="other agent"),
        pytest.param({"header": (("x-team", "red*"),)}, True, id="header"),
        pytest.param({"header": (("x-team", "blue"),)}, False, id="header with another value"),
        pytest.param({"header": (("x-none", "*"),)}, False, id="header that is absent"),
        pytest.param({"header": (("x-team", "blue"), ("x-team", "redder"))}, True, id="one of several values"),
        pytest.param({"header": (("x-team", "red*"), ("x-team", "blue"))}, True, id="the first of several values"),
        pytest.param({"header": (("x-team", "*"), ("x-none", "*"))}, False, id="all headers are needed"),
        pytest.param({"host": ("api.openai.com",), "agent": ("alice",)}, False, id="all conditions are needed"),
    ],
)
def test_a_rule_matches_when_every_condition_holds(conditions: dict[str, Any], matches: bool) -> None:
    asked = call(caller=Caller("ci-7"), headers={"x-team": "redder"})

    found = route(asked, rules(routes=(rule(**conditions),)))

    assert isinstance(found, Route) and (found.name == "r1") is matches


def test_a_rule_about_models_does_not_match_a_call_without_one() -> None:
    found = route(call(model=None, format=Format.OPENAI_MODELS), rules(routes=(rule(model=("*",)),)))

    assert isinstance(found, Route) and found.name == "default"


# What a rule does.


def test_a_rule_that_denies_gives_its_own_words() -> None:
    denied = rule("previews", deny="preview models are not for CI", model=("*",))

    refusal = refusal_of(route(call(), rules(routes=(denied,))))

    assert refusal == Refusal(403, "denied_by_rule", "preview models are not for CI (route previews)")


def test_targets_keep_the_order_in_which_they_are_written() -> None:
    targets = (Target("anthropic", "claude-x"), LAB, Target("openai", "o3"))

    found = route(call(), rules(routes=(rule(to=targets),)))

    assert isinstance(found, Route) and found.targets == targets


def test_a_target_without_a_model_keeps_the_one_that_was_asked_for() -> None:
    found = route(call(), rules(routes=(rule(to=(Target("lab"),)),)))

    assert isinstance(found, Route) and found.targets == (Target("lab", "gpt-4o"),)


def test_a_rule_without_targets_edits_the_call_and_leaves_it_where_it_was() -> None:
    edits = RouteRule("edit", Match(), set_body=(("temperature", 0),), remove_body=("user",))

    found = route(call(), rules(routes=(edits,)))

    assert found == Route(
        "edit", (Target("openai", "gpt-4o"),), weights=(1.0,), set_body=(("temperature", 0),), remove_body=("user",)
    )


# Order, weights and fallbacks.


def test_the_order_and_the_weights_of_a_rule_are_kept() -> None:
    targets = (Target("openai", "gpt-4o"), Target("lab", "llama"))
    ruled = RouteRule("spread", Match(), to=targets, order="weighted", weights=(3.0, 1.0))

    found = route(call(), rules(routes=(ruled,)))

    assert isinstance(found, Route) and (found.order, found.weights) == ("weighted", (3.0, 1.0))


def test_a_target_that_the_lists_forbid_takes_its_weight_along() -> None:
    targets = (Target("openai", "gpt-4o"), Target("lab", "llama"))
    ruled = RouteRule("spread", Match(), to=targets, order="weighted", weights=(3.0, 1.0))

    found = route(call(), rules(providers=openai(deny=("gpt-4o",)), routes=(ruled,)))

    assert isinstance(found, Route) and (found.targets, found.weights) == ((Target("lab", "llama"),), (1.0,))


def test_a_fallback_without_a_model_keeps_the_one_that_was_asked_for() -> None:
    ruled = RouteRule("spare", Match(), too_long=(Target("lab"),), exhausted=(Target("lab", "llama"),))

    found = route(call(), rules(routes=(ruled,)))

    assert isinstance(found, Route)
    assert (found.too_long, found.exhausted) == ((Target("lab", "gpt-4o"),), (Target("lab", "llama"),))


def test_a_fallback_that_the_lists_forbid_is_left_out() -> None:
    ruled = RouteRule("spare", Match(), exhausted=(Target("lab", "llama"), Target("openai", "o3")))

    found = route(call(), rules(providers=openai(deny=("o3",)), routes=(ruled,)))

    assert isinstance(found, Route) and found.exhausted == (Target("lab", "llama"),)


# Agents.


ALICE = Caller("alice")


@pytest.mark.parametrize("models", [(), ("gpt-*",), ("openai/*",), ("o3", "GPT-4O")])
def test_an_agent_may_use_the_models_it_is_allowed(models: tuple[str, ...]) -> None:
    known = rules(agents=(AgentRule("alice", models=models),))

    assert isinstance(route(call(caller=ALICE), known), Route)


def test_an_agent_may_not_use_other_models() -> None:
    known = rules(agents=(AgentRule("alice", models=("claude-*",)),))

    refusal = refusal_of(route(call(caller=ALICE), known))

    assert (refusal.status, refusal.reason) == (403, "model_not_allowed_for_agent")


def test_the_refusal_names_the_model_and_what_is_allowed() -> None:
    known = rules(agents=(AgentRule("alice", models=("claude-*",)),))

    message = refusal_of(route(call(caller=ALICE), known)).message

    assert message == "agent alice may not use gpt-4o; allowed: claude-* (agents.alice.models)"


def test_the_limits_of_one_agent_are_not_those_of_another() -> None:
    known = rules(agents=(AgentRule("alice", models=("claude-*",)),))

    assert isinstance(route(call(caller=Caller("bob")), known), Route)


def test_no_route_leads_around_the_limits_of_an_agent() -> None:
    known = rules(agents=(AgentRule("alice", models=("claude-*",)),), routes=(rule(),))

    assert isinstance(route(call(caller=ALICE), known), Refusal)


def test_a_restricted_agent_may_list_models() -> None:
    known = rules(agents=(AgentRule("alice", models=("claude-*",)),))

    assert isinstance(route(call(caller=ALICE, model=None, format=Format.OPENAI_MODELS), known), Route)


def test_a_restricted_agent_may_not_leave_the_model_out() -> None:
    known = rules(agents=(AgentRule("alice", models=("claude-*",)),))

    assert isinstance(route(call(caller=ALICE, model=None, format=Format.OPENAI_RESPONSES), known), Refusal)


# White and black lists.


@pytest.mark.parametrize(
    ("allow", "deny", "allowed"),
    [
        pytest.param((), (), True, id="no lists"),
        pytest.param(("gpt-4*",), (), True, id="on the white list"),
        pytest.param(("o3",), (), False, id="not on the only list, which is white"),
        pytest.param((), ("gpt-4*",), False, id="on the black list"),
        pytest.param((), ("o3",), True, id="not on the black list"),
        pytest.param(("gpt-4o",), ("gpt-*",), True, id="the white list wins"),
        pytest.param(("gpt-4o",), ("*",), True, id="the white list wins over everything"),
        pytest.param(("o3",), ("*",), False, id="everything else is black"),
        pytest.param(("o3",), ("o1",), True, id="on neither of two lists"),
        pytest.param((), ("openai/gpt-4o",), False, id="with the provider in front"),
        pytest.param((), ("GPT-4O",), False, id="in other case"),
    ],
)
def test_white_and_black_lists(allow: tuple[str, ...], deny: tuple[str, ...], allowed: bool) -> None:
    found = route(call(), rules(providers=openai(allow=allow, deny=deny)))

    assert isinstance(found, Route) is allowed


@pytest.mark.parametrize("spelling", ["GPT-4o", " gpt-4o", "models/gpt-4o", "arn:aws:bedrock:us-east-1::foundation-model/gpt-4o"])
def test_no_spelling_of_a_model_passes_the_black_list(spelling: str) -> None:
    found = route(call(model=spelling), rules(providers=openai(deny=("gpt-4o",))))

    assert isinstance(found, Refusal)


def test_other_models_that_the_rules_leave_alone_pass() -> None:
    found = route(call(), rules())

    assert isinstance(found, Route) and others_refusal(call(), found, ("o3",), rules()) is None


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(rules(providers=openai(deny=("o3",))), id="a black list"),
        pytest.param(rules(agents=(AgentRule("default", models=("gpt-*",)),)), id="the agent's list"),
        pytest.param(rules(routes=(rule(deny="no", model=("o3",)),)), id="a route that refuses"),
        pytest.param(rules(routes=(rule(to=(Target("openai", "gpt-4o"),), model=("o3",)),)), id="a route to another model"),
        pytest.param(
            rules(providers={**openai(), "lab": provider("lab", deny=("o3",))}, routes=(rule(model=("gpt-4o",)),)),
            id="a black list of the target",
        ),
    ],
)
def test_threat_47_other_models_are_judged_as_well(known: Rules) -> None:
    found = route(call(), known)

    assert isinstance(found, Route) and isinstance(others_refusal(call(), found, ("gpt-4o", "o3"), known), Refusal)


def test_the_refusal_names_model_provider_rule_and_route() -> None:
    refusal = refusal_of(route(call(), rules(providers=openai(deny=("gpt-4*",)))))

    text = "model gpt-4o is not allowed at openai: providers.openai.deny has gpt-4* (route default)"
    assert refusal == Refusal(403, "model_not_allowed", text)


def test_the_lists_are_those_of_the_target_not_of_the_model_asked_for() -> None:
    known = rules(providers=openai(deny=("gpt-4o",)), routes=(rule(to=(LAB,)),))

    assert isinstance(route(call(), known), Route)


def test_a_forbidden_target_is_left_out_and_the_others_stay() -> None:
    known = rules(providers=openai(deny=("o3",)), routes=(rule(to=(Target("openai", "o3"), LAB)),))

    found = route(call(), known)

    assert isinstance(found, Route) and found.targets == (LAB,)


def test_a_call_that_needs_a_model_but_names_none_does_not_pass_the_lists() -> None:
    found = route(call(model=None, format=Format.OPENAI_RESPONSES), rules(providers=openai(deny=("gpt-4o",))))

    assert refusal_of(found).reason == "model_not_allowed"


def test_a_call_without_a_model_passes_where_there_are_no_lists() -> None:
    assert isinstance(route(call(model=None, format=Format.OPENAI_RESPONSES), rules()), Route)


def test_the_lists_hold_for_every_call_that_names_a_model() -> None:
    found = route(call(model="gpt-4o", format=Format.OPENAI_OTHER), rules(providers=openai(deny=("gpt-4o",))))

    assert isinstance(found, Refusal)


def test_a_listing_passes_the_lists() -> None:
    found = route(call(model=None, format=Format.OPENAI_MODELS), rules(providers=openai(allow=("o3",))))

    assert isinstance(found, Route)


def test_a_listing_without_lists_shows_everything() -> None:
    assert visible_models(provider(), ["b", "a"]) == ("b", "a")


def test_a_listing_shows_the_allowed_models_in_order() -> None:
    filtered = provider("anthropic", "api.anthropic.com", ANTHROPIC_SURFACE, allow=("claude-haiku-4",), deny=("claude-*",))

    assert visible_models(filtered, ["x", "claude-opus-4", "claude-haiku-4", "a"]) == ("x", "claude-haiku-4", "a")


# The same as a walk through all rules, which is what the file says.


def walk(asked: Call, routes: Sequence[RouteRule]) -> str:
    """The name of the first route that matches."""
    return next((ruled.name for ruled in routes if matches(ruled.match, asked)), "default")


def matches(match: Match, asked: Call) -> bool:
    return (
        holds(match.host, asked.host)
        and holds(match.path, asked.path)
        and holds(match.format, asked.format.value)
        and (not match.model or bool(asked.model and fits(match.model, asked.provider, asked.model)))
        and holds(match.agent, asked.caller.agent)
        and all(header_holds(name, match, asked) for name, _ in match.header)
    )


def header_holds(name: str, match: Match, asked: Call) -> bool:
    return name in asked.headers and holds([glob for other, glob in match.header if other == name], asked.headers[name])


def holds(globs: Sequence[str], value: str) -> bool:
    return not globs or any(fnmatchcase(value, glob) for glob in globs)


def fits(globs: Iterable[str], provider_name: str, model: str) -> bool:
    model = model.strip().lower()
    bare = model.removeprefix("models/")
    return any(fnmatchcase(name, glob.lower()) for glob in globs for name in (model, bare, f"{provider_name}/{bare}"))


def globs_of(*texts: str) -> st.SearchStrategy[str]:
    """Some of the texts, in either case, with marks put into them."""
    marks = st.sampled_from(["*", "?", "[g-o]*", "[!x]", "", "["])
    cut = st.tuples(st.sampled_from(texts), st.integers(0, 12), st.integers(0, 4), marks)
    return st.sampled_from(texts) | cut.map(lambda c: c[0][: c[1]] + c[3] + c[0][c[1] + c[2] :]).filter(bool) | st.just("*")


def some(glob: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.just(()) | st.lists(glob, min_size=1, max_size=6).map(tuple)


MODELS = (
    "gpt-4o",
    "GPT-4o",
    "gpt-4o-mini",
    "models/gpt-4o",
    "openai/gpt-4o",
    "openai/models/x",
    "o3",
    "İ",
    "ΑΣ",
    " gpt-4o ",
    " ",
)
MODEL_GLOBS = some(globs_of(*MODELS))
MATCHES = st.builds(
    Match,
    host=some(globs_of("api.openai.com", "API.openai.com")),
    path=some(globs_of("/v1/chat/completions", "/v1/Chat")),
    format=some(globs_of("openai_chat", "openai_models")),
    model=MODEL_GLOBS,
    agent=some(globs_of("ci-7", "CI-7", "alice")),
    header=st.lists(st.tuples(st.sampled_from(["x-team", "x-tier"]), globs_of("red", "blue")), max_size=3).map(tuple),
)
ONE_FIELD = st.builds(Match, model=MODEL_GLOBS) | st.builds(Match, agent=some(globs_of("ci-7", "ci-8")))
"""Rules with fewer conditions match more often, and share their texts."""
CALLS = st.builds(
    call,
    host=st.sampled_from(["api.openai.com", "API.openai.com", "x"]),
    path=st.sampled_from(["/v1/chat/completions", "/v1/Chat", "/\n"]),
    format=st.sampled_from([Format.OPENAI_CHAT, Format.OPENAI_MODELS]),
    model=st.sampled_from([None, "", *MODELS]),
    caller=st.sampled_from(["ci-7", "CI-7", "alice", "bob"]).map(Caller),
    headers=st.dictionaries(st.sampled_from(["x-team", "x-tier"]), st.sampled_from(["red", "blue", "RED", ""])),
)


@given(st.lists(MATCHES | ONE_FIELD, max_size=30), CALLS)
def test_the_route_is_the_one_that_a_walk_finds(conditions: list[Match], asked: Call) -> None:
    ruled = tuple(RouteRule(f"r{at}", match) for at, match in enumerate(conditions))

    found = route(asked, rules(routes=ruled))

    assert isinstance(found, Route) and found.name == walk(asked, ruled)


@given(st.lists(st.tuples(st.sampled_from(["ci-7", "alice"]), MODEL_GLOBS), max_size=3), CALLS)
def test_an_agents_models_are_those_that_a_walk_finds(entries: list[tuple[str, tuple[str, ...]]], asked: Call) -> None:
    agents = tuple(AgentRule(name, models=models) for name, models in entries)
    allowed = next((agent.models for agent in agents if agent.name == asked.caller.agent), ())
    named = fits(allowed, asked.provider, asked.model) if asked.model else asked.format is Format.OPENAI_MODELS

    assert isinstance(route(asked, rules(agents=agents)), Route) is (not allowed or named)


@given(MODEL_GLOBS, MODEL_GLOBS, st.sampled_from(MODELS))
def test_the_lists_say_what_a_walk_says(allow: tuple[str, ...], deny: tuple[str, ...], model: str) -> None:
    white, black = fits(allow, "openai", model), fits(deny, "openai", model)
    shown = white or (not black and (not allow or bool(deny)))

    assert visible_models(provider(allow=allow, deny=deny), [model]) == ((model,) if shown else ())


@given(MODEL_GLOBS, st.sampled_from(MODELS))
def test_a_refusal_names_the_first_pattern_of_the_black_list(deny: tuple[str, ...], model: str) -> None:
    first = next((glob for glob in deny if fits((glob,), "openai", model)), None)

    found = route(call(model=model), rules(providers=openai(deny=deny)))

    assert first is None or refusal_of(found).message.endswith(f": providers.openai.deny has {first} (route default)")
