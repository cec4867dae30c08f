from __future__ import annotations

import pytest

from support import making
from valetkey.model import Address
from valetkey.proxy.doors import Doors
from valetkey.proxy.greeting import lines

API = "reverse:http://valetkey.invalid@127.0.0.1:8045"
BOTH = Doors(
    ("regular@127.0.0.1:8080", API),
    Address("127.0.0.1", 8080),
    Address("127.0.0.1", 8045),
)


def greeting(doors=BOTH, **options):
    return list(lines(making.snapshot(**options), doors))


def test_there_are_three_lines():
    assert len(greeting()) == 3


def test_the_doors_are_named():
    assert "http://127.0.0.1:8080" in greeting()[0] and "http://127.0.0.1:8045" in greeting()[0]


def test_providers_with_a_key_are_named():
    assert greeting()[1].endswith(": openai")


def test_several_keys_are_counted():
    keys = {"openai/1": making.REAL, "openai/2": making.REAL}
    assert "openai (2)" in greeting(keys=keys)[1]


def test_no_key_at_all_says_what_to_do():
    assert "OPENAI_API_KEY" in greeting(keys={})[1]


def test_what_to_export_is_said():
    assert "HTTPS_PROXY=http://127.0.0.1:8080" in greeting()[2]


KEYED = "version: 1\nagents: [{name: a, key: 'sha256:" + "0" * 64 + "'}]\n"


@pytest.mark.parametrize("doors", [BOTH, Doors((API,), None, Address("127.0.0.1", 8045))])
def test_where_callers_must_be_known_it_is_said_where_keys_come_from(doors):
    assert "API_KEY=KEY" in greeting(doors, text=KEYED)[2] and "valetkey agents add" in greeting(doors, text=KEYED)[2]


def test_no_secret_is_said():
    assert making.REAL not in "".join(greeting())


OTHERS = [
    ("socks5@127.0.0.1:1080", "socks5h://127.0.0.1:1080"),
    ("reverse:https://api.openai.com@127.0.0.1:9000", "https://api.openai.com on http://127.0.0.1:9000"),
    ("transparent@127.0.0.1:8080", "Transparent Proxy on 127.0.0.1:8080"),
    ("wireguard@127.0.0.1:51820", "printed above"),
    ("local:curl", "traffic of curl"),
    ("local", "all programs"),
]


@pytest.mark.parametrize(("mode", "expected"), OTHERS)
def test_other_doors_are_told_as_what_they_are(mode, expected):
    assert expected in greeting(Doors((mode,), None, None))[0]


@pytest.mark.parametrize("text", ["version: 1\n", KEYED])
def test_there_are_three_lines_for_other_doors_too(text):
    assert "CA" in greeting(Doors(("socks5@127.0.0.1:1080",), None, None), text=text)[2]
