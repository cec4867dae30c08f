from __future__ import annotations

import os

import pytest

from valetkey.secrets import Environment, ownership
from valetkey.secrets.environment import LIMIT

REAL, OTHER = "sk-proj-REALrealREALrealREALreal0001", "sk-proj-OTHERotherOTHERother000001"


def taken(tmp_path, dotenv=None, **values):
    if dotenv is not None:
        (tmp_path / ".env").write_text(dotenv)
        (tmp_path / ".env").chmod(0o600)
    return Environment.from_process(tmp_path, dict(values))


def value(environment, name, usable=bool):
    found = environment.get(name, usable)
    return found.reveal() if found else None


def test_the_process_is_read(tmp_path):
    assert value(taken(tmp_path, OPENAI_API_KEY=REAL), "OPENAI_API_KEY") == REAL


def test_dotenv_is_read(tmp_path):
    assert value(taken(tmp_path, f"OPENAI_API_KEY={REAL}\n"), "OPENAI_API_KEY") == REAL


def test_the_process_wins_over_dotenv(tmp_path):
    assert value(taken(tmp_path, f"OPENAI_API_KEY={OTHER}\n", OPENAI_API_KEY=REAL), "OPENAI_API_KEY") == REAL


def test_the_twin_wins(tmp_path):
    assert value(taken(tmp_path, OPENAI_API_KEY="sk-dummy", GATEWAY_OPENAI_API_KEY=REAL), "OPENAI_API_KEY") == REAL


def test_a_usable_value_wins_over_one_that_is_not(tmp_path):
    environment = taken(tmp_path, f"OPENAI_API_KEY={REAL}\n", OPENAI_API_KEY="sk-dummy")
    assert value(environment, "OPENAI_API_KEY", lambda v: "dummy" not in v) == REAL


def test_variables_in_dotenv_are_not_expanded(tmp_path):
    assert value(taken(tmp_path, "A=${HOME}x\n"), "A") == "${HOME}x"


def test_variants_are_in_natural_order(tmp_path):
    names = {f"OPENAI_API_KEY{suffix}": REAL for suffix in ("_10", "_2", "", "_WORK")}
    assert taken(tmp_path, **names).variants("OPENAI_API_KEY") == (
        "OPENAI_API_KEY",
        "OPENAI_API_KEY_2",
        "OPENAI_API_KEY_10",
        "OPENAI_API_KEY_WORK",
    )


def test_other_names_are_no_variants(tmp_path):
    assert taken(tmp_path, MY_OPENAI_API_KEY=REAL, OPENAI_API_KEYS=REAL).variants("OPENAI_API_KEY") == ()


def test_a_twin_is_a_variant_of_its_plain_name(tmp_path):
    assert taken(tmp_path, GATEWAY_OPENAI_API_KEY_1=REAL).variants("OPENAI_API_KEY") == ("OPENAI_API_KEY_1",)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "GATEWAY_OPENAI_API_KEY"])
def test_real_keys_leave_the_process(tmp_path, name):
    environ = {name: REAL}
    Environment.from_process(tmp_path, environ).hide(["OPENAI_API_KEY"], lambda v: "dummy" in v)
    assert environ == {}


def test_dummies_may_stay(tmp_path):
    environ = {"OPENAI_API_KEY": "sk-dummy"}
    Environment.from_process(tmp_path, environ).hide(["OPENAI_API_KEY"], lambda v: "dummy" in v)
    assert environ == {"OPENAI_API_KEY": "sk-dummy"}


def test_what_was_hidden_is_still_known(tmp_path):
    environment = taken(tmp_path, OPENAI_API_KEY=REAL)
    environment.hide(["OPENAI_API_KEY"], lambda v: False)
    environment.refresh()
    assert value(environment, "OPENAI_API_KEY") == REAL


def test_dotenv_is_read_again(tmp_path):
    environment = taken(tmp_path, f"A={OTHER}\n")
    (tmp_path / ".env").write_text(f"A={REAL}\n")
    environment.refresh()
    assert value(environment, "A") == REAL


def test_a_dotenv_that_others_may_read_is_noted(tmp_path):
    taken(tmp_path, "A=x\n")
    (tmp_path / ".env").chmod(0o644)
    assert "chmod 600" in Environment.from_process(tmp_path, {}).notices[0]


@pytest.mark.parametrize("content", [b"A=\xff\xfe", b"\x80"])
def test_a_dotenv_that_is_no_text_costs_its_keys_only(tmp_path, content):
    (tmp_path / ".env").write_bytes(content)
    environment = Environment.from_process(tmp_path, {"A": REAL})
    assert value(environment, "A") == REAL and "not UTF-8" in environment.notices[0]


def test_a_dotenv_that_went_bad_while_running_is_said_once_it_is_read_again(tmp_path):
    environment = taken(tmp_path, f"A={REAL}\n")
    (tmp_path / ".env").write_bytes(b"\xff")
    environment.refresh()
    assert value(environment, "A") is None and len(environment.notices) == 1


def test_a_dotenv_saved_with_a_byte_order_mark_is_read(tmp_path):
    assert value(taken(tmp_path, f"\ufeffA={REAL}\n"), "A") == REAL


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"A=" + b"x" * LIMIT), "larger than"),
        (lambda path: os.mkfifo(path, 0o600), "no regular file"),
        (lambda path: path.mkdir(), "no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    ],
    ids=["large", "pipe", "folder", "device"],
)
def test_a_dotenv_that_is_something_else_costs_its_keys_only(tmp_path, make, words):
    make(tmp_path / ".env")
    assert words in Environment.from_process(tmp_path, {}).notices[0]


def test_a_dotenv_of_another_user_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "foreign_owner", lambda status: "belongs to another user (uid 7)")
    environment = taken(tmp_path, f"A={REAL}\n")
    assert (value(environment, "A"), "uid 7" in environment.notices[0]) == (None, True)


def test_a_link_to_a_dotenv_is_followed(tmp_path):
    (tmp_path / "real").write_text(f"A={REAL}\n")
    (tmp_path / ".env").symlink_to("real")
    assert value(Environment.from_process(tmp_path, {}), "A") == REAL


def test_a_twin_that_is_named_leaves_the_process_too(tmp_path):
    environ = {"GATEWAY_MINE": REAL}
    Environment.from_process(tmp_path, environ).hide(["GATEWAY_MINE"], lambda v: False)
    assert environ == {}


def test_numbers_with_many_digits_are_suffixes_as_well(tmp_path):
    assert len(taken(tmp_path, **{f"OPENAI_API_KEY_{'9' * 5000}": REAL}).variants("OPENAI_API_KEY")) == 1
