"""Where a call goes: the agent's own limits, the first route that matches, the providers' lists. A ladder of early returns.

Globs on models match the bare name and the one with the provider in front (`openai/gpt-4o`), without regard to case: some
providers accept any spelling of a model, and a black list must not be passed by `GPT-4o`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ..model import AgentRule, Call, Format, Match, Provider, Refusal, Route, RouteRule, Rules, Target

DEFAULT = "default"
"""The name of the route that no rule made."""


def route(call: Call, rules: Rules) -> Route | Refusal:
    """The targets of a call in the order to try them, each with the model name to use there, or why it may not be made."""
    # 1. The models that this agent may ask for.
    refusal = _agent_refusal(call, rules.agents)
    if refusal is not None:
        return refusal
    # 2. The first rule that matches; without one, and where it has no `to`, the call's own provider and model stay.
    rule = next((rule for rule in rules.routes if _matches(rule.match, call)), RouteRule(DEFAULT, Match()))
    # 3. A rule may forbid the call.
    if rule.deny is not None:
        return Refusal(403, "denied_by_rule", f"{rule.deny} (route {rule.name})")
    # 4. The providers' white and black lists have the last word on every target.
    weights = rule.weights or (1.0,) * max(1, len(rule.to))
    judged = [
        (target, weight, _reason(target, call, rules)) for target, weight in zip(_targets(rule.to, call), weights, strict=True)
    ]
    allowed = [(target, weight) for target, weight, reason in judged if reason is None]
    if not allowed:
        return Refusal(403, "model_not_allowed", f"{judged[0][2]} (route {rule.name})")
    return Route(
        name=rule.name,
        targets=tuple(target for target, _ in allowed),
        order=rule.order,
        weights=tuple(weight for _, weight in allowed),
        too_long=_fallback(rule.too_long, call, rules),
        exhausted=_fallback(rule.exhausted, call, rules),
        set_body=rule.set_body,
        remove_body=rule.remove_body,
    )


def _targets(targets: Sequence[Target], call: Call) -> list[Target]:
    """The targets with the model to use there; without any, the call's own provider and model stay."""
    return [replace(target, model=target.model or call.model) for target in targets or (Target(call.provider),)]


def _reason(target: Target, call: Call, rules: Rules) -> str | None:
    return _list_reason(rules.providers[target.provider], target.model, call.format)


def _fallback(targets: Sequence[Target], call: Call, rules: Rules) -> tuple[Target, ...]:
    """Those targets of a fallback that the lists allow."""
    return tuple(target for target in _targets(targets, call) if _reason(target, call, rules) is None) if targets else ()


def visible_models(provider: Provider, names: Iterable[str]) -> tuple[str, ...]:
    """Of the model names in a provider's listing, those that its lists allow, in order."""
    return tuple(name for name in names if _forbidden_by(provider, name) is None)


def _agent_refusal(call: Call, agents: Sequence[AgentRule]) -> Refusal | None:
    allowed = next((agent.models for agent in agents if agent.name == call.caller.agent), ())
    if not allowed or _is_modelless(call.model, call.format):
        return None
    if call.model and _any_glob(allowed, _names(call.provider, call.model)):
        return None
    asked = f"may not use {call.model}" if call.model else "must name a model"
    text = f"agent {call.caller.agent} {asked}; allowed: {', '.join(allowed)} (agents.{call.caller.agent}.models)"
    return Refusal(403, "model_not_allowed_for_agent", text)


def _list_reason(provider: Provider, model: str | None, format: Format) -> str | None:
    """Why the lists of `provider` forbid `model`, None when they do not."""
    if not (provider.allow or provider.deny) or _is_modelless(model, format):
        return None
    if not model:
        return f"the call names no model, and {provider.name} has lists of models (providers.{provider.name})"
    rule = _forbidden_by(provider, model)
    return None if rule is None else f"model {model} is not allowed at {provider.name}: {rule}"


def _forbidden_by(provider: Provider, model: str) -> str | None:
    """The list that forbids `model`. `allow` wins over `deny`; alone it forbids everything else."""
    names = _names(provider.name, model)
    if _any_glob(provider.allow, names):
        return None
    for pattern in provider.deny:
        if _any_glob((pattern,), names):
            return f"providers.{provider.name}.deny has {pattern}"
    if provider.allow and not provider.deny:
        return f"it is not on providers.{provider.name}.allow"
    return None


def _is_modelless(model: str | None, format: Format) -> bool:
    """Whether the call is of a kind that needs no model, such as a listing."""
    return not model and format.value.endswith(("_models", "_other"))


def _matches(match: Match, call: Call) -> bool:
    return (
        _holds(match.host, (call.host,))
        and _holds(match.path, (call.path,))
        and _holds(match.format, (call.format.value,))
        and (not match.model or bool(call.model and _any_glob(match.model, _names(call.provider, call.model))))
        and _holds(match.agent, (call.caller.agent,))
        and all(_header_holds(name, match, call) for name, _ in match.header)
    )


def _header_holds(name: str, match: Match, call: Call) -> bool:
    patterns = [pattern for other, pattern in match.header if other == name]
    return name in call.headers and _holds(patterns, (call.headers[name],))


def _holds(patterns: Sequence[str], values: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(value, pattern) for value in values for pattern in patterns)


def _any_glob(patterns: Iterable[str], names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns for name in names)


def _names(provider: str, model: str) -> tuple[str, ...]:
    """The spellings of a model that globs are held against, in lower case; `models/x` is Google's resource name for `x`."""
    model = model.strip().lower()
    bare = model.removeprefix("models/")
    return (model, bare, f"{provider}/{bare}")
