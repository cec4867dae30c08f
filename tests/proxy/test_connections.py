from __future__ import annotations

import resource

import pytest
from mitmproxy.test import tflow

from support import making
from valetkey.proxy import connections
from valetkey.proxy.connections import ValetConnections


@pytest.fixture
def addon():
    made = ValetConnections(making.runtime("version: 1\ngateway: {max_connections: 2}\n"))
    made.now = 100.0
    made.runtime.monotonic = lambda: made.now
    return made


def connect(addon):
    client = tflow.tclient_conn()
    client.id = object().__repr__() + str(len(addon._open))
    client.error = None
    addon.client_connected(client)
    return client


def refused(addon, count):
    return [bool(connect(addon).error) for _ in range(count)]


def test_connections_beyond_the_limit_are_refused(addon):
    assert refused(addon, 4) == [False, False, True, True]


def test_one_that_leaves_makes_room(addon):
    first, *_ = connect(addon), connect(addon)
    addon.client_disconnected(first)
    assert refused(addon, 2) == [False, True]


def test_a_refused_one_that_leaves_makes_no_room(addon):
    *_, third = connect(addon), connect(addon), connect(addon)
    addon.client_disconnected(third)
    assert refused(addon, 1) == [True]


def test_a_flood_is_said_once_a_minute(addon, caplog):
    refused(addon, 50)
    addon.now += 59
    refused(addon, 50)
    addon.now += 1
    refused(addon, 50)
    assert [record.args[-1] for record in caplog.records] == [1, 98]


def test_the_limit_is_that_of_the_rules_of_the_moment(addon):
    refused(addon, 2)
    addon.runtime.adopt(making.snapshot("version: 1\ngateway: {max_connections: 3}\n"))
    assert refused(addon, 2) == [False, True]


@pytest.mark.parametrize(("descriptors", "room"), [(0, 2), (1024, 2), (connections.RESERVED + 2, 1), (1, 1)])
def test_there_is_no_more_room_than_descriptors(addon, monkeypatch, descriptors, room):
    monkeypatch.setattr(connections, "most_descriptors", lambda: descriptors)
    addon.running()
    assert refused(addon, 3) == [at >= room for at in range(3)]


@pytest.mark.parametrize(
    ("limits", "found"),
    [((256, 4096), 4096), ((4096, 4096), 4096), ((100_000, 200_000), 100_000), ((256, resource.RLIM_INFINITY), 65536)],
)
def test_the_soft_limit_is_raised(monkeypatch, limits, found):
    taken = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: taken.append(wanted))
    assert (connections.most_descriptors(), taken) == (found, [(found, limits[1])])


def test_without_a_limit_there_is_none(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert connections.most_descriptors() == 0


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_limit_that_cannot_be_raised_stays(monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert connections.most_descriptors() == 256
