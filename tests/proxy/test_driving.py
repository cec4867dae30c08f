"""Connections driven by us and by mitmproxy, with the same layers, addons and events: what comes of it must be the same."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import connection, exceptions
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons import asgiapp
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer, server
from mitmproxy.proxy.layers.http import HttpErrorHook, HttpRequestHeadersHook, HttpRequestHook, HttpResponseHook
from mitmproxy.proxy.layers.tls import TlsClienthelloHook
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from valetkey.proxy import driving, hooks

ORIGINAL = server.ConnectionHandler.server_event
ROUNDS = 60
"""Rounds of the event loop after which what still waits is taken to wait for ever."""
HOOKS = {"request": HttpRequestHook, "response": HttpResponseHook, "error": HttpErrorHook, "tls_clienthello": TlsClienthelloHook}
OPTIONS = SimpleNamespace(tcp_timeout=600)
MASTER = SimpleNamespace(
    options=SimpleNamespace(changed=SimpleNamespace(connect=lambda _: None), process_deferred=lambda: None),
    commands=SimpleNamespace(collect_commands=lambda _: None),
)


class Unknown(commands.Command):
    def __repr__(self):
        return "Unknown"


# ---------------------------------------------------------------- connections, layers, addons


class Writer:
    def __init__(self, world, name):
        self.world, self.name, self.closing = world, name, False

    def write(self, data):
        self.world.writes += 1
        for piece in data.split(b";")[:-1]:  # pieces for one connection may come as one
            self.world.tell(piece[0] - ord("0"), "sent to", self.name, piece)

    def write_eof(self):
        self.world.tell(None, "ended", self.name)

    def is_closing(self):
        return self.closing

    def get_extra_info(self, name, default=None):
        return {"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)}.get(name, default)


class Handler(ProxyConnectionHandler):
    """A connection without sockets: servers are there as soon as they are asked for."""

    world: World

    async def open_connection(self, command):
        await asyncio.sleep(0)
        self.transports[command.connection] = self.world.io(f"server {command.connection.address[1]}")
        await self.server_event(events.OpenConnectionCompleted(command, None))


class Stream(layer.Layer):
    """Does what its program says for each event; it waits at blocking commands, as all layers do."""

    def __init__(self, context, world, number, program):
        super().__init__(context)
        self.world, self.number, self.program = world, number, iter(program)
        self.inline = number % 2 == 0
        self.flow = tflow.tflow()
        self.server = connection.Server(address=("server", number))

    def _handle_event(self, event):
        if isinstance(event, events.Wakeup):
            self.world.woken[self.number] += 1
            return
        self.world.tell(self.number, "event", type(event).__name__)
        for what, *details in next(self.program, ()):
            yield from getattr(self, f"do_{what}")(*details)
        self.world.tell(self.number, "done")

    def do_send(self, client):
        self.world.count += 1
        to = self.context.client if client else self.server
        yield commands.SendData(to, b"%d:%d;" % (self.number, self.world.count))

    def do_open(self):
        reply = yield commands.OpenConnection(self.server)
        self.world.tell(self.number, "opened", reply)

    def do_log(self, level):
        yield commands.Log(f"stream {self.number}", level)

    def do_close(self, half):
        yield commands.CloseTcpConnection(self.server, half) if half else commands.CloseConnection(self.server)

    def do_shut(self):
        io = self.world.handler.transports.get(self.server)
        if io is not None:
            io.writer.closing = True
        yield from ()

    def do_wakeup(self):
        yield commands.RequestWakeup(0)

    def do_unknown(self):
        yield Unknown()

    def do_crash(self):
        yield from ()
        raise ZeroDivisionError(f"in stream {self.number}")

    def do_hook(self, name, blocking=True):
        data = SimpleNamespace(stream=self.number) if name == "tls_clienthello" else self.flow
        self.flow.metadata["stream"] = self.number
        hook = HOOKS[name](data)
        hook.blocking = blocking
        if self.inline and driving.hook_is_over(hook):  # which it never is where mitmproxy drives
            self.world.held.append(hook)  # an `id` is given again when its object is gone
            self.world.completed.update([id(hook)] if blocking else [])
        else:
            yield hook
        if blocking:
            self.world.tell(self.number, "went on after", name)


class Streams:
    """Gives events to streams, and replies to the stream that asked."""

    def __init__(self, world, programs):
        self.world = world
        context = world.handler.layer.context
        self.streams = [Stream(context, world, number, program) for number, program in enumerate(programs)]
        self.asked = {}

    def handle_event(self, event):
        if isinstance(event, events.CommandCompleted):
            stream = self.asked[event.command]
            if isinstance(event, events.HookCompleted):
                self.world.completed[id(event.command)] += 1
        else:
            stream = self.streams[int(event.data)]
        for command in stream.handle_event(event):
            self.asked[command] = stream
            yield command


class World:
    """One connection, its addons, and all that happens."""

    def __init__(self, addons, programs, ours):
        self.trace = []
        self.count = self.writes = 0
        self.completed, self.woken, self.held = Counter(), Counter(), []
        self.names = iter(range(1000))
        manager = AddonManager(MASTER)
        for behaviours in addons:
            manager.chain.append(self.addon(behaviours))
        self.manager = manager
        if ours:
            assert hooks.install(manager)
            assert driving.install()
        mode = ProxyMode.parse("regular")
        self.handler = Handler(SimpleNamespace(addons=manager), None, Writer(self, "client"), OPTIONS, mode)
        self.handler.world = self
        self.handler.transports[self.handler.client] = self.io("client")
        self.handler.layer = Streams(self, programs)

    def io(self, name):
        task = SimpleNamespace(cancel=lambda message: self.tell(None, "cancelled", name, message))
        return server.ConnectionIO(handler=task, reader=None, writer=Writer(self, name))

    def tell(self, stream, *what):
        self.trace.append((stream, *what))

    # Addons.

    def addon(self, behaviours):
        name = f"addon {next(self.names)}"
        made = SimpleNamespace()
        for hook, behaviour in behaviours.items():
            setattr(made, hook, self.listener(made, name, hook, behaviour))
        return made

    def listener(self, addon, name, hook, behaviour):
        style, ending = behaviour

        def tell(data, *what):
            flow = data[0] if isinstance(data, list) else data
            self.tell(flow.stream if isinstance(flow, SimpleNamespace) else flow.metadata["stream"], name, hook, *what)

        def plain(data):
            tell(data, "heard")
            self.act(style, addon, data)
            if ending is not None:
                raise ending(f"{name} {hook}")

        async def waits(data):
            tell(data, "begins", asyncio.current_task() is not self.task)
            await self.wait(style, lambda *what: tell(data, *what))
            tell(data, "ends", self.handler.timeout_watchdog.blocker > 0)
            if ending is not None:
                raise ending(f"{name} {hook}")

        def gives(data):
            tell(data, "heard")
            return waits(data)

        def promises(data):
            tell(data, "heard")
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_exception, ending("late")) if ending else future.set_result(None)
            return future

        if style == "future":
            return promises
        if style.startswith("async"):
            return waits
        return gives if style.startswith("gives") else plain

    def act(self, style, addon, data):
        if style == "intercept" and not isinstance(data, list | SimpleNamespace):
            data.intercept()
        elif style == "add" and len(self.manager.chain) < 5:
            self.manager.chain.append(self.addon({"request": ("async timeout", None), "update": ("async", None)}))
        elif style == "turn":
            addon.request = self.listener(addon, "turned", "request", ("async timeout", None))
        elif style == "turn update":
            addon.update = self.listener(addon, "turned", "update", ("async timeout", None))
        elif style == "flip update" and hasattr(addon, "update"):
            del addon.update
        elif style == "flip update":
            self.act("turn update", addon, data)
        elif style == "remove":
            self.manager.chain = self.manager.chain[:1]
        elif style == "cancelled":
            raise asyncio.CancelledError

    async def wait(self, style, tell):
        if "timeout" in style:
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                tell("timed out")
        elif "group" in style:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
        elif "quick" not in style:
            await asyncio.sleep(0)

    # Playing.

    async def play(self, happenings):
        self.task = asyncio.current_task()
        tasks = []

        def make(loop, work, **options):
            tasks.append(asyncio.Task(work, loop=loop, **options))
            return tasks[-1]

        asyncio.get_running_loop().set_task_factory(make)
        for settle, stream in happenings:
            await self.handler.server_event(events.DataReceived(self.handler.client, b"%d" % stream))
            if settle:
                await self.settle()
        await self.settle()
        # These are the ones that asyncio would report as never retrieved.
        self.reported = sorted(repr(task.exception()) for task in tasks if task.done() and task._log_traceback)

    async def settle(self):
        for number in range(ROUNDS):
            await asyncio.sleep(0)
            if number % 10 == 9:
                for stream in self.handler.layer.streams:
                    stream.flow.resume()
        await self.cancel()

    async def cancel(self):
        """Whatever still waits, waits for ever."""
        for task in asyncio.all_tasks() - {self.task}:
            self.tell(None, "stuck", task.get_name().partition(" [")[0])
            task.cancel()
        await asyncio.sleep(0)


class Listening(logging.Handler):
    def __init__(self):
        super().__init__(0)
        self.lines = []

    def emit(self, record):
        error = record.exc_info[1] if record.exc_info else None
        self.lines.append((record.levelname, record.getMessage(), repr(error), getattr(record, "client", None)))


def run(addons, programs, happenings, ours):
    listening = Listening()
    loggers = [logging.getLogger(name) for name in ("mitmproxy.proxy.server", "mitmproxy.addonmanager")]
    for each in loggers:
        each.addHandler(listening)
    try:
        world = World(addons, programs, ours)
        asyncio.run(world.play(happenings))
    finally:
        driving.uninstall()
        for each in loggers:
            each.removeHandler(listening)
    world.lines = listening.lines
    return world


def ends(world):
    """What is left when all is done."""
    watchdog = world.handler.timeout_watchdog
    states = [str(stream.server.state) for stream in world.handler.layer.streams]
    return watchdog.blocker, watchdog.can_timeout.is_set(), world.reported, world.woken, states


def story(world):
    """All that happened, in order, as a layer sees it and as the world does."""
    return [*map(str, from_both_sides(world.trace)), *map(str, world.lines), ends(world), sorted(world.completed.values())]


def from_both_sides(trace):
    """Pieces may be held until something else happens outside, so a layer may be further on when they are sent."""
    without_sent = [each for each in trace if each[1] != "sent to"]
    return *without_sent, *(each for each in trace if each[1] not in ("event", "done"))


def stories(world):
    """What happened to each stream, in order."""
    found = defaultdict(list)
    for stream, *what in from_both_sides(world.trace):
        if what[0] == "sent to":
            what = what[:2]  # the numbers are those of all streams together
        found[stream].append(str(what))
    found[None].sort()
    return found, sorted(map(str, world.lines)), ends(world), sorted(world.completed.values())


# ---------------------------------------------------------------- the differential tests

CALM = ["plain"] * 6 + ["intercept", "gives", "gives timeout", "future", "async", "async quick", "async timeout", "async group"]
RESTLESS = [*CALM, "add", "turn", "turn update", "flip update", "remove", "cancelled"]
ENDINGS = st.sampled_from([None] * 8 + [ValueError, exceptions.AddonHalt, exceptions.OptionsError])
NAMES = st.sampled_from(list(HOOKS))
COMMANDS = st.one_of(
    st.tuples(st.just("hook"), NAMES),
    st.tuples(st.just("hook"), NAMES),
    st.tuples(st.just("send"), st.booleans()),
    st.tuples(st.just("log"), st.sampled_from([logging.DEBUG, logging.ERROR])),
    st.tuples(st.just("close"), st.booleans()),
    st.tuples(st.sampled_from(["open", "wakeup", "shut"])),
    st.tuples(st.sampled_from(["log", "unknown", "crash"])).map(lambda what: ("log", logging.INFO) if what == ("log",) else what),
)
PROGRAM = st.lists(st.lists(COMMANDS, max_size=5), min_size=1, max_size=3)


def may_crash(program):
    done = [what for part in program for what, *_ in part]
    return not {"unknown", "crash"}.isdisjoint(done) or done.count("open") > 1


def addons_of(styles):
    behaviours = st.tuples(st.sampled_from(styles), ENDINGS)
    heard = st.sampled_from([*HOOKS, "request", "update"])
    return st.lists(st.dictionaries(heard, behaviours, max_size=3), min_size=1, max_size=3)


FEW = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@given(addons_of(RESTLESS), PROGRAM, st.lists(st.booleans(), min_size=1, max_size=4))
@FEW
def test_a_stream_fares_as_in_mitmproxy(addons, program, settled):
    # A layer that crashes in what follows a hook forgets what arrived meanwhile; we see that after the end of the hook.
    happenings = [(settle or may_crash(program), 0) for settle in settled]
    assert story(run(addons, [program], happenings, True)) == story(run(addons, [program], happenings, False))


@given(
    addons_of(CALM),
    st.lists(PROGRAM, min_size=2, max_size=3),
    st.lists(st.tuples(st.booleans(), st.integers(0, 1)), min_size=2, max_size=5),
)
@FEW
def test_each_of_several_streams_fares_as_in_mitmproxy(addons, programs, happenings):
    happenings = [(settle or any(map(may_crash, programs)), stream) for settle, stream in happenings]
    assert stories(run(addons, programs, happenings, True)) == stories(run(addons, programs, happenings, False))


HOOK = ("hook", "request")
SEND = ("send", True)


def asks(style, ending=None, hook="request"):
    return {hook: (style, ending)}


QUIET = asks("plain")
SCENARIOS = {
    "a plain hook": ([QUIET], [[HOOK, SEND]], 1),
    "three in a row": ([QUIET], [[HOOK, ("hook", "response"), HOOK, SEND]], 1),
    "nobody listens": ([{}], [[HOOK, SEND]], 1),
    "a listener that raises": ([asks("plain", ValueError), QUIET], [[HOOK, SEND]], 1),
    "a listener that halts": ([asks("plain", exceptions.AddonHalt), QUIET], [[HOOK, SEND]], 1),
    "an error that ends the task": ([asks("plain", exceptions.OptionsError), QUIET], [[HOOK, SEND], [SEND]], 2),
    "a listener that is cancelled": ([asks("cancelled"), QUIET], [[HOOK, SEND], [SEND]], 2),
    "a flow that is held": ([asks("intercept")], [[HOOK, SEND], [SEND]], 2),
    "a hook of no flow": ([asks("plain", hook="tls_clienthello")], [[("hook", "tls_clienthello"), SEND]], 1),
    "a coroutine": ([QUIET, asks("async"), QUIET], [[HOOK, SEND]], 1),
    "a coroutine with a time-out": ([asks("async timeout")], [[HOOK, SEND]], 1),
    "a plain function that gives a coroutine with a time-out": ([QUIET, asks("gives timeout")], [[HOOK, SEND]], 1),
    "a plain function that gives a coroutine with tasks": ([asks("gives group")], [[HOOK, SEND]], 1),
    "a plain function that gives a future": ([asks("future")], [[HOOK, SEND]], 1),
    "a plain function that gives a future that fails": ([asks("future", ValueError), QUIET], [[HOOK, SEND]], 1),
    "a coroutine comes in an event": ([asks("add"), QUIET], [[HOOK, SEND], [HOOK]], 2),
    "a coroutine comes and listens to the update": ([asks("add", hook="update")], [[HOOK, SEND], [HOOK]], 2),
    "a listener becomes a coroutine": ([asks("turn")], [[HOOK, SEND], [HOOK], [HOOK]], 3),
    "a coroutine begins to listen to the update": ([asks("turn update"), QUIET], [[HOOK, SEND], [HOOK]], 2),
    "a coroutine listens to the update now and then": ([asks("flip update"), QUIET], [[HOOK, SEND]] * 12, 12),
    "a listener is removed": ([asks("remove"), QUIET, asks("async")], [[HOOK, SEND], [HOOK]], 2),
    "an update that waits": ([QUIET, asks("async", hook="update")], [[HOOK, SEND]], 1),
    "a command that nobody knows": ([QUIET], [[HOOK, ("unknown",), SEND], [HOOK, SEND]], 2),
    "a defect after a hook": ([QUIET], [[HOOK, ("crash",)], [HOOK, SEND]], 2),
    "the same server twice": ([QUIET], [[("open",), ("open",), SEND], [SEND]], 2),
    "a server": ([QUIET], [[("open",), ("send", False), HOOK, ("send", False), ("close", True), ("send", False)]], 1),
    "a server that is closing": ([QUIET], [[("open",), ("shut",), ("send", False), ("close", False)]], 1),
    "a server that is not there": ([QUIET], [[("send", False), ("close", True), ("close", False), HOOK, SEND]], 1),
    "a line in the log": ([QUIET], [[("log", logging.WARNING), HOOK, ("log", logging.DEBUG)]], 1),
    "an alarm": ([QUIET], [[("wakeup",), HOOK]], 1),
}


@pytest.mark.parametrize("settle", [True, False])
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_end_as_in_mitmproxy(name, settle):
    addons, program, times = SCENARIOS[name]
    happenings = [(settle or may_crash(program), 0)] * times
    assert story(run(addons, [program], happenings, True)) == story(run(addons, [program], happenings, False))


# ---------------------------------------------------------------- where a hook runs


def steps_of(addons, program, events=1):
    return run(addons, [program], [(False, 0)] * events, True)


class Tasks:
    """The names of the tasks that were made."""

    def __init__(self, monkeypatch):
        self.names = []
        original = driving.asyncio_utils.create_task

        def create(work, *, name, **others):
            self.names.append(name)
            return original(work, name=name, **others)

        monkeypatch.setattr(driving.asyncio_utils, "create_task", create)


@pytest.fixture
def tasks(monkeypatch):
    return Tasks(monkeypatch).names


@pytest.mark.parametrize("addons", [[], [{}], [QUIET], [asks("plain", ValueError)], [asks("plain", exceptions.AddonHalt)]])
def test_a_plain_hook_gets_no_task(tasks, addons):
    steps_of(addons, [[HOOK, SEND]])
    assert tasks == []


@pytest.mark.parametrize("style", ["async", "gives", "future", "intercept", "cancelled"])
def test_a_hook_that_waits_gets_one(tasks, style):
    steps_of([asks(style)], [[HOOK, SEND]])
    assert tasks == ["handle_hook(request)"]


def test_a_plain_hook_ends_in_the_same_round():
    """Nothing else comes between."""
    world = World([QUIET], [[[HOOK, SEND]]], True)

    async def play():
        world.task = asyncio.current_task()
        await world.handler.server_event(events.DataReceived(world.handler.client, b"0"))
        return [what for _, what, *_ in world.trace]

    try:
        assert asyncio.run(play())[-2:] == ["done", "sent to"]
    finally:
        driving.uninstall()


@pytest.mark.parametrize(
    ("program", "writes"), [([SEND, SEND, SEND], 1), ([SEND, HOOK, SEND], 2), ([SEND, ("log", logging.INFO), SEND, SEND], 1)]
)
def test_pieces_with_nothing_between_are_written_at_once(program, writes):
    assert steps_of([QUIET], [program]).writes == writes


@pytest.mark.parametrize(
    ("program", "order"),
    [([("log", 20), SEND], ["sent to", "stream 0"]), ([("log", 20), ("crash",)], ["stream 0", "mitmproxy has"])],
)
def test_lines_for_the_log_keep_nobody_waiting_and_are_not_lost(monkeypatch, program, order):
    monkeypatch.setattr(Handler, "log", lambda self, line, *_, **__: self.world.tell(None, line[:13]), raising=False)
    trace = [what for _, what, *_ in steps_of([QUIET], [program]).trace]
    assert [what for what in trace if what in order] == order


@pytest.mark.parametrize(("transport", "writes"), [("tcp", [b"one;two;"]), ("udp", [b"one;", b"two;"])])
def test_datagrams_are_not_joined(transport, writes):
    """QUIC, DNS and WireGuard would find one where two were sent."""
    written, to = [], SimpleNamespace(transport_protocol=transport)
    io = SimpleNamespace(writer=SimpleNamespace(is_closing=lambda: False, write=written.append))
    unsent = [SimpleNamespace(connection=to, data=data) for data in (b"one;", b"two;")]
    driving._send(SimpleNamespace(transports=SimpleNamespace(get=lambda _: io)), unsent)
    assert written == writes


def test_what_was_commanded_before_a_crash_is_sent():
    assert [what for _, what, *_ in steps_of([QUIET], [[SEND, ("crash",)]]).trace] == ["event", "sent to"]


def at_once(program):
    """A connection after one event, before any task began; and how often it was found to be active."""
    world, active = World([QUIET], [program], True), []
    world.handler.timeout_watchdog.register_activity = lambda: active.append(True)

    async def play():
        await world.handler.server_event(events.DataReceived(world.handler.client, b"0"))
        return len(active), len(world.handler.wakeup_timer)

    try:
        return asyncio.run(play())
    finally:
        driving.uninstall()


@pytest.mark.parametrize(("commands", "times"), [([], 1), ([HOOK], 2), ([HOOK, HOOK], 3)])
def test_each_event_is_a_sign_of_life(commands, times):
    assert at_once([commands]) == (times, 0)


def test_an_alarm_can_be_cancelled_with_the_connection():
    assert at_once([[("wakeup",)]]) == (1, 1)


def test_a_hook_that_is_not_waited_for_is_run_and_has_no_end():
    world = steps_of([QUIET], [[("hook", "request", False), SEND]])
    assert ([what[1] for what in world.trace], world.completed) == (["event", "addon 0", "done", "sent to"], {})


@pytest.mark.parametrize("name", ["handle_hook", "hook_task"])
def test_a_connection_with_hooks_of_its_own_keeps_them(monkeypatch, name):
    called = []

    async def own(self, hook):
        called.append(hook.name)

    monkeypatch.setattr(Handler, name, own)
    steps_of([QUIET], [[HOOK, SEND]])
    assert called == ["request"]


def test_a_dispatch_replaced_by_somebody_else_is_asked(tasks):
    world = World([QUIET], [[[HOOK, SEND]]], True)
    called = []

    async def trigger_event(event):
        called.append(asyncio.current_task() is not world.task)

    world.manager.trigger_event = trigger_event
    try:
        asyncio.run(world.play([(False, 0)]))
    finally:
        driving.uninstall()
    assert called == [True, True]


def test_an_application_of_the_user_has_a_task_of_its_own(monkeypatch):
    """It may well have time-outs and groups of tasks from its first line on."""
    found = []

    async def serve(app, flow):
        found.append(asyncio.current_task() is not world.task)

    monkeypatch.setattr(asgiapp, "serve", serve)
    world = World([], [[[HOOK, SEND]]], True)
    flow = world.handler.layer.streams[0].flow
    flow.live = True
    world.manager.chain.append(asgiapp.ASGIApp(None, flow.request.pretty_host, None))
    try:
        asyncio.run(world.play([(False, 0)]))
    finally:
        driving.uninstall()
    assert found == [True]


# ---------------------------------------------------------------- hooks that are given up


def given_up(style):
    """A hook that waits, and whose task is cancelled after two rounds of the event loop."""
    world = World([asks(style)], [[[HOOK, SEND], [SEND]]], True)

    async def play():
        world.task = asyncio.current_task()
        await world.handler.server_event(events.DataReceived(world.handler.client, b"0"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        during = world.handler.timeout_watchdog.blocker
        await world.cancel()
        await asyncio.sleep(0)
        return during, world.handler.timeout_watchdog.blocker, world.completed.total()

    world.wait = lambda *_: asyncio.Event().wait()
    try:
        return asyncio.run(play())
    finally:
        driving.uninstall()


@pytest.mark.parametrize("style", ["async", "gives", "intercept"])
def test_a_hook_that_is_cancelled_has_no_end_and_the_watchdog_is_armed_again(style):
    assert given_up(style) == (1, 0, 0)


def begun(steps):
    """Run a coroutine up to what it waits for, and go on with it in a task."""

    async def rest():
        await hooks.Begun(steps, steps.send(None))

    return rest()


def test_a_coroutine_goes_on_where_it_was():
    said = []

    async def steps():
        said.append(1)
        await asyncio.sleep(0)
        said.append(2)
        await asyncio.sleep(0)
        said.append(3)

    asyncio.run(begun(steps()))
    assert said == [1, 2, 3]


def test_an_error_behind_the_first_wait_is_raised():
    async def steps():
        await asyncio.sleep(0)
        raise ValueError

    with pytest.raises(ValueError):
        asyncio.run(begun(steps()))


def cancelled(forgives):
    """Cancel a coroutine while it waits; what it heard of it, and whether its task is cancelled."""
    heard = []

    async def steps():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            heard.append("cancelled")
            if not forgives:
                raise
            await asyncio.sleep(0)
            heard.append("goes on")

    async def play():
        task = asyncio.get_running_loop().create_task(begun(steps()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    return asyncio.run(play()), heard


def test_a_cancellation_reaches_the_coroutine():
    assert cancelled(forgives=False) == (True, ["cancelled"])


def test_a_coroutine_may_go_on_after_a_cancellation():
    assert cancelled(forgives=True) == (False, ["cancelled", "goes on"])


def test_a_coroutine_that_is_given_up_is_closed():
    closed = []

    async def steps():
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    rest = begun(steps())
    rest.send(None)
    rest.close()
    assert closed == [True]


# ---------------------------------------------------------------- on and off


@pytest.fixture
def off():
    yield
    driving.uninstall()


def test_all_connections_are_driven_from_here(off):
    driving.install()
    assert server.ConnectionHandler.server_event is driving.server_event


def test_the_end_gives_mitmproxy_its_own_back():
    driving.install()
    driving.uninstall()
    assert server.ConnectionHandler.server_event is ORIGINAL


def test_an_end_without_a_beginning_leaves_what_another_one_put_there(monkeypatch):
    monkeypatch.setattr(server.ConnectionHandler, "server_event", print)
    driving.uninstall()
    assert server.ConnectionHandler.server_event is print


def test_this_mitmproxy_is_one_that_we_know():
    assert driving.differences() is None


def test_what_another_one_put_there_stays(monkeypatch):
    monkeypatch.setattr(server.ConnectionHandler, "server_event", print)
    assert (driving.install(), server.ConnectionHandler.server_event) == (False, print)


def test_a_second_beginning_is_refused(off):
    assert (driving.install(), driving.install()) == (True, False)


@pytest.mark.parametrize("name", list(driving._RELIED_UPON))
@pytest.mark.parametrize("function", [print, lambda self, event: event, lambda self, a, b: None])
def test_other_internals_are_seen(monkeypatch, name, function):
    _, arguments, used = driving._RELIED_UPON[name]
    monkeypatch.setitem(driving._RELIED_UPON, name, (function, arguments, used))
    assert driving.differences() == f"{name} is not what it was in mitmproxy 12.2"


def test_staying_off_is_noticed_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(server.ConnectionHandler, "server_event", print)
    driving.install()
    assert "each hook gets a task of its own" in caplog.text


def test_a_server_is_closed():
    """The fake transports of these tests are told what mitmproxy's would be."""
    world = steps_of([QUIET], [[("open",), ("close", False)]])
    assert world.handler.layer.streams[0].server.state is ConnectionState.CLOSED


def test_outside_of_a_round_no_hook_is_over():
    assert not driving.hook_is_over(HOOKS["request"](tflow.tflow()))


def test_a_request_that_is_read_in_the_middle_of_another_waits_for_its_end():
    """In between nothing has let go of the connection to the provider."""

    class Two(layer.Layer):
        def _handle_event(self, _):
            over.append(driving.hook_is_over(HttpResponseHook(tflow.tflow())))
            over.append(driving.hook_is_over(HttpRequestHeadersHook(tflow.tflow())))
            yield from ()

    world, over = World([QUIET], [[]], True), []
    world.handler.layer = Two(world.handler.layer.streams[0].context)

    async def play():
        world.task = asyncio.current_task()
        await world.handler.server_event(events.DataReceived(world.handler.client, b"0"))

    try:
        asyncio.run(play())
    finally:
        driving.uninstall()
    assert over == [True, False]
