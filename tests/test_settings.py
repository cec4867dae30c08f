from __future__ import annotations

import pytest

from valetkey.errors import ConfigurationError
from valetkey.settings import Settings, find_rules, instance_id, resolve_ledger


@pytest.fixture
def folders(tmp_path):
    for name in ("here", "checkout", "else"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rules.yaml").touch()
    return tmp_path / "here", tmp_path / "checkout", tmp_path / "else"


def test_the_option_wins(folders):
    here, checkout, other = folders
    assert find_rules(str(other / "rules.yaml"), here, checkout) == other / "rules.yaml"


def test_a_relative_option_is_relative_to_the_working_directory(folders):
    here, checkout, other = folders
    assert find_rules("../else/rules.yaml", here, checkout).samefile(other / "rules.yaml")


def test_the_working_directory_is_next(folders):
    here, checkout, _ = folders
    assert find_rules(None, here, checkout) == here / "rules.yaml"


def test_the_checkout_is_last(folders):
    here, checkout, _ = folders
    (here / "rules.yaml").unlink()
    assert find_rules(None, here, checkout) == checkout / "rules.yaml"


def test_no_file_is_fine(tmp_path):
    assert Settings.find(None, tmp_path, tmp_path) == Settings(None, tmp_path)


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(ConfigurationError, match="nowhere"):
        find_rules("nowhere.yaml", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///ledger.db", "sqlite:////base/ledger.db"),
        ("sqlite:////var/ledger.db", "sqlite:////var/ledger.db"),
        ("postgres://host/db", "postgres://host/db"),
    ],
)
def test_a_ledgers_path_is_relative_to_the_rules(uri, path):
    from pathlib import Path

    assert resolve_ledger(uri, Path("/base")) == path


def test_the_home_of_nobody_is_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(ConfigurationError, match="no such rules file"):
        find_rules("~no-such-user/rules.yaml", tmp_path, tmp_path)


def test_an_instance_is_known_by_its_rules(folders):
    here, checkout, _ = folders
    one, other = (Settings(folder / "rules.yaml", folder) for folder in (here, checkout))
    assert instance_id(one) != instance_id(other)


def test_a_link_to_the_rules_is_the_same_instance(folders):
    here, _, _ = folders
    (here / "link.yaml").symlink_to(here / "rules.yaml")
    assert instance_id(Settings(here / "link.yaml", here)) == instance_id(Settings(here / "rules.yaml", here))


def test_an_instance_without_rules_is_known_by_its_folder(tmp_path):
    assert instance_id(Settings(None, tmp_path)) == instance_id(Settings(None, tmp_path / "." / "x" / ".."))
