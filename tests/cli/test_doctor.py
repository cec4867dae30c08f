from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from valetkey.cli import app, doctor
from valetkey.cli.bundles import ensure_authority
from valetkey.cli.reaching import Reached
from valetkey.ledger import open_store


@pytest.fixture(scope="module")
def confdir(tmp_path_factory):
    """One CA for all: to make a key takes a while."""
    folder = tmp_path_factory.mktemp("ca")
    ensure_authority(folder)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, confdir):
    """Runs the doctor where no gateway runs, with nothing in the environment but what the test puts there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "reach", lambda door: Reached("nobody", {}))
    monkeypatch.setattr(doctor.checkups, "is_taken", lambda door: False)
    for name in os.environ:
        if name != "PATH" and not name.startswith("PYTEST"):
            monkeypatch.delenv(name)

    def invoke(*arguments, rules="version: 1\n"):
        (tmp_path / "rules.yaml").write_text(rules)
        return CliRunner().invoke(app, ["doctor", "--confdir", str(confdir), *arguments])

    return invoke


def findings(done):
    return [(each["subject"], each["level"]) for each in json.loads(done.stdout)["findings"]]


def test_what_is_found_is_shown(run):
    assert "no gateway runs on" in run().stdout


def test_faults_are_counted_and_told_by_the_status(run):
    done = run()
    assert done.exit_code == 1 and "faults" in done.stdout.splitlines()[-1]


def test_programs_get_the_same(run):
    document = json.loads(run("--json").stdout)
    assert document["status"] == 1 and document["runtimes"] == []


def test_a_file_of_rules_that_is_wrong_is_a_fault_of_its_own(run):
    done = run("--json", rules="routez: []\n")
    assert {*findings(done)} == {("rules", "fault")} and done.exit_code == 2


def test_rules_that_do_not_exist_are_the_same(run):
    assert run("--rules", "nowhere.yaml").exit_code == 2


def test_what_the_rules_note_is_noted(run):
    done = run("--json", rules="version: 1\nagents: [{name: alice, budget: 5 USD/day}]\n")
    assert ("rules", "note") in findings(done)


def test_where_no_gateway_runs_no_runtime_is_started(run, monkeypatch):
    monkeypatch.setattr(doctor.runtimes, "probe_all", lambda *_: pytest.fail("started"))
    assert run().exit_code == 1


@pytest.fixture
def spoilt(run, tmp_path, confdir):
    """A CA, and a bundle that holds another one, beside a ledger that others may read."""
    doctor_run = CliRunner().invoke(app, ["env", "--confdir", str(confdir), "--rules", str(_rules(tmp_path))])
    assert doctor_run.exit_code == 0
    bundle, ledger = tmp_path / ".valetkey" / "ca-bundle.pem", tmp_path / ".valetkey" / "ledger.db"
    bundle.write_text((confdir / "mitmproxy-ca-cert.pem").read_text())
    open_store(f"sqlite:///{ledger}").close()
    ledger.chmod(0o644)
    return bundle, ledger


def _rules(folder):
    (folder / "rules.yaml").write_text("version: 1\n")
    return folder / "rules.yaml"


def test_nothing_is_repaired_unasked(run, spoilt):
    assert json.loads(run("--json").stdout)["repaired"] == [] and spoilt[1].stat().st_mode & 0o777 == 0o644


def test_a_mode_is_repaired_on_request(run, spoilt):
    run("--fix")
    assert spoilt[1].stat().st_mode & 0o777 == 0o600


def test_a_bundle_is_repaired_on_request(run, spoilt):
    run("--fix")
    assert spoilt[0].read_text().count("BEGIN") > 50


def test_what_was_repaired_is_told_and_is_no_fault_any_more(run, spoilt):
    document = json.loads(run("--fix", "--json").stdout)
    subjects = {each["subject"] for each in document["findings"] if each["level"] == "fault"}
    assert len(document["repaired"]) == 2 and not {"bundle", "ledger"} & subjects
