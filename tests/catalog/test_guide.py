"""docs/providers.md, followed to the letter: a provider that is added without code works."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from valetkey.catalog import load_catalog, loader
from valetkey.cli import app
from valetkey.model import Outcome
from valetkey.policy.metering import measure
from valetkey.policy.outcome import classify
from valetkey.policy.paths import HostTable, Place, locate, wire_path
from valetkey.rules import parse_rules

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "providers.md").read_text()
GUIDE = PAGE.partition("## A new provider in the catalogue")[2]


@pytest.fixture
def folder(tmp_path):
    """The catalogue, with the file that the guide has one write, under the name that it says."""
    path = re.search(r"Write `addons/valetkey/catalog/providers/(\w+\.yaml)`", GUIDE)[1]
    made = shutil.copytree(loader.FOLDER, tmp_path / "providers")
    (made / path).write_text(re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[1])
    return made


@pytest.fixture
def providers(folder):
    return parse_rules("", "rules.yaml", load_catalog(folder)).providers


@pytest.fixture
def place(providers):
    return locate(providers["acme"].facts, "POST", "/v1/chat/completions")


def test_its_host_is_known(providers):
    assert HostTable(providers).find("api.acme.example", 443, "https") == "acme"


def test_its_endpoint_is_known(place):
    assert isinstance(place, Place)


def test_its_model_is_read_from_the_path(providers):
    assert locate(providers["acme"].facts, "GET", "/v1/models/acme/large").path_model == "acme/large"


def test_its_files_are_closed(providers):
    assert locate(providers["acme"].facts, "GET", "/v1/files").reason == "endpoint_closed"


def test_routes_lead_to_it(providers):
    source = locate(providers["groq"].facts, "POST", "/openai/v1/chat/completions")
    assert wire_path(providers["acme"], source, "m").path == "/v1/chat/completions"


def test_its_usage_is_read(providers, place):
    document = {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    assert measure(document, providers["acme"], place.endpoint.flavor, "m", 0.0).usage["output_tokens"] == 4


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [(401, b"", "bad_key"), (429, b"", "throttled"), (429, b'{"error":{"code":"engine_busy"}}', "overloaded")],
)
def test_its_errors_are_classified(providers, status, body, outcome):
    assert classify(providers["acme"].facts, status, {}, body) == Outcome(outcome)


def test_the_command_shows_what_was_understood(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loader, "FOLDER", folder)
    (tmp_path / "rules.yaml").write_text("version: 1\n")
    command = re.search(r"`valetkey (providers \w+)` shows", GUIDE)[1]
    assert "https://docs.acme.example/limits" in CliRunner().invoke(app, command.split()).output


@pytest.mark.parametrize("path", re.findall(r"`((?:tests|addons)/[\w/.]+)`", GUIDE))
def test_the_files_that_the_guide_names_are_there(path):
    assert (Path(__file__).resolve().parents[2] / path.replace("acme.yaml", "")).exists()
