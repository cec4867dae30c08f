from __future__ import annotations

import os
import shlex
import sys
import threading
import time

import pytest

from valetkey.errors import SecretError
from valetkey.secrets import commands

KEY = "sk-proj-REALrealREALrealREALreal0001"
ENV = {"PATH": os.environ["PATH"]}


def ref(code, *more):
    """A reference to a Python program."""
    return "cmd:" + shlex.join([sys.executable, "-c", code, *more])


def run(reference, tmp_path, env=ENV, timeout=20.0, stop=None):
    return commands.run(reference, env, tmp_path, timeout, stop or threading.Event())


def problem(reference, tmp_path, **options):
    with pytest.raises(SecretError) as caught:
        run(reference, tmp_path, **options)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["", "\\n", "\\r\\n"])
def test_the_line_that_is_printed_is_the_key(tmp_path, ending):
    assert run(ref(f"import sys; sys.stdout.write('{KEY}{ending}')"), tmp_path) == KEY


def test_no_shell_reads_the_line(tmp_path):
    assert run(ref("import sys; print(sys.argv[1])", "$(id); `id` | x > y"), tmp_path) == "$(id); `id` | x > y"


def test_it_runs_in_the_folder_of_the_rules(tmp_path):
    assert run(ref("import os; print(os.getcwd())"), tmp_path) == str(tmp_path)


def test_it_sees_the_variables_that_it_is_given_alone(tmp_path):
    code = "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))"
    assert run(ref(code), tmp_path, env={"VAULT_ADDR": "x"}) == "['VAULT_ADDR']"


def test_it_gets_no_input(tmp_path):
    assert run(ref("import sys; print('[' + sys.stdin.read() + ']')"), tmp_path) == "[]"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('SEEN'); raise SystemExit(3)", "ended with status 3"),
        ("import os, signal; print('SEEN', flush=True); os.kill(os.getpid(), signal.SIGTERM)", "ended by signal 15"),
        ("print('SEEN\\nSEEN')", "more than one line"),
        ("pass", "prints nothing"),
        ("print()", "prints nothing"),
        ("import sys; sys.stdout.buffer.write(b'SEEN\\xff')", "no text"),
        ("print('SEEN' * 20_000)", "no key"),
        ("import sys; sys.stderr.write('SEEN'); raise SystemExit(1)", "run it in a shell"),
    ],
    ids=["status", "signal", "lines", "nothing", "empty line", "bytes", "long", "stderr"],
)
def test_what_cannot_be_a_key_is_said(tmp_path, code, said):
    assert said in problem(ref(code), tmp_path)


@pytest.mark.parametrize(
    "code", ["print('SE' + 'EN'); raise SystemExit(3)", "print('SE' + 'EN\\n')", "print('SE' + 'EN' * 40_000)"]
)
def test_nothing_that_is_printed_is_in_a_message(tmp_path, code):
    assert "SEEN" not in problem(ref(code), tmp_path)


def test_a_message_names_the_reference(tmp_path):
    assert ref("raise SystemExit(3)") in problem(ref("raise SystemExit(3)"), tmp_path)


def test_a_program_that_is_not_there_is_named(tmp_path):
    assert "no program no-such-program on" in problem("cmd:no-such-program read x", tmp_path)


def test_a_program_that_may_not_be_run_is_an_error(tmp_path):
    (tmp_path / "plain").write_text("")
    assert "cannot be started: Permission denied" in problem(f"cmd:{tmp_path}/plain", tmp_path)


@pytest.mark.parametrize(("reference", "said"), [("cmd:", "names no program"), ("cmd:op 'read", "has no end")])
def test_a_line_that_is_no_command_is_an_error(tmp_path, reference, said):
    assert said in problem(reference, tmp_path)


SLOW = "import time; time.sleep(60)"


def test_a_program_that_hangs_is_given_up(tmp_path):
    assert "did not end within 0.3 s" in problem(ref(SLOW), tmp_path, timeout=0.3)


STARTS = f"""
import subprocess, sys
process = subprocess.Popen([sys.executable, "-c", {SLOW!r}])
open("pid", "w").write(f"{{process.pid}}\\n")
process.wait()
"""


def test_with_a_program_ends_what_it_started(tmp_path):
    stop, written = threading.Event(), tmp_path / "pid"
    watcher = threading.Thread(target=lambda: (wait_until(lambda: written.exists() and "\n" in written.read_text()), stop.set()))
    watcher.start()
    problem(ref(STARTS), tmp_path, stop=stop, timeout=60.0)
    watcher.join()
    wait_until(lambda: not _lives(int(written.read_text())))
    assert not _lives(int(written.read_text()))


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        threading.Event().wait(0.01)


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_end_of_the_gateway_ends_a_program(tmp_path):
    stop = threading.Event()
    stop.set()
    assert "the gateway ends" in problem(ref(SLOW), tmp_path, stop=stop)


LINGERS = f"""
import os, subprocess, sys
process = subprocess.Popen([sys.executable, "-c", {SLOW!r}])
open("pid", "w").write(f"{{process.pid}} {{os.getpid()}}\\n")
"""
"""Ends at once, and leaves a program behind that holds its output open."""


def test_what_a_program_leaves_behind_is_ended_with_it(tmp_path):
    stop, written = threading.Event(), tmp_path / "pid"

    def watch():
        wait_until(lambda: written.exists() and "\n" in written.read_text())
        wait_until(lambda: not _lives(int(written.read_text().split()[1])))
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    problem(ref(LINGERS), tmp_path, stop=stop, timeout=60.0)
    watcher.join()
    left = int(written.read_text().split()[0])
    wait_until(lambda: not _lives(left))
    assert not _lives(left)


CLOSES = "import os, time; open('closed', 'w').close(); os.close(1); time.sleep(60)"


def test_a_program_that_goes_on_without_output_ends_with_the_gateway(tmp_path):
    stop = threading.Event()
    watcher = threading.Thread(target=lambda: (wait_until((tmp_path / "closed").exists), stop.set()))
    watcher.start()
    begun = time.monotonic()
    assert "the gateway ends" in problem(ref(CLOSES), tmp_path, stop=stop, timeout=60.0) and time.monotonic() - begun < 40
    watcher.join()


def test_without_descriptors_left_it_is_that_key_which_fails(tmp_path, monkeypatch):
    def full():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(commands.selectors, "DefaultSelector", full)
    assert "cannot be read: Too many open files" in problem(ref("print(1)"), tmp_path)
