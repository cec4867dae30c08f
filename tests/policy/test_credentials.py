"""Credentials: found, judged, masked, taken off, put on."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.samples import ANTHROPIC_AUTH, GEMINI_AUTH, OPENAI_AUTH, key, rules
from valetkey.model import AgentRule, Auth
from valetkey.policy.credentials import (
    MASK,
    Presented,
    _edited,
    agent_of,
    apply,
    basic_user,
    canonical,
    is_carrier,
    is_dummy,
    judge,
    mask_headers,
    mask_query,
    must_mask,
    presented,
    strip,
    strip_query,
    wire_headers,
)
from valetkey.policy.headernames import FRAMING, names_of, spelled

REAL = "sk-proj-REALREALREALREAL"
PATH = "/v1/chat/completions"
AGENT_KEY = "vk-bob-0123456789abcdef"
BOB = AgentRule("bob", "sha256:" + hashlib.sha256(AGENT_KEY.encode()).hexdigest().upper())

Fields = tuple[tuple[bytes, bytes], ...]


def basic(text: str) -> bytes:
    return b"Basic " + b64encode(text.encode("latin-1"))


CARRIERS = [
    pytest.param((b"Authorization", b"Bearer " + REAL.encode()), id="bearer"),
    pytest.param((b"authorization", b"bearer\t" + REAL.encode() + b" "), id="bearer with odd blanks"),
    pytest.param((b"Authorization", REAL.encode()), id="authorization without a scheme"),
    pytest.param((b"Authorization", b"Token " + REAL.encode()), id="token scheme"),
    pytest.param((b"Authorization", basic(f"{REAL}:")), id="basic user"),
    pytest.param((b"Authorization", basic(f"alice:{REAL}")), id="basic password"),
    pytest.param((b"Authorization", b"Basic " + REAL.encode()), id="basic that is not base64"),
    pytest.param((b"Authorization", b"Bearer sk-dummy, Bearer " + REAL.encode()), id="behind a dummy"),
    pytest.param((b"x-api-key", REAL.encode()), id="x-api-key"),
    pytest.param((b"X-API-KEY", b"Bearer " + REAL.encode()), id="x-api-key with a scheme"),
    pytest.param((b"X_Api_Key", REAL.encode()), id="underscores"),
    pytest.param((b"x.api.key", REAL.encode()), id="dots"),
    pytest.param((b"x-api-key ", REAL.encode()), id="trailing blank"),
    pytest.param((b"\tx-api-key", REAL.encode()), id="leading tab"),
    pytest.param((b"api-key", REAL.encode()), id="api-key"),
    pytest.param((b"apikey", REAL.encode()), id="apikey"),
    pytest.param((b"x-goog-api-key", REAL.encode()), id="x-goog-api-key"),
    pytest.param((b"Anthropic-Api-Key", REAL.encode()), id="any -api-key"),
    pytest.param((b"x-auth-token", REAL.encode()), id="x-auth-token"),
    pytest.param((b"Sec-WebSocket-Protocol", b"realtime, openai-insecure-api-key." + REAL.encode()), id="subprotocol"),
    pytest.param((b"Cookie", b"session=" + REAL.encode()), id="cookie"),
    pytest.param((b"Proxy-Authorization", basic(f"alice:{REAL}")), id="proxy-authorization"),
    pytest.param((b"Proxy_Authorization", b"Bearer " + REAL.encode()), id="proxy-authorization with an underscore"),
]

QUERIES = [
    pytest.param(f"key={REAL}", id="key"),
    pytest.param(f"alt=sse&key={REAL}", id="after another"),
    pytest.param(f"key={REAL}&alt=sse", id="before another"),
    pytest.param(f"key=sk-dummy&key={REAL}", id="repeated"),
    pytest.param(f"%6bey={REAL}", id="encoded name"),
    pytest.param(f"%6B%45%79={REAL}", id="encoded name in other case"),
    pytest.param(f"KEY={REAL}", id="upper case"),
    pytest.param(f"$key={REAL}", id="Google's dollar form"),
    pytest.param(f"api_key={REAL}", id="api_key"),
    pytest.param(f"api-key={REAL}", id="api-key"),
    pytest.param(f"apiKey={REAL}", id="apiKey"),
    pytest.param(f"access_token={REAL}", id="access_token"),
    pytest.param(f"x-goog-api-key={REAL}", id="header name in the query"),
    pytest.param(f"alt=sse;key={REAL}", id="behind a semicolon"),
    pytest.param(f"+key={REAL}", id="blank before the name"),
]


# Finding.


@pytest.mark.parametrize("header", CARRIERS)
def test_a_key_is_found_in_every_header_that_can_carry_one(header: tuple[bytes, bytes]) -> None:
    assert any(REAL in found.value for found in presented([header], PATH))


@pytest.mark.parametrize("query", QUERIES)
def test_a_key_is_found_in_the_query(query: str) -> None:
    assert REAL in [found.value for found in presented([], f"{PATH}?{query}")]


def test_a_carrier_is_named_in_one_spelling() -> None:
    assert presented([(b"X_API_Key ", b"a")], "/?API_KEY=b") == (Presented("x-api-key", "a"), Presented("?api-key", "b"))


def test_basic_gives_user_and_password() -> None:
    assert [p.value for p in presented([(b"authorization", basic("user:pass:word"))], PATH)] == ["user", "pass:word"]


@pytest.mark.parametrize("value", [b"", b"  ", b"Bearer", b"Bearer  ", b"Basic", b"Basic Og=="])
def test_an_empty_credential_is_none(value: bytes) -> None:
    assert presented([(b"authorization", value), (b"cookie", b"")], f"{PATH}?key=&key") == ()


@pytest.mark.parametrize("name", [b"content-type", b"x-request-id", b"idempotency-key", b"x-stainless-lang", b"anthropic-beta"])
def test_other_headers_carry_no_credential(name: bytes) -> None:
    assert presented([(name, b"sk-dummy")], PATH) == ()


def test_a_credential_is_never_printed() -> None:
    assert REAL not in repr(presented([(b"x-api-key", REAL.encode())], PATH))


@pytest.mark.parametrize(
    "name", [OPENAI_AUTH.header, ANTHROPIC_AUTH.header, GEMINI_AUTH.header, "api-key", "X_API_KEY", "Sec-WebSocket-Protocol"]
)
def test_the_headers_of_the_providers_are_carriers(name: str) -> None:
    assert is_carrier(name)


@pytest.mark.parametrize(
    "name", [b" X_Api_Key\t", b"x-api-key", b"X-API-KEY", "x_api-key", b"x-api-key\x00", b"x.api.key", b"X!Api~Key"]
)
def test_a_header_name_has_one_spelling(name: bytes | str) -> None:
    assert canonical(name) == "x-api-key"


# Judging.


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param([], "none", id="nothing"),
        pytest.param(["sk-dummy"], "dummy", id="dummy"),
        pytest.param(["sk-ant-dummy-alice.web", "dummy"], "dummy", id="two dummies"),
        pytest.param([REAL], "foreign", id="foreign"),
        pytest.param(["sk-dummy", REAL], "foreign", id="foreign among dummies"),
        pytest.param([AGENT_KEY], "agent", id="agent"),
        pytest.param(["sk-dummy", AGENT_KEY], "agent", id="agent and dummy"),
        pytest.param([AGENT_KEY, REAL], "foreign", id="agent and foreign"),
    ],
)
def test_the_worst_credential_decides(values: list[str], kind: str) -> None:
    credentials = [Presented("authorization", value) for value in values]

    assert judge(credentials, rules(agents=(BOB,))).kind == kind


def test_the_judgement_names_the_carriers_of_its_kind() -> None:
    credentials = presented([(b"authorization", b"Bearer sk-dummy"), (b"x-api-key", REAL.encode())], f"/?key={REAL}")

    assert judge(credentials, rules()).carriers == ("x-api-key", "?key")


@pytest.mark.parametrize("carrier", ["cookie", "proxy-authorization"])
def test_what_is_not_meant_for_the_provider_does_not_count(carrier: str) -> None:
    assert judge([Presented(carrier, REAL)], rules()).kind == "none"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("sk-dummy", True),
        ("sk-dummy-alice", True),
        ("sk-ant-dummy", True),
        ("dummy", True),
        ("SK-DUMMY", False),
        ("xsk-dummy", False),
        ("sk-dummy " + REAL, False),
        ("sk-dummy," + REAL, False),
        ("sk-dummy\n", False),
        ("sk-dummy" + "a" * 300, False),
        ("", False),
    ],
)
def test_a_dummy_is_what_the_rules_call_one_and_nothing_hides_behind_it(value: str, expected: bool) -> None:
    assert is_dummy(value, rules()) is expected


def test_the_rules_say_what_a_dummy_looks_like() -> None:
    assert is_dummy("fake-1", rules(gateway_dummy_keys=("fake-?",)))


@pytest.mark.parametrize(("value", "expected"), [(AGENT_KEY, "bob"), (AGENT_KEY + "x", None), ("", None), ("\udc80é", None)])
def test_an_agents_key_is_known_by_its_digest(value: str, expected: str | None) -> None:
    assert agent_of(value, rules(agents=(AgentRule("none"), AgentRule("odd", "sha256:é"), BOB))) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (basic("alice:x").decode(), "alice"),
        ("basic " + b64encode(b"alice.web:").decode(), "alice.web"),
        (basic("alice").decode(), "alice"),
        (basic(":x").decode(), None),
        ("Basic !!!", None),
        ("Basic", None),
        ("Bearer alice", None),
        ("", None),
    ],
)
def test_the_user_of_basic_authorization(value: str, expected: str | None) -> None:
    assert basic_user(value) == expected


# Masking.


@pytest.mark.parametrize("header", CARRIERS)
def test_a_foreign_key_is_masked_in_every_header(header: tuple[bytes, bytes]) -> None:
    assert no_trace(mask_headers([header], rules()))


@pytest.mark.parametrize("query", QUERIES)
def test_a_foreign_key_is_masked_in_the_query(query: str) -> None:
    assert REAL not in mask_query(f"{PATH}?{query}", rules())


def test_a_masked_header_keeps_its_name_and_scheme() -> None:
    masked = mask_headers([(b"Authorization", b"Bearer " + REAL.encode())], rules())

    assert masked == ((b"Authorization", b"Bearer " + MASK.encode()),)


def test_a_masked_subprotocol_keeps_its_neighbours() -> None:
    value = b"realtime, openai-insecure-api-key." + REAL.encode() + b",openai-beta.realtime-v1"

    masked = mask_headers([(b"sec-websocket-protocol", value)], rules())

    expected = b"realtime, openai-insecure-api-key." + MASK.encode() + b", openai-beta.realtime-v1"
    assert masked == ((b"sec-websocket-protocol", expected),)


def test_dummies_stay_visible() -> None:
    headers = ((b"Authorization", b"Bearer sk-dummy-alice"), (b"x-api-key", b"sk-ant-dummy"), (b"accept", b"*/*"))

    assert mask_headers(headers, rules()) == headers


def test_the_proxys_own_credential_is_never_shown() -> None:
    assert mask_headers([(b"Proxy-Authorization", basic("alice:x")), (b"accept", b"*/*")], rules()) == ((b"accept", b"*/*"),)


@pytest.mark.parametrize("value", [b"a=b", b"sk-dummy"])
def test_a_cookie_is_masked_whatever_it_holds(value: bytes) -> None:
    assert mask_headers([(b"cookie", value)], rules()) == ((b"cookie", MASK.encode()),)


@pytest.mark.parametrize("path", [PATH, PATH + "?", PATH + "?key=sk-dummy&alt=sse", PATH + "?a=b&&c=%20d", PATH + "?key"])
def test_a_path_without_foreign_keys_is_not_changed(path: str) -> None:
    assert mask_query(path, rules()) == path


def test_only_the_value_of_a_foreign_parameter_is_masked() -> None:
    assert mask_query(f"/x?a=%41&%6bey={REAL}&key=sk-dummy", rules()) == f"/x?a=%41&%6bey={MASK}&key=sk-dummy"


# Taking off.


@pytest.mark.parametrize("header", CARRIERS)
def test_a_key_is_taken_off_wherever_it_is(header: tuple[bytes, bytes]) -> None:
    assert no_trace(strip([(b"accept", b"*/*"), header]))


@pytest.mark.parametrize("query", QUERIES)
def test_a_key_is_taken_out_of_the_query(query: str) -> None:
    assert REAL not in strip_query(f"{PATH}?{query}")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/x", "/x"),
        ("/x?", "/x?"),
        ("/x?key=a", "/x"),
        ("/x?alt=sse&key=a", "/x?alt=sse"),
        ("/x?key=a&alt=sse", "/x?alt=sse"),
        ("/x?a=1&key=k&b=2", "/x?a=1&b=2"),
        ("/x?key=a&key=b", "/x"),
        ("/x?a=%7E%7e+&&b&key=k", "/x?a=%7E%7e+&&b"),
        ("/x?monkey=1&keys=2&pageToken=3", "/x?monkey=1&keys=2&pageToken=3"),
        ("/x?a=1?key=2", "/x?a=1?key=2"),
        ("/x?userProject=p&$userProject=q&alt=sse", "/x?alt=sse"),
        ("/key=a/x?alt=sse", "/key=a/x?alt=sse"),
    ],
)
def test_the_rest_of_the_query_keeps_its_bytes(path: str, expected: str) -> None:
    assert strip_query(path) == expected


@pytest.mark.parametrize(
    "name", [b"OpenAI-Organization", b"openai_project", b"x-goog-user-project", b"cookie", b"proxy-connection", b"Proxy-Foo"]
)
def test_billing_identity_cookies_and_proxy_headers_are_taken_off(name: bytes) -> None:
    assert strip([(name, b"x")]) == ()


@pytest.mark.parametrize("name", [b"Connection", b"Keep-Alive", b"TE", b"Trailer", b"Upgrade", b"HTTP2-Settings"])
def test_hop_by_hop_headers_are_taken_off(name: bytes) -> None:
    assert strip([(name, b"x")]) == ()


def test_what_connection_names_is_taken_off() -> None:
    headers = [(b"Connection", b"keep-alive, X-Private"), (b"x_private", b"1"), (b"connection", b"x-too"), (b"X-Too", b"2")]

    assert strip([*headers, (b"accept", b"*/*")]) == ((b"accept", b"*/*"),)


def test_connection_cannot_name_the_framing_away() -> None:
    framing = ((b"Host", b"h"), (b"Content-Length", b"2"), (b"Transfer-Encoding", b"chunked"))

    assert strip([*framing, (b"Connection", b"host, content-length, transfer-encoding")]) == framing


def test_a_websocket_handshake_keeps_what_it_needs() -> None:
    handshake = [
        (b"Connection", b"keep-alive, Upgrade, x-evil"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Key", b"abc"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"x-evil", b"1"),
    ]

    assert strip(handshake, upgrade=True) == (
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Key", b"abc"),
        (b"Sec-WebSocket-Version", b"13"),
    )


def test_a_handshake_is_taken_off_where_none_is_expected() -> None:
    assert strip([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]) == ()


def test_an_upgrade_to_anything_else_is_taken_off() -> None:
    assert strip([(b"Connection", b"HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x")], upgrade=True) == ()


def test_only_keys_and_billing_identity_leave_the_subprotocols() -> None:
    value = b"realtime, OpenAI-Insecure-Api-Key.sk-dummy, openai-organization.o, openai-project.p,openai-beta.realtime-v1"

    assert strip([(b"Sec-WebSocket-Protocol", value)]) == ((b"Sec-WebSocket-Protocol", b"realtime, openai-beta.realtime-v1"),)


def test_subprotocols_without_a_key_keep_their_bytes() -> None:
    headers = ((b"sec-websocket-protocol", b"realtime,openai-beta.realtime-v1 "),)

    assert strip(headers) == headers


# Putting on.


def test_a_key_is_set_in_the_providers_own_way() -> None:
    assert apply([(b"accept", b"*/*")], OPENAI_AUTH, key(), REAL) == (
        (b"accept", b"*/*"),
        (b"Authorization", b"Bearer " + REAL.encode()),
    )


def test_what_the_provider_requires_is_added_where_it_is_missing() -> None:
    assert (b"anthropic-version", b"2023-06-01") in apply([], ANTHROPIC_AUTH, key("anthropic"), REAL)


def test_what_the_client_says_counts_more_than_a_default() -> None:
    sent = apply([(b"Anthropic-Version", b"2024-01-01")], ANTHROPIC_AUTH, key("anthropic"), REAL)

    assert [value for name, value in sent if canonical(name) == "anthropic-version"] == [b"2024-01-01"]


def test_organisation_and_project_come_from_the_key() -> None:
    sent = apply([], OPENAI_AUTH, key(organization="org-1", project="proj-1"), REAL)

    assert sent[:2] == ((b"OpenAI-Organization", b"org-1"), (b"OpenAI-Project", b"proj-1"))


def test_a_provider_without_organisations_gets_none() -> None:
    sent = apply([], GEMINI_AUTH, key(organization="org-1", project="proj-1"), REAL)

    assert sent == ((b"x-goog-api-key", REAL.encode()),)


def test_the_keys_extra_headers_take_the_place_of_the_clients() -> None:
    sent = apply([(b"HTTP_Referer", b"theirs")], OPENAI_AUTH, key(headers=(("HTTP-Referer", "ours"),)), REAL)

    assert sent == ((b"HTTP-Referer", b"ours"), (b"Authorization", b"Bearer " + REAL.encode()))


def test_no_extra_header_takes_the_place_of_the_credential() -> None:
    sent = apply([], OPENAI_AUTH, key(headers=(("authorization", "Bearer other"),)), REAL)

    assert sent == ((b"Authorization", b"Bearer " + REAL.encode()),)


def test_a_credential_under_an_unusual_name_is_not_sent_twice() -> None:
    sent = apply(strip([(b"X_Secret", b"theirs")]), Auth("X-Secret"), key(), REAL)

    assert sent == ((b"X-Secret", REAL.encode()),)


def test_a_provider_that_needs_no_key_gets_the_headers_as_they_are() -> None:
    assert apply([(b"accept", b"*/*")], OPENAI_AUTH, None, None) == ((b"accept", b"*/*"),)


@pytest.mark.parametrize("secret", [None, ""])
def test_an_empty_credential_is_never_sent(secret: str | None) -> None:
    with pytest.raises(ValueError, match="key openai/main has no value"):
        apply([], OPENAI_AUTH, key(), secret)


@pytest.mark.parametrize("bad", ["\r\nx: y", "\n", "\r", "\x00", " ", "\t", "\x7f", "\u20ac"])
def test_a_value_that_breaks_the_header_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="Authorization"):
        apply([], OPENAI_AUTH, key(), REAL + bad)


def test_the_error_does_not_hold_the_secret() -> None:
    with pytest.raises(ValueError) as raised:
        apply([], OPENAI_AUTH, key(), REAL + "\n")

    assert REAL not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"headers": (("x-team", "a\r\nhost: evil"),)}, id="extra header's value"),
        pytest.param({"headers": (("x team", "a"),)}, id="extra header's name"),
        pytest.param({"headers": (("", "a"),)}, id="extra header without a name"),
        pytest.param({"headers": (("Host", "evil"),)}, id="host"),
        pytest.param({"headers": (("content_length", "0"),)}, id="length"),
        pytest.param({"headers": (("connection", "x"),)}, id="hop by hop"),
        pytest.param({"organization": "org\n"}, id="organisation"),
    ],
)
def test_what_the_key_adds_cannot_break_the_request(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="header"):
        apply([], OPENAI_AUTH, replace(key(), **changes), REAL)  # type: ignore[arg-type]


# What holds for every request.


@st.composite
def hiding_places(draw: st.DrawFn) -> Fields:
    """A key somewhere among harmless headers, in any spelling of any carrier."""
    before, after = draw(harmless), draw(harmless)
    name = draw(st.sampled_from(["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization"]))
    spelled = "".join(draw(st.sampled_from([c.lower(), c.upper()] + ["_"] * (c == "-"))) for c in name)
    blank = draw(st.sampled_from(["", " ", "\t"]))
    scheme = draw(st.sampled_from(["", "Bearer ", "bearer  ", "Token ", "Digest ", "sk-dummy, "]))
    return (*before, ((blank + spelled + blank).encode(), (scheme + REAL).encode()), *after)


harmless = st.lists(
    st.tuples(
        st.sampled_from([b"Accept", b"content-type", b"X-Stainless-Lang", b"anthropic-beta", b"User-Agent", b"x_odd", b"HOST"]),
        st.binary(max_size=12).filter(lambda value: not set(value) & {0, 10, 13}),
    ),
    max_size=6,
).map(tuple)


@given(hiding_places())
def test_no_key_survives_stripping(headers: Fields) -> None:
    assert no_trace(strip(headers))


@given(hiding_places())
def test_no_foreign_key_survives_masking(headers: Fields) -> None:
    assert no_trace(mask_headers(headers, rules()))


@given(harmless)
def test_other_headers_pass_byte_for_byte_in_order(headers: Fields) -> None:
    assert strip(headers) == headers == mask_headers(headers, rules())


mixed = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"Authorization", b"x_api_key", b"Cookie", b"Proxy-Authorization", b"Proxy-Connection", b"Connection", b"Upgrade",
                b"Sec-WebSocket-Protocol", b"content-type", b"X-Foo", b"Host",
            ]
        ),
        st.sampled_from(
            [
                b"", b"sk-dummy", b"Bearer sk-dummy", b"Bearer " + REAL.encode(), b"keep-alive", b"X_Foo, host", b"realtime",
                b"openai-insecure-api-key.sk-dummy", b"openai-insecure-api-key." + REAL.encode(),
            ]
        ),
    ),
    max_size=5,
).map(tuple)  # fmt: skip


@given(mixed)
def test_where_nothing_must_be_masked_masking_changes_nothing(headers: Fields) -> None:
    judgement = judge(presented(headers, PATH), rules())

    assert must_mask(headers, judgement) or mask_headers(headers, rules()) == headers


@given(mixed)
def test_stripping_by_names_alone_is_stripping_field_by_field(headers: Fields) -> None:
    names = names_of(headers)
    named = {spelled(word) for at in names.lists for word in headers[at][1].split(b",")} - FRAMING

    assert strip(headers) == _edited(headers, names, frozenset(named), upgrade=False)


@given(hiding_places())
def test_the_provider_sees_exactly_one_credential(headers: Fields) -> None:
    sent = wire_headers(headers, OPENAI_AUTH, key(), "sk-ours-0123456789")

    assert presented(sent, PATH) == (Presented("authorization", "sk-ours-0123456789"),)


@given(st.text(max_size=60))
def test_whatever_the_query_stripping_is_done_at_once(query: str) -> None:
    once = strip_query(f"/x?{query}")

    assert presented([], once) == () and strip_query(once) == once


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=30)), max_size=6), st.text(max_size=40))
def test_garbage_never_raises(headers: list[tuple[bytes, bytes]], path: str) -> None:
    judge(presented(headers, path), rules(agents=(BOB,)))
    assert strip(mask_headers(headers, rules())) is not None and mask_query(path, rules()) is not None


def no_trace(headers: Fields) -> bool:
    """Whether the key is gone, also from inside Basic."""
    return not any(REAL in found.value for found in presented(headers, PATH)) and REAL.encode() not in repr(headers).encode()
