from __future__ import annotations

import asyncio

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons

from support import making
from support.assembling import assembled
from support.playing import broken
from valetkey.errors import StartError
from valetkey.policy import credentials
from valetkey.proxy import canary, stream, traffic, wire


def prove(runtime=None):
    runtime = runtime or making.runtime()
    addons = assembled(runtime)
    with taddons.context() as context:
        context.master.addons.add(Proxyserver())
        stream.install(addons.lifecycle.traffic)
        try:
            asyncio.run(canary.prove(runtime, addons.on_the_way))
        finally:
            stream.uninstall()
    return runtime


def test_a_sound_gateway_passes():
    prove()


def test_the_rules_are_back_afterwards():
    runtime = making.runtime()
    before = runtime.snapshot
    assert prove(runtime).snapshot is before


def test_the_gateway_is_not_ready_by_the_canary_alone():
    assert prove().ready is False


def test_no_receipt_is_written():
    runtime = making.runtime()
    runtime.writer = type("Writer", (), {"healthy": True, "submit": lambda self, receipt: pytest.fail("a receipt")})()
    prove(runtime)


def test_a_defect_stops_the_start(caplog):
    with broken(wire, "request"), pytest.raises(StartError):
        prove()


def test_a_key_in_the_flow_stops_the_start(monkeypatch):
    original = traffic.Traffic.wire_request

    def leaking(self, flow, passage, server):
        request = original(self, flow, passage, server)
        flow.request.headers["x-leak"] = request.headers["authorization"]
        return request

    monkeypatch.setattr(traffic.Traffic, "wire_request", leaking)
    with pytest.raises(StartError, match="in the flow"):
        prove()


def test_a_dummy_on_the_wire_stops_the_start(monkeypatch):
    monkeypatch.setattr(credentials, "strip", lambda fields, **_: tuple(fields))
    with pytest.raises(StartError):
        prove()


def test_a_swap_that_does_not_happen_stops_the_start(monkeypatch):
    monkeypatch.setattr(traffic.Traffic, "wire_request", lambda self, flow, passage, server: flow.request)
    with pytest.raises(StartError, match="not exactly once"):
        prove()
