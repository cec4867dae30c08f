"""`scripts/make-venv` and `.ci/run` on machines that have other Pythons than this one: all programs here are made up."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("bash", "cat", "chmod", "cp", "dirname", "env", "id", "ls", "mkdir", "sort")
PYTHON = """#!/usr/bin/env bash
# A Python {version} of a machine {able} to make environments.
case "$*" in
    "--version") echo "Python {version}" ;;
    "-c "*ensurepip*) {able} && {recent} ;;
    "-c "*) {recent} ;;
    "-m venv "*) echo "$0" > "$3.made"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip "*) {able} ;;
    "-m ensurepip") echo ensured > "$(dirname "$0")/pip" ;;
    *) exit 1 ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A machine with a few tools and no Python at all."""
    made = Machine(tmp_path)
    for name in TOOLS:
        (made.bin / name).symlink_to(shutil.which(name))
    return made


class Machine:
    """A folder of programs, a home, and a checkout in which scripts run."""

    def __init__(self, folder):
        self.folder, self.bin, self.home, self.checkout = folder, folder / "bin", folder / "home", folder / "checkout"
        for path in (self.bin, self.home, self.checkout):
            path.mkdir()

    def program(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def python(self, version, path=None, *, able=True):
        recent = tuple(map(int, version.split("."))) >= (3, 12)
        text = PYTHON.format(version=version, able=str(able).lower(), recent=str(recent).lower())
        self.program(path or self.bin / f"python{version}", text)

    def run(self, script, *arguments):
        env = {"PATH": str(self.bin), "HOME": str(self.home)}
        command = [str(self.bin / "bash"), str(script), *arguments]
        return subprocess.run(command, cwd=self.checkout, env=env, capture_output=True, text=True, timeout=30)

    def make_venv(self):
        return self.run(ROOT / "scripts" / "make-venv", ".venv")

    @property
    def used(self):
        """The Python that made the environment."""
        return Path((self.checkout / ".venv.made").read_text().strip())


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_any_recent_python_will_do(machine, version):
    machine.python(version)
    assert machine.make_venv().returncode == 0 and machine.used.name == f"python{version}"


def test_the_tested_version_is_preferred(machine):
    for version in ("3.12", "3.13", "3.14"):
        machine.python(version)
    machine.make_venv()
    assert machine.used.name == "python3.13"


def test_a_plain_python3_will_do(machine):
    machine.python("3.12", machine.bin / "python3")
    assert machine.make_venv().returncode == 0


def test_a_shim_of_a_missing_version_is_passed_over(machine):
    machine.program(
        machine.bin / "python3.13", '#!/usr/bin/env bash\necho "pyenv: version 3.13 is not installed" >&2\nexit 127\n'
    )
    machine.python("3.12")
    machine.make_venv()
    assert machine.used.name == "python3.12"


def test_a_python_that_cannot_make_environments_is_passed_over(machine):
    machine.python("3.13", able=False)
    machine.python("3.12")
    machine.make_venv()
    assert machine.used.name == "python3.12"


def test_versions_of_pyenv_are_found_behind_its_shims(machine):
    place = machine.home / ".pyenv" / "versions" / "3.12.1" / "bin" / "python"
    machine.python("3.12", place)
    machine.make_venv()
    assert machine.used == place


def test_uv_is_asked_when_there_is_no_python(machine):
    machine.program(machine.bin / "uv", '#!/usr/bin/env bash\necho "uv was asked: $*"\n')
    assert "uv was asked: venv" in machine.make_venv().stdout


def test_an_old_python_is_not_used(machine):
    machine.python("3.11", machine.bin / "python3")
    assert machine.make_venv().returncode == 1


def test_what_is_missing_is_said(machine):
    assert "needs Python 3.12 or newer" in machine.make_venv().stderr


def test_an_environment_that_is_there_is_kept(machine):
    machine.python("3.12", machine.checkout / ".venv" / "bin" / "python")
    machine.python("3.13")
    assert machine.make_venv().returncode == 0 and not (machine.checkout / ".venv.made").exists()


def test_an_environment_of_an_old_python_is_said(machine):
    machine.python("3.11", machine.checkout / ".venv" / "bin" / "python")
    assert ".venv holds Python 3.11" in machine.make_venv().stderr


def test_an_environment_whose_python_is_gone_is_said(machine):
    (machine.checkout / ".venv" / "bin").mkdir(parents=True)
    (machine.checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python")
    assert "does not run" in machine.make_venv().stderr


def test_an_environment_without_pip_gets_it(machine):
    machine.python("3.13", machine.checkout / ".venv" / "bin" / "python", able=False)
    machine.make_venv()
    assert (machine.checkout / ".venv" / "bin" / "pip").read_text() == "ensured\n"


MAKE = """#!/usr/bin/env bash
echo "make $*"
case "$*" in *.venv/bin/python) exec bash scripts/make-venv .venv ;; esac
"""
APT = """#!/usr/bin/env bash
echo "apt-get $*"
case "$*" in *python3.12*) cp "{python}" "{bin}/python3.12" ;; *python3*) exit 100 ;; esac
"""


@pytest.fixture
def ci(machine):
    """Runs a copy of .ci/run on the machine, which has make and curl."""
    for script in (".ci/run", "scripts/make-venv"):
        machine.program(machine.checkout / script, (ROOT / script).read_text())
    machine.program(machine.bin / "make", MAKE)
    machine.program(machine.bin / "curl", "#!/usr/bin/env bash\n")
    return lambda: machine.run(machine.checkout / ".ci" / "run")


def test_ci_checks_and_tests(machine, ci):
    machine.python("3.13")
    *_, checks, tests, fuzz = ci().stdout.splitlines()
    assert (checks, tests, fuzz.split("=")[0]) == ("make check", "make test", "make fuzz MINUTES")


def test_ci_installs_the_first_python_that_the_system_has(machine, ci):
    machine.python("3.12", machine.folder / "kept")
    machine.program(machine.bin / "apt-get", APT.format(python=machine.folder / "kept", bin=machine.bin))
    machine.program(machine.bin / "id", "#!/usr/bin/env bash\necho 0\n")
    done = ci()
    assert done.returncode == 0 and machine.used.name == "python3.12"


def test_ci_installs_no_python_where_there_is_one(machine, ci):
    machine.python("3.12")
    machine.program(machine.bin / "apt-get", APT.format(python="none", bin=machine.bin))
    assert "install -qq -y python" not in ci().stdout


def test_ci_fails_with_the_reason_where_no_python_can_be_had(ci):
    done = ci()
    assert done.returncode != 0 and "needs Python 3.12 or newer" in done.stderr


def test_ci_fails_when_the_checks_do(machine, ci):
    machine.python("3.13")
    machine.program(machine.bin / "make", MAKE + 'case "$*" in check) exit 1 ;; esac\n')
    done = ci()
    assert done.returncode != 0 and "make test" not in done.stdout
