from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
import sys
import traceback
import types
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import addonmanager, eventsequence, exceptions, options
from mitmproxy import hooks as mitm_hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons import asgiapp, keepserving, onboarding
from mitmproxy.addons.script import Script
from mitmproxy.log import AddLogHook, LogEntry
from mitmproxy.proxy.layers.http import HttpRequestHook, HttpResponseHook
from mitmproxy.proxy.server_hooks import ClientConnectedHook
from mitmproxy.test import taddons, tflow
from mitmproxy.tools.dump import DumpMaster

from valetkey.proxy import hooks, surveying

# ---------------------------------------------------------------- a world of addons, built twice from one description

NAMES = ("request", "response", "update", "client_connected", "running")
MASTER = SimpleNamespace(
    options=SimpleNamespace(changed=SimpleNamespace(connect=lambda _: None), process_deferred=lambda: None),
    commands=SimpleNamespace(collect_commands=lambda _: None),
)
FUEL = 25
"""So many changes in one world; an addon that inserts another before itself would never end."""


class World:
    """An addon manager with addons that write down their calls and change the world as they are told."""

    def __init__(self, nodes, cached):
        self.trace = []
        self.logged = []
        self.nodes = []
        self.fuel = FUEL
        self.manager = AddonManager(MASTER)
        self.manager.chain.extend(self.manager.register(self.make(node)) for node in nodes)
        if cached:
            assert hooks.install(self.manager)

    # ---- making addons

    def make(self, node):
        kind, handlers, children = node
        if kind == "known":  # one of mitmproxy's own, which change nothing
            handlers = {hook: (style, (), ending) for hook, (style, _, ending) in handlers.items()}
        name = f"n{len(self.nodes)}"
        addon = self.bare(kind, name)
        self.nodes.append(addon)
        addon.name = name
        if kind == "script":
            addon.ns, addon.is_running, addon.reloadtask = None, False, None
        for hook, behaviour in handlers.items():
            self.give(addon, name, hook, behaviour, kind)
        self.nest(addon, kind, children)
        return addon

    def bare(self, kind, name):
        if kind == "script":
            return Script.__new__(Script)
        if kind not in ("module", "lazy"):
            return self.plain(kind, name)
        module = types.ModuleType(name)
        if kind == "lazy":
            module.__getattr__ = lambda attribute: self.lookup(name)(module, attribute)
        return module

    def plain(self, kind, name):
        body = {"__repr__": lambda addon: f"<{name}>"}
        if kind == "known":
            body["__module__"] = "mitmproxy.addons.known"
        if kind == "equal":
            body |= {
                "__eq__": lambda one, other: type(one).equal == getattr(type(other), "equal", None),
                "__hash__": object.__hash__,
                "equal": 1,
            }
        if kind == "property":
            body["addons"] = property(lambda addon: self.trace.append(f"{name}.addons") or addon.inside)
        if kind == "dynamic":
            body["__getattr__"] = self.lookup(name)
        return type(name, (), body)()

    def lookup(self, name):
        def found(addon, attribute):
            if attribute not in (*NAMES, "addons"):
                raise AttributeError(attribute)
            self.trace.append(f"{name}.__getattr__({attribute})")
            if attribute == "request":
                return self.handler(name, attribute, ("plain", (), None))
            raise AttributeError(attribute)

        return found

    def nest(self, addon, kind, children):
        if children is None:
            if kind == "property":
                addon.inside = []
            return
        made = [self.make(child) for child in children]
        if kind == "script":
            addon.ns = next((child for child in made if isinstance(child, types.ModuleType)), None)
        elif kind == "property":
            addon.inside = made
        else:
            addon.addons = tuple(made) if kind == "tuple" else made

    def give(self, addon, name, hook, behaviour, kind):
        handler = self.handler(name, hook, behaviour)
        style = behaviour[0]
        if kind in ("module", "lazy", "script") or style in ("instance", "module", "text", "none", "empty", "doubtful"):
            setattr(addon, hook, handler)
        elif style == "static":
            setattr(type(addon), hook, staticmethod(handler))
        else:
            setattr(type(addon), hook, lambda self, *args: handler(*args))
            if inspect.iscoroutinefunction(handler):

                async def method(self, *args):
                    await handler(*args)

                setattr(type(addon), hook, method)

    def handler(self, name, hook, behaviour):
        style, actions, ending = behaviour
        special = {
            "module": types,
            "text": "text",
            "none": None,
            "wrong": lambda one, two, three: None,
            "empty": Empty(self.trace),
            "doubtful": Doubtful(),
        }
        if style in special:
            return special[style]

        def called(*args):
            self.trace.append((name, hook, len(args)))
            for action in actions:
                self.act(action)
            if ending is not None:
                raise ending(f"{name} {hook}")

        async def awaited(*args):
            await asyncio.sleep(0)
            called(*args)
            await asyncio.sleep(0)

        def gives(*args):
            return awaited(*args)

        return {"async": awaited, "gives": gives}.get(style, called)

    # ---- changing the world

    def act(self, action):
        self.fuel -= 1
        if self.fuel < 0:
            return
        verb, *args = action
        with contextlib.suppress(AttributeError, TypeError, IndexError):
            getattr(self, f"do_{verb}")(*args)

    def node(self, index):
        return self.nodes[index % len(self.nodes)]

    def do_add(self, _, spec):
        self.manager.add(self.make(spec))

    def do_remove(self, index, _):
        self.manager.remove(self.node(index))

    def do_clear(self, *_):
        self.manager.clear()

    def do_insert(self, index, spec):
        self.manager.chain.insert(index % (len(self.manager.chain) + 1), self.make(spec))

    def do_replace(self, index, spec):
        self.manager.chain[index % len(self.manager.chain)] = self.make(spec)

    def do_cut(self, index, _):
        self.manager.chain.pop(index % len(self.manager.chain))

    def do_swap(self, index, _):
        chain = self.manager.chain
        chain[0], chain[index % len(chain)] = chain[index % len(chain)], chain[0]

    def do_set(self, index, spec):
        for hook, behaviour in spec[1].items():
            setattr(self.node(index), hook, self.handler(f"set{index}", hook, behaviour))

    def do_unset(self, index, _):
        for hook in NAMES:
            vars(self.node(index)).pop(hook, None)

    def do_set_class(self, index, spec):
        for hook, behaviour in spec[1].items():
            if type(self.node(index)) is not Script:
                setattr(type(self.node(index)), hook, staticmethod(self.handler(f"class{index}", hook, behaviour)))

    def do_unset_class(self, index, _):
        for hook in NAMES:
            if hook in vars(type(self.node(index))) and type(self.node(index)) is not Script:
                delattr(type(self.node(index)), hook)

    def do_new_class(self, index, spec):
        # Not one with properties: they would be read a second time, which is the one thing that is known to differ.
        self.node(index).__class__ = type(self.make(("plain", *spec[1:])))

    def do_new_dict(self, index, spec):
        node = self.node(index)  # looked up first: one that is nested in itself would be no addon but a circle
        node.__dict__ = dict(vars(self.make(("plain", *spec[1:]))))

    def do_children(self, index, spec):
        node = self.node(index)
        node.addons = [self.make(spec)]

    def do_append(self, index, spec):
        self.node(index).addons.append(self.make(spec))

    def do_pop(self, index, _):
        self.node(index).addons.pop(0)

    def do_reload(self, index, spec):
        for node in list(self.nodes):
            if type(node) is Script:
                node.ns = self.make(("module", *spec[1:])) if index % 2 else None

    # ---- events

    async def play(self, event):
        how, what = event
        if how == "together":
            await asyncio.gather(*(self.play(one) for one in what))
        elif how == "act":
            with contextlib.suppress(Exception):
                self.act(what)
        else:
            try:
                result = driven(self.manager, EVENTS[what]()) if how == "driven" else getattr(self.manager, how)(EVENTS[what]())
                if result is not None:
                    await result
            except Exception as error:
                self.trace.append(("raised", how, type(error), str(error)))
        self.trace.append("end")

    def story(self):
        return [re.sub("0x[0-9a-f]+", "", str(line)) for line in (*self.trace, *self.logged, *map(name_of, self.manager.chain))]


class Empty:
    """A callable that is false."""

    def __init__(self, trace):
        self.trace = trace

    def __len__(self):
        return 0

    def __call__(self, *args):
        self.trace.append("empty")


class Doubtful:
    """A callable that does not know whether it is true."""

    def __bool__(self):
        raise LookupError("in doubt")

    def __call__(self, *args):
        pass


async def driven(manager, hook):
    """A hook as a connection runs it: without a task while nothing is waited for."""
    ran = hooks.run_plain(manager, hook)
    if ran is None:
        await manager.handle_lifecycle(hook)
    elif ran[1] is not None:
        with contextlib.suppress(StopIteration):
            await hooks.Begun(ran[1], hooks.run_ahead(manager, ran[1]))


def name_of(addon):
    return getattr(addon, "name", "nameless")


FLOW = tflow.tflow()
EVENTS = {
    "request": lambda: HttpRequestHook(FLOW),
    "response": lambda: HttpResponseHook(FLOW),
    "update": lambda: mitm_hooks.UpdateHook([FLOW]),
    "client_connected": lambda: ClientConnectedHook(FLOW.client_conn),
    "running": mitm_hooks.RunningHook,
}


class Listening(logging.Handler):
    """Writes down what mitmproxy logs, with the functions in the traceback."""

    def __init__(self, lines):
        super().__init__()
        self.lines = lines

    def emit(self, record):
        functions = []
        if record.exc_info:
            functions = [frame.name for frame in traceback.extract_tb(record.exc_info[2])]
        # Uncut when the handler has no frame of its own.
        self.lines.append((record.levelname, record.getMessage(), record.funcName, functions[:1] != ["safecall"] and functions))


def run(nodes, events, cached):
    world = World(nodes, cached)
    listening = Listening(world.logged)
    addonmanager.logger.addHandler(listening)

    async def play():
        for event in events:
            await world.play(event)

    try:
        asyncio.run(play())
    finally:
        addonmanager.logger.removeHandler(listening)
    return world


# ---------------------------------------------------------------- the differential test

ENDINGS = st.sampled_from(
    [None] * 6 + [ValueError, KeyError, exceptions.AddonHalt, exceptions.OptionsError, exceptions.AddonManagerError]
)
STRANGE = ["instance", "static", "module", "text", "none", "wrong", "empty", "doubtful"]
STYLES = st.sampled_from(["plain"] * 8 + ["async"] * 3 + ["gives"] * 2 + STRANGE)
KINDS = st.sampled_from(["plain"] * 10 + ["known"] * 5 + ["module", "lazy", "script", "property", "dynamic", "tuple", "equal"])
HEARD = st.sampled_from(["request"] * 6 + list(NAMES))
VERBS = [name.removeprefix("do_") for name in dir(World) if name.startswith("do_")]


def behaviours(actions):
    return st.tuples(STYLES, actions, ENDINGS)


def nodes_of(behaviour, children):
    return st.tuples(KINDS, st.dictionaries(HEARD, behaviour, max_size=3), children)


SMALL = nodes_of(behaviours(st.just(())), st.none() | st.lists(nodes_of(behaviours(st.just(())), st.none()), max_size=2))
ACTIONS = st.tuples(st.sampled_from(VERBS), st.integers(0, 8), SMALL)
BEHAVIOURS = behaviours(st.lists(ACTIONS, max_size=2).map(tuple))
NODES = st.recursive(
    nodes_of(BEHAVIOURS, st.none()),
    lambda inner: nodes_of(BEHAVIOURS, st.none() | st.lists(inner, max_size=4)),
    max_leaves=6,
)
SINGLE = st.tuples(st.sampled_from(["handle_lifecycle", "trigger_event", "trigger_event", "trigger"]), HEARD)
DRIVEN = st.tuples(st.just("driven"), HEARD)
HAPPENINGS = (
    DRIVEN
    | SINGLE
    | st.tuples(st.just("together"), st.lists(SINGLE, min_size=2, max_size=3))
    | st.tuples(st.just("act"), ACTIONS)
)


# What a synchronous trigger is given is awaited by nobody, in mitmproxy neither.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@given(st.lists(NODES, min_size=1, max_size=5), st.lists(HAPPENINGS, min_size=2, max_size=6))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_calls_log_and_exceptions_are_those_of_mitmproxy(nodes, events):
    assert run(nodes, events, cached=True).story() == run(nodes, events, cached=False).story()


PLAIN_NODES = st.recursive(
    st.tuples(
        st.sampled_from(["plain", "known", "known", "module", "script", "equal"]),
        st.dictionaries(
            HEARD,
            st.tuples(st.sampled_from(["plain"] * 8 + ["instance", "gives"]), st.lists(ACTIONS, max_size=1).map(tuple), ENDINGS),
            max_size=3,
        ),
        st.none(),
    ),
    lambda inner: st.tuples(st.just("plain"), st.just({}), st.lists(inner, max_size=3)),
    max_leaves=4,
)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@given(
    st.lists(PLAIN_NODES, min_size=1, max_size=6),
    st.lists(DRIVEN | DRIVEN | st.tuples(st.just("act"), ACTIONS), min_size=3, max_size=8),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_hooks_of_plain_functions_run_as_in_mitmproxy(nodes, events):
    assert run(nodes, events, cached=True).story() == run(nodes, events, cached=False).story()


def node(kind="plain", children=None, /, **handlers):
    return kind, handlers, children


def hears(*actions, ending=None, style="plain"):
    return style, actions, ending


CALM, TWIN = node(request=hears()), node("equal", request=hears())
KNOWN = node("known", request=hears())
TWICE = [("trigger_event", "request")] * 2
SCENARIOS = {
    "many, one of them async": ([CALM, node(request=hears(style="async")), node(), CALM], TWICE),
    "a sibling is appended behind the last listener": (
        [node("plain", [node(request=hears(("append", 0, CALM)))], update=hears()), CALM],
        TWICE,
    ),
    "a list in the middle of a group grows": ([node("plain", [node(), CALM], request=hears(("append", 0, CALM))), CALM], TWICE),
    "later siblings in a group are skipped after an error": (
        [node("plain", [node(request=hears(ending=ValueError)), CALM]), CALM],
        TWICE,
    ),
    "a silent addon gets a child": ([CALM, node(), CALM], [*TWICE, ("act", ("children", 1, CALM)), *TWICE]),
    "an error, with a change behind it": (
        [node("plain", [node(request=hears(("set", 3, CALM), ending=ValueError)), CALM]), node(), CALM],
        TWICE,
    ),
    "a silent group behind the last listener grows": ([node(request=hears(("append", 1, CALM))), node("plain", [node()])], TWICE),
    "a halt in a group with properties": ([node("property", request=hears(ending=exceptions.AddonHalt)), CALM], TWICE),
    "attributes made on demand": ([node("dynamic"), CALM], TWICE),
    "a halt": ([CALM, node(request=hears(ending=exceptions.AddonHalt)), CALM], TWICE),
    "an options error": ([CALM, node(request=hears(ending=exceptions.OptionsError)), CALM], TWICE),
    "a script is reloaded between events": (
        [node("script", [node("module", request=hears())])],
        [*TWICE, ("act", ("reload", 1, CALM)), *TWICE],
    ),
    "a script is reloaded within an event": (
        [node("script", [node("module", [CALM, CALM], request=hears(("reload", 1, CALM)))]), CALM],
        TWICE,
    ),
    "a script manager becomes another addon": (
        [node("script", request=hears())],
        [*TWICE, ("act", ("new_class", 0, node())), ("act", ("children", 0, CALM)), *TWICE],
    ),
    "an equal twin takes the place of an addon": ([TWIN], [*TWICE, ("act", ("replace", 0, TWIN)), *TWICE]),
    "a lazy module": ([node("lazy"), CALM], TWICE),
    "one that listens is removed by one before it": ([node(request=hears(("remove", 1, CALM))), CALM, CALM], TWICE),
    "all are removed in an event": ([node(request=hears(("clear", 0, CALM))), CALM], [*TWICE, *TWICE]),
    "one adds another in an event": ([node(request=hears(("add", 0, CALM)))], TWICE),
    "a handler is set on a later addon": ([node(request=hears(("set", 1, CALM))), node(), CALM], TWICE),
    "a handler is set on a later class": ([node(request=hears(("set_class", 1, CALM))), node(), CALM], TWICE),
    "an update is heard": ([node(update=hears(), request=hears())], [("handle_lifecycle", "request")] * 2),
    "an update is heard from now on": (
        [node(request=hears(("set", 1, node(update=hears())))), node()],
        [("handle_lifecycle", "request")] * 2,
    ),
    "an update is heard by one that came into a new chain": (
        [node(request=hears(("remove", 1, CALM), ("add", 0, node(update=hears())))), node()],
        [("handle_lifecycle", "request")] * 2,
    ),
    "a hook without arguments": ([node(running=hears())], [("handle_lifecycle", "running"), ("trigger_event", "running")]),
    "a synchronous trigger": ([CALM], [("trigger", "update"), ("trigger", "request")]),
    "several of mitmproxy's own": ([KNOWN, node("known", request=hears(ending=ValueError)), KNOWN, node(), CALM, KNOWN], TWICE),
    "a change before several of mitmproxy's own": ([node(request=hears(("set", 3, CALM))), KNOWN, KNOWN, node(), KNOWN], TWICE),
    "a list grows before several of mitmproxy's own": (
        [node(request=hears(("append", 3, CALM))), KNOWN, KNOWN, node("plain", [node()]), KNOWN],
        TWICE,
    ),
    "a list is replaced before several of mitmproxy's own": (
        [node(request=hears(("children", 3, CALM))), KNOWN, KNOWN, node("plain", [node()]), KNOWN],
        TWICE,
    ),
    "one of mitmproxy's own is skipped after an error, with a change behind it": (
        [node("plain", [node(request=hears(("set", 3, CALM), ending=ValueError)), KNOWN]), node()],
        TWICE,
    ),
    "one of mitmproxy's own is skipped, and another one listens behind it": (
        [node("plain", [node(request=hears(("set", 3, CALM), ending=ValueError)), KNOWN]), node(), KNOWN],
        TWICE,
    ),
    "a change while one of mitmproxy's own waits": (
        [node("known", request=hears(style="async")), node(response=hears(("set", 2, CALM))), node(), KNOWN],
        [("together", [("trigger_event", "request"), ("trigger_event", "response")]), *TWICE],
    ),
    "a change while one waits that is plain": (
        [node("known", request=hears(style="gives")), node(response=hears(("set", 2, CALM))), node(), KNOWN],
        [("together", [("trigger_event", "request"), ("trigger_event", "response")]), *TWICE],
    ),
    "a change behind the last while it waits": (
        [node("known", request=hears(style="gives")), node(response=hears(("set", 2, CALM))), node()],
        [("together", [("trigger_event", "request"), ("trigger_event", "response")]), *TWICE],
    ),
    "a handler whose truth cannot be told": ([node(request=hears(style="doubtful")), CALM], TWICE),
    "an async handler in a synchronous trigger": ([node(request=hears(style="async"))], [("trigger", "request")] * 2),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenarios_run_as_in_mitmproxy(scenario):
    nodes, events = SCENARIOS[scenario]
    assert run(nodes, events, cached=True).story() == run(nodes, events, cached=False).story()


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if "waits" not in name])
def test_scenarios_run_without_a_task_as_in_mitmproxy(scenario):
    nodes, events = SCENARIOS[scenario]
    events = [event if event[0] == "act" else ("driven", event[1]) for event in events for _ in range(2)]
    assert run(nodes, events, cached=True).story() == run(nodes, events, cached=False).story()


def test_a_circle_is_left_to_mitmproxy():
    world = World([node("plain", [CALM])], cached=True)
    world.nodes[0].addons.append(world.nodes[0])
    asyncio.run(world.play(("trigger_event", "request")))
    assert len(world.trace) > surveying.DEPTH


def test_addons_that_change_all_the_time_are_left_to_mitmproxy(monkeypatch):
    surveys = []
    monkeypatch.setattr(hooks, "plan_of", lambda *args: surveys.append(args) or surveying.plan_of(*args))
    world = World([node()], cached=True)

    async def play():
        for number in range(500):
            (world.do_set, world.do_unset)[number % 2](0, CALM)
            await world.manager.trigger_event(EVENTS["request"]())

    asyncio.run(play())
    assert len(surveys) < 20


def test_no_update_is_made_when_nobody_listens(monkeypatch):
    made = []
    monkeypatch.setattr(mitm_hooks.UpdateHook, "__init__", lambda *args: made.append(args))
    asyncio.run(World([CALM], cached=True).play(("handle_lifecycle", "request")))
    assert made == []


# ---------------------------------------------------------------- mitmproxy's own addons


def calls_in_mitmdump(flow, cached):
    """The functions of mitmproxy's addons that are called for a whole flow."""
    calls = []

    def profile(frame, event, _):
        if event == "call" and "/mitmproxy/addons/" in frame.f_code.co_filename:
            calls.append(frame.f_code.co_qualname)

    async def play():
        master = DumpMaster(options.Options(), with_termlog=False, with_dumper=True)
        try:
            assert not cached or hooks.install(master.addons)
            for _ in range(2):
                for event in eventsequence.iterate(flow()):
                    sys.setprofile(profile)
                    await master.addons.handle_lifecycle(event)
                    sys.setprofile(None)
        finally:
            sys.setprofile(None)
            hooks.uninstall(master.addons)
            master._legacy_log_events.uninstall()

    asyncio.run(play())
    # mitmproxy reads this property for each event, we do not.
    return [call for call in calls if call != "Script.addons"]


FLOWS = {
    "http": lambda: tflow.tflow(resp=True),
    "error": lambda: tflow.tflow(err=True),
    "websocket": tflow.twebsocketflow,
    "tcp": tflow.ttcpflow,
    "udp": tflow.tudpflow,
    "dns": lambda: tflow.tdnsflow(resp=True),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_the_addons_of_mitmdump_are_called_as_in_mitmproxy(flow):
    assert calls_in_mitmdump(FLOWS[flow], cached=True) == calls_in_mitmdump(FLOWS[flow], cached=False)


def test_the_addons_of_mitmdump_are_called_at_all():
    assert "Dumper.response" in calls_in_mitmdump(FLOWS["http"], cached=True)


# ---------------------------------------------------------------- listeners that need no task of their own


def plain(*nodes, hook=HttpRequestHook, others=()):
    """What is said of a hook that was run, or None."""
    world = World(nodes, cached=True)
    world.manager.chain.extend(others)
    return hooks.run_plain(world.manager, hook(FLOW))


@pytest.mark.parametrize("nodes", [[], [node()], [CALM, KNOWN]])
def test_plain_listeners_are_run_at_once(nodes):
    assert plain(*nodes) == ("flow", None)


def test_a_coroutine_of_mitmproxys_own_is_known_not_to_ask_for_its_task():
    with taddons.context(onboarding.Onboarding()) as context:
        context.options.onboarding = False
        assert plain(CALM, others=[context.master.addons.get("asgiapp:mitm.it:None")]) == ("flow", None)


def test_an_application_of_a_users_may_ask():
    assert plain(CALM, others=[asgiapp.ASGIApp(None, "host", 1)]) is None


@pytest.mark.parametrize(
    "nodes",
    [
        [CALM, node(request=hears(style="async"))],
        [CALM, node(update=hears(style="async"))],
        [CALM, node("property", [CALM])],
    ],
)
def test_where_one_may_ask_for_its_task_nothing_is_run(nodes):
    assert plain(*nodes) is None


def test_a_hook_without_a_subject_is_not_run():
    assert hooks.run_plain(World([CALM], cached=True).manager, mitm_hooks.RunningHook()) is None


def test_where_mitmproxy_dispatches_nothing_is_run():
    assert hooks.run_plain(World([CALM], cached=False).manager, HttpRequestHook(FLOW)) is None


@pytest.mark.parametrize("name", ["handle_lifecycle", "trigger_event"])
@pytest.mark.parametrize("before", [0, 1])
def test_where_somebody_else_dispatches_nothing_is_run(name, before):
    world = World([CALM], cached=True)
    for _ in range(before):
        hooks.run_plain(world.manager, HttpRequestHook(FLOW))
    setattr(world.manager, name, another)
    assert hooks.run_plain(world.manager, HttpRequestHook(FLOW)) is None


def test_while_a_hook_is_left_to_mitmproxy_it_is_not_run():
    world = World([CALM], cached=True)
    vars(world.manager)["trigger_event"].__self__._paused[HttpRequestHook] = 1
    assert hooks.run_plain(world.manager, HttpRequestHook(FLOW)) is None


def ahead(*nodes, before=0):
    """Whether a hook ends at once, and what was heard until then."""
    world = World(nodes, cached=True)
    for _ in range(before):
        asyncio.run(driven(world.manager, EVENTS["request"]()))
    world.trace.clear()
    _, steps = hooks.run_plain(world.manager, EVENTS["request"]())
    if steps is None:
        return True, world.trace
    try:
        hooks.run_ahead(world.manager, steps)
    except StopIteration:
        return True, world.trace
    steps.close()
    return False, world.trace


@pytest.mark.parametrize("nodes", [[], [CALM], [KNOWN, CALM], [node(request=hears(ending=ValueError))]])
@pytest.mark.parametrize("before", [0, 1])
def test_plain_listeners_end_at_once(nodes, before):
    assert ahead(*nodes, before=before)[0]


@pytest.mark.parametrize("verb", ["set", "set_class", "insert"])
def test_what_has_changed_waits_for_a_task(verb):
    """Nobody knows what has come."""
    assert ahead(node(request=hears((verb, 1, CALM))), node(), CALM) == (False, [("n0", "request", 1)])


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_coroutine_that_is_given_waits_for_a_task():
    assert ahead(CALM, node(request=hears(style="gives"))) == (False, [("n0", "request", 1)])


def test_what_is_not_a_coroutine_is_not_waited_for():
    addon = SimpleNamespace(request=lambda flow: "text")
    assert plain(CALM, others=[addon]) == ("flow", None)


def owned(waits, ending=None):
    """An addon that passes for one of mitmproxy's own, with a coroutine."""

    async def request(self, flow):
        self.tasks.append(asyncio.current_task())
        for _ in range(waits):
            await asyncio.sleep(0)
        if ending is not None:
            raise ending("own")

    request.__module__ = "mitmproxy.addons.own"
    return type("Own", (), {"__module__": "mitmproxy.addons.own", "request": request, "tasks": []})()


@pytest.mark.parametrize(("waits", "ended"), [(0, True), (1, False)])
def test_a_coroutine_of_mitmproxys_own_is_run_as_far_as_it_comes(waits, ended):
    async def play():
        with contextlib.closing(plain(others=[owned(waits)])[1] or SimpleNamespace(close=int)) as steps:
            return not inspect.iscoroutine(steps)

    assert asyncio.run(play()) == ended


@pytest.mark.parametrize("waits", [0, 1, 2])
@pytest.mark.parametrize("ending", [None, ValueError, exceptions.AddonHalt])
def test_what_comes_behind_a_coroutine_of_mitmproxys_own_is_as_in_mitmproxy(waits, ending):
    def heard(cached):
        world = World([node(), CALM, node("plain", [CALM])], cached)
        listening = Listening(world.logged)
        addonmanager.logger.addHandler(listening)
        world.manager.chain.insert(1, owned(waits, ending))
        try:
            asyncio.run(driven(world.manager, EVENTS["request"]()))
        finally:
            addonmanager.logger.removeHandler(listening)
        return world.story()

    assert heard(True) == heard(False)


def test_what_changes_while_a_coroutine_of_mitmproxys_own_waits_is_heard():
    world = World([node(), CALM], cached=True)
    world.manager.chain.insert(0, owned(1))

    async def play():
        one = asyncio.ensure_future(driven(world.manager, EVENTS["request"]()))
        await asyncio.sleep(0)
        world.do_set(0, CALM)
        await one

    asyncio.run(play())
    assert world.trace == [("set0", "request", 1), ("n1", "request", 1)]


def test_one_look_serves_the_hook_and_its_update(monkeypatch):
    world = World([KNOWN, node(), node()], cached=True)
    hooks.run_plain(world.manager, EVENTS["request"]())
    monkeypatch.setattr(hooks, "stands", None)
    assert hooks.run_plain(world.manager, EVENTS["request"]()) == ("flow", None)


def heard_after(addon):
    """How many hooks go by until a handler is called that was put on an addon at run time."""
    world, heard = World([CALM], cached=True), []
    world.manager.chain.append(addon)
    hooks.run_plain(world.manager, EVENTS["request"]())
    addon.request = heard.append
    for number in range(3 * hooks.EVERY):
        asyncio.run(driven(world.manager, EVENTS["request"]()))
        if heard:
            return number
    return None


def test_a_handler_that_an_addon_gets_at_run_time_is_called_from_the_next_hook_on():
    assert heard_after(SimpleNamespace()) == 0


def test_one_that_an_addon_of_mitmproxys_own_gets_is_found_before_long():
    assert 0 < heard_after(keepserving.KeepServing()) <= hooks.EVERY


class Anything:
    """An addon that calls itself equal to every other one."""

    def __init__(self):
        self.heard = []

    def __eq__(self, other):
        return True

    __hash__ = object.__hash__

    def request(self, flow):
        self.heard.append(flow)


@pytest.mark.parametrize("nested", [False, True])
def test_an_addon_that_is_equal_to_all_takes_no_place_for_long(nested):
    world = World([node("plain", [CALM]) if nested else node(), CALM], cached=True)
    asyncio.run(driven(world.manager, EVENTS["request"]()))
    siblings = world.nodes[0].addons if nested else world.manager.chain
    siblings[0] = addon = Anything()
    for _ in range(hooks.EVERY + 1):
        asyncio.run(driven(world.manager, EVENTS["request"]()))
    assert len(addon.heard) >= 1


def test_after_a_change_hooks_are_run_in_one_loop_again(monkeypatch):
    world = World([CALM, node()], cached=True)
    asyncio.run(driven(world.manager, EVENTS["request"]()))
    world.do_set(1, CALM)
    for _ in range(3):
        asyncio.run(driven(world.manager, EVENTS["request"]()))
    assert hooks.run_plain(world.manager, EVENTS["request"]()) == ("flow", None)


def test_a_dispatcher_that_comes_in_the_middle_gets_the_update():
    got = []

    async def trigger_event(event):
        got.append(type(event))

    world = World([], cached=True)
    world.manager.chain.append(SimpleNamespace(request=lambda _: setattr(world.manager, "trigger_event", trigger_event)))
    asyncio.run(driven(world.manager, EVENTS["request"]()))
    assert got == [mitm_hooks.UpdateHook]


def test_who_changes_others_and_gives_a_coroutine_is_called_once():
    world = World([node()], cached=True)
    called = []

    def request(flow):
        called.append(flow)
        world.do_set(0, CALM)
        return asyncio.sleep(0)

    world.manager.chain.append(SimpleNamespace(request=request))
    asyncio.run(driven(world.manager, EVENTS["request"]()))
    assert len(called) == 1


def begun(request, *others):
    """What a hook waits for that comes to this coroutine of mitmproxy's own first."""

    async def play():
        world = World([], cached=True)
        world.manager.chain.extend(others)
        addon = owned(0)
        type(addon).request = request
        request.__module__ = "mitmproxy.addons.own"
        addon.manager = world.manager
        world.manager.chain.insert(0, addon)
        _, steps = hooks.run_plain(world.manager, EVENTS["request"]())
        with contextlib.closing(steps):
            return hooks.run_ahead(world.manager, steps)

    return asyncio.run(play())


def test_a_coroutine_of_mitmproxys_own_waits_for_no_task():
    async def request(self, flow):
        await asyncio.get_running_loop().create_future()

    assert isinstance(begun(request), asyncio.Future)


def test_what_a_coroutine_of_mitmproxys_own_triggers_waits_for_a_task():
    heard = []

    async def request(self, flow):
        await self.manager.trigger_event(HttpResponseHook(flow))

    async def response(flow):
        heard.append(flow)
        await asyncio.sleep(0)

    begun(request, SimpleNamespace(response=response))
    assert heard == []


def test_only_what_has_no_task_waits_for_one():
    world = World([node(request=hears(ending=ValueError))], cached=True)
    _, steps = hooks.run_plain(world.manager, EVENTS["request"]())
    with contextlib.suppress(StopIteration):
        hooks.run_ahead(world.manager, steps)
    assert not vars(world.manager)["trigger_event"].__self__.is_ahead


# ---------------------------------------------------------------- on and off


@pytest.mark.parametrize("name", ["trigger_event", "handle_lifecycle", "trigger"])
def test_the_beginning_puts_each_method_in(name):
    assert isinstance(vars(World([], cached=True).manager)[name].__self__, hooks.HookDispatch)


def test_silent_addons_are_not_visited():
    visited = []
    world = World([node(), node()], cached=True)
    world.manager.invoke_addon = lambda *args: visited.append(args)
    asyncio.run(world.manager.trigger_event(EVENTS["request"]()))
    assert visited == []


def manager():
    return AddonManager(MASTER)


def test_the_end_puts_everything_back():
    ours = manager()
    before = dict(vars(ours))
    hooks.install(ours)
    hooks.uninstall(ours)
    assert vars(ours) == before


def test_an_end_without_a_beginning_is_harmless():
    ours = manager()
    hooks.uninstall(ours)
    assert "trigger_event" not in vars(ours)


def test_the_end_leaves_what_another_one_put_there():
    ours = manager()
    hooks.install(ours)
    ours.trigger = print
    hooks.uninstall(ours)
    assert ours.trigger is print


def test_this_mitmproxy_is_one_that_we_know():
    assert hooks.differences(manager()) is None


async def another(self, event):
    """Another `trigger_event`."""
    for one in self.elsewhere:
        await self.invoke_addon(one, event)


@pytest.mark.parametrize("name", ["trigger_event", "trigger", "handle_lifecycle", "invoke_addon", "_iter_hooks"])
@pytest.mark.parametrize("how", [another, None, lambda self: self.chain])
def test_other_internals_are_seen(monkeypatch, name, how):
    monkeypatch.setattr(AddonManager, name, how)
    assert name in hooks.differences(AddonManager(MASTER))


def test_another_traversal_is_seen(monkeypatch):
    monkeypatch.setattr(addonmanager, "traverse", lambda chain: list(chain))
    assert "traverse" in hooks.differences(manager())


def test_another_script_addon_is_seen(monkeypatch):
    monkeypatch.setattr(Script, "addons", [])
    assert "Script.addons" in hooks.differences(manager())


def test_another_manager_is_seen():
    assert hooks.differences(type("Other", (AddonManager,), {})(MASTER))


def test_methods_replaced_by_somebody_else_stay():
    ours = manager()
    ours.trigger_event = print
    assert not hooks.install(ours)


def test_staying_off_is_noticed_in_the_log(caplog, monkeypatch):
    monkeypatch.setattr(AddonManager, "trigger_event", another)
    hooks.install(AddonManager(MASTER))
    assert "mitmproxy dispatches the hooks itself" in caplog.text


def test_a_line_in_the_log_costs_no_walk():
    """mitmproxy triggers `add_log` for each."""
    walked = []
    world = World([CALM], cached=True)
    world.manager.invoke_addon_sync = lambda *args: walked.append(args)
    world.manager.trigger(AddLogHook(LogEntry("text", "info")))
    assert walked == []
