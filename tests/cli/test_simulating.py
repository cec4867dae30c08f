from __future__ import annotations

import pytest
from typer.testing import CliRunner

from valetkey.cli import app


@pytest.mark.parametrize("arguments", [("--fault", "nonsense=1"), ("--tls-cert", "x.pem"), ("--port", "99999")])
def test_wrong_usage_is_said(arguments):
    assert CliRunner().invoke(app, ["simulate", *arguments]).exit_code == 2
