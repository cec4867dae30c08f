from __future__ import annotations

import pytest
from typer.testing import CliRunner

from valetkey.cli import app, demo

pytestmark = pytest.mark.e2e


def test_every_promise_is_kept():
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 0 and "BROKEN" not in done.output


def test_a_broken_promise_is_shown(monkeypatch):
    monkeypatch.setattr(demo, "_tell", lambda stage: [("the sky is green", False)])
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 1 and "BROKEN" in done.output
