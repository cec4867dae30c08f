from __future__ import annotations

from types import SimpleNamespace

import pytest
from mitmproxy.addons import save
from mitmproxy.test import tflow

from support.proxy_receipts import receipt
from valetkey.model import Attempt, GatewayRules
from valetkey.proxy import views


class View:
    def __init__(self):
        self.removed = []

    def remove(self, flows):
        self.removed += flows


def test_a_flow_gets_a_comment():
    flow = tflow.tflow()
    views.decorate(flow, receipt())
    assert flow.comment.startswith("gpt-4o · alice")


def test_a_refused_call_is_marked():
    flow = tflow.tflow()
    views.decorate(flow, receipt(refused="no_key", outcome="refused"))
    assert flow.marked == views.REFUSED


def test_a_failed_call_is_marked():
    flow = tflow.tflow()
    views.decorate(flow, receipt(outcome="server"))
    assert flow.marked == views.FAILED


def test_a_good_call_is_not_marked():
    flow = tflow.tflow()
    views.decorate(flow, receipt())
    assert flow.marked == ""


def test_metadata_says_where_the_call_really_went():
    flow = tflow.tflow()
    views.decorate(flow, receipt(attempts=(Attempt("lab", "m", "lab/1", "http://127.0.0.1:8000", 200),)))
    assert flow.metadata["valetkey_upstream"] == "http://127.0.0.1:8000"


def test_metadata_is_primitive_so_that_flows_can_be_saved():
    flow = tflow.tflow()
    views.decorate(flow, receipt(attempts=(Attempt("lab", "m", "lab/1", "http://127.0.0.1:8000", 200),)))
    assert all(isinstance(value, str | list) for value in flow.metadata.values())


def test_the_oldest_flows_go_first():
    keeper, flows = views.FlowKeeper(), [tflow.tflow() for _ in range(4)]
    keeper.view = View()
    for flow in flows:
        keeper.keep(flow, GatewayRules(max_flows=3))
    assert keeper.view.removed == flows[:1]


def kept_of(sizes, limit):
    """How many of flows with bodies of these sizes are left."""
    keeper = views.FlowKeeper()
    keeper.view = View()
    for size in sizes:
        flow = tflow.tflow(resp=True)
        flow.request.content, flow.response.content = b"", b"x" * size
        keeper.keep(flow, GatewayRules(max_flow_bytes=limit))
    return len(sizes) - len(keeper.view.removed)


@pytest.mark.parametrize(("sizes", "left"), [([10, 10, 10], 3), ([10, 20, 10], 2), ([30, 1], 1), ([1, 99], 1), ([1, 99, 1], 1)])
def test_the_oldest_flows_go_when_all_hold_too_much(sizes, left):
    assert kept_of(sizes, 30) == left


def test_the_messages_of_a_websocket_count():
    keeper, flows = views.FlowKeeper(), [tflow.twebsocketflow(messages=True) for _ in range(3)]
    keeper.view = View()
    for flow in flows:
        keeper.keep(flow, GatewayRules(max_flow_bytes=40))
    assert keeper.view.removed == flows[:2]


def test_nothing_is_kept_without_a_view():
    keeper = views.FlowKeeper()
    keeper.keep(tflow.tflow(), GatewayRules(max_flows=1))
    assert not keeper._settled


class Master:
    def __init__(self, chain=(), **options):
        self.options = SimpleNamespace(**{"scripts": ["addons/gateway.py"], "save_stream_file": None} | options)
        self.addons = SimpleNamespace(chain=[save.Save(), *chain])


def test_nobody_looks_at_flows_in_a_plain_mitmdump():
    assert not views.is_watched(Master())


@pytest.mark.parametrize(
    "master",
    [
        Master(save_stream_file="flows.mitm"),
        Master(hardump="flows.har"),
        Master(dumper_filter="~comment alice"),
        Master(modify_body=["/a/b/"]),
        Master(scripts=["addons/gateway.py", "mine.py"]),
        Master(scripts=[]),
        Master(chain=[View()]),
    ],
    ids=["file", "har", "filter", "changes", "another script", "embedded", "another addon"],
)
def test_who_may_look_at_flows(master):
    assert views.is_watched(master)


def test_mitmweb_and_the_console_look_at_flows():
    master = Master()
    master.view = View()
    assert views.is_watched(master)
