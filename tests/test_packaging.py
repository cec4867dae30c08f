"""What is published works by itself: the wheel, made from the sdist, installed where the source tree is not."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from support.making import CATALOG
from support.processes import free_ports
from valetkey import __version__
from valetkey.rules import load_rules
from valetkey.simulator import run_in_thread

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ("addons", "certs", "deploy", "docs", "scripts", "tests", ".github")
FILES = ("constraints.txt", "Dockerfile", "LICENSE", "Makefile", "pyproject.toml", "README.md", "rules.yaml", ".gitignore")
PLANTED = (".env", "keys.env", ".valetkey/ledger.db", "addons/valetkey/.env", "deploy/keys.env")
"""What a checkout may hold beside the source."""
KEY = "sk-proj-REALrealREALrealREALreal0001"
PATIENCE = 60.0

pytestmark = pytest.mark.e2e


class Installed:
    """A Python with the wheel in it, and an empty folder to work in."""

    def __init__(self, wheel, sdist, python, home):
        self.wheel, self.sdist, self.python, self.home = wheel, sdist, python, home
        self.environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", "COLUMNS": "120"}

    def run(self, *command, cwd=None, **variables):
        return subprocess.run(
            [self.python.with_name(command[0]), *command[1:]], cwd=cwd or self.home, env=self.environment | variables,
            capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip


def build(kind, source, out):
    """An sdist or a wheel of the tree, by the build backend alone: nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return next(out.glob("*.tar.gz" if kind == "sdist" else "*.whl"))


def copy_of_the_tree(folder):
    for name in PUBLISHED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for name in PLANTED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"OPENAI_API_KEY={KEY}\n")


def empty_python(folder):
    """An environment of its own; what valetkey needs is borrowed from ours, without its `.pth` files, which name the checkout."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    ours = {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}
    (Path(paths["purelib"]) / "borrowed.pth").write_text("".join(f"{path}\n" for path in ours))
    python = folder / "bin" / "python"
    for tool in ("mitmdump", "mitmweb"):
        text = Path(sys.executable).with_name(tool).read_text()
        python.with_name(tool).write_text(re.sub(r"\A#!.*", f"#!{python}", text))
        python.with_name(tool).chmod(0o755)
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaging")
    tree, out, home = folder / "tree", folder / "out", folder / "home"
    for each in (tree, out, home):
        each.mkdir()
    copy_of_the_tree(tree)
    sdist = build("sdist", tree, out)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    wheel = build("wheel", next((folder / "unpacked").iterdir()), out)
    shutil.rmtree(tree)
    shutil.rmtree(folder / "unpacked")
    python = empty_python(folder / "venv")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "--ignore-installed", "--quiet"]
    subprocess.run([*pip, wheel], check=True)
    return Installed(wheel, sdist, python, home)


@pytest.fixture(scope="module")
def set_up(installed):
    """A folder in which `valetkey init` has been; OpenAI is simulated."""
    folder = installed.home / "gateway"
    done = installed.run("valetkey", "init", "--yes", "--no-test", "--dir", str(folder), OPENAI_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    rules = folder / "rules.yaml"
    proxy, api = free_ports(2)
    text = re.sub(r"( proxy: 127.0.0.1:)\d+", rf"\g<1>{proxy}", rules.read_text())
    text = re.sub(r"( api: 127.0.0.1:)\d+", rf"\g<1>{api}", text)
    with run_in_thread() as provider:
        rules.write_text(text.replace("  openai:\n", f"  openai:\n    upstream: {provider.url}/v1\n"))
        yield folder


@pytest.fixture(scope="module")
def gateway(installed, set_up):
    """`valetkey run` in that folder; gives the address of its base-URL door."""
    api = load_rules(set_up / "rules.yaml", CATALOG).gateway.api
    environment = installed.environment | {"OPENAI_API_KEY": KEY}
    with (set_up / "log").open("wb") as log:
        process = subprocess.Popen(
            [installed.python.with_name("valetkey"), "run"], cwd=set_up, env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while health(api) != 200:
            assert process.poll() is None and time.monotonic() < deadline, (set_up / "log").read_text()
            time.sleep(0.05)
        yield api
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def health(api):
    try:
        return httpx.get(f"http://{api}/health", trust_env=False, timeout=5).status_code
    except httpx.HTTPError:
        return None


def names_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_package(installed):
    files = {path for path in (ROOT / "addons/valetkey").rglob("*") if path.suffix in (".py", ".yaml", ".json")}
    assert {str(path.relative_to(ROOT / "addons")) for path in files} <= names_of(installed.wheel)


def test_the_wheel_holds_the_schema_for_editors(installed):
    with zipfile.ZipFile(installed.wheel) as archive:
        assert archive.read("valetkey/rules/rules.schema.json") == (ROOT / "docs/rules.schema.json").read_bytes()


def test_the_script_is_alone_in_its_folder(installed):
    """mitmproxy puts that folder first in `sys.path`."""
    assert {name for name in names_of(installed.wheel) if name.startswith("valetkey/script/")} == {"valetkey/script/gateway.py"}


def test_the_wheel_holds_the_package_alone(installed):
    assert {name.split("/")[0] for name in names_of(installed.wheel)} == {"valetkey", f"valetkey-{__version__}.dist-info"}


def test_the_sdist_holds_what_make_needs(installed):
    with tarfile.open(installed.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "Makefile",
        "constraints.txt",
        "scripts/make-venv",
        "addons/gateway.py",
        "tests/conftest.py",
        "deploy/compose.yaml",
    } <= names


def test_keys_and_ledgers_of_a_checkout_are_not_published(installed):
    with tarfile.open(installed.sdist) as archive:
        published = [*archive.getnames(), *names_of(installed.wheel)]
    assert [name for name in published if name.endswith((".env", ".db"))] == []


def test_the_checkout_is_out_of_reach(installed):
    code = "import sys, valetkey; print(valetkey.__file__); print(*sys.path, sep='\\n')"
    file, *paths = installed.run("python", "-c", code).stdout.splitlines()
    assert file.startswith(str(installed.python.parents[1])) and str(ROOT / "addons") not in paths


def test_the_version_is_shown(installed):
    assert installed.run("valetkey", "--version").stdout == f"valetkey {__version__}\n"


def test_the_demo_keeps_its_promises(installed):
    done = installed.run("valetkey", "demo")
    assert (done.returncode, done.stdout.count("  kept "), done.stderr) == (0, 4, "")


def test_init_writes_rules_that_hold(installed, set_up):
    done = installed.run("valetkey", "check", cwd=set_up, OPENAI_API_KEY=KEY)
    assert done.returncode == 0 and "openai: openai/main" in done.stdout


def test_editors_find_the_schema_of_the_package(set_up):
    place = re.match(r"# yaml-language-server: \$schema=(.*)\n", (set_up / "rules.yaml").read_text())[1]
    assert Path(place).is_file() and not Path(place).is_relative_to(ROOT)


def test_run_gets_ready(gateway):
    assert health(gateway) == 200


def test_env_is_what_a_shell_takes(installed, set_up, gateway):
    script = installed.run("valetkey", "env", cwd=set_up).stdout
    code = 'eval "$1"; test -r "$SSL_CERT_FILE" && echo "$OPENAI_API_KEY"'
    assert subprocess.run(["sh", "-c", code, "sh", script], capture_output=True, text=True).stdout == "sk-dummy\n"


def test_exec_hides_the_key_from_the_agent(installed, set_up, gateway):
    code = "import os; print(os.environ['OPENAI_API_KEY'], os.environ['HTTPS_PROXY'])"
    done = installed.run("valetkey", "exec", "--", "python", "-c", code, cwd=set_up, OPENAI_API_KEY=KEY)
    assert re.fullmatch(r"sk-dummy http://127.0.0.1:\d+\n", done.stdout), (done.stderr, (set_up / "log").read_text())


CALL = """
import httpx, os
headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
print(httpx.post("https://api.openai.com/v1/chat/completions", headers=headers, json=body, timeout=60).status_code)
"""


@pytest.fixture(scope="module")
def called(installed, set_up, gateway):
    """What an agent named alice printed: the status of its call."""
    return installed.run("valetkey", "exec", "--agent", "alice", "--", "python", "-c", CALL, cwd=set_up).stdout


def test_an_agent_is_answered(called):
    assert called == "200\n"


def test_it_is_seen_what_an_agent_costs(installed, set_up, called):
    done = installed.run("valetkey", "usage", "--by", "agent,model", "--json", cwd=set_up)
    assert ("alice", "gpt-4o") in [(row["agent"], row["model"]) for row in map(json.loads, done.stdout.splitlines())], done.stdout


def test_doctor_finds_nothing_wrong_in_the_agents_place(installed, set_up, gateway):
    # Of the runtimes only this Python is on PATH: tests of its own look at the others.
    command, path = ("valetkey", "exec", "--", "valetkey", "doctor", "--json"), str(installed.python.parent)
    done = installed.run(*command, cwd=set_up, PATH=path)
    faults = [each for each in json.loads(done.stdout)["findings"] if each["level"] == "fault" and each["subject"] != "keys"]
    assert faults == []


def test_the_folder_of_the_package_was_not_written_to(installed, gateway):
    """Where it belongs to root, as in a container, nothing is missed."""
    package = next(installed.python.parents[1].glob("lib/python*/site-packages/valetkey"))
    found = {str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert found == {name for name in names_of(installed.wheel) if name.startswith("valetkey/")}
