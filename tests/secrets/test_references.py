from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from valetkey.errors import SecretError
from valetkey.secrets import Environment, file_of, read_file, resolve

VALUE = "sk-proj-REALrealREALrealREALreal0001"


@pytest.fixture
def held(tmp_path):
    path = tmp_path / "key"
    path.write_text(VALUE + "\n")
    path.chmod(0o600)
    return path


def test_a_file_is_read_without_its_last_line_break(held):
    assert read_file(held) == VALUE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(held, mode):
    held.chmod(mode)
    with pytest.raises(SecretError, match="chmod 600"):
        read_file(held)


def test_a_link_is_not_followed(held, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(held)
    with pytest.raises(SecretError, match="symbolic link"):
        read_file(link)


def test_a_file_of_somebody_else_is_refused(held, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if held.stat().st_uid == 0:
        os.chown(held, 4321, -1)
    with pytest.raises(SecretError, match="another user"):
        read_file(held)


def test_a_folder_is_no_key(tmp_path):
    with pytest.raises(SecretError):
        read_file(tmp_path)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SecretError, match="no regular file"):
        read_file(tmp_path / "pipe")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SecretError, match="nowhere"):
        read_file(tmp_path / "nowhere")


def test_a_huge_file_is_no_key(held):
    held.write_bytes(b"x" * 100_000)
    with pytest.raises(SecretError, match="larger"):
        read_file(held)


def test_bytes_that_are_no_text_are_no_key(held):
    held.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SecretError, match="not text"):
        read_file(held)


def test_a_file_reference_is_relative_to_the_rules(held):
    assert resolve("file:key", Environment(), held.parent).reveal() == VALUE


def test_a_variable_is_looked_up(tmp_path):
    assert resolve("env:A", Environment({"A": VALUE}), tmp_path).reveal() == VALUE


def test_a_missing_variable_is_named(tmp_path):
    with pytest.raises(SecretError, match="A is not set"):
        resolve("env:A", Environment(), tmp_path)


def test_a_literal_is_no_reference_and_is_not_said(tmp_path):
    with pytest.raises(SecretError) as raised:
        resolve(VALUE, Environment(), tmp_path)
    assert VALUE not in str(raised.value)


@pytest.mark.parametrize(("reference", "name"), [("file:key", "key"), ("env:A", None)])
def test_files_to_watch(tmp_path, reference, name):
    assert file_of(reference, tmp_path) == (tmp_path / name if name else None)


@pytest.mark.parametrize("path", ["a\0b", "\ud800"], ids=["NUL", "surrogate"])
def test_a_path_that_no_file_can_have_is_said(tmp_path, path):
    with pytest.raises(SecretError):
        resolve(f"file:{path}", Environment(), tmp_path)


def test_the_home_of_nobody_is_said(tmp_path):
    with pytest.raises(SecretError, match="cannot be read"):
        resolve("file:~no-such-user/key", Environment(), tmp_path)


def test_home_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert file_of("file:~/key", tmp_path) == Path("/home/me/key")


def test_the_place_for_mounted_secrets_is_not_left_through_dots(tmp_path):
    assert file_of("file:/run/secrets/../../etc/key", tmp_path) == Path("/etc/key")


def test_a_file_that_breaks_while_it_is_read_costs_its_key_only(held, monkeypatch):
    def fail(descriptor, size):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(SecretError, match="cannot be read: Input/output error"):
        read_file(held)


def test_no_descriptor_is_left_open_by_a_file_that_is_refused(held):
    held.chmod(0o644)
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(SecretError):
        read_file(held)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_mounted_secret_is_read_where_its_folder_is_a_link(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "openai").write_text(VALUE)
    (tmp_path / "1" / "openai").chmod(0o600)
    (tmp_path / "..data").symlink_to("1")
    assert resolve("file:..data/openai", Environment({}), tmp_path).reveal() == VALUE


@pytest.mark.parametrize("reference", ["keyring:valetkey/openai/team", "cmd:op read x"])
def test_slow_references_are_not_read_here(tmp_path, reference):
    with pytest.raises(SecretError, match="valetkey check"):
        resolve(reference, Environment({}), tmp_path)
