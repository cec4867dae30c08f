"""Surveying the addons: who listens to a class of hooks, and what must stay as it is for that to be true.

What comes of it is a *plan*: the addons that listen in mitmproxy's order, and for each of them what is looked at just before
its handler runs: the chain, the nested `addons`, and the silence of all addons before it, which one loop in C can find out.
Listeners of mitmproxy's own and of ours change no addons, so behind them nothing is looked at again. A *flat* plan is that of a
hook and of the `update` after it, whose listeners are all plain functions, made for one loop.

Addons whose attributes run code (properties, `__getattr__`) cannot be planned: they are left to mitmproxy, with all that is
nested beside them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import repeat
from operator import is_not
from types import FunctionType, ModuleType
from typing import NamedTuple

from mitmproxy.addons.script import Script

DEPTH = 20
"""Addons nested deeper than this (or in a circle) are left to mitmproxy."""
WHOLE = object()
"""In the place of a listener: a top-level addon that is left to mitmproxy as a whole."""
_ABSENT = object()

type Siblings = Sequence[object]
type Place = tuple[tuple[Siblings, int], ...]
"""Where a traversal stands: each sequence of siblings with the next position in it, the innermost first."""
type Opened = tuple[object, str, object]
"""A container (or its class), an attribute that its children depend on, and the value that this attribute must have."""
type Content = tuple[list[object], list[object]]
"""A list, and what must be in it."""
type Nested = tuple[tuple[Opened, ...], tuple[Content, ...]]
"""Containers that are entered, and lists with what must be in them."""
type Step = tuple[int, object, tuple[object, ...] | None, tuple[str, ...], Nested | None, Place]
"""Position of the top-level addon; the listener; objects and names that they must not have (None: nothing is to be looked at
before this step); nested; place after the listener."""
type Plan = tuple[list[object], tuple[Step, ...], Step, str, str, bool]
"""The content of the chain; one step per listener; the check after the last; field and name of the hook; whether it is known
that all listeners are plain functions."""
type Look = tuple[
    list[list[object]], list[list[object]], Sequence[object], Sequence[str], Sequence[object], Sequence[object], Sequence[str]
]
"""Lists and what must be in them; objects, attributes that they must have and their values; objects and names that they must
not have."""
type Span = tuple[int, Sequence[object], repeat[str], Look]
"""Listeners that are called after one look: position of the first one's step; the listeners; the name of the hook."""
type Flat = tuple[Plan, str, tuple[Span, ...], tuple[Span, ...], bool]
"""A plan for one loop; the field of the hook; listeners with all looks, and with those alone where something is to be expected;
whether the last look finds that nobody listens to `update` either."""


def plan_of(chain: list[object], name: str, field: str) -> Plan:
    """The plan of a class of hooks with this name, of which the only field is `field`."""
    steps, last = _Survey(name).of(chain)
    plain = all(addon is not WHOLE and _is_plain(getattr(addon, name)) for _, addon, *_ in steps)
    return _content(chain), steps, last, field, name, plain


def flat_of(plan: Plan, update: Plan) -> Flat:
    """The plans of a hook and of `update` for one loop; all their listeners are known to be plain functions."""
    _, steps, last, field, name, _ = plan
    spans: list[tuple[int, list[object], Step]] = []
    for at, step in enumerate((*steps, last)):
        # A coroutine of mitmproxy's own that ends at once let nobody else run; of one that waits, the long way has the rest.
        if at and is_mitmproxys_own(getattr(steps[at - 1][1], name, None)):
            if step[2] is not None:
                spans[-1] = (*spans[-1][:2], _with_looks_of(spans[-1][2], step))
        elif step[2] is not None:
            spans.append((at, [], step))
        if step is not last:
            spans[-1][1].append(step[1])
    if updated := not update[1]:
        spans[-1] = (*spans[-1][:2], _with_looks_of(spans[-1][2], update[2]))
    full, short = (
        tuple((at, listeners, repeat(name), _look(step, is_short)) for at, listeners, step in spans) for is_short in (False, True)
    )
    return plan, field, full, short, updated


def stands(step: Step, plan: Plan, chain: list[object], waited: bool) -> bool:
    """Whether what a step relies upon is so. `waited`: whether others could run since it was looked at, if it was."""
    _, _, objects, names, nested, _ = step
    if objects is None:
        return not waited or _holds(plan, chain)
    return chain == plan[0] and True not in map(hasattr, objects, names) and not (nested and _changed(nested))


def is_same(flat: Flat, chain: list[object]) -> bool:
    """Whether all addons are the very ones that were surveyed, also where a new one calls itself equal to all others."""
    plan, _, spans, *_ = flat
    lists = [(chain, plan[0]), *(each for *_, look in spans for each in zip(look[0], look[1], strict=True))]
    return all(_are_identical(live, content) for live, content in lists)


def is_mitmproxys_own(handler: object) -> bool:
    """mitmproxy's own coroutines are known not to ask for their task. But an ASGI app, which may, is the user's."""
    module = str(getattr(handler, "__module__", ""))
    return module.startswith("mitmproxy.addons.") and module != "mitmproxy.addons.asgiapp"


def _changed(nested: Nested) -> bool:
    """Whether containers have other children than the plan says."""
    opened, contents = nested
    for container, attribute, expected in opened:
        if getattr(container, attribute, None) is not expected:
            return True
    return any(live != content for live, content in contents)


def _holds(plan: Plan, chain: list[object]) -> bool:
    """Whether all that a plan relies upon is so, also what was looked at together."""
    known, steps, last, *_ = plan
    return chain == known and not any(
        objects is not None and (True in map(hasattr, objects, names) or (nested and _changed(nested)))
        for _, _, objects, names, nested, _ in (*steps, last)
    )


class _Identical(list[object]):
    """The content of a list, compared by identity: addons with an `__eq__` of their own may be equal and yet not the same."""

    def __eq__(self, live: object) -> bool:
        return isinstance(live, list) and _are_identical(live, self)

    def __ne__(self, live: object) -> bool:
        return not self == live

    __hash__ = None


def _content(live: list[object]) -> list[object]:
    """What a list must be equal to. This is ten times quicker than looking at each addon, which is done now and then."""
    plain = all(type(addon).__eq__ is object.__eq__ for addon in live)
    return list(live) if plain else _Identical(live)


def _are_identical(live: list[object], content: list[object]) -> bool:
    return len(live) == len(content) and not any(map(is_not, live, content))


class _OddError(Exception):
    """A top-level addon cannot be planned."""


class _Entry(NamedTuple):
    """An addon in the order of traversal."""

    addon: object
    listens: bool
    opened: tuple[Opened, ...]
    children: Siblings
    after: Place


class _Survey:
    """Finds out who listens to a hook, and what must stay as it is for that to be true."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._steps: list[Step] = []
        self._clear()

    def of(self, chain: list[object]) -> tuple[tuple[Step, ...], Step]:
        """A step per listener, and the check after the last of them."""
        for top, addon in enumerate(chain):
            try:
                entries = list(_entries(addon, self._name, ()))
            except _OddError:
                self._close(top, WHOLE, ())
            else:
                for entry in entries:
                    self._visit(top, entry)
        self._close(len(chain), WHOLE, ())
        *steps, last = _drawn_together(self._steps, self._name)
        return tuple(steps), last

    def _visit(self, top: int, entry: _Entry) -> None:
        self._watch_siblings(entry.after)
        if entry.listens:
            self._close(top, entry.addon, entry.after)
            # Its handler may add siblings behind itself.
            self._watch_siblings(entry.after)
        else:
            self._silent.append((entry.addon, self._name))
        if not entry.opened:
            self._silent.append((entry.addon, "addons"))
        else:
            self._opened.extend(entry.opened)
            self._watch_siblings(((entry.children, 0),))

    def _watch_siblings(self, place: Place) -> None:
        for siblings, _ in place:
            if type(siblings) is list:
                self._lists[id(siblings)] = (siblings, _content(siblings))

    def _close(self, top: int, listener: object, after: Place) -> None:
        objects = tuple(addon for addon, _ in self._silent)
        names = tuple(name for _, name in self._silent)
        nested = (tuple(self._opened), tuple(self._lists.values()))
        self._steps.append((top, listener, objects, names, nested if any(nested) else None, after))
        self._clear()

    def _clear(self) -> None:
        self._silent: list[tuple[object, str]] = []
        self._opened: list[Opened] = []
        self._lists: dict[int, Content] = {}


def _drawn_together(steps: list[Step], name: str) -> list[Step]:
    """Look once where it cannot matter: listeners of mitmproxy's own and of ours change no addons while they run."""
    made: list[Step] = []
    first = 0
    for at, step in enumerate(steps):
        # After an error the other steps of a top-level addon are skipped, and with them what they look at for later ones.
        skipped = first > 0 and steps[first - 1][0] == steps[first][0] != step[0]
        if at and not skipped and _is_known(steps[at - 1][1], name):
            made[first] = _with_looks_of(made[first], step)
            step = (step[0], step[1], None, (), None, step[5])
        else:
            first = at
        made.append(step)
    return made


def _is_own(addon: object) -> bool:
    """Whether an addon is mitmproxy's or ours."""
    return type(addon).__module__.startswith(("mitmproxy.addons.", f"{__name__.partition('.')[0]}."))


def _is_known(listener: object, name: str) -> bool:
    if listener is WHOLE or not _is_own(listener) or name in getattr(listener, "__dict__", ()):
        return False
    return not inspect.iscoroutinefunction(getattr(listener, name))


def _with_looks_of(step: Step, other: Step) -> Step:
    top, listener, objects, names, nested, after = step
    _, _, more, more_names, more_nested, _ = other
    assert objects is not None and more is not None
    if more_nested is not None:
        before = nested or ((), ())
        nested = (before[0] + more_nested[0], before[1] + more_nested[1])
    return top, listener, objects + more, names + more_names, nested, after


def _look(step: Step, is_short: bool) -> Look:
    """What to look at; in short, without those of which nothing else is to be expected."""
    _, _, objects, names, nested, _ = step
    assert objects is not None
    opened, contents = nested or ((), ())
    holders = {(id(holder), name, id(value)): (holder, name, value) for holder, name, value in opened}
    pairs = [(each, name) for each, name in zip(objects, names, strict=True) if not (is_short and _is_own(each))]
    silent = {(id(each), name): (each, name) for each, name in pairs}
    lists: list[Content] = []
    for live, content in contents:
        if not any(live is known and content == same for known, same in lists):
            lists.append((live, content))
    return (
        [live for live, _ in lists],
        [content for _, content in lists],
        [holder for holder, _, _ in holders.values()],
        [name for _, name, _ in holders.values()],
        [value for _, _, value in holders.values()],
        [each for each, _ in silent.values()],
        [name for _, name in silent.values()],
    )


def _entries(addon: object, name: str, after: Place) -> Iterator[_Entry]:
    """An addon and what is nested in it, in mitmproxy's order. Raises _OddError."""
    if len(after) > DEPTH or not _steady(addon, name):
        raise _OddError
    handler = getattr(addon, name, _ABSENT)
    if handler is not _ABSENT and (_has_odd_truth(handler) or not (handler and callable(handler))):
        raise _OddError
    opened, children = _children(addon)
    yield _Entry(addon, handler is not _ABSENT, opened, children, after)
    for position, child in enumerate(children):
        yield from _entries(child, name, ((children, position + 1), *after))


def _children(addon: object) -> tuple[tuple[Opened, ...], Siblings]:
    if type(addon) is Script:
        namespace = vars(addon).get("ns", _ABSENT)
        if namespace is not None and type(namespace) is not ModuleType:
            raise _OddError
        # Its property makes a new list each time, which nobody else has.
        known = ((addon, "__class__", Script), (Script, "addons", vars(Script)["addons"]), (addon, "ns", namespace))
        return known, (namespace,) if namespace else ()
    if not _steady(addon, "addons"):
        raise _OddError
    children = getattr(addon, "addons", _ABSENT)
    if children is _ABSENT:
        return (), ()
    if type(children) not in (list, tuple):
        raise _OddError
    return ((addon, "addons", children),), children  # type: ignore[return-value]


def _is_plain(handler: object) -> bool:
    """Whether it cannot matter to a handler in which task it begins."""
    if inspect.iscoroutinefunction(handler):
        return is_mitmproxys_own(handler)
    return not inspect.isasyncgenfunction(handler)


def _has_odd_truth(handler: object) -> bool:
    """Whether asking if a handler is true runs code, which may raise."""
    return hasattr(type(handler), "__bool__") or hasattr(type(handler), "__len__")


def _steady(addon: object, name: str) -> bool:
    """Whether looking up this attribute runs no code of the addon's."""
    kind = type(addon)
    if kind is ModuleType:
        return "__getattr__" not in vars(addon)
    if kind.__getattribute__ is not object.__getattribute__ or _of_class(kind, "__getattr__") is not _ABSENT:
        return False
    value = _of_class(kind, name)
    return type(value) in (FunctionType, staticmethod, classmethod) or not hasattr(type(value), "__get__")


def _of_class(kind: type, name: str) -> object:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), _ABSENT)
