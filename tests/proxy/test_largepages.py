"""Which memory goes to large pages, by what Linux says of a process."""

from __future__ import annotations

import pytest

from valetkey.proxy import largepages

LINE = "{} {} 00000000 00:00 {}{}"


@pytest.mark.parametrize(
    ("bounds", "rights", "inode", "name", "expected"),
    [
        ("00400000-00800000", "rw-p", "0", "", [(0x400000, 0x800000)]),
        ("00400000-00800000", "rw-p", "0", "   [heap]", [(0x400000, 0x800000)]),
        ("00401000-009ff000", "rw-p", "0", "", [(0x600000, 0x800000)]),
        ("00401000-007ff000", "rw-p", "0", "", []),
        ("00400000-00800000", "r-xp", "0", "", []),
        ("00400000-00800000", "rw-s", "0", "", []),
        ("00400000-00800000", "rw-p", "77", "   /usr/lib/a library.so", []),
        ("00400000-00800000", "rw-p", "0", "   [stack]", []),
    ],
)
def test_whole_large_pages_of_own_writable_memory(bounds, rights, inode, name, expected):
    assert list(largepages.spans([LINE.format(bounds, rights, inode, name)])) == expected


def test_the_stack_of_a_thread_stays():
    guard, stack = LINE.format("003ff000-00400000", "---p", "0", ""), LINE.format("00400000-00800000", "rw-p", "0", "")
    assert list(largepages.spans([guard, stack])) == []


def test_memory_after_a_guard_that_does_not_touch_it_is_no_stack():
    guard, other = LINE.format("00100000-00200000", "---p", "0", ""), LINE.format("00400000-00800000", "rw-p", "0", "")
    assert list(largepages.spans([guard, other])) == [(0x400000, 0x800000)]


def test_it_can_be_asked_for_at_any_time():
    held = [bytes([number % 256]) * 4096 for number in range(2000)]
    largepages.use()
    assert all(held[number] == bytes([number % 256]) * 4096 for number in range(2000))


def test_where_the_system_says_never_nothing_is_asked_for(tmp_path, monkeypatch):
    switch = tmp_path / "enabled"
    switch.write_text("always madvise [never]\n")
    monkeypatch.setattr(largepages, "_SWITCH", switch)
    monkeypatch.setattr(largepages, "spans", pytest.fail)
    largepages.use()


def test_where_there_are_no_large_pages_nothing_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(largepages, "_SWITCH", tmp_path / "enabled")
    monkeypatch.setattr(largepages, "spans", pytest.fail)
    largepages.use()


@pytest.mark.parametrize("failure", [PermissionError, ValueError])
def test_a_system_that_does_not_let_it_be_read_does_not_end_the_start(monkeypatch, failure):
    def refuse(*_, **__):
        raise failure

    monkeypatch.setattr(largepages, "spans", refuse)
    largepages.use()
