from __future__ import annotations

import pytest

from valetkey import errors


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (errors.Problem("rules.yaml", 3, "bad", "do this"), "rules.yaml:3: bad - do this"),
        (errors.Problem("rules.yaml", 0, "bad"), "rules.yaml: bad"),
    ],
)
def test_a_problem_names_place_and_fix(problem, text):
    assert str(problem) == text


def test_all_problems_are_said():
    raised = errors.RulesError([errors.Problem("a", 1, "x"), errors.Problem("a", 2, "y")])
    assert str(raised) == "a:1: x\na:2: y"


@pytest.mark.parametrize("kind", [errors.RulesError, errors.CatalogError, errors.SecretError, errors.StartError])
def test_what_a_person_can_fix_is_configuration(kind):
    assert issubclass(kind, errors.ConfigurationError)


def test_a_wire_error_has_a_status():
    assert (errors.WireError(502, "why", "text").status, errors.WireError(502, "why", "text").reason) == (502, "why")
