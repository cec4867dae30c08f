from __future__ import annotations

import os
import stat

import pytest

from valetkey.secrets import ownership

US, GROUP = os.geteuid(), os.getegid()


def status(mode, uid=US, gid=GROUP):
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize("uid", [0, US])
def test_root_and_we_are_no_strangers(uid):
    assert ownership.foreign_owner(status(stat.S_IFREG | 0o600, uid)) is None


def test_another_user_is_a_stranger():
    assert ownership.foreign_owner(status(stat.S_IFREG | 0o600, 54321)) == "belongs to another user (uid 54321)"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755])
def test_a_file_that_only_we_can_change(mode):
    assert ownership.writable(status(stat.S_IFREG | mode)) is None


@pytest.mark.parametrize(("mode", "gid"), [(0o602, GROUP), (0o666, GROUP), (0o660, GROUP + 1)])
def test_a_file_that_others_can_change(mode, gid):
    assert ownership.writable(status(stat.S_IFREG | mode, gid=gid)) == f"may be changed by others (mode {mode:04o})"


def test_a_folder_that_others_can_add_to():
    assert ownership.writable(status(stat.S_IFDIR | 0o777))


def test_in_a_sticky_folder_others_cannot_change_what_is_ours():
    assert ownership.writable(status(stat.S_IFDIR | 0o1777)) is None
