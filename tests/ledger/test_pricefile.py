from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.pricing import model, published
from valetkey.errors import LedgerError
from valetkey.ledger import prices_path, read_prices, write_prices

NOW = 1_795_235_309.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "ledger.prices.json"


def write(path):
    write_prices(path, published(), "https://prices.test/data.json", NOW)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("sqlite:////data/ledger.db", "/data/ledger.prices.json"),
        ("sqlite:////data/other.sqlite", "/data/other.prices.json"),
        ("postgres://host/x", "/folder/.valetkey/ledger.prices.json"),
    ],
)
def test_prices_are_kept_beside_the_ledger(uri, place):
    assert prices_path(uri, Path("/folder")) == Path(place)


def test_what_was_written_is_read(path):
    write(path)
    found = read_prices(path)
    assert (found.source, found.fetched, len(found.prices.providers)) == ("https://prices.test/data.json", NOW, 2)


def test_file_and_folder_are_private(path):
    write(path)
    assert [each.stat().st_mode & 0o777 for each in (path, path.parent)] == [0o600, 0o700]


def test_nothing_else_is_left_in_the_folder(path):
    write(path)
    write(path)
    assert list(path.parent.iterdir()) == [path]


def test_none_are_kept_at_first(path):
    assert read_prices(path) is None


def test_newer_ones_are_read_in_place_of_older_ones(path):
    write(path)
    read_prices(path)
    write_prices(path, published(), "https://other.test", NOW)
    assert read_prices(path).source == "https://other.test"


def test_the_same_file_is_not_parsed_twice(path):
    write(path)
    assert read_prices(path) is read_prices(path)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "{}", "null", '{"source": "x", "fetched": "soon", "providers": []}', "[" * 100_000],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_an_error(path, text):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(LedgerError, match="the built-in prices hold"):
        read_prices(path)


def test_a_file_with_a_price_that_cannot_be_meant_is_an_error(path):
    write(path)
    document = json.loads(path.read_text())
    document["providers"][0]["models"][0]["prices"] = {"input_mtok": -1}
    path.write_text(json.dumps(document))
    with pytest.raises(LedgerError, match="openai/gpt-4o has a price for input_mtok that cannot be meant"):
        read_prices(path)


def test_a_failed_write_changes_nothing(path, monkeypatch):
    write(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(LedgerError, match="No space left"):
        write_prices(path, [], "x", NOW)
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "kept").write_text("")
    with pytest.raises(LedgerError, match="cannot be written"):
        write(tmp_path / "kept" / "x" / "ledger.prices.json")


def test_names_in_a_file_that_cannot_be_used_do_not_reach_a_terminal_as_they_are(tmp_path):
    path = tmp_path / "prices.json"
    providers = published(model("gpt-\x1b[31m", prices={"input_mtok": -1}))
    path.write_text(json.dumps({"source": "x", "fetched": 1, "providers": providers}))
    with pytest.raises(LedgerError, match="cannot be meant") as caught:
        read_prices(path)
    assert "\x1b" not in str(caught.value)
