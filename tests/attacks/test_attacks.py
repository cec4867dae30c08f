"""Every attack as a test. A strict xfail is an attack that the gateway does not defend yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import catalogue
from .canaries import KEYS, holds
from .evidence import Attack
from .range import Range, opened

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with opened(tmp_path_factory.mktemp("range")) as made:
        yield made


def _marked(attack: Attack) -> object:
    marks = [pytest.mark.xfail(strict=True, reason=attack.broken)] if attack.broken else []
    return pytest.param(attack, id=attack.id, marks=marks)


def test_the_good_call_passes(here):
    """Or no refusal below would prove anything."""
    assert here.control() and here.sees_upstream


@pytest.mark.parametrize("attack", [_marked(attack) for attack in catalogue.all_attacks()])
def test_attack(here, attack):
    verdict, evidence = here.attempt(attack)
    if verdict.result == "not applicable":
        pytest.skip(verdict.why)
    assert verdict.why == "", f"{attack.defence}\n{evidence.answers}\n{evidence.sent!r}"


def test_every_number_of_a_finished_part_has_an_attack():
    assert [number for number in catalogue.FINISHED if number not in {attack.number for attack in catalogue.all_attacks()}] == []


def test_ids_are_unique():
    ids = [attack.id for attack in catalogue.all_attacks()]
    assert sorted(ids) == sorted(set(ids))


def test_no_file_holds_a_key_at_the_end(here):
    """Also what was written late: buffers are flushed when the process ends."""
    here.stop()
    assert here.files_with_keys() == []


def test_no_hostile_server_got_a_key_late(here):
    assert [owner for owner, key in KEYS.items() if holds(here.late(), key)] == []
