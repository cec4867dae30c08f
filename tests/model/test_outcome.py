from __future__ import annotations

from valetkey.model import Outcome


def test_the_words_are_those_of_the_documentation():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "docs" / "metering.md").read_text()
    assert [word for word in Outcome if f"`{word}`" not in text] == []
