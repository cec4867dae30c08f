"""Where a call goes."""

from __future__ import annotations

from typing import Any

import pytest

from support.samples import ANTHROPIC_SURFACE, call, provider, rules
from valetkey.model import AgentRule, Caller, Format, Match, Provider, Refusal, Route, RouteRule, Target
from valetkey.policy.routing import route, visible_models

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


@pytest.mark.parametrize("spelling", ["GPT-4o", " gpt-4o", "models/gpt-4o"])
def test_no_spelling_of_a_model_passes_the_black_list(spelling: str) -> None:
    found = route(call(model=spelling), rules(providers=openai(deny=("gpt-4o",))))

    assert isinstance(found, Refusal)


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
