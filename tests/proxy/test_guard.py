from __future__ import annotations

import asyncio
import inspect

import pytest
from mitmproxy import hooks
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy import layer, server_hooks
from mitmproxy.test import tflow

from support import making
from valetkey.assembly import assemble
from valetkey.proxy import guard

LIFECYCLE = {"load", "configure", "running", "done"}


class Addon:
    def __init__(self, runtime):
        self.runtime = runtime

    @guard.guarded
    def request(self, flow):
        raise RuntimeError("defect")

    @guard.guarded
    async def server_connect(self, data):
        raise RuntimeError("defect")

    @guard.guarded
    def client_connected(self, client):
        """Nothing."""

    @guard.guarded
    def response(self, flow):
        raise RuntimeError("defect")

    @guard.guarded
    def next_layer(self, nextlayer):
        raise RuntimeError("defect")


@pytest.fixture
def addon():
    return Addon(making.runtime())


def test_a_defect_becomes_a_502(addon, caplog):
    flow = making.flow()
    addon.request(flow)
    assert flow.response.status_code == 502


def test_a_halt_is_for_mitmproxy(addon):
    class Halting(Addon):
        @guard.guarded
        def request(self, flow):
            raise AddonHalt

    with pytest.raises(AddonHalt):
        Halting(addon.runtime).request(making.flow())


def test_a_defect_is_logged_with_its_traceback(addon, caplog):
    addon.request(making.flow())
    assert caplog.records[0].exc_info


def test_before_ready_a_call_is_refused(addon):
    addon.runtime.ready = False
    flow = making.flow()
    addon.request(flow)
    assert flow.response.status_code == 503


def test_before_ready_a_connection_is_refused(addon):
    addon.runtime.ready = False
    client = tflow.tclient_conn()
    addon.client_connected(client)
    assert client.error


def test_a_defect_in_an_async_hook_stops_the_connection(addon, caplog):
    data = server_hooks.ServerConnectionHookData(tflow.tserver_conn(), tflow.tclient_conn())
    asyncio.run(addon.server_connect(data))
    assert data.server.error == guard.STOPPED


def test_a_streamed_answer_is_killed(addon, caplog):
    flow = tflow.tflow(resp=True)
    flow.response.stream = True
    addon.request(flow)
    assert flow.error is not None


def test_the_last_hook_still_writes_the_receipt(addon, caplog):
    settled = []
    addon.runtime.settle = settled.append
    flow = making.flow()
    addon.response(flow)
    assert settled == [flow]


def test_a_layer_that_cannot_be_chosen_closes(addon, caplog):
    class Next(layer.NextLayer):
        def __init__(self):
            self.layer = None
            self.context = _context()

    chosen = Next()
    addon.next_layer(chosen)
    assert isinstance(chosen.layer, guard.ClosingLayer)


def _context():
    from mitmproxy import options
    from mitmproxy.proxy.context import Context

    return Context(tflow.tclient_conn(), options.Options())


def test_shielded_gives_the_result():
    assert guard.shielded("x", 2, max, 0, 1) == 1


def test_shielded_goes_on_after_a_defect(caplog):
    def broken():
        raise RuntimeError("defect")

    assert guard.shielded("x", 2, broken) == 2


def hooks_of(addon):
    return [name for name, _ in inspect.getmembers(type(addon), inspect.isfunction) if name in hooks.all_hooks]


def test_every_hook_that_sees_traffic_is_guarded():
    unguarded = [
        f"{type(addon).__name__}.{name}"
        for addon in assemble()
        for name in hooks_of(addon)
        if name not in LIFECYCLE and not hasattr(getattr(addon, name), "__guarded__")
    ]
    assert unguarded == []


@pytest.mark.parametrize(
    "name", ["requestheaders", "request", "responseheaders", "response", "error", "http_connect", "next_layer"]
)
def test_the_hooks_we_rely_on_exist_in_this_mitmproxy(name):
    assert name in hooks.all_hooks


class Counting:
    def __init__(self, runtime):
        self.runtime, self.seen = runtime, []

    @guard.guarded
    def request(self, flow):
        self.seen.append(flow)


def replayed(monkeypatch, ready):
    """A replayed flow that comes before the gateway is ready, which it is after so many looks."""
    addon, flow, looks = Counting(making.runtime()), tflow.tflow(), []
    addon.runtime.ready, flow.is_replay = False, "request"

    async def sleep(seconds):
        looks.append(seconds)
        addon.runtime.ready = len(looks) >= ready

    monkeypatch.setattr(guard.asyncio, "sleep", sleep)
    asyncio.run(addon.request(flow))
    return addon, flow


def test_a_replay_waits_until_the_gateway_is_ready(monkeypatch):
    addon, flow = replayed(monkeypatch, 3)
    assert addon.seen == [flow] and flow.response is None


def test_a_replay_does_not_wait_for_ever(monkeypatch):
    addon, flow = replayed(monkeypatch, 10**9)
    assert (addon.seen, flow.response.status_code) == ([], 503)
