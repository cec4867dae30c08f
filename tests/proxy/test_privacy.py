from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from mitmproxy import options
from mitmproxy.certs import CertStore

from valetkey.errors import StartError
from valetkey.proxy import privacy


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    CertStore.from_store(folder, "mitmproxy", 2048)
    return folder


@pytest.fixture
def confdir(tmp_path, made):
    folder = tmp_path / "conf"
    folder.mkdir(mode=0o700)
    for path in made.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
        (folder / path.name).chmod(path.stat().st_mode & 0o777)
    return folder


def test_an_authority_as_mitmproxy_makes_it_is_fine(confdir):
    privacy.check_authority(str(confdir))


def test_an_authority_that_is_not_there_yet_is_fine(tmp_path):
    privacy.check_authority(str(tmp_path / "none"))


@pytest.mark.parametrize("name", privacy.KEYS)
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_stops_the_start(confdir, name, mode):
    (confdir / name).chmod(mode)
    with pytest.raises(StartError, match=f"{name}.*mode {mode:04o}"):
        privacy.check_authority(str(confdir))


def test_the_key_of_mitmproxy_is_looked_at(made):
    """Or a renamed file would go unseen."""
    private = [path.name for path in made.iterdir() if path.stat().st_mode & 0o777 == 0o600]
    assert sorted(private) == sorted(privacy.KEYS)


def test_a_folder_that_others_may_change_stops_the_start(confdir):
    confdir.chmod(0o777)
    with pytest.raises(StartError, match="may be changed by others"):
        privacy.check_authority(str(confdir))


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_new_files_are_private(umask, tmp_path):
    privacy.keep_private(options.Options())
    (tmp_path / "new").touch()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["{}", "+{}"])
def test_a_file_of_flows_that_is_open_already_becomes_private(umask, tmp_path, value):
    path = tmp_path / "flows.mitm"
    path.touch(0o644)
    privacy.keep_private(SimpleNamespace(save_stream_file=value.format(path), mode=[]))
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["-", "+", "/nowhere/flows.mitm"])
def test_what_is_no_file_is_left_alone(umask, value):
    privacy.keep_private(SimpleNamespace(save_stream_file=value, hardump="", mode=[]))


@pytest.mark.parametrize("mode", ["wireguard@51820", "wireguard:{}/other.conf@51820"])
def test_the_keys_of_wireguard_become_private(umask, tmp_path, mode):
    for path in (tmp_path / "wireguard.conf", tmp_path / "other.conf"):
        path.touch(0o644)
    privacy.keep_private(SimpleNamespace(confdir=str(tmp_path), mode=[mode.format(tmp_path)]))
    named = tmp_path / ("other.conf" if "other" in mode else "wireguard.conf")
    assert named.stat().st_mode & 0o777 == 0o600
