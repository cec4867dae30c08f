"""The table of mutants fits the code and the attacks; a few of them run here, all of them by `make attacks-mutants`."""

from __future__ import annotations

import pytest

from .mutants import ADDONS, MUTANTS, Mutant, attacks_of, changed, controls, outcome

SAMPLE = ("one Host header", "headers are scrubbed")


def named(defence):
    return next(mutant for mutant in MUTANTS if mutant.defence == defence)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.defence)
def test_what_is_taken_away_is_there_once(mutant):
    for edit in mutant.edits:
        text = (ADDONS / "valetkey" / edit[0]).read_text()
        assert changed(text, edit) != text


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.defence)
def test_every_mutant_has_attacks_of_its_numbers(mutant):
    found = attacks_of(mutant)
    assert found and {attack.number for attack in found} <= {*mutant.numbers}


def test_a_text_that_stands_twice_is_no_place():
    with pytest.raises(ValueError, match="2 times"):
        changed("ab ab", ("x.py", "ab", "c"))


@pytest.mark.e2e
@pytest.mark.parametrize("defence", SAMPLE)
def test_an_attack_notices(defence):
    found = outcome(named(defence))
    assert found.broken is not None and controls([found]) == []


@pytest.mark.e2e
def test_nobody_notices_what_changes_nothing():
    mutant = Mutant(
        (9,), "nothing", ("policy/egress.py", "if len(facts.host_headers) > 1:", "if 1 < len(facts.host_headers):"), ("C1-09",)
    )
    assert outcome(mutant).broken is None
