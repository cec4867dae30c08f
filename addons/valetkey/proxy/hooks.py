"""Hook dispatch that asks only the addons that listen; everything else is as in mitmproxy's `AddonManager`.

mitmproxy walks all its addons for each hook, and once more for the `update` after each hook of a flow: about 40 % of a small
call through bare mitmdump. Here a *plan* says, for one class of hooks, which addons listen; the others are found silent by
one loop in C. Nothing is taken for granted: just before a handler runs, the chain, the nested `addons` and the silence of all
addons before it are looked at again, so whatever an addon changed, also in the middle of an event, counts from the moment
from which it would count in mitmproxy. When something differs, mitmproxy's own code does the rest of the event, and a new
plan is made.

Where all listeners of a hook are plain functions, the hook and its `update` run in one loop without a coroutine, with one look
for all that cannot change in between. What turns out otherwise goes on from where it stands in the long way.

Addons whose attributes run code (properties, `__getattr__`) are always left to mitmproxy, with all that is nested beside them.
Four differences remain. A handler that is put on one of mitmproxy's own addons, or on its class, at run time is found after
`EVERY` hooks at the latest, not at the next one. The argument is read from the hook once per event, not once per handler. A
handler that fails without a frame of its own (a wrong signature, a builtin) is logged with our frame where mitmproxy's would
stand. And a property that is put on the class of a loaded addon at run time may be read more often, and before the listeners
are called.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from itertools import repeat
from operator import is_, length_hint
from types import CodeType, CoroutineType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from mitmproxy import addonmanager
from mitmproxy.addonmanager import AddonManager, safecall
from mitmproxy.addons.script import Script
from mitmproxy.dns import DNSFlow
from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.flow import Flow
from mitmproxy.hooks import Hook, UpdateHook
from mitmproxy.http import HTTPFlow
from mitmproxy.tcp import TCPFlow
from mitmproxy.udp import UDPFlow

logger = logging.getLogger(__name__)

PAUSE = 64
"""At most so many events of a class are left to mitmproxy after its plan failed again and again."""
EVERY = 64
"""Of so many hooks, at one it is looked whether mitmproxy's own addons, and ours, have got new handlers."""
DEPTH = 20
"""Addons nested deeper than this (or in a circle) are left to mitmproxy."""
_FLOWS = frozenset({HTTPFlow, TCPFlow, UDPFlow, DNSFlow})
_FUNCTIONS = frozenset({MethodType, FunctionType})
"""Handlers of these types are true and can be called, whatever they are."""
_NONE = repeat(None)
_ABSENT = object()
_WHOLE = object()
"""In the place of a listener: a top-level addon that is left to mitmproxy as a whole."""

type Siblings = Sequence[object]
type Place = tuple[tuple[Siblings, int], ...]
"""Where a traversal stands: each sequence of siblings with the next position in it, the innermost first."""
type Opened = tuple[object, str, object]
"""A container (or its class), an attribute that its children depend on, and the value that this attribute must have."""
type Nested = tuple[tuple[Opened, ...], tuple[tuple[object, object], ...]]
"""Containers that are entered, and lists with what must be in them."""
type Step = tuple[int, object, tuple[object, ...] | None, tuple[str, ...], Nested | None, Place]
"""Position of the top-level addon; the listener; objects and names that they must not have (None: nothing is to be looked at
before this step); nested; place after the listener."""
type Plan = tuple[object, tuple[Step, ...], Step, str, str, bool]
"""The content of the chain; one step per listener; the check after the last; field and name of the hook; whether it is known
that all listeners are plain functions."""
type Look = tuple[list[object], list[object], Sequence[object], Sequence[str], Sequence[object], Sequence[object], Sequence[str]]
"""Lists and what must be in them; objects, attributes that they must have and their values; objects and names that they must
not have."""
type Span = tuple[int, Sequence[object], repeat[str], Look]
"""Listeners that are called after one look: position of the first one's step; the listeners; the name of the hook."""
type Flat = tuple[Plan, str, tuple[Span, ...], tuple[Span, ...], bool]
"""A plan for one loop; the field of the hook; listeners with all looks, and with those alone where something is to be expected;
whether the last look finds that nobody listens to `update` either."""
type Rest = Coroutine[Any, Any, None]


def install(manager: AddonManager) -> bool:
    """Dispatch hooks from plans from now on; False, with a notice in the log, when this mitmproxy's internals differ."""
    problem = differences(manager)
    if problem is not None:
        logger.warning("valetkey: mitmproxy dispatches the hooks itself, which is slower: %s", problem)
        return False
    vars(manager).update(HookDispatch(manager).replacements)
    return True


def uninstall(manager: AddonManager) -> None:
    """Let mitmproxy dispatch its hooks itself again; events that are under way end as they began."""
    ours = getattr(vars(manager).get("trigger_event"), "__self__", None)
    if isinstance(ours, HookDispatch):
        for name, replacement in ours.replacements.items():
            if vars(manager).get(name) is replacement:
                delattr(manager, name)


def run_plain(manager: AddonManager, hook: Hook) -> tuple[str, Rest | None] | None:
    """Run a hook whose listeners are all plain functions: its field, and what remains to be done (for `run_ahead`), if anything.

    None, and nothing was run, for other hooks and where we do not dispatch.
    """
    ours = getattr(vars(manager).get("handle_lifecycle"), "__self__", None)
    return ours.invoke_addon_sync(hook) if isinstance(ours, HookDispatch) else None


def run_ahead(manager: AddonManager, steps: Rest) -> object:
    """Run what `run_plain` left up to what it waits for; a listener that may ask in which task it is waits for one of its own.

    Raises StopIteration when nothing is waited for.
    """
    ours: HookDispatch = vars(manager)["handle_lifecycle"].__self__
    return ours.run_ahead(steps)


class Begun(Generator[Any, Any, None]):
    """A coroutine that has run up to what it waits for. Whoever awaits this goes on with it."""

    def __init__(self, steps: Rest, awaited: object) -> None:
        self._steps, self._awaited = steps, awaited

    def __await__(self) -> Generator[Any, Any, None]:
        return self

    def __next__(self) -> object:
        return self.send(None)

    def send(self, value: object) -> object:
        """What it waits for at first, and then."""
        if self._awaited is _ABSENT:
            return self._steps.send(value)
        awaited, self._awaited = self._awaited, _ABSENT
        return awaited

    def throw(self, *error: Any) -> object:
        """Whatever comes is for the coroutine, as in a plain `await`."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """End it early."""
        self._steps.close()


class _TaskOfItsOwn:
    """Awaited once, by what runs ahead, so that it goes on in a task."""

    def __await__(self) -> Generator[None]:
        yield


class _Stand(NamedTuple):
    """How far an event has come."""

    plan: Plan
    chain: list[object]
    at: int = 0
    """The next step."""
    has_failed: bool = False
    """Whether the handler before it has failed."""
    again: Callable[[object], object] | None = None
    """Gives again what the handler of the next step gave, if it was called already."""


class HookDispatch:
    """Plans per class of hooks, and the three methods of one `AddonManager` that work from them."""

    def __init__(self, manager: AddonManager) -> None:
        self.replacements: dict[str, Callable[..., Any]] = {
            "trigger_event": self.invoke_addon,
            "handle_lifecycle": self.handle_lifecycle,
            "trigger": self.trigger,
        }
        self._manager = manager
        self._own = self.replacements["trigger_event"]
        self._original: Callable[[Hook], Awaitable[None]] = manager.trigger_event
        self._original_sync = manager.trigger
        self._plans: dict[type[Hook], Plan] = {}
        self._flats: dict[type[Hook], Flat] = {}
        self._fields: dict[type[Hook], str] = {}
        self._paused: dict[type[Hook], int] = {}
        self._strikes: dict[type[Hook], int] = {}
        self._until_look = 0
        """Hooks until it is looked at all addons."""
        self.is_ahead = False
        """Whether an event runs that has no task of its own."""

    async def handle_lifecycle(self, event: Hook) -> None:
        """Trigger a hook, and `update` after a hook of a flow."""
        field = self._fields.get(type(event)) or self._field(type(event))
        message = getattr(event, field) if field else event.args()[0]
        await self._manager.trigger_event(event)
        await self._update(message)

    # Tracebacks in the log begin below the frame that mitmproxy knows by this name.
    def invoke_addon_sync(self, hook: Hook) -> tuple[str, Rest | None] | None:
        """Run a hook of plain functions, and its `update`: its field, and what remains to be done; None for other hooks."""
        manager, kind = self._manager, type(hook)
        flat = self._flats.get(kind) or self._flatten(kind)
        if flat is None or manager.trigger_event is not self._own:
            return None
        plan, field, spans, short, updated = flat
        self._until_look -= 1
        if self._until_look >= 0:
            spans = short
        else:
            self._until_look = EVERY
        argument, chain = getattr(hook, field), manager.chain
        handlers: list[Any]
        for at, listeners, names, (lives, contents, holders, attributes, values, objects, absent) in spans:
            if (
                chain != plan[0]
                or lives != contents
                or True in map(hasattr, objects, absent)
                or False in map(is_, map(getattr, holders, attributes, _NONE), values)
                or not _FUNCTIONS.issuperset(map(type, handlers := list(map(getattr, listeners, names, _NONE))))
            ):
                return field, self._go_on(hook, argument, _Stand(plan, chain, at))
            called = iter(handlers)
            try:
                for handler in called:
                    result = handler(argument)
                    if result is not None and (awaited := self._unfinished(handler, result)) is not None:
                        at += len(handlers) - length_hint(called) - 1
                        return field, self._go_on(hook, argument, _Stand(plan, chain, at, again=_giving(awaited)))
            except AddonHalt:
                return field, self._update(argument)
            except OptionsError:
                raise
            except Exception as error:
                _hide_ours(error)
                with safecall():
                    raise
                at += len(handlers) - length_hint(called)
                return field, self._go_on(hook, argument, _Stand(plan, chain, at, has_failed=True))
        if updated and manager.chain is chain and manager.trigger_event is self._own:
            return field, None
        return field, self._update(argument)

    def run_ahead(self, steps: Coroutine[Any, Any, Any]) -> object:
        """Run a coroutine that has no task of its own up to what it waits for."""
        self.is_ahead = True
        try:
            return steps.send(None)
        finally:
            self.is_ahead = False

    def trigger(self, event: Hook) -> None:
        """Trigger a hook synchronously; each line in the log comes here, and nobody listens."""
        if not self._silent(type(event)):
            self._original_sync(event)

    # Tracebacks in the log begin below the frame that mitmproxy knows by this name.
    async def invoke_addon(self, event: Hook, stand: _Stand | None = None) -> None:
        """Trigger a hook: call the listeners in order, as long as the plan holds; this is `trigger_event`."""
        stand = stand or await self._begin(event)
        if stand is None:
            return
        plan, chain, at, has_failed, again = stand
        _, steps, last, field, name, _ = plan
        argument = getattr(event, field)
        done, listener, place = (steps[at - 1][0], steps[at - 1][1], steps[at - 1][5]) if at else (-1, _WHOLE, ())
        failed, listener = (done, _WHOLE) if has_failed else (-1, listener)
        waited = False
        for step in steps[at:]:
            top, addon, objects, _, _, after = step
            if top == failed:
                continue
            if again is None and (waited or objects is not None) and not _stands(step, plan, chain, waited):
                break
            waited = False
            try:
                if addon is _WHOLE:
                    if await self._left_to_mitmproxy(chain[top], event):
                        return
                    listener = _WHOLE
                else:
                    handler, again = again or getattr(addon, name, None), None
                    if not handler or not callable(handler):
                        break
                    listener = addon
                    result = handler(argument)
                    if result is not None and (type(result) is CoroutineType or inspect.isawaitable(result)):
                        waited = True
                        if self.is_ahead and type(result) is not Begun and not _is_mitmproxys_own(handler):
                            await _TaskOfItsOwn()
                        await result
            except AddonHalt:
                return
            except OptionsError:
                raise
            except Exception as error:
                _hide_ours(error)
                with safecall():
                    raise
                failed, listener = top, _WHOLE
            done, place = top, after
        else:
            if _stands(last, plan, chain, waited):
                return
        self._strike(type(event), plan)
        await self._rest(chain, done, listener, place, event)

    async def _begin(self, event: Hook) -> _Stand | None:
        """The beginning of an event that we have a plan for; others are done."""
        kind = type(event)
        plan = self._plans.get(kind) or self._renew(kind)
        if self.is_ahead and (plan is None or not plan[5]):
            await _TaskOfItsOwn()
        if plan is None:
            await self._original(event)
            return None
        return _Stand(plan, self._manager.chain)

    async def _go_on(self, event: Hook, message: Any, stand: _Stand) -> None:
        await self.invoke_addon(event, stand)
        await self._update(message)

    async def _update(self, message: Any) -> None:
        if type(message) in _FLOWS or isinstance(message, Flow):
            if self._manager.trigger_event is self._own and self._silent(UpdateHook):
                return
            await self._manager.trigger_event(UpdateHook([message]))

    def _unfinished(self, handler: object, result: object) -> Awaitable[None] | None:
        """What is to be awaited of what a handler returned; coroutines of mitmproxy's own are run as far as they come."""
        if type(result) is not CoroutineType:
            return result if inspect.isawaitable(result) else None
        if not _is_mitmproxys_own(handler):
            return result
        try:
            return Begun(result, self.run_ahead(result))
        except StopIteration:
            return None

    def _flatten(self, kind: type[Hook]) -> Flat | None:
        """One loop for a hook, and its `update`, whose listeners are all plain functions."""
        if self._manager.trigger_event is not self._own:
            return None
        plan = self._plans.get(kind) or self._renew(kind)
        update = self._plans.get(UpdateHook) or self._renew(UpdateHook)
        if plan is None or update is None or not (plan[5] and update[5]):
            return None
        self._flats[kind] = flat = _flat(plan, update)
        return flat

    def _silent(self, kind: type[Hook]) -> bool:
        """Whether nobody listens to this class of hooks, for certain."""
        plan = self._plans.get(kind) or self._renew(kind)
        if plan is None or plan[1]:
            return False
        if not _stands(plan[2], plan, self._manager.chain, waited=False):
            self._strike(kind, plan)
            return False
        return True

    async def _rest(self, chain: list[object], done: int, listener: object, place: Place, event: Hook) -> None:
        """Do the rest of an event in mitmproxy's way: what is nested beside `listener`, and the top-level addons after `done`."""
        if self.is_ahead:
            await _TaskOfItsOwn()
        if listener is not _WHOLE and await self._left_to_mitmproxy(_Remaining(_remaining(listener, place)), event):
            return
        # The list may grow or be cut while we iterate, which is what mitmproxy's own loop sees as well.
        position = done + 1
        while position < len(chain):
            addon = chain[position]
            position += 1
            if await self._left_to_mitmproxy(addon, event):
                return

    async def _left_to_mitmproxy(self, addon: object, event: Hook) -> bool:
        """Invoke one top-level addon; True when it halted the event."""
        try:
            with safecall():
                await self._manager.invoke_addon(addon, event)
        except AddonHalt:
            return True
        return False

    def _field(self, kind: type[Hook]) -> str:
        """The name of the only field of a class of hooks; empty when it has none, several, or arguments of its own making."""
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]
        if kind.args is not Hook.args or len(fields) != 1:
            return ""
        self._fields[kind] = fields[0].name
        return fields[0].name

    def _renew(self, kind: type[Hook]) -> Plan | None:
        """A new plan; None while this class of hooks is left to mitmproxy."""
        paused = self._paused.get(kind, 0)
        field = self._fields.get(kind) or self._field(kind)
        if paused or not field:
            self._paused[kind] = max(0, paused - 1)
            return None
        steps, last = _Survey(kind.name).of(self._manager.chain)
        plain = all(addon is not _WHOLE and _is_plain(getattr(addon, kind.name)) for _, addon, *_ in steps)
        plan = (_content(self._manager.chain), steps, last, field, kind.name, plain)
        self._plans[kind] = plan
        return plan

    def _strike(self, kind: type[Hook], plan: Plan) -> None:
        """Drop a plan that failed. Making plans for addons that change all the time would cost more than it brings."""
        if self._plans.get(kind) is not plan:
            return
        del self._plans[kind]
        self._flats.clear()
        self._paused[kind] = strikes = self._strikes.get(kind, 0)
        self._strikes[kind] = min(PAUSE, 2 * strikes or 1)


def _giving(result: object) -> Callable[[object], object]:
    return lambda _: result


def _hide_ours(error: Exception) -> None:
    """Leave only the topmost of our frames in a traceback, which mitmproxy looks for."""
    top = below = error.__traceback__
    while below is not None and below.tb_frame.f_code.co_filename == __file__:
        below = below.tb_next
    if top is not None and top is not below:
        top.tb_next = below


class _Remaining:
    """Stands for the addons that a traversal has still to visit, so that mitmproxy's `traverse` can go on with them."""

    __slots__ = ("addons",)

    def __init__(self, addons: Iterator[object]) -> None:
        self.addons = addons


def _remaining(listener: object, place: Place) -> Iterator[object]:
    """What comes after the call of a listener: its own children, its siblings, the siblings of what it is nested in."""
    if hasattr(listener, "addons"):
        yield from listener.addons
    for siblings, position in place:
        while position < len(siblings):
            position += 1
            yield siblings[position - 1]


def _changed(nested: Nested) -> bool:
    """Whether containers have other children than the plan says."""
    opened, contents = nested
    for container, attribute, expected in opened:
        if getattr(container, attribute, None) is not expected:
            return True
    return any(live != content for live, content in contents)


def _stands(step: Step, plan: Plan, chain: list[object], waited: bool) -> bool:
    """Whether what a step relies upon is so. `waited`: whether others could run since it was looked at, if it was."""
    _, _, objects, names, nested, _ = step
    if objects is None:
        return not waited or _holds(plan, chain)
    return chain == plan[0] and True not in map(hasattr, objects, names) and not (nested and _changed(nested))


def _holds(plan: Plan, chain: list[object]) -> bool:
    """Whether all that a plan relies upon is so, also what was looked at together."""
    known, steps, last, *_ = plan
    return chain == known and not any(
        objects is not None and (True in map(hasattr, objects, names) or (nested and _changed(nested)))
        for _, _, objects, names, nested, _ in (*steps, last)
    )


class _Identical:
    """The content of a list, compared by identity: addons with an `__eq__` of their own may be equal and yet not the same."""

    def __init__(self, content: list[object]) -> None:
        self.content = content

    def __eq__(self, live: object) -> bool:
        return isinstance(live, list) and list(map(id, live)) == list(map(id, self.content))

    __hash__ = None  # type: ignore[assignment]


def _content(live: list[object]) -> object:
    plain = all(type(addon).__eq__ is object.__eq__ for addon in live)
    return list(live) if plain else _Identical(list(live))


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
                self._close(top, _WHOLE, ())
            else:
                for entry in entries:
                    self._visit(top, entry)
        self._close(len(chain), _WHOLE, ())
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
        self._lists: dict[int, tuple[object, object]] = {}


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
    if listener is _WHOLE or not _is_own(listener) or name in getattr(listener, "__dict__", ()):
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


def _flat(plan: Plan, update: Plan) -> Flat:
    _, steps, last, field, name, _ = plan
    spans: list[tuple[int, list[object], Step]] = []
    for at, step in enumerate((*steps, last)):
        # A coroutine of mitmproxy's own that ends at once let nobody else run; of one that waits, the long way has the rest.
        if at and _is_mitmproxys_own(getattr(steps[at - 1][1], name, None)):
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


def _look(step: Step, is_short: bool) -> Look:
    """What to look at; in short, without those of which nothing else is to be expected."""
    _, _, objects, names, nested, _ = step
    assert objects is not None
    opened, contents = nested or ((), ())
    holders = {(id(holder), name, id(value)): (holder, name, value) for holder, name, value in opened}
    pairs = [(each, name) for each, name in zip(objects, names, strict=True) if not (is_short and _is_own(each))]
    silent = {(id(each), name): (each, name) for each, name in pairs}
    lists: list[tuple[object, object]] = []
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
        return _is_mitmproxys_own(handler)
    return not inspect.isasyncgenfunction(handler)


def _is_mitmproxys_own(handler: object) -> bool:
    """mitmproxy's own coroutines are known not to ask for their task. But an ASGI app, which may, is the user's."""
    module = str(getattr(handler, "__module__", ""))
    return module.startswith("mitmproxy.addons.") and module != "mitmproxy.addons.asgiapp"


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


_RELIED_UPON: dict[str, tuple[int, str]] = {
    "traverse": (1, "hasattr traverse addons"),
    "AddonManager.trigger_event": (2, "chain safecall invoke_addon exceptions AddonHalt"),
    "AddonManager.trigger": (2, "chain safecall invoke_addon_sync exceptions AddonHalt"),
    "AddonManager.handle_lifecycle": (2, "args trigger_event isinstance flow Flow hooks UpdateHook"),
    "AddonManager.invoke_addon": (3, "_iter_hooks args inspect isawaitable"),
    "AddonManager._iter_hooks": (
        3,
        "isinstance hooks Hook traverse getattr name callable types ModuleType exceptions AddonManagerError",
    ),
}
"""Functions of `mitmproxy.addonmanager` that this module repeats: how many arguments they take, and the names they use."""


def differences(manager: AddonManager) -> str | None:
    """What is not as this module expects it in mitmproxy, or None."""
    if type(manager) is not AddonManager or not isinstance(getattr(manager, "chain", None), list):
        return "its addon manager is another one"
    if replaced := {"trigger_event", "handle_lifecycle", "trigger", "invoke_addon", "_iter_hooks"} & vars(manager).keys():
        return f"{', '.join(sorted(replaced))} of its addon manager is replaced already"
    for name, (arguments, used) in _RELIED_UPON.items():
        code = _code(addonmanager, name)
        if code is None or code.co_argcount != arguments or set(code.co_names) != set(used.split()):
            return f"{name} is not what it was in mitmproxy 12.2"
    children = vars(Script).get("addons")
    if not isinstance(children, property) or getattr(_code(children, "fget"), "co_names", ()) != ("ns",):
        return "Script.addons is not what it was in mitmproxy 12.2"
    return None


def _code(owner: object, path: str) -> CodeType | None:
    for part in path.split("."):
        owner = getattr(owner, part, None)
    return getattr(owner, "__code__", None)
