from __future__ import annotations

import pytest

from valetkey.model import GatewayRules
from valetkey.secrets import problem
from valetkey.secrets.check import is_dummy

DUMMIES = GatewayRules().dummy_keys
GOOD = "sk-proj-REALrealREALrealREALreal0001"


def test_a_real_looking_key_is_fine():
    assert problem("X", GOOD, DUMMIES) is None


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("", "empty"),
        (f" {GOOD}", "white space"),
        (f"{GOOD} ", "white space"),
        ("sk-proj real real real real", "white space"),
        (f"{GOOD}\n", "line break"),
        (f"{GOOD}\r\nx-evil: 1", "line break"),
        (f"{GOOD}\0", "control"),
        (f"{GOOD}é", "no header"),
        ("sk-dummy", "dummy"),
        ("sk-dummy-alice-with-a-long-name", "dummy"),
        ("sk-ant-dummy", "dummy"),
        ("dummy", "dummy"),
        ("your-api-key-here", "dummy"),
        ("your_openai_api_key", "dummy"),
        ("<your key here>".replace(" ", "-"), "dummy"),
        ("changeme", "dummy"),
        ("${OPENAI_API_KEY}", "dummy"),
        ("xxxxxxxxxxxxxxxxxxxxxxx", "dummy"),
        ("sk-...", "dummy"),
        ("sk-short", "shorter than 16"),
        (f'"{GOOD}"', "quotation marks"),
        (f"'{GOOD}'", "quotation marks"),
        ("/run/secrets/openai", "file:PATH"),
        ("~/keys/openai.txt", "file:PATH"),
        ("https://api.openai.com/v1", "file:PATH"),
        (f"OPENAI_API_KEY={GOOD}", "NAME=VALUE"),
        (f"{GOOD},{GOOD}", "comma"),
        (f"{GOOD}\t", "control"),
        (f"sk-proj\u00a0{GOOD}", "no header"),
    ],
)
def test_what_is_no_key_is_refused_by_name(value, word):
    assert word in problem("OPENAI_API_KEY", value, DUMMIES) and "OPENAI_API_KEY" in problem("OPENAI_API_KEY", value, DUMMIES)


@pytest.mark.parametrize(
    "value",
    [f" {GOOD}", f"{GOOD}\n", f"{GOOD}é", f"A_KEY={GOOD}", f"{GOOD},", f'"{GOOD}"', f"/{GOOD}/x", f"dummy-{GOOD}", "REAL"],
)
def test_the_value_is_never_said(value):
    assert "REAL" not in problem("X", value, DUMMIES)


@pytest.mark.parametrize(("value", "dummy"), [("sk-dummy-x", True), ("dummy", True), (GOOD, False)])
def test_dummies_are_known_by_their_pattern(value, dummy):
    assert is_dummy(value, DUMMIES) is dummy


@pytest.mark.parametrize(
    "value",
    ["/0aB3+dE5fG7/hI9jK1lM3nO5pQ7rS9tU1vW3xY5z==", "AB_CDEFGHIJKLMNOPQR==", "gsk_0aB3dE5fG7hI9jK1lM3n", "0aB3dE5fG7hI9jK1lM3n"],
)
def test_keys_of_other_forms_are_fine(value):
    assert problem("X", value, DUMMIES) is None
