from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from support import making
from support.certifying import certificate
from valetkey.cli import checkups
from valetkey.cli.app import Loaded
from valetkey.cli.reaching import Reached
from valetkey.ledger import open_store
from valetkey.model import Address
from valetkey.settings import Settings, instance_id

NOW = datetime.now(UTC)


def loaded(folder, text="version: 1\n", keys=None, states=None):
    snapshot = replace(making.snapshot(text, keys), states=states or {})
    return Loaded(Settings(None, folder), snapshot, dict(making.CATALOG))


def running(folder, **state):
    return Reached("gateway", {"instance": instance_id(Settings(None, folder)), **state})


NOBODY = Reached("nobody", {})


def only(findings, level="fault"):
    return [finding for finding in findings if finding.level == level]


def with_port(folder, port):
    return loaded(folder, f"version: 1\ngateway: {{proxy: 127.0.0.1:{port}, api: 127.0.0.1:1}}\n")


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# The gateway and its ports.


def test_a_gateway_of_these_rules_is_well(tmp_path):
    assert [f.level for f in checkups.gateway_findings(loaded(tmp_path), running(tmp_path))] == ["ok"]


def test_a_gateway_of_other_rules_is_found(tmp_path):
    found = checkups.gateway_findings(loaded(tmp_path), running(tmp_path / "other"))
    assert "other rules" in only(found)[0].text


def test_a_gateway_that_does_not_run_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(checkups, "is_taken", lambda door: False)
    assert only(checkups.gateway_findings(loaded(tmp_path), NOBODY))[0].fix == "valetkey run"


def test_a_port_that_is_taken_is_found_with_its_holder(tmp_path, taken):
    found = only(checkups.gateway_findings(with_port(tmp_path, taken), Reached("other", {})))
    assert f"process {os.getpid()}" in found[0].text


def test_a_free_port_is_not_taken():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert not checkups.is_taken(Address("127.0.0.1", port))


def test_nobody_holds_a_free_port():
    assert checkups.holder_of(1) is None


def test_a_port_for_outgoing_connections_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(checkups, "_ephemeral_from", lambda: 30_000)
    assert "outgoing" in only(checkups.gateway_findings(with_port(tmp_path, 40_000), NOBODY), "note")[0].text


# Keys.

WRITTEN = "version: 1\nproviders: {openai: {keys: [env:OPENAI_API_KEY]}}\n"
DUMMY = {"openai/main": "OPENAI_API_KEY looks like a dummy, not like a real key"}


def test_keys_are_well_where_there_are_some(tmp_path):
    assert "this shell has 1: openai/main" in only(checkups.key_findings(loaded(tmp_path), NOBODY), "ok")[0].text


def test_a_gateway_is_asked_for_its_keys(tmp_path):
    reached = running(tmp_path, keys=["groq/main"], left_out={})
    assert "the gateway has 1: groq/main" in only(checkups.key_findings(loaded(tmp_path), reached), "ok")[0].text


def test_a_gateway_of_other_rules_is_not_asked(tmp_path):
    reached = running(tmp_path / "other", keys=["groq/main"], left_out={})
    assert "openai/main" in only(checkups.key_findings(loaded(tmp_path), reached), "ok")[0].text


def test_a_dummy_that_the_rules_name_as_a_key_is_found(tmp_path):
    found = only(checkups.key_findings(loaded(tmp_path, WRITTEN, {}, DUMMY), NOBODY))
    assert "looks like a dummy" in found[0].text and "GATEWAY_" in found[0].fix


def test_a_dummy_that_the_gateway_holds_is_found(tmp_path):
    found = only(checkups.key_findings(loaded(tmp_path, WRITTEN), running(tmp_path, keys=["groq/main"], left_out=DUMMY)))
    assert "looks like a dummy" in found[0].text


def test_a_dummy_that_no_rule_names_is_no_fault(tmp_path):
    assert only(checkups.key_findings(loaded(tmp_path, states=DUMMY), NOBODY)) == []


def test_no_key_at_all_is_found(tmp_path):
    assert "no usable key" in only(checkups.key_findings(loaded(tmp_path, keys={}), NOBODY))[0].text


def test_a_provider_without_keys_is_well(tmp_path):
    text = "version: 1\nproviders: {lab: {like: openai, upstream: 'http://127.0.0.1:8000', keys: none}}\n"
    assert only(checkups.key_findings(loaded(tmp_path, text, {}), NOBODY)) == []


# The authority.


@pytest.fixture
def confdir(tmp_path):
    def write(**options):
        (tmp_path / "mitmproxy-ca-cert.pem").write_text(certificate("mitmproxy", **options))
        (tmp_path / "mitmproxy-ca.pem").touch(0o600)
        return tmp_path

    return write


def fingerprint(folder):
    return x509.load_pem_x509_certificate((folder / "mitmproxy-ca-cert.pem").read_bytes()).fingerprint(SHA256()).hex()


def authority(folder, reached=NOBODY):
    return list(checkups.authority_findings(folder, reached, NOW))


def test_a_good_authority_is_well(confdir):
    assert [f.level for f in authority(confdir())] == ["ok"]


def test_no_authority_yet_is_no_fault(tmp_path):
    assert [f.level for f in authority(tmp_path)] == ["note"]


def test_an_expired_authority_is_found(confdir):
    assert "has expired" in only(authority(confdir(days=-1)))[0].text


def test_an_authority_that_expires_soon_is_told(confdir):
    assert "expires on" in only(authority(confdir(days=10)), "note")[0].text


def test_an_authority_from_the_future_is_the_clocks_fault(confdir):
    assert only(authority(confdir(since=2)))[0].subject == "clock"


def test_a_leaf_is_no_authority(confdir):
    assert "no certificate authority" in only(authority(confdir(ca=False)))[0].text


def test_another_authority_than_the_gateways_is_found(confdir):
    found = only(authority(confdir(), Reached("gateway", {"ca": "00"})))
    assert "not the CA that the running gateway signs with" in found[0].text


def test_the_gateways_authority_is_well(confdir):
    folder = confdir()
    assert only(authority(folder, Reached("gateway", {"ca": fingerprint(folder)}))) == []


def test_a_key_of_the_authority_that_others_may_read_is_found(confdir):
    folder = confdir()
    (folder / "mitmproxy-ca.pem").chmod(0o644)
    assert "may be read by others" in only(authority(folder))[0].text


def test_its_mode_can_be_repaired(confdir):
    folder = confdir()
    (folder / "mitmproxy-ca.pem").chmod(0o644)
    only(authority(folder))[0].repair()
    assert only(authority(folder)) == []


# The clock.


def test_a_clock_that_agrees_is_well(tmp_path):
    found = checkups.clock_findings(loaded(tmp_path), running(tmp_path, time=1000.0), 1000.0)
    assert [f.level for f in found] == ["ok"]


def test_a_gateway_with_another_clock_is_found(tmp_path):
    found = list(checkups.clock_findings(loaded(tmp_path), running(tmp_path, time=1000.0), 5000.0))
    assert [f.text for f in found] == ["the gateway's clock differs by 4000 s from ours"]


def test_a_receipt_from_the_future_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(checkups, "_newest", lambda path: 5000.0)
    assert "in the future" in only(checkups.clock_findings(loaded(tmp_path), NOBODY, 1000.0))[0].text


# The ledger.


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "state" / "ledger.db"
    open_store(f"sqlite:///{path}").close()
    return path


def test_a_ledger_is_well(ledger):
    assert [f.level for f in checkups.ledger_findings(ledger)] == ["ok"]


def test_no_ledger_yet_is_well(tmp_path):
    assert [f.level for f in checkups.ledger_findings(tmp_path / "state" / "ledger.db")] == ["ok"]


def test_a_ledger_that_others_may_read_is_found_and_repaired(ledger):
    ledger.chmod(0o644)
    (found,) = only(checkups.ledger_findings(ledger))
    found.repair()
    assert "mode 0644" in found.text and only(checkups.ledger_findings(ledger)) == []


def test_a_folder_that_others_may_change_is_found_and_repaired(ledger):
    ledger.parent.chmod(0o777)
    (found,) = only(checkups.ledger_findings(ledger))
    found.repair()
    assert ledger.parent.stat().st_mode & 0o777 == 0o700


def test_bundles_beside_the_ledger_may_be_read_by_all(ledger):
    (ledger.parent / "ledger.ca-bundle.pem").touch(0o644)
    assert only(checkups.ledger_findings(ledger)) == []


def test_a_ledger_that_is_none_is_found(ledger):
    ledger.write_bytes(b"hello" * 1000)
    assert only(checkups.ledger_findings(ledger))


def test_a_ledger_that_cannot_be_written_is_found(ledger, monkeypatch):
    monkeypatch.setattr(checkups.os, "access", lambda path, mode: path != ledger)
    assert "cannot be written" in only(checkups.ledger_findings(ledger))[0].text


def test_a_large_ledger_is_told(ledger, monkeypatch):
    monkeypatch.setattr(checkups, "LARGE", 1)
    assert "purge" in only(checkups.ledger_findings(ledger), "note")[0].fix


def test_the_newest_receipt_of_an_empty_ledger_is_none(ledger):
    assert checkups._newest(ledger) is None


def test_a_broken_ledger_has_no_newest_receipt(ledger):
    with closing(sqlite3.connect(ledger)) as base:
        base.execute("DROP TABLE IF EXISTS receipts")
    assert checkups._newest(ledger) is None


# mitmproxy.


def test_the_mitmproxy_here_is_known():
    assert [f.level for f in checkups.mitmproxy_findings()] == ["ok"]


def test_another_version_is_told(monkeypatch):
    monkeypatch.setattr(checkups.version, "VERSION", "13.0.0")
    assert "13.0.0 was not tried" in next(checkups.mitmproxy_findings()).text


def test_internals_that_drifted_are_told(monkeypatch):
    monkeypatch.setattr(checkups.hooks, "differences", lambda manager: "AddonManager.trigger is not what it was")
    assert [f.text for f in checkups.mitmproxy_findings()] == ["AddonManager.trigger is not what it was"]
