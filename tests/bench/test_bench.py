"""One tiny round of everything: that it works, not how fast it is. `make bench` measures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import Results
from bench.plan import BARE, DOORS, GATEWAY, STREAMING, TINY
from bench.report import BEGIN, END, markdown, tables, write_json, write_markdown
from bench.running import run
from support.processes import ROOT, wait_for

pytestmark = pytest.mark.e2e
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    return run(TINY, tmp_path_factory.mktemp("bench"), lambda text: None)


def test_no_call_fails_and_no_receipt_is_missing(results):
    assert results.problems == []


@pytest.mark.parametrize("door", DOORS)
def test_calls_are_made_at_every_door(results, door):
    assert results.made[door] >= TINY.calls


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("load", TINY.loads, ids=lambda load: load.title)
def test_every_load_is_measured_with_every_subject(results, door, load):
    assert all(results.middle(door, load, subject, "rate") for subject in load.subjects)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("figure", ["first_byte", "first_content", "gap_p99"])
def test_streams_have_their_times(results, door, figure):
    load = next(load for load in TINY.loads if load.pace)
    assert results.difference(door, load, figure) is not None


@NEEDS_PROC
@pytest.mark.parametrize("door", DOORS)
def test_memory_is_read(results, door):
    subjects = {BARE: "start", STREAMING: "open", GATEWAY: "open"}
    assert all(results.memory[door, subject].get(name) for subject, name in subjects.items())


def test_everything_is_in_the_json(results, tmp_path):
    write_json(tmp_path / "found.json", results, TINY)
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["measurements"]) == len(DOORS) * sum(len(load.subjects) for load in TINY.loads)


def test_the_page_gets_every_table(results, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_markdown(page, markdown(results, TINY))
    text = page.read_text()
    assert "old" not in text and all(f"**{table.title}**" in text for table in tables(results))


def test_the_documentation_has_a_place_for_the_figures():
    text = (ROOT / "docs" / "performance.md").read_text()
    assert text.index(BEGIN) < text.index(END)


@NEEDS_PROC
def test_all_programs_end_with_ctrl_c(tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "addons"), str(ROOT / "tests")))}
    command = [sys.executable, "-m", "bench", "--tiny", "--json", str(tmp_path / "found.json")]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        # The provider, the generator, and the first two that are measured.
        children = wait_for(lambda: found if len(found := _children(bench.pid)) >= 4 else None, "programs", bench)
        bench.send_signal(signal.SIGINT)
        bench.wait(30)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found
