"""The examples of deploy/ say what they promise. Docker is not needed: what it would do is read, not run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from support.making import CATALOG
from valetkey.cli import app
from valetkey.rules import load_rules

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = DEPLOY / "valetkey.service"


def sources(service):
    return {volume.split(":")[0] for volume in SERVICES[service]["volumes"]}


def test_the_agents_only_network_leads_nowhere():
    assert SERVICES["agent"]["networks"] == ["inside"] and COMPOSE["networks"]["inside"]["internal"] is True


def test_nobody_but_the_gateway_is_in_that_network():
    assert {name for name, service in SERVICES.items() if "inside" in service.get("networks", ())} == {"agent", "gateway"}


def test_no_port_is_published():
    assert [name for name, service in SERVICES.items() if "ports" in service] == []


def test_real_keys_are_the_gateways_alone():
    assert [name for name, service in SERVICES.items() if "env_file" in service] == ["gateway"]


def test_the_agent_does_not_see_the_authoritys_key():
    assert sources("agent") & sources("gateway") == set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_hardened(service):
    found = SERVICES[service]
    assert found["read_only"] and found["cap_drop"] == ["ALL"] and found["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_mounted_exists(service):
    missing = [path for path in sources(service) if path.startswith(".") and not (DEPLOY / path).is_dir()]
    assert missing == [] and all(name in COMPOSE["volumes"] for name in sources(service) if not name.startswith("."))


def test_the_rules_of_the_example_load():
    rules = load_rules(DEPLOY / "gateway/rules.yaml", CATALOG)
    assert (rules.gateway.callers, rules.gateway.egress, rules.gateway.hosts) == ("known", "deny", ("gateway",))


def test_the_agents_variables_are_those_of_valetkey_env(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = json.loads(CliRunner().invoke(app, ["env", "--json", "--confdir", str(tmp_path)]).stdout)
    assert {*SERVICES["agent"]["environment"]} <= {*known}


def test_the_image_is_not_roots():
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]


def test_the_image_is_checked_for_health():
    assert "HEALTHCHECK" in DOCKERFILE and "http://127.0.0.1:8045/health" in DOCKERFILE


@pytest.mark.parametrize("text", [DOCKERFILE, (DEPLOY / "compose.yaml").read_text()], ids=["Dockerfile", "compose"])
def test_images_name_no_registry(text):
    images = re.findall(r"^(?:FROM|\s+image:) (\S+)", text, re.MULTILINE)
    assert images and [image for image in images if "/" in image] == []


def test_what_the_image_copies_exists():
    copied = [word for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    assert [name for name in copied if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", [".env", "keys.env", ".valetkey"])
def test_keys_in_a_folder_that_is_sent_are_not(name):
    # The last line that matches decides; the builder has no .gitignore, and would pack them.
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines.index(f"**/{name}") > max(at for at, line in enumerate(lines) if line.startswith("!"))


def test_what_the_image_copies_is_sent_to_the_builder():
    sent = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [word for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    assert {*copied} == {*sent}


@pytest.fixture
def analyze():
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return lambda *arguments: subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def test_systemd_takes_the_unit(analyze, tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/valetkey/bin/valetkey run", "/bin/true"))
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_little_exposed(analyze):
    done = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    assert float(re.search(r"exposure level for valetkey.service: ([\d.]+)", done.stdout)[1]) < 2.0, done.stdout


def test_the_unit_leaves_callbacks_possible():
    """`MemoryDenyWriteExecute` would: pyOpenSSL's callbacks need memory that is written and executed."""
    assert not re.search(r"^MemoryDenyWriteExecute=", UNIT.read_text(), re.MULTILINE)
