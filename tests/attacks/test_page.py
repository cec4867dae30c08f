"""docs/security.md says of every number what the attacks show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import catalogue

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()
ROWS = {
    int(number): (test, status)
    for number, test, status in re.findall(r"^\| (\d+) \|.*\| (C\d-\d\d) \| ([^|]+) \|$", PAGE, re.MULTILINE)
}
ATTACKS = {number: [attack for attack in catalogue.all_attacks() if attack.number == number] for number in ROWS}


def shown(attacks):
    """The status that the attacks of a number give."""
    if all(attack.absent for attack in attacks):
        return "no attack"
    return "part" if any(attack.broken for attack in attacks) else "defended"


def test_every_number_has_a_row():
    assert list(ROWS) == list(range(1, 83))


@pytest.mark.parametrize("number", ROWS)
def test_its_test_exists(number):
    test, _ = ROWS[number]
    assert any(attack.id.startswith(test) for attack in ATTACKS[number])


@pytest.mark.parametrize("number", ROWS)
def test_its_status_is_what_the_attacks_show(number):
    _, status = ROWS[number]
    assert status.partition(":")[0] == shown(ATTACKS[number])


@pytest.mark.parametrize("number", [number for number, (_, status) in ROWS.items() if status == "part"])
def test_what_succeeds_is_told(number):
    assert re.search(rf"^- {number}: ", PAGE, re.MULTILINE)
