"""Which pages of files leave the process, by what Linux says of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from valetkey.proxy import filepages

SMAPS = Path("/proc/self/smaps")
LIBRARY = "/usr/lib/a library.so"


def mapping(bounds: str, rights: str, file: str = LIBRARY, anonymous: str = "0 kB", swap: str = "0 kB") -> list[str]:
    fields = ["Size: 4096 kB", "Rss: 512 kB", f"Anonymous:      {anonymous}", f"Swap:            {swap}", "VmFlags: rd mr mw me"]
    return [f"{bounds} {rights} 00000000 08:01 77{' ' * 20}{file}".rstrip(), *fields]


WRITABLE = mapping("00900000-00901000", "rw-p", anonymous="4 kB")


@pytest.mark.parametrize("rights", ["r-xp", "r--p"])
def test_what_is_only_read_leaves(rights):
    assert filepages.spans([*mapping("00400000-00800000", rights), *WRITABLE]) == [(0x400000, 0x800000)]


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(mapping("00400000-00800000", "rw-p"), id="writable"),
        pytest.param(mapping("00400000-00800000", "r--s"), id="shared"),
        pytest.param(mapping("00400000-00800000", "r--p", anonymous="4 kB"), id="written by the linker, then protected"),
        pytest.param(mapping("00400000-00800000", "r--p", swap="4 kB"), id="written, and swapped out"),
        pytest.param(mapping("00400000-00401000", "r-xp"), id="small"),
        pytest.param(mapping("00400000-00800000", "r-xp", "[vdso]"), id="no file"),
        pytest.param(mapping("00400000-00800000", "r--p", ""), id="no name"),
        pytest.param(mapping("00400000-00800000", "r-xp", "/usr/lib/other.so"), id="not loaded to its end"),
        pytest.param(mapping("00400000-00800000", "r-xp")[:3], id="the system does not tell"),
    ],
)
def test_all_else_stays(kept):
    assert filepages.spans([*kept, *WRITABLE]) == []


def test_where_no_page_at_all_was_changed_nothing_leaves():
    """That cannot be: an emulator writes zero for all counts, and what the linker has written would be lost."""
    writable = mapping("00900000-00901000", "rw-p")
    assert filepages.spans([*mapping("00400000-00800000", "r--p"), *writable]) == []


@pytest.mark.parametrize("failure", [PermissionError, ValueError])
def test_a_system_that_does_not_let_it_be_read_does_not_end_the_start(monkeypatch, failure):
    def refuse(*_, **__):
        raise failure

    monkeypatch.setattr(filepages, "spans", refuse)
    filepages.let_go()


def test_what_is_written_in_another_way_is_a_value_error():
    with pytest.raises(ValueError):
        filepages.spans([*WRITABLE, "something else"])


@pytest.mark.skipif(sys.platform != "linux" or not SMAPS.exists(), reason="Linux only")
def test_a_process_goes_on_with_less():
    before = resident()
    filepages.let_go()
    assert resident() < before


def test_where_the_system_does_not_tell_nothing_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(filepages, "_SMAPS", tmp_path / "smaps")
    monkeypatch.setattr(filepages, "spans", pytest.fail)
    filepages.let_go()


def resident() -> int:
    """Kilobytes of what may leave that are in memory."""
    text = SMAPS.read_text()
    sizes = {
        int(found[1], 16): int(found[2]) for found in re.finditer(r"^([0-9a-f]+)-.*\n(?:\w.*\n)*?Rss:\s+(\d+) kB", text, re.M)
    }
    return sum(sizes[start] for start, _ in filepages.spans(text.splitlines()))
