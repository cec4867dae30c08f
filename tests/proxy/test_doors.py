from __future__ import annotations

import re
from pathlib import Path

import pytest
from mitmproxy.test import taddons

from valetkey.errors import StartError
from valetkey.model import Address, GatewayRules
from valetkey.proxy import doors


@pytest.fixture
def options():
    with taddons.context() as context:
        from mitmproxy.addons.proxyserver import Proxyserver

        context.master.addons.add(Proxyserver())
        yield context.options


def test_the_rules_say_where_to_listen(options):
    assert doors.plan(options, GatewayRules()).modes == (
        "regular@127.0.0.1:8080",
        "reverse:http://valetkey.invalid@127.0.0.1:8045",
    )


def test_the_users_port_wins(options):
    options.update(listen_port=9000)
    assert doors.plan(options, GatewayRules()).proxy == Address("127.0.0.1", 9000)


def test_the_users_modes_win(options):
    options.update(mode=["regular@127.0.0.1:9001"])
    assert doors.plan(options, GatewayRules()) == doors.Doors(("regular@127.0.0.1:9001",), Address("127.0.0.1", 9001), None)


def test_a_mode_without_address_listens_on_loopback(options):
    options.update(mode=["upstream:http://proxy.test:3128"])
    assert doors.plan(options, GatewayRules()).modes == ("upstream:http://proxy.test:3128@127.0.0.1:8080",)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.test"])
def test_wider_than_loopback_is_refused_with_the_reason(options, host):
    options.update(listen_host=host)
    with pytest.raises(StartError, match="not authenticated"):
        doors.plan(options, GatewayRules())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_wider_than_loopback_is_for_known_callers(options, host):
    options.update(listen_host=host)
    assert doors.plan(options, GatewayRules(callers="known")).proxy == Address(host, 8080)


def test_the_base_url_door_may_be_wider_too(options):
    assert doors.plan(options, GatewayRules(callers="known", api=Address("0.0.0.0", 8045))).api == Address("0.0.0.0", 8045)


def test_the_users_own_modes_are_looked_at_as_well(options):
    options.update(mode=["regular@0.0.0.0:9001"])
    with pytest.raises(StartError, match="agents add"):
        doors.plan(options, GatewayRules())


@pytest.mark.parametrize("name", ["ssl_insecure"])
def test_an_option_that_leaks_is_named(options, name):
    from mitmproxy.addons.tlsconfig import TlsConfig

    options.add_option(name, bool, True, "") if name not in options else options.update(**{name: True})
    assert TlsConfig and name in (doors.check_options(options) or "")


def test_proxy_debug_is_refused(options):
    options.update(proxy_debug=True)
    assert "real keys" in (doors.check_options(options) or "")


def test_validation_of_inbound_headers_must_stay_on(options):
    options.update(validate_inbound_headers=False)
    assert "smuggling" in (doors.check_options(options) or "")


def test_the_defaults_are_fine(options):
    assert doors.check_options(options) is None


OPENAI = "api.openai.com"
MODES = [
    "regular@9001",
    "socks5@9002",
    "reverse:https://api.openai.com@9003",
    "reverse:http://valetkey.invalid@9004",
    "local:curl",
]


def test_only_a_regular_or_upstream_door_is_for_https_proxy(options):
    options.update(mode=MODES[1:4])
    made = doors.plan(options, GatewayRules())
    assert (made.proxy, made.api) == (None, Address("127.0.0.1", 9004))


def test_all_ports_are_known(options):
    options.update(mode=MODES)
    assert doors.plan(options, GatewayRules()).ports == {9001, 9002, 9003, 9004}


def test_doors_of_other_kinds_are_told_apart(options):
    options.update(mode=MODES)
    assert [mode.type_name for mode in doors.plan(options, GatewayRules()).others] == ["socks5", "reverse", "local"]


def test_wireguard_knows_its_client_and_may_be_reached_from_elsewhere(options):
    options.update(mode=["wireguard@0.0.0.0:51820"])
    assert doors.plan(options, GatewayRules()).modes == ("wireguard@0.0.0.0:51820",)


def targets(mode):
    doors.check_targets(doors.Doors((mode,), None, None), lambda host, port: (host, port) == ("api.openai.com", 443))


@pytest.mark.parametrize("mode", [f"reverse:https://{OPENAI}@1", f"reverse:http3://{OPENAI}@1", "regular@1", "socks5@1"])
def test_a_mode_that_leads_to_a_provider_or_is_asked_later_is_fine(mode):
    assert targets(mode) is None


def test_the_base_url_door_is_fine():
    assert targets("reverse:http://valetkey.invalid@1") is None


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("reverse:https://example.com@1", "no provider"),
        ("reverse:https://api.openai.com:8443@1", "no provider"),
        ("reverse:tls://api.openai.com:443@1", "cannot be read"),
    ],
)
def test_a_reverse_door_that_leads_elsewhere_is_refused(mode, reason):
    with pytest.raises(StartError, match=reason):
        targets(mode)


PAGE = (Path(__file__).parents[2] / "docs" / "modes.md").read_text()


@pytest.mark.parametrize("mode", sorted(set(re.findall(r"--mode ([^\s`|]+)", PAGE))))
def test_every_mode_in_the_documentation_can_be_opened(options, mode):
    options.update(mode=[mode])
    made = doors.plan(options, GatewayRules(callers="known"))
    assert doors.check_targets(made, lambda host, port: port == 443) is None


@pytest.mark.parametrize("mode", ["regular", "reverse", "upstream", "socks5", "transparent", "local", "wireguard"])
def test_every_mode_is_documented(mode):
    assert re.search(rf"--mode {mode}\b", PAGE)
