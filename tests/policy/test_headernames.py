"""What the names of a head say, remembered by names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.policy import headernames
from valetkey.policy.headernames import canonical, is_carrier, names_of, spelled

NAMES = st.sampled_from(
    [
        b"Host", b"host", b"Authorization", b"X_Api_Key", b"x-goog-api-key", b"Cookie", b"Proxy-Authorization",
        b"Proxy-Connection", b"Connection", b"upgrade", b"Sec-WebSocket-Protocol",
        b"content-type", b"OpenAI-Project", b"x-\xe4", b" te ", b"",
    ]
)  # fmt: skip
HEADS = st.lists(st.tuples(NAMES, st.binary(max_size=4)), max_size=8)


def words(*names):
    return names_of([(name, b"x") for name in names]).words


@pytest.fixture(autouse=True)
def _forgotten():
    headernames._NAMES.clear()


def test_each_name_has_its_one_spelling():
    assert words(b"X_Api.Key", b"Host") == ("x-api-key", "host")


def test_a_text_is_the_name_in_lower_case():
    assert names_of([(b"X_Api-\xc4", b"1")]).texts == ("x_api-\xe4",)


def test_credentials_and_cookies_are_found():
    assert names_of([(b"Host", b""), (b"x-api-key", b""), (b"Cookie", b""), (b"Proxy-Authorization", b"")]).shown == (1, 2, 3)


@pytest.mark.parametrize("name", [b"Cookie", b"Proxy_Authorization"])
def test_what_nobody_sees_is_private(name):
    assert names_of([(name, b"")]).private


@pytest.mark.parametrize("name", [b"authorization", b"host", b"proxy-connection"])
def test_other_fields_are_not_private(name):
    assert not names_of([(name, b"")]).private


@given(HEADS)
def test_what_passes_is_no_carrier(head):
    names = names_of(head)
    assert not any(passes and is_carrier(word) for word, passes in zip(names.words, names.passing, strict=True))


@given(HEADS)
def test_the_framing_cannot_be_named_away(head):
    assert not names_of(head).left & headernames.FRAMING


@given(HEADS)
def test_what_is_remembered_is_what_would_be_read(head):
    names_of(head)
    assert names_of(head) == headernames._read(tuple(name for name, _ in head))


@given(HEADS)
def test_no_value_is_remembered(head):
    names_of([(name, b"very-secret") for name, _ in head])
    assert "very-secret" not in repr(headernames._NAMES)


def test_heads_with_the_same_names_are_remembered_once():
    assert names_of([(b"host", b"a")]) is names_of([(b"host", b"b")])


def test_long_names_are_not_remembered():
    names_of([(b"x" * 5000, b"")])
    assert not headernames._NAMES


def test_no_more_heads_than_that_are_remembered():
    for number in range(1000):
        names_of([(b"x-%d" % number, b"")])
    assert len(headernames._NAMES) <= 256


def test_a_single_long_name_is_spelled_all_the_same():
    assert canonical(b"X_" + b"y" * 300) == "x-" + "y" * 300


def test_a_single_long_name_is_not_remembered():
    before = headernames._remembered.cache_info().misses
    canonical(b"Z" * 300)
    assert headernames._remembered.cache_info().misses == before


@given(st.text(max_size=8) | st.binary(max_size=8))
def test_remembering_does_not_change_a_spelling(name):
    assert canonical(name) == spelled(name)


@given(HEADS)
def test_hosts_are_found_by_their_exact_name(head):
    assert [head[at] for at in names_of(head).hosts] == [field for field in head if field[0].lower() == b"host"]


@pytest.mark.parametrize(
    ("names", "may"),
    [((b"Connection", b"Upgrade"), True), ((b"Connection",), False), ((b"Upgrade",), False), ((), False)],
    ids=["both", "no protocol", "no connection", "none"],
)
def test_a_handshake_has_both_names(names, may):
    assert names_of([(name, b"x") for name in names]).may_upgrade is may
