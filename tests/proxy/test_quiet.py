from __future__ import annotations

import logging

import pytest
from mitmproxy.exceptions import AddonHalt
from mitmproxy.test import tflow

from support import making
from valetkey.catalog import load_telemetry
from valetkey.model import Refusal
from valetkey.proxy import refusals
from valetkey.proxy.quiet import ValetQuiet, demote

SERVER = "mitmproxy.proxy.server"


@pytest.fixture
def addon():
    return ValetQuiet(making.runtime(), load_telemetry())


def tunnel(host="statsig.anthropic.com", reason="egress_denied"):
    flow = tflow.tflow()
    flow.request.host = host
    flow.response = refusals.plain(Refusal(403, reason, "no"))
    return flow


def test_nobody_else_hears_of_a_closed_telemetry_host(addon):
    with pytest.raises(AddonHalt):
        addon.http_connect_error(tunnel())


@pytest.mark.parametrize("changes", [{"host": "example.com"}, {"reason": "egress_port"}], ids=["other host", "other reason"])
def test_other_refusals_are_shown(addon, changes):
    addon.http_connect_error(tunnel(**changes))


def test_it_is_said_once_for_each_host(addon, caplog):
    caplog.set_level(logging.INFO)
    for host in ("statsig.anthropic.com", "sentry.io", "statsig.anthropic.com", "sentry.io"):
        with pytest.raises(AddonHalt):
            addon.http_connect_error(tunnel(host))
    assert [record.args for record in caplog.records] == [
        ("statsig.anthropic.com", "Claude Code"),
        ("sentry.io", "Claude Code"),
    ]


def logged(caplog, message, level=logging.INFO):
    caplog.set_level(logging.DEBUG)
    logging.getLogger(SERVER).log(level, message)
    return [record.levelname for record in caplog.records]


@pytest.fixture
def running(addon):
    addon.running()
    yield
    addon.done()


@pytest.mark.parametrize("message", ["client connect", "client disconnect", "client kill connection"])
def test_routine_is_for_those_who_debug(running, caplog, message):
    assert logged(caplog, message) == ["DEBUG"]


@pytest.mark.parametrize(("message", "level"), [("server connect x", "INFO"), ("client connect", "ERROR")])
def test_other_lines_stay_as_they_are(running, caplog, message, level):
    assert logged(caplog, message, getattr(logging, level)) == [level]


def test_at_the_end_the_log_is_as_it_was(addon, caplog):
    addon.running()
    addon.done()
    assert logged(caplog, "client connect") == ["INFO"]


def test_nothing_is_dropped_that_a_handler_wants():
    record = logging.LogRecord(SERVER, logging.INFO, "", 0, "client connect", None, None)
    assert demote(record) is logging.getLogger(SERVER).isEnabledFor(logging.DEBUG)
