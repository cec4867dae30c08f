"""What we take for granted of mitmproxy's hooks and options, so that a version where it is otherwise does not go unnoticed."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from pathlib import Path

import pytest
from mitmproxy import hooks, version
from mitmproxy.addons import default_addons, dumper
from mitmproxy.proxy import layer, server_hooks
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers import tls, websocket
from mitmproxy.test import taddons

from valetkey.assembly import assemble
from valetkey.proxy import doors

ADDONS = assemble()
ROOT = Path(__file__).resolve().parents[2]
PRIVATE_LOOKING = {
    ("ValetAnswers", "prepare"),
    ("ValetAnswers", "pump"),
    ("ValetAnswers", "reopen"),
    ("ValetIntake", "stream_request"),
}
"""Public methods of addons that are for us and no hooks."""
SEEN = (layer, server_hooks, http_layers, tls, websocket)
"""Modules that declare hooks; a hook exists for mitmproxy when its module was imported."""


def methods(addon):
    return [
        name for name, value in inspect.getmembers(type(addon), inspect.isfunction)
        if not name.startswith("_") and not hasattr(value, "command_name")
    ]  # fmt: skip


ALL = [(addon, name) for addon in ADDONS for name in methods(addon)]
HOOKS = [(addon, name) for addon, name in ALL if (type(addon).__name__, name) not in PRIVATE_LOOKING]


def ids(value):
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("addon", "name"), HOOKS, ids=ids)
def test_threat_81_every_method_that_looks_like_a_hook_is_one(addon, name):
    assert name in hooks.all_hooks


@pytest.mark.parametrize(("addon", "name"), HOOKS, ids=ids)
def test_threat_81_every_hook_takes_what_mitmproxy_gives(addon, name):
    given = [each for each in inspect.signature(hooks.all_hooks[name]).parameters if each not in ("self", "name")]
    inspect.signature(getattr(addon, name)).bind(*given)


def test_threat_81_what_is_listed_as_no_hook_is_still_there():
    assert {(type(addon).__name__, name) for addon, name in ALL} >= PRIVATE_LOOKING


def test_threat_81_what_is_listed_as_no_hook_is_none():
    assert [name for _, name in PRIVATE_LOOKING if name in hooks.all_hooks] == []


@pytest.fixture(scope="module")
def known():
    """All options of mitmdump, by name."""

    async def collect():
        with taddons.context(*default_addons(), dumper.Dumper(), loadcore=False) as context:
            return dict(context.options._options)

    return asyncio.run(collect())


@pytest.mark.parametrize("name", sorted(doors.REQUIRED))
def test_threat_81_an_option_that_is_set_exists(known, name):
    assert name in known


@pytest.mark.parametrize(("name", "value"), sorted(doors.REQUIRED.items()))
def test_threat_81_an_option_that_is_set_has_the_type_of_its_value(known, name, value):
    assert known[name].typespec is type(value)


@pytest.mark.parametrize(("name", "value"), sorted(doors.REQUIRED.items()))
def test_threat_81_an_option_that_is_set_takes_its_value(known, name, value):
    assert known[name].choices is None or value in known[name].choices


@pytest.mark.parametrize("name", [*sorted(doors.FORBIDDEN), "validate_inbound_headers"])
def test_threat_81_an_option_that_is_refused_exists(known, name):
    """One that was renamed would be let through."""
    assert name in known


@pytest.mark.parametrize("name", sorted(doors.FORBIDDEN))
def test_threat_81_an_option_that_is_refused_is_off_by_default(known, name):
    assert not known[name].default


@pytest.mark.parametrize(
    "name", ["confdir", "mode", "listen_host", "listen_port", "save_stream_file", "store_streamed_bodies", "hardump"]
)
def test_threat_81_an_option_that_is_read_exists(known, name):
    assert name in known


def test_threat_81_inbound_headers_are_validated_by_default(known):
    assert known["validate_inbound_headers"].default is True


def test_threat_81_this_mitmproxy_is_one_that_we_ask_for():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    installed = tuple(map(int, version.VERSION.split(".")[:3]))
    assert "mitmproxy>=12.2.2,<14" in asked and (12, 2, 2) <= installed < (14,)


def test_our_own_options_are_none_of_mitmproxys(known):
    assert {"rules", "valetkey_fast_hooks"} & set(known) == set()
