from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from support.certifying import certificate
from valetkey.cli import runtimes
from valetkey.cli.bundles import ADDING, REPLACING, certificates
from valetkey.cli.runtimes import RUNTIMES, Probe, Runtime, call, found, judge, probe, probe_all
from valetkey.cli.variables import PROXIES
from valetkey.model import Address

DOOR = Address("127.0.0.1", 8080)
GOOD = {name: "http://127.0.0.1:8080" for upper in PROXIES for name in (upper, upper.lower())} | {"NODE_USE_ENV_PROXY": "1"}
PLAIN = Runtime("plain", "true", ("{url}",), ("HTTPS_PROXY", "https_proxy"), ("SSL_CERT_FILE",))
OWN = next(certificates(certificate("mitmproxy")))


def judged(through, trusts, environ=GOOD, runtime=PLAIN, said="it broke"):
    return judge(Probe(runtime, through, trusts, said), environ, DOOR, OWN)


def program(folder, name, code):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)
    return path


def test_both_proofs_are_well():
    assert judged(True, True).level == "ok"


def test_without_a_proxy_the_variable_is_named():
    finding = judged(False, False, {})
    assert "HTTPS_PROXY is not set" in finding.text and "sets HTTPS_PROXY" in finding.fix


def test_without_trust_the_variable_is_named():
    finding = judged(True, False)
    assert "SSL_CERT_FILE: not set" in finding.text and "sets SSL_CERT_FILE" in finding.fix


def test_an_exception_is_named():
    assert "NO_PROXY leads past it" in judged(False, False, GOOD | {"NO_PROXY": "*"}).text


def test_nodes_switch_is_named():
    node = Runtime("node", "node", (), ("HTTPS_PROXY",), ("NODE_EXTRA_CA_CERTS",))
    assert "NODE_USE_ENV_PROXY" in judged(False, False, GOOD | {"NODE_USE_ENV_PROXY": ""}, node).text


def test_where_the_variables_are_right_its_own_words_are_told():
    assert judged(False, False).text.endswith("it broke")


def test_one_right_variable_is_enough():
    assert judged(False, False, {"HTTPS_PROXY": "http://127.0.0.1:8080"}).text.endswith("it broke")


@pytest.mark.parametrize(("through", "level"), [(False, "note"), (True, "fault")])
def test_a_runtime_that_no_variable_leads_to_the_proxy_is_no_fault(through, level):
    stubborn = Runtime("x", "x", (), ("HTTPS_PROXY",), ("SSL_CERT_FILE",), past=lambda *_: "it has no such variable")
    assert judged(through, False, runtime=stubborn).level == level


def test_a_runtime_that_no_variable_makes_trust_is_no_fault():
    stubborn = Runtime("x", "x", (), ("HTTPS_PROXY",), ("SSL_CERT_FILE",), distrusts=lambda *_: "write it into its file")
    assert judged(True, False, runtime=stubborn).fix == "write it into its file"


@pytest.mark.parametrize(
    ("version", "knows"),
    [
        ("v20.20.2", False),
        ("v22.20.0", False),
        ("v22.21.0", True),
        ("v23.1.0", False),
        ("v24.4.0", False),
        ("v24.5.0", True),
        ("v26.0.0", True),
    ],
)
def test_node_knows_proxy_variables_since_a_version(tmp_path, version, knows):
    node = Runtime("node https", str(program(tmp_path, "node", f"echo {version}")), (), (), ())
    assert (partial(runtimes._node_before, (24, 5), (22, 21))(node, {}) is None) is knows


@pytest.mark.parametrize(("options", "knows"), [("", False), ("-Xmx1g", False), ("-Dhttps.proxyHost=127.0.0.1", True)])
def test_java_is_led_by_its_own_variable(options, knows):
    assert (runtimes._java_unasked(PLAIN, {"JAVA_TOOL_OPTIONS": options}) is None) is knows


@pytest.mark.parametrize(("says", "knows"), [("-cares +gnutls", False), ("+openssl", True)])
def test_wget_reads_no_variable_when_built_with_gnutls(tmp_path, says, knows):
    wget = Runtime("wget", str(program(tmp_path, "wget", f"echo {says}")), (), (), ())
    assert (runtimes._gnutls(wget, {}) is None) is knows


def test_only_what_is_on_the_path_is_asked(tmp_path):
    program(tmp_path, "curl", "true")
    names = {runtime.name for runtime in found({"PATH": str(tmp_path)})}
    assert "curl" in names and "ruby" not in names


def test_both_pythons_are_asked(tmp_path):
    program(tmp_path, "python3", f'exec {sys.executable} "$@"')
    programs = {runtime.program for runtime in found({"PATH": str(tmp_path)})}
    assert {sys.executable, str(tmp_path / "python3")} <= programs


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_every_runtime_has_variables_that_valetkey_env_sets(runtime):
    known = {name for upper in PROXIES for name in (upper, upper.lower())} | {*REPLACING, *ADDING, "JAVA_TOOL_OPTIONS"}
    assert {*runtime.proxy, *runtime.trust} <= known


def test_the_address_is_filled_in(tmp_path):
    assert call(Runtime("x", "echo", ("{url}/x",), (), ()), "https://canary", {"PATH": "/bin:/usr/bin"}) == "https://canary/x"


def test_a_source_is_written_to_a_file(tmp_path):
    cat = Runtime("x", "cat", ("{file}",), (), (), source="get {url}", suffix="a.txt")
    assert call(cat, "https://canary", {"PATH": "/bin:/usr/bin"}) == "get https://canary"


def test_a_program_that_is_gone_is_told():
    assert call(Runtime("x", "/nowhere/x", (), (), ()), "u", {}) == "No such file or directory"


def test_a_program_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(runtimes, "PATIENCE", 0.05)
    assert "no end" in call(Runtime("x", "sleep", ("60",), (), ()), "u", {"PATH": "/bin:/usr/bin"})


@pytest.mark.parametrize(
    ("came", "proofs"),
    [
        ({"tunnel": 0.0, "request": 0.0}, (True, True)),
        ({"tunnel": 0.0, "request": None}, (True, False)),
        ({"tunnel": None, "request": None}, (False, False)),
        ({"tunnel": 3600.0, "request": 3600.0}, (False, False)),
        ({}, (False, False)),
    ],
    ids=["both", "no trust", "past it", "another probe, an hour ago", "no gateway"],
)
def test_proofs_are_the_gateways_word(monkeypatch, came, proofs):
    monkeypatch.setattr(runtimes, "seen", lambda door, port: came)
    made = probe(PLAIN, 23456, {"PATH": "/bin:/usr/bin"}, DOOR)
    assert (made.through, made.trusts) == proofs


def test_every_runtime_gets_a_port_of_its_own(monkeypatch):
    ports = []
    monkeypatch.setattr(runtimes, "found", lambda environ: [PLAIN] * 5)
    monkeypatch.setattr(runtimes, "seen", lambda door, port: ports.append(port) or {})
    probe_all({"PATH": "/bin:/usr/bin"}, DOOR)
    assert len({*ports}) == 5


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
@pytest.mark.parametrize("runtime", [each for each in RUNTIMES if each.program == "node"], ids=lambda each: each.name)
def test_the_scripts_for_node_are_right_and_fail_without_a_host(runtime):
    assert "canary.valetkey.invalid" in call(
        runtime, "https://canary.valetkey.invalid", {"PATH": f"{Path(shutil.which('node')).parent}"}
    )


def test_code_in_the_folder_that_an_agent_works_in_is_not_run(tmp_path, monkeypatch):
    for name in ("urllib", "types", "requests"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    pythons = [each for each in found({"PATH": "/nowhere"}) if each.name.startswith("python")]
    assert pythons and not [each.name for each in pythons if "planted" in call(each, "http://127.0.0.1:1", {})]
