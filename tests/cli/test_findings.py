from __future__ import annotations

import pytest

from valetkey.cli.findings import fault, note, ok, status


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([], 0),
        ([ok("CA", "")], 0),
        ([note("CA", "")], 0),
        ([fault("CA", "", "")], 1),
        ([fault("CA", "", ""), fault("rules", "", "")], 2),
        ([note("rules", "")], 0),
    ],
)
def test_the_status_is_that_of_the_worst(findings, code):
    assert status(findings) == code


def test_a_repair_is_nothing_to_print():
    assert fault("CA", "open", "chmod", lambda: None).as_dict() == {
        "subject": "CA",
        "level": "fault",
        "text": "open",
        "fix": "chmod",
    }
