"""Where a call goes: the agent's own limits, the first route that matches, the providers' lists. A ladder of early returns.

Globs on models match the bare name and the one with the provider in front (`openai/gpt-4o`), without regard to case: some
providers accept any spelling of a model, and a black list must not be passed by `GPT-4o`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, repeat

from ..model import AgentRule, Call, Format, Match, Provider, Refusal, Route, Rules, Target
from .derived import Derived
from .routetable import Asked, Globs, RouteTable

DEFAULT = "default"
"""The name of the route that no rule made."""
_HEADER = "header:"


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What rules are looked up in."""

    table: RouteTable
    conditions: tuple[tuple[tuple[str, Globs], ...], ...]
    """Of every route: field and globs."""
    headers: frozenset[str]
    """Those that routes look at."""
    agents: Mapping[str, tuple[AgentRule, Globs]]


@dataclass(frozen=True, slots=True)
class _Lists:
    """A provider's white and black list."""

    allow: Globs
    deny: Globs


def route(call: Call, rules: Rules) -> Route | Refusal:
    """The targets of a call in the order to try them, each with the model name to use there, or why it may not be made."""
    # 1. The models that this agent may ask for.
    compiled = _compiled(rules)
    refusal = _agent_refusal(call, compiled.agents)
    if refusal is not None:
        return refusal
    # 2. The first rule that matches; without one, and where it has no `to`, the call's own provider and model stay.
    number = _first(call, compiled) if rules.routes else None
    if number is None:
        return _unrouted(call, rules)
    rule = rules.routes[number]
    # 3. A rule may forbid the call.
    if rule.deny is not None:
        return Refusal(403, "denied_by_rule", f"{rule.deny} (route {rule.name})")
    # 4. The providers' white and black lists have the last word on every target.
    targets = _targets(rule.to, call)
    reasons = [_reason(target, call, rules) for target in targets]
    allowed = [reason is None for reason in reasons]
    if True not in allowed:
        return Refusal(403, "model_not_allowed", f"{reasons[0]} (route {rule.name})")
    return Route(
        name=rule.name,
        targets=tuple(compress(targets, allowed)),
        order=rule.order,
        weights=tuple(compress(rule.weights or repeat(1.0), allowed)),
        too_long=_fallback(rule.too_long, call, rules) if rule.too_long else (),
        exhausted=_fallback(rule.exhausted, call, rules) if rule.exhausted else (),
        set_body=rule.set_body,
        remove_body=rule.remove_body,
    )


def _unrouted(call: Call, rules: Rules) -> Route | Refusal:
    """The route that no rule made, which most calls take."""
    target = Target(call.provider, call.model)
    reason = _list_reason(rules.providers[call.provider], call.model, call.format)
    if reason is not None:
        return Refusal(403, "model_not_allowed", f"{reason} (route {DEFAULT})")
    return Route(DEFAULT, (target,), weights=(1.0,))


def others_refusal(call: Call, found: Route, others: Iterable[str], rules: Rules) -> Refusal | None:
    """Why the call may not name these models besides its own. They go out as they are, so the rules must leave them so."""
    for model in others:
        judged = route(call._replace(model=model, requested_model=model), rules)
        if isinstance(judged, Refusal):
            return judged
        if judged.targets[0].model != model:
            text = f"the rules have {judged.targets[0]} in place of {model}, and the list `models` is not changed"
            return Refusal(403, "model_not_changeable", f"{text} (route {judged.name})")
        for target in (*found.targets, *found.too_long, *found.exhausted):
            reason = _reason(target._replace(model=model), call, rules)
            if reason is not None:
                return Refusal(403, "model_not_allowed", f"{reason} (route {found.name})")
    return None


def prepare(rules: Rules) -> None:
    """Make what calls are looked up in, which the first call would do otherwise."""
    _compiled(rules)
    for provider in rules.providers.values():
        _lists(provider)


def _targets(targets: Sequence[Target], call: Call) -> list[Target]:
    """The targets with the model to use there; without any, the call's own provider and model stay."""
    if not targets:
        return [Target(call.provider, call.model)]
    return [Target(target.provider, target.model or call.model) for target in targets]


def _reason(target: Target, call: Call, rules: Rules) -> str | None:
    return _list_reason(rules.providers[target.provider], target.model, call.format)


def _fallback(targets: Sequence[Target], call: Call, rules: Rules) -> tuple[Target, ...]:
    """Those targets of a fallback that the lists allow."""
    return tuple([target for target in _targets(targets, call) if _reason(target, call, rules) is None])


def visible_models(provider: Provider, names: Iterable[str]) -> tuple[str, ...]:
    """Of the model names in a provider's listing, those that its lists allow, in order."""
    return tuple(name for name in names if _forbidden_by(provider, name) is None)


def _agent_refusal(call: Call, agents: Mapping[str, tuple[AgentRule, Globs]]) -> Refusal | None:
    known = agents.get(call.caller.agent)
    if known is None or not known[1] or _is_modelless(call.model, call.format):
        return None
    agent, globs = known
    if call.model and globs.matches(_names(call.provider, call.model)):
        return None
    asked = f"may not use {call.model}" if call.model else "must name a model"
    text = f"agent {agent.name} {asked}; allowed: {', '.join(agent.models)} (agents.{agent.name}.models)"
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
    names, lists = _names(provider.name, model), _lists(provider)
    if lists.allow.matches(names):
        return None
    number = lists.deny.first(names)
    if number is not None:
        return f"providers.{provider.name}.deny has {provider.deny[number]}"
    if provider.allow and not provider.deny:
        return f"it is not on providers.{provider.name}.allow"
    return None


def _is_modelless(model: str | None, format: Format) -> bool:
    """Whether the call is of a kind that needs no model, such as a listing."""
    return not model and format.value.endswith(("_models", "_other"))


def _first(call: Call, compiled: _Compiled) -> int | None:
    """The number of the first route that matches."""
    asked = _asked(call, compiled.headers)

    def holds(number: int) -> bool:
        return all(globs.matches(asked.get(field, ())) for field, globs in compiled.conditions[number])

    return compiled.table.first(asked, holds)


def _asked(call: Call, headers: frozenset[str]) -> Asked:
    """What a call has of every field; nothing where it has no such header or no model."""
    seen = [name for name in call.headers if name in headers] if headers else []
    return {
        "model": _names(call.provider, call.model) if call.model else (),
        "agent": (call.caller.agent,),
        "path": (call.path,),
        "host": (call.host,),
        "format": (call.format.value,),
        **{_HEADER + name: (call.headers[name],) for name in seen},
    }


def conditions(match: Match) -> dict[str, tuple[str, ...]]:
    """The globs of every field that has any; the same header twice is one field."""
    found = {field: globs for field in ("host", "path", "format", "model", "agent") if (globs := getattr(match, field))}
    for name, glob in match.header:
        found[_HEADER + name] = (*found.get(_HEADER + name, ()), glob)
    return found


def _compile(rules: Rules) -> _Compiled:
    lowered = (replace(rule.match, model=tuple(glob.lower() for glob in rule.match.model)) for rule in rules.routes)
    every = [conditions(match) for match in lowered]
    return _Compiled(
        RouteTable(every),
        tuple(tuple((field, Globs(globs)) for field, globs in each.items()) for each in every),
        frozenset(name for rule in rules.routes for name, _ in rule.match.header),
        {agent.name: (agent, _models(agent.models)) for agent in reversed(rules.agents)},
    )


def _models(globs: Iterable[str]) -> Globs:
    return Globs(glob.lower() for glob in globs)


_compiled = Derived(_compile)
_lists: Derived[Provider, _Lists] = Derived(lambda provider: _Lists(_models(provider.allow), _models(provider.deny)))


def _names(provider: str, model: str) -> tuple[str, ...]:
    """The spellings of a model that globs are held against, in lower case; `models/x` is Google's resource name for `x`, and
    `arn:…:foundation-model/x` that of AWS."""
    model = model.strip().lower()
    bare = model.rpartition("/")[2] if model.startswith("arn:") else model.removeprefix("models/")
    qualified = f"{provider}/{bare}"
    return (model, qualified) if bare == model else (model, bare, qualified)
