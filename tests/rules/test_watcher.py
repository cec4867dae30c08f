from __future__ import annotations

import os
from pathlib import Path

from valetkey.rules import Watcher
from valetkey.rules.watcher import marks


def written(path, text, when):
    path.write_text(text)
    os.utime(path, (when, when))


def test_nothing_changed(tmp_path):
    path = tmp_path / "a"
    written(path, "x", 1)
    watcher = Watcher([path])
    assert [watcher.changed(), watcher.changed()] == [False, False]


def test_a_change_is_told_once_it_stands_still(tmp_path):
    path = tmp_path / "a"
    written(path, "x", 1)
    watcher = Watcher([path])
    written(path, "y", 2)
    assert [watcher.changed(), watcher.changed()] == [False, True]


def test_a_file_that_is_still_written_is_waited_for(tmp_path):
    path = tmp_path / "a"
    written(path, "x", 1)
    watcher = Watcher([path])
    seen = []
    for when in (2, 3, 4):
        written(path, "y" * when, when)
        seen.append(watcher.changed())
    assert seen == [False, False, False]


def test_a_new_file_is_a_change(tmp_path):
    watcher = Watcher([tmp_path / "a"])
    written(tmp_path / "a", "x", 1)
    watcher.changed()
    assert watcher.changed()


def test_a_file_that_went_is_a_change(tmp_path):
    written(tmp_path / "a", "x", 1)
    watcher = Watcher([tmp_path / "a"])
    (tmp_path / "a").unlink()
    watcher.changed()
    assert watcher.changed()


def test_a_file_that_became_readable_is_a_change(tmp_path):
    path = tmp_path / "key"
    written(path, "x", 1)
    path.chmod(0o644)
    watcher = Watcher([path])
    path.chmod(0o600)
    watcher.changed()
    assert watcher.changed()


def test_a_change_between_reading_and_watching_is_told(tmp_path):
    path = tmp_path / "a"
    written(path, "x", 1)
    before = marks([path])
    written(path, "y", 2)
    assert Watcher([path], before).changed()


def test_a_path_that_no_file_can_have_is_no_change():
    assert not Watcher([Path("a\0b")]).changed()


def test_the_swap_of_a_mounted_secret_is_told(tmp_path):
    """Kubernetes writes a new folder and points `..data` to it. https://kubernetes.io/docs/concepts/configuration/secret/"""
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "openai").write_text(f"key {number}")
    (tmp_path / "..data").symlink_to("1")
    watcher = Watcher([tmp_path / "..data" / "openai"])
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(tmp_path / "..data")

    assert not watcher.changed()
    assert watcher.changed()
