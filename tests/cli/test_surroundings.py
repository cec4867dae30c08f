from __future__ import annotations

import pytest

from support.certifying import certificate
from valetkey.cli.bundles import ADDING, REPLACING, certificates
from valetkey.cli.surroundings import (
    SWITCHED_OFF,
    key_findings,
    proxy_fault,
    proxy_findings,
    switch_findings,
    trust_fault,
    trust_findings,
)
from valetkey.cli.variables import PROXIES
from valetkey.model import Address
from valetkey.proxy.canaryhost import HOST

DOOR = Address("127.0.0.1", 8080)
OWN = certificate("mitmproxy")
DER = next(certificates(OWN))
PUBLIC = "".join(certificate(f"Root {number}") for number in range(12))
GOOD = {name: "http://127.0.0.1:8080" for upper in PROXIES for name in (upper, upper.lower())}


def levels(findings):
    return {finding.level for finding in findings}


def faults(findings):
    return [finding.text for finding in findings if finding.level == "fault"]


def proxies(**changes):
    return list(proxy_findings(GOOD | changes, DOOR, ["api.openai.com"]))


def test_a_good_proxy_is_well():
    assert levels(proxies()) == {"ok"}


def test_no_proxy_variable_at_all_is_one_fault():
    assert len(faults(proxy_findings({}, DOOR, []))) == 1


@pytest.mark.parametrize("name", GOOD)
def test_a_variable_that_is_missing_in_one_case_is_found(name):
    assert faults(proxies(**{name: ""})) == [f"{name} is not set, only {name.swapcase()}: some runtimes read this one alone"]


@pytest.mark.parametrize("entry", ["*", "api.openai.com", ".openai.com", HOST, "localhost,openai.com"])
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_an_exception_that_leads_past_the_gateway_is_found(name, entry):
    assert "past the gateway" in faults(proxies(**{name: entry}))[0]


def test_other_exceptions_are_well():
    assert levels(proxies(NO_PROXY="localhost,127.0.0.1,::1,intra.example")) == {"ok"}


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:8080", "127.0.0.1:8080", "http://localhost:8080/", "http://alice:key@127.0.0.1:8080"]
)
def test_every_way_to_write_the_door_is_taken(value):
    assert proxy_fault({"HTTPS_PROXY": value}, "HTTPS_PROXY", DOOR) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("http://127.0.0.1:3128", "leads to 127.0.0.1:3128"),
        ("http://proxy.example:8080", "leads to proxy.example:8080"),
        ("https://127.0.0.1:8080", "begins with https://"),
        ("socks5://127.0.0.1:8080", "begins with socks5://"),
        ("http://[::1", "is no address"),
        ("http://127.0.0.1:x", "is no address"),
    ],
)
def test_another_proxy_is_found(value, text):
    assert text in proxy_fault({"HTTPS_PROXY": value}, "HTTPS_PROXY", DOOR)


def test_no_message_holds_the_key_of_an_agent():
    assert "secret" not in proxy_fault({"HTTPS_PROXY": "http://alice:secret@127.0.0.1:1"}, "HTTPS_PROXY", DOOR)


# Trust.


def held(tmp_path, text):
    (tmp_path / "ca.pem").write_text(text)
    return str(tmp_path / "ca.pem")


@pytest.mark.parametrize(("name", "text"), [("SSL_CERT_FILE", PUBLIC + OWN), ("NODE_EXTRA_CA_CERTS", OWN)])
def test_each_kind_of_file_is_well_in_its_place(tmp_path, name, text):
    assert trust_fault({name: held(tmp_path, text)}, name, DER) is None


@pytest.mark.parametrize("name", REPLACING)
def test_the_authority_alone_is_found_where_it_replaces_all_others(tmp_path, name):
    assert "holds the CA alone" in trust_fault({name: held(tmp_path, OWN)}, name, DER)


@pytest.mark.parametrize("name", [*REPLACING, *ADDING])
def test_a_wrong_bundle_is_found(tmp_path, name):
    assert "does not hold the gateway's CA" in trust_fault({name: held(tmp_path, PUBLIC)}, name, DER)


def test_a_file_that_is_gone_is_found():
    assert "cannot be read" in trust_fault({"SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE", DER)


def test_a_variable_that_is_missing_is_found(tmp_path):
    environ = dict.fromkeys((*REPLACING, *ADDING), held(tmp_path, PUBLIC + OWN)) | {"GIT_SSL_CAINFO": ""}
    assert faults(trust_findings(environ, DER)) == ["GIT_SSL_CAINFO: not set"]


def test_one_wrong_file_in_many_variables_is_told_once(tmp_path):
    assert len(faults(trust_findings(dict.fromkeys((*REPLACING, *ADDING), held(tmp_path, PUBLIC)), DER))) == 1


def test_all_variables_well_is_told_once(tmp_path):
    assert len(list(trust_findings(dict.fromkeys((*REPLACING, *ADDING), held(tmp_path, PUBLIC + OWN)), DER))) == 1


# Switches and dummies.

ON = {"NODE_USE_ENV_PROXY": "1", "AIOHTTP_TRUST_ENV": "True"}


def test_switches_that_are_on_are_well():
    assert list(switch_findings(ON)) == []


@pytest.mark.parametrize("name", ON)
def test_a_switch_that_is_off_is_found(name):
    assert name in faults(switch_findings(ON | {name: ""}))[0]


@pytest.mark.parametrize("name", SWITCHED_OFF)
def test_verification_that_is_switched_off_is_found(name):
    value = SWITCHED_OFF[name].replace("*", "1")
    assert [f.fix for f in switch_findings(ON | {name: value})] == [f"unset {name}"]


@pytest.mark.parametrize(
    ("name", "value"), [("NODE_TLS_REJECT_UNAUTHORIZED", "1"), ("GIT_SSL_NO_VERIFY", ""), ("SSL_VERIFY", "/ca")]
)
def test_verification_that_is_on_is_well(name, value):
    assert list(switch_findings(ON | {name: value})) == []


@pytest.mark.parametrize(
    ("environ", "level"),
    [({"A": "sk-dummy"}, "ok"), ({}, "fault"), ({"A": "sk-real"}, "note"), ({"A": "sk-dummy", "B": "sk-real"}, "note")],
)
def test_an_agent_holds_dummies(environ, level):
    is_dummy = {name: environ.get(name, "").startswith("sk-dummy") for name in ("A", "B")}
    assert levels(key_findings(environ, ["A", "B"], is_dummy)) == {level}


def test_a_real_key_is_not_printed():
    assert "sk-real" not in str(list(key_findings({"A": "sk-real"}, ["A"], {"A": False})))
