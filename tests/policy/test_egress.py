"""Whether everything that names a destination agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.samples import OPENAI_SURFACE, client_facts, wire
from valetkey.model import Refusal, Upstream
from valetkey.policy.egress import agreement, api_door, may_carry

HOST = "api.anthropic.com"


def verdict(refusal: Refusal | None) -> tuple[int, str] | None:
    return (refusal.status, refusal.reason) if refusal else None


# The proxy door.


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="HTTP/1.1 in a tunnel"),
        pytest.param({"host": HOST.upper()}, id="upper case in CONNECT"),
        pytest.param({"host_headers": ("API.Anthropic.COM",)}, id="upper case in Host"),
        pytest.param({"sni": "API.Anthropic.COM"}, id="upper case in SNI"),
        pytest.param({"host_headers": (f"{HOST}:443",)}, id="default port in Host"),
        pytest.param({"form": "authority", "authority": HOST, "host_headers": (), "http_version": "HTTP/2.0"}, id="HTTP/2"),
        pytest.param({"form": "authority", "authority": f"{HOST}:443", "http_version": "HTTP/2.0"}, id="HTTP/2 with Host"),
        pytest.param({"form": "absolute", "authority": HOST}, id="absolute form in the tunnel that agrees"),
        pytest.param(
            {"scheme": "http", "port": 80, "form": "absolute", "tunnelled": False, "tls": False, "sni": None, "authority": HOST},
            id="plain HTTP through the proxy",
        ),
        pytest.param({"port": 8443, "host_headers": (f"{HOST}:8443",)}, id="another port that agrees"),
        pytest.param({"host": "10.0.0.1", "sni": None, "host_headers": ("10.0.0.1",)}, id="an address without SNI"),
        pytest.param({"host": "::1", "sni": None, "host_headers": ("[::1]",)}, id="an address of version 6"),
        pytest.param({"host_headers": (), "authority": HOST, "form": "absolute", "http_version": "HTTP/1.0"}, id="HTTP/1.0"),
    ],
)
def test_a_request_that_names_one_place_passes(changes: dict[str, Any]) -> None:
    assert agreement(client_facts(**changes)) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"host": "evil.example"}, (421, "misdirected"), id="CONNECT elsewhere"),
        pytest.param({"host_headers": ("evil.example",)}, (421, "misdirected"), id="Host elsewhere"),
        pytest.param({"sni": "evil.example"}, (421, "misdirected"), id="SNI elsewhere"),
        pytest.param({"sni": f"{HOST}."}, (421, "misdirected"), id="SNI with a trailing dot"),
        pytest.param({"sni": None}, (421, "no_sni"), id="no SNI"),
        pytest.param({"authority": "evil.example"}, (421, "misdirected"), id="request target elsewhere"),
        pytest.param({"host_headers": (f"{HOST}:8443",)}, (421, "misdirected"), id="another port in Host"),
        pytest.param({"port": 8443}, (421, "misdirected"), id="another port in CONNECT"),
        pytest.param({"scheme": "http"}, (421, "misdirected"), id="the default port of another scheme"),
        pytest.param({"host_headers": (HOST, HOST)}, (400, "duplicate_host"), id="Host twice"),
        pytest.param({"host_headers": (HOST, "evil.example")}, (400, "duplicate_host"), id="two Hosts"),
        pytest.param({"host_headers": ()}, (400, "missing_host"), id="no Host"),
        pytest.param({"host_headers": (), "http_version": "HTTP/2.0"}, (400, "missing_host"), id="HTTP/2 without any"),
        pytest.param({"host_headers": (), "form": "absolute", "authority": HOST}, (400, "missing_host"), id="absolute, no Host"),
        pytest.param({"host_headers": ("",)}, (400, "bad_authority"), id="empty Host"),
        pytest.param({"host_headers": (f"{HOST}, evil",)}, (400, "bad_authority"), id="list in Host"),
        pytest.param({"host_headers": (f"user@{HOST}",)}, (400, "bad_authority"), id="user in Host"),
        pytest.param({"host_headers": (f"{HOST}.",)}, (400, "bad_authority"), id="trailing dot in Host"),
        pytest.param({"host_headers": (f"{HOST}\x00",)}, (400, "bad_authority"), id="NUL in Host"),
        pytest.param({"host_headers": ("аpi.anthropic.com",)}, (400, "bad_authority"), id="homograph in Host"),
        pytest.param({"host": f"{HOST}."}, (400, "bad_host"), id="trailing dot in CONNECT"),
        pytest.param({"host": "аpi.anthropic.com"}, (400, "bad_host"), id="homograph in CONNECT"),
        pytest.param({"tunnelled": False}, (400, "origin_form"), id="origin form to the proxy port"),
    ],
)
def test_a_request_that_names_two_places_is_refused(changes: dict[str, Any], expected: tuple[int, str]) -> None:
    assert verdict(agreement(client_facts(**changes))) == expected


def test_the_refusal_names_both_places() -> None:
    refusal = agreement(client_facts(host_headers=("evil.example",)))

    text = f"the Host header names evil.example, but the connection was opened to {HOST}:443"
    assert refusal == Refusal(421, "misdirected", text)


# The base-URL door.


@pytest.mark.parametrize("host", ["localhost:8045", "127.0.0.1:8045", "[::1]:8045", "127.1.2.3:8045", "LOCALHOST", "127.0.0.1"])
def test_the_door_answers_to_names_of_this_machine(host: str) -> None:
    assert api_door((host,), {}, 8045) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8045", "localhost:80", "localhost.evil.com", "127.0.0.1.evil.com", "192.168.1.2:8045",
     "a.localhost:8045", "0.0.0.0:8045", "127.1:8045", "user@localhost:8045", "localhost.:8045", "", "::1"],
)  # fmt: skip
def test_the_door_answers_to_no_other_name(host: str) -> None:
    assert verdict(api_door((host,), {}, 8045)) == (421, "foreign_host")


@pytest.mark.parametrize("hosts", [(), ("localhost:8045", "localhost:8045"), ("localhost:8045", "evil.example")])
def test_the_door_wants_one_host(hosts: tuple[str, ...]) -> None:
    assert verdict(api_door(hosts, {}, 8045)) == (400, "bad_host")


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8045", "https://localhost", "HTTP://[::1]:1"])
def test_pages_of_this_machine_may_use_the_door(origin: str) -> None:
    assert api_door(("localhost:8045",), {"origin": origin}, 8045) is None


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "file://", "http://localhost.evil.com", "http://localhost@evil.com", "localhost",
     "chrome-extension://abc", "tauri://localhost", "http://localhost:3000/path", "http://192.168.1.2"],
)  # fmt: skip
def test_pages_from_elsewhere_may_not(origin: str) -> None:
    assert verdict(api_door(("localhost:8045",), {"origin": origin}, 8045)) == (403, "foreign_origin")


@pytest.mark.parametrize(
    ("site", "allowed"), [("cross-site", False), ("Cross-Site ", False), ("same-origin", True), ("none", True)]
)
def test_a_browser_that_says_cross_site_is_refused(site: str, allowed: bool) -> None:
    assert (api_door(("localhost:8045",), {"sec-fetch-site": site}, 8045) is None) is allowed


# The wire.

LOCAL = Upstream("http", "127.0.0.1", 8000)
ON_LOOPBACK: dict[str, Any] = {
    "upstream": LOCAL,
    "named_on_loopback": True,
    "dialled_host": "127.0.0.1",
    "dialled_port": 8000,
    "scheme": "http",
    "tls": False,
    "sni": None,
    "authority": "127.0.0.1:8000",
    "host_headers": ("127.0.0.1:8000",),
    "peer_ip": "127.0.0.1",
}
PRIVATE: dict[str, Any] = {
    "upstream": Upstream("https", "vllm.corp", 443),
    "dialled_host": "vllm.corp",
    "sni": "vllm.corp",
    "authority": "vllm.corp",
    "host_headers": ("vllm.corp",),
    "peer_ip": "10.1.2.3",
}
KEYLESS: dict[str, Any] = {"key_provider": None}
BY_ADDRESS: dict[str, Any] = {
    "upstream": Upstream("https", "10.1.2.3", 443),
    "dialled_host": "10.1.2.3",
    "sni": None,
    "authority": "10.1.2.3",
    "host_headers": ("10.1.2.3",),
    "peer_ip": "10.1.2.3",
    "named": True,
}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="OpenAI over verified TLS"),
        pytest.param({"host_headers": ()}, id="HTTP/2 without Host"),
        pytest.param({"authority": "api.openai.com:443"}, id="default port written out"),
        pytest.param({"path": "/v1/chat/completions?a=b"}, id="query"),
        pytest.param({"method": "GET", "path": "/v1/models"}, id="listing"),
        pytest.param({"method": "GET", "path": "/v1/files", "open": ("files",)}, id="endpoint that the rules open"),
        pytest.param({"via": True, "peer_ip": "10.0.0.9"}, id="through an upstream proxy"),
        pytest.param(ON_LOOPBACK, id="plain HTTP on loopback"),
        pytest.param({**ON_LOOPBACK, "peer_ip": "::1"}, id="plain HTTP on loopback over version 6"),
        pytest.param({**PRIVATE, "named": True}, id="private upstream that the rules name"),
        pytest.param({**PRIVATE, "allow": ("10.0.0.0/8",)}, id="private upstream in an allowed network"),
        pytest.param(BY_ADDRESS, id="an upstream that the rules name by address, without SNI"),
        pytest.param({**KEYLESS, "tls_verified": False}, id="unverified TLS without a credential"),
        pytest.param(
            {**KEYLESS, **ON_LOOPBACK, **PRIVATE, "upstream": Upstream("http", "vllm.corp", 8000), "authority": "vllm.corp:8000",
             "host_headers": (), "named_on_loopback": False, "named": True},
            id="plain HTTP to a named host without a credential",
        ),
        pytest.param(
            {"upstream": Upstream("https", "api.openai.com", 443, "/proxy/openai"), "path": "/proxy/openai/chat/completions"},
            id="upstream with a prefix in place of the base",
        ),
        pytest.param(
            {
                "upstream": Upstream("https", "api.openai.com", 443, "/p"),
                "surface": replace(OPENAI_SURFACE, base="/v1beta/openai"),
                "path": "/p/openai/chat/completions",
            },
            id="a second surface under that prefix",
        ),
        pytest.param({"sni": "API.OpenAI.com"}, id="another spelling of the same name in TLS"),
    ],
)  # fmt: skip
def test_a_credential_may_go_where_everything_agrees(changes: dict[str, Any]) -> None:
    assert may_carry(wire(**changes)) is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"key_provider": "anthropic"}, id="another provider's key"),
        pytest.param({"provider": "anthropic"}, id="another provider"),
        pytest.param({"dialled_host": "evil.example"}, id="dialled elsewhere"),
        pytest.param({"dialled_host": ""}, id="dialled nowhere"),
        pytest.param({"dialled_port": 8443}, id="dialled another port"),
        pytest.param({"scheme": "http"}, id="another scheme"),
        pytest.param({"scheme": "HTTPS"}, id="another spelling of the scheme"),
        pytest.param({"authority": "evil.example"}, id="another authority"),
        pytest.param({"authority": "api.openai.com:8443"}, id="another port in the authority"),
        pytest.param({"authority": ""}, id="no authority"),
        pytest.param({"host_headers": ("evil.example",)}, id="another Host"),
        pytest.param({"host_headers": ("api.openai.com", "api.openai.com")}, id="Host twice"),
        pytest.param({"sni": "evil.example"}, id="another SNI"),
        pytest.param({"sni": None}, id="no SNI"),
        pytest.param({"tls": False}, id="no TLS"),
        pytest.param({"tls_verified": False}, id="unverified certificate"),
        pytest.param({"peer_ip": "127.0.0.1"}, id="a public name that leads to this machine"),
        pytest.param({"peer_ip": "10.0.0.1"}, id="a public name that leads to this network"),
        pytest.param({"peer_ip": ""}, id="an unknown address"),
        pytest.param({"path": "/v1/files"}, id="closed endpoint"),
        pytest.param({"path": "/v1/unknown"}, id="unknown endpoint"),
        pytest.param({"path": "/v2/chat/completions"}, id="another base"),
        pytest.param({"method": "GET"}, id="another method"),
        pytest.param({"path": "/v1/chat/completions/../../files"}, id="dot segments"),
        pytest.param(PRIVATE, id="a private address that nobody named"),
        pytest.param({**ON_LOOPBACK, "named_on_loopback": False}, id="plain HTTP that nobody named"),
        pytest.param({**ON_LOOPBACK, "named_on_loopback": False, "allow": ("127.0.0.1",)}, id="plain HTTP opened to agents only"),
        pytest.param({**BY_ADDRESS, "sni": "evil.example"}, id="an address with another SNI"),
        pytest.param({**ON_LOOPBACK, "peer_ip": "10.0.0.1"}, id="plain HTTP that leaves the machine"),
        pytest.param({**ON_LOOPBACK, "peer_ip": "93.184.216.34"}, id="plain HTTP to the internet"),
        pytest.param({**ON_LOOPBACK, "via": True}, id="plain HTTP through an upstream proxy"),
        pytest.param({**ON_LOOPBACK, "own_ports": (8000,)}, id="the gateway itself"),
        pytest.param({**KEYLESS, "tls": False}, id="no TLS, even without a credential"),
        pytest.param({"upstream": Upstream("ftp", "api.openai.com", 443), "scheme": "ftp"}, id="neither https nor http"),
        pytest.param(
            {
                **KEYLESS,
                "upstream": Upstream("ftp", "api.openai.com", 443),
                "scheme": "ftp",
                "authority": "api.openai.com:443",
                "host_headers": (),
            },
            id="neither https nor http, even without a credential",
        ),
        pytest.param({"upstream": Upstream("https", "api.openai.com", 443, "/proxy")}, id="the base where a prefix belongs"),
    ],
)
def test_a_credential_stays_here_when_anything_disagrees(changes: dict[str, Any]) -> None:
    assert may_carry(wire(**changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key_provider": "anthropic"}, "a key of anthropic does not go to openai"),
        ({"tls_verified": False}, "the certificate of api.openai.com was not verified (mitmproxy's ssl_insecure is on)"),
        ({"path": "/v1/files?secret=1"}, "POST /v1/files is no endpoint of openai that a key may be sent to"),
    ],
)
def test_the_reason_is_a_sentence(changes: dict[str, Any], reason: str) -> None:
    assert may_carry(wire(**changes)) == reason


def test_the_surface_that_was_chosen_decides_not_another_one() -> None:
    assert may_carry(wire(path="/v1/messages", surface=OPENAI_SURFACE))
