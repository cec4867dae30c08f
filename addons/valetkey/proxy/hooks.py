"""Hook dispatch that asks only the addons that listen; everything else is as in mitmproxy's `AddonManager`.

mitmproxy walks all its addons for each hook, and once more for the `update` after each hook of a flow: about 40 % of a small
call through bare mitmdump. Here a hook is run by the *plan* of its class (`surveying`). Nothing is taken for granted: just
before a handler runs, what the plan relies upon is looked at again, so whatever an addon changed, also in the middle of an
event, counts from the moment from which it would count in mitmproxy. When something differs, mitmproxy's own code does the
rest of the event, and a new plan is made.

Where all listeners of a hook are plain functions, the hook and its `update` run in one loop without a coroutine, with one look
for all that cannot change in between. What turns out otherwise goes on from where it stands in the long way.

Five differences remain. A handler that is put on one of mitmproxy's own addons, or on its class, at run time is found after
`EVERY` hooks at the latest, not at the next one; so is an addon that calls itself equal to the one whose place it takes. The
argument is read from the hook once per event, not once per handler. A handler that fails without a frame of its own (a wrong
signature, a builtin) is logged with our frame where mitmproxy's would stand. And a property that is put on the class of a
loaded addon at run time may be read more often, and before the listeners are called.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from itertools import repeat
from operator import is_, length_hint
from types import CodeType, CoroutineType, FunctionType, MethodType
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

from .surveying import WHOLE, Flat, Place, Plan, flat_of, is_mitmproxys_own, is_same, plan_of, stands

logger = logging.getLogger(__name__)

PAUSE = 64
"""At most so many events of a class are left to mitmproxy after its plan failed again and again."""
EVERY = 60
"""Of so many hooks, at one it is looked whether mitmproxy's own addons, and ours, have got new handlers, and whether all addons
are still the same, whatever they say of being equal."""
_FLOWS = frozenset({HTTPFlow, TCPFlow, UDPFlow, DNSFlow})
_FUNCTIONS = frozenset({MethodType, FunctionType})
"""Handlers of these types are true and can be called, whatever they are."""
_NONE = repeat(None)
_ABSENT = object()

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
            if not is_same(flat, manager.chain):
                self._plans.clear()
                self._flats.clear()
                return self.invoke_addon_sync(hook)
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
        done, listener, place = (steps[at - 1][0], steps[at - 1][1], steps[at - 1][5]) if at else (-1, WHOLE, ())
        failed, listener = (done, WHOLE) if has_failed else (-1, listener)
        waited = False
        for step in steps[at:]:
            top, addon, objects, _, _, after = step
            if top == failed:
                continue
            if again is None and (waited or objects is not None) and not stands(step, plan, chain, waited):
                break
            waited = False
            try:
                if addon is WHOLE:
                    if await self._left_to_mitmproxy(chain[top], event):
                        return
                    listener = WHOLE
                else:
                    handler, again = again or getattr(addon, name, None), None
                    if not handler or not callable(handler):
                        break
                    listener = addon
                    result = handler(argument)
                    if result is not None and (type(result) is CoroutineType or inspect.isawaitable(result)):
                        waited = True
                        if self.is_ahead and type(result) is not Begun and not is_mitmproxys_own(handler):
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
                failed, listener = top, WHOLE
            done, place = top, after
        else:
            if stands(last, plan, chain, waited):
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
        if not is_mitmproxys_own(handler):
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
        self._flats[kind] = flat = flat_of(plan, update)
        return flat

    def _silent(self, kind: type[Hook]) -> bool:
        """Whether nobody listens to this class of hooks, for certain."""
        plan = self._plans.get(kind) or self._renew(kind)
        if plan is None or plan[1]:
            return False
        if not stands(plan[2], plan, self._manager.chain, waited=False):
            self._strike(kind, plan)
            return False
        return True

    async def _rest(self, chain: list[object], done: int, listener: object, place: Place, event: Hook) -> None:
        """Do the rest of an event in mitmproxy's way: what is nested beside `listener`, and the top-level addons after `done`."""
        if self.is_ahead:
            await _TaskOfItsOwn()
        if listener is not WHOLE and await self._left_to_mitmproxy(_Remaining(_remaining(listener, place)), event):
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
        self._plans[kind] = plan = plan_of(self._manager.chain, kind.name, field)
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
