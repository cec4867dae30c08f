"""Threats 1-18: steering a key to the wrong place. Numbers are those of the threat model; pure decisions, no network."""

from __future__ import annotations

from typing import Any

import pytest

from support.samples import OPENAI_AUTH, OPENAI_SURFACE, call, client_facts, key, provider, rules, wire
from valetkey.model import GatewayRules, Match, Refusal, Route, RouteRule, Target, Upstream
from valetkey.policy import credentials, paths, routing
from valetkey.policy.egress import address_refusal, agreement, may_carry

LISTED = "api.anthropic.com"
TABLE = paths.HostTable(rules().providers)
H2: dict[str, Any] = {"form": "authority", "http_version": "HTTP/2.0"}


def refused(**facts: Any) -> bool:
    return agreement(client_facts(**facts)) is not None


# 1. CONNECT evil, Host of a provider.


def test_threat_01_a_spoofed_host_header_is_refused() -> None:
    assert refused(host="evil.example", sni="evil.example")


def test_threat_01_the_connection_names_the_provider_not_the_host_header() -> None:
    assert TABLE.find("evil.example", 443, "https") is None


def test_threat_01_no_key_goes_on_a_connection_to_elsewhere() -> None:
    assert may_carry(wire(dialled_host="evil.example", sni="evil.example", peer_ip="93.184.216.34"))


# 2. CONNECT and SNI disagree.


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"sni": "evil.example"}, id="listed CONNECT, other SNI"),
        pytest.param({"host": "evil.example", "host_headers": ("evil.example",)}, id="other CONNECT, listed SNI"),
        pytest.param({"sni": None}, id="no SNI at all"),
    ],
)
def test_threat_02_connect_and_sni_must_agree(facts: dict[str, Any]) -> None:
    assert refused(**facts)


# 3. HTTP/2: :authority, Host and SNI disagree.


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"authority": "evil.example"}, id=":authority differs"),
        pytest.param({"authority": LISTED, "host_headers": ("evil.example",)}, id="Host differs"),
        pytest.param({"authority": "evil.example", "host_headers": ("evil.example",)}, id="both differ from the connection"),
        pytest.param({"authority": LISTED, "sni": "evil.example"}, id="SNI differs"),
        pytest.param({"authority": f"{LISTED}:8443", "host_headers": ()}, id="port differs"),
        pytest.param({"authority": "", "host_headers": ()}, id="neither"),
    ],
)
def test_threat_03_authority_host_and_sni_must_agree(facts: dict[str, Any]) -> None:
    assert refused(**H2, **facts)


# 4. Domain fronting.


@pytest.mark.parametrize("protocol", [{}, {**H2, "authority": "hidden.example"}], ids=["http1", "http2"])
def test_threat_04_a_name_hidden_behind_an_allowed_one_is_refused(protocol: dict[str, Any]) -> None:
    assert refused(host_headers=("hidden.example",), **protocol)


# 5. Absolute form inside the tunnel.


@pytest.mark.parametrize("authority", ["evil.example", "evil.example:443", f"{LISTED}@evil.example", f"{LISTED}:80"])
def test_threat_05_an_absolute_request_target_must_be_the_tunnels(authority: str) -> None:
    assert refused(form="absolute", authority=authority)


# 6. Lookalikes.

LOOKALIKES = [
    "api.anthropic.com.evil.tld",
    "xapi.anthropic.com",
    "anthropic.com",
    "api.anthropic.com.",
    "api.anthropic.com@evil",
    "evil@api.anthropic.com",
    "api.anthropic%2ecom",
    "api.anthropic.com\x00.evil",
    "api.anthropic.com:443",
    "аpi.anthropic.com",
    "xn--pi-6kc.anthropic.com",
    "api.anthropi\u0441.com",
    "ａpi.anthropic.com",
    "api\u3002anthropic.com",
    "api-anthropic.com",
    "api_anthropic.com",
    " api.anthropic.com",
    "api.anthropic.com\n",
]


@pytest.mark.parametrize("host", LOOKALIKES)
def test_threat_06_a_lookalike_is_no_provider(host: str) -> None:
    assert TABLE.find(host, 443, "https") is None


@pytest.mark.parametrize("host", [host for host in LOOKALIKES if host != "api.anthropic.com:443"])
def test_threat_06_a_lookalike_does_not_agree_with_the_provider(host: str) -> None:
    assert refused(host_headers=(host,))


@pytest.mark.parametrize("host", LOOKALIKES)
def test_threat_06_no_key_goes_to_a_lookalike(host: str) -> None:
    assert may_carry(wire(dialled_host=host, sni=host, authority=host, host_headers=(host,)))


def test_threat_06_upper_case_is_the_same_host() -> None:
    assert TABLE.find("API.Anthropic.COM", 443, "https") == "anthropic"


# 7. Addresses in place of names.


@pytest.mark.parametrize("host", ["160.79.104.10", "2689558538", "0xa04f680a", "0240.0117.0150.012", "::ffff:160.79.104.10"])
def test_threat_07_an_address_is_no_provider(host: str) -> None:
    assert TABLE.find(host, 443, "https") is None


@pytest.mark.parametrize("host", ["160.79.104.10", "2689558538"])
def test_threat_07_no_key_goes_to_an_address(host: str) -> None:
    assert may_carry(wire(dialled_host=host, peer_ip="160.79.104.10"))


# 8. Other ports.


@pytest.mark.parametrize("port", [80, 8443, 4430, 1])
def test_threat_08_another_port_is_no_provider(port: int) -> None:
    assert TABLE.find(LISTED, port, "https") is None


def test_threat_08_no_key_goes_to_another_port() -> None:
    assert may_carry(wire(dialled_port=8443, authority="api.openai.com:8443", host_headers=("api.openai.com:8443",)))


# 9. Several Host headers.


@pytest.mark.parametrize("hosts", [(LISTED, "evil.example"), ("evil.example", LISTED), (LISTED, LISTED)])
def test_threat_09_more_than_one_host_is_refused(hosts: tuple[str, ...]) -> None:
    refusal = agreement(client_facts(host_headers=hosts))

    assert refusal is not None and refusal.status == 400


def test_threat_09_a_joined_host_is_refused() -> None:
    assert refused(host_headers=(f"{LISTED}, evil.example",))


# 10. Plain HTTP.


def test_threat_10_a_provider_over_plain_http_is_recognised_as_a_downgrade() -> None:
    assert (TABLE.find(LISTED, 80, "http"), TABLE.downgrade(LISTED, 80, "http")) == (None, "anthropic")


@pytest.mark.parametrize("scheme", ["http", "HTTP", "ws", ""])
def test_threat_10_no_key_goes_over_plain_http(scheme: str) -> None:
    assert may_carry(wire(scheme=scheme, dialled_port=80, tls=False, sni=None))


def test_threat_10_no_key_goes_over_plain_http_even_where_an_upstream_says_so() -> None:
    plain = Upstream("http", "api.openai.com", 80)

    assert may_carry(wire(upstream=plain, scheme="http", dialled_port=80, tls=False, sni=None))


# 11. Origin form to the proxy port.


def test_threat_11_an_origin_form_request_to_the_proxy_is_refused() -> None:
    refusal = agreement(client_facts(tunnelled=False, tls=False, sni=None))

    assert refusal is not None and (refusal.status, refusal.reason) == (400, "origin_form")


# 12. A poisoned name.


@pytest.mark.parametrize("weakness", [{"tls": False}, {"tls_verified": False}, {"sni": None}, {"sni": "evil.example"}])
def test_threat_12_no_key_goes_out_before_the_certificate_was_verified(weakness: dict[str, Any]) -> None:
    assert may_carry(wire(**weakness))


# 13. Rebinding between check and dial.


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::ffff:10.0.0.1", "fd00::1", "64:ff9b::a00:1"])
def test_threat_13_the_address_that_was_dialled_is_judged(ip: str) -> None:
    assert may_carry(wire(peer_ip=ip)) and address_refusal(ip, 443, (), "rebound.example", ())


# 14. Routing by what the client says.


@pytest.mark.parametrize("header", ["x-upstream", "x-api-base", "api_base", "base_url", "x-forwarded-host", "x-original-host"])
def test_threat_14_no_header_of_the_client_changes_where_a_call_goes(header: str) -> None:
    assert routing.route(call(headers={header: "https://evil.example"}), rules()) == routing.route(call(), rules())


@pytest.mark.parametrize("model", ["evil.example/gpt-4o", "https://evil.example", "lab/gpt-4o", "../lab"])
def test_threat_14_no_model_name_changes_the_provider_on_the_proxy_door(model: str) -> None:
    found = routing.route(call(model=model), rules())

    assert isinstance(found, Route) and found.targets == (Target("openai", model),)


# 15. Redirects.


def test_threat_15_a_follow_up_to_elsewhere_is_decided_anew_and_gets_no_key() -> None:
    assert TABLE.find("evil.example", 443, "https") is None and may_carry(wire(authority="evil.example"))


# 16. Paths that others can read.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/files"),
        ("GET", "/v1/files/abc/content"),
        ("POST", "/v1/uploads"),
        ("GET", "/v1/organization/admin_api_keys"),
        ("POST", "/v1/webhooks/test"),
        ("CONNECT", "/v1/chat/completions"),
        ("TRACE", "/v1/chat/completions"),
        ("DELETE", "/v1/models"),
        ("GET", "/"),
        ("POST", ""),
        ("OPTIONS", "*"),
    ],
)
def test_threat_16_a_key_goes_to_known_endpoints_only(method: str, path: str) -> None:
    refusal = paths.locate(provider().facts, method, path)

    assert isinstance(refusal, Refusal) and may_carry(wire(method=method, path=path))


# 17. Path tricks.


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/../../files",
        "/v1/chat/completions/..",
        "/v1/./chat/completions",
        "/v1/%2e%2e/v1/chat/completions",
        "/v1/.%2E/v1/chat/completions",
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/v1/chat%2fcompletions",
        "/v1/chat%2Fcompletions",
        "/v1/chat\\completions",
        "/v1/chat%5ccompletions",
        "/v1/chat/completions;x=/../files",
        "/v1/chat/completions%00",
        "/v1/chat/completions%0d%0aHost: evil",
        "/v1/chat/completions\r\nHost: evil",
        "/v1/chat/completions ",
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1/chat/completions%252e%252e",
        "/v1/chat/ｃompletions",
        "https://evil.example/v1/chat/completions",
    ],
)
def test_threat_17_a_path_with_two_readings_is_refused(path: str) -> None:
    assert isinstance(paths.locate(provider().facts, "POST", path), Refusal) and may_carry(wire(path=path))


# 18. A key bound to one provider, a route to another.


@pytest.mark.parametrize("other", ["anthropic", "lab", ""])
def test_threat_18_a_key_goes_to_its_own_provider_only(other: str) -> None:
    assert may_carry(wire(provider=other))


def test_threat_18_a_route_chooses_providers_but_never_their_keys() -> None:
    elsewhere = RouteRule("r", Match(), to=(Target("lab", "x"),))
    found = routing.route(call(), rules(routes=(elsewhere,)))

    assert isinstance(found, Route) and may_carry(wire(provider=found.targets[0].provider))


# In sum: whatever the client sent, one credential goes out, and it is ours.


def test_what_goes_out_holds_one_credential_and_nothing_of_the_clients() -> None:
    sent = credentials.wire_headers(
        [
            (b"Host", b"api.openai.com"),
            (b"Authorization", b"Bearer sk-dummy"),
            (b"authorization", b"Bearer sk-real-1"),
            (b"X_API_KEY", b"sk-real-2"),
            (b"x-goog-api-key ", b"sk-real-3"),
            (b"Cookie", b"s=sk-real-4"),
            (b"Proxy-Authorization", b"Basic c2stcmVhbC01"),
            (b"Connection", b"authorization, host"),
            (b"Sec-WebSocket-Protocol", b"openai-insecure-api-key.sk-real-6"),
            (b"OpenAI-Organization", b"org-theirs"),
        ],
        OPENAI_AUTH,
        key(),
        "sk-ours",
    )

    assert sent == ((b"Host", b"api.openai.com"), (b"Authorization", b"Bearer sk-ours"))


def test_the_defaults_are_the_closed_ones() -> None:
    gateway = GatewayRules()

    assert (gateway.no_credential, gateway.egress_allow, OPENAI_SURFACE.endpoints[2].group) == ("refuse", (), "files")
