from __future__ import annotations

import pytest
from typer.testing import CliRunner

from valetkey.cli import app, demo
from valetkey.errors import StartError

pytestmark = pytest.mark.e2e


def test_every_promise_is_kept():
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 0 and "BROKEN" not in done.output


def test_credential_flow_receipt_and_cost_are_shown():
    output = CliRunner().invoke(app, ["demo"]).output
    words = ("the provider saw: Bearer sk-proj-made-u…", "the flow holds: Bearer sk-dummy-alice", "receipt: {", "the cost: $0.0")
    assert [word for word in words if word not in output] == []


def test_a_gateway_that_does_not_start_is_shown_with_its_words(monkeypatch, tmp_path):
    broken = tmp_path / "gateway.py"
    broken.write_text("import sys\nsys.exit('out of petrol')\n")
    monkeypatch.setattr(demo, "script", lambda: broken)
    monkeypatch.setattr(demo, "PATIENCE", 30.0)
    done = CliRunner().invoke(app, ["demo"])
    assert isinstance(done.exception, StartError) and "out of petrol" in str(done.exception)


def test_a_broken_promise_is_shown(monkeypatch):
    monkeypatch.setattr(demo, "_tell", lambda stage: [("the sky is green", False)])
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 1 and "BROKEN" in done.output
