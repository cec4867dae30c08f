from __future__ import annotations

import socket

import pytest
from typer.testing import CliRunner

from valetkey.cli import app
from valetkey.errors import StartError


@pytest.mark.parametrize("arguments", [("--fault", "nonsense=1"), ("--tls-cert", "x.pem"), ("--port", "99999")])
def test_wrong_usage_is_said(arguments):
    assert CliRunner().invoke(app, ["simulate", *arguments]).exit_code == 2


def test_a_taken_port_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = CliRunner().invoke(app, ["simulate", "--port", str(taken.getsockname()[1])])
    assert isinstance(done.exception, StartError) and "cannot start" in str(done.exception)


def test_a_missing_certificate_is_said(tmp_path):
    done = CliRunner().invoke(app, ["simulate", "--tls-cert", str(tmp_path / "c"), "--tls-key", str(tmp_path / "k")])
    assert isinstance(done.exception, StartError)
