from __future__ import annotations

import pytest
from mitmproxy import exceptions
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.test import taddons

from support import making
from support.assembling import assembled


@pytest.fixture
def started():
    """The lifecycle addon with its options loaded."""
    runtime = making.runtime()
    lifecycle = assembled(runtime).lifecycle
    with taddons.context() as context:
        context.master.addons.add(Proxyserver())
        context.options.add_option("ssl_insecure", bool, False, "")
        context.master.addons.add(lifecycle)
        yield runtime, lifecycle, context.options


def test_there_is_one_option_of_ours(started):
    assert started[2].rules == ""


@pytest.mark.parametrize("name", ["proxy_debug", "ssl_insecure"])
def test_a_leaking_option_is_refused_also_later(started, name):
    with pytest.raises(exceptions.OptionsError, match=name):
        started[2].update(**{name: True})


def test_a_leaking_option_is_rolled_back(started):
    with pytest.raises(exceptions.OptionsError):
        started[2].update(ssl_insecure=True)
    assert started[2].ssl_insecure is False


def test_the_end_is_never_ready(started):
    runtime, lifecycle, _ = started
    lifecycle.done()
    assert runtime.ready is False


def test_the_lifecycle_hooks_are_plain_functions(started):
    """mitmproxy's script watcher dies of an asynchronous one."""
    import inspect

    assert not any(inspect.iscoroutinefunction(getattr(started[1], name)) for name in ("load", "configure", "running", "done"))


def test_tlsconfig_has_the_option_that_we_refuse():
    assert "ssl_insecure" in TlsConfig.tls_start_server.__code__.co_names
