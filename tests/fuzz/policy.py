"""Targets in policy/: names, paths, credentials, and the times that providers state."""

from __future__ import annotations

import math
import socket
from ipaddress import ip_address
from urllib.parse import unquote

from support.making import CATALOG, rules
from valetkey.model import Refusal
from valetkey.policy import callers, credentials, egress, paths, waits
from valetkey.policy.addresses import address_refusal, destination
from valetkey.policy.authority import parse_authority, parse_host
from valetkey.policy.egress import ClientFacts

from .corpus import recordings
from .engine import target

_RULES = rules()
_DENY = rules("version: 1\ngateway: {egress: deny, egress_allow: [10.1.0.0/16, 'lab.test:8443']}\n")
_HOSTS = [
    b"api.openai.com", b"api.openai.com:443", b"API.OpenAI.com.", b"[::1]:443", b"[::ffff:127.0.0.1]", b"0x7f.1", b"2130706433",
    b"169.254.169.254", b"xn--pi-7kc.openai.com", b"a@api.openai.com", b"localhost.", b"64:ff9b::7f00:1", b"m\xc3\xbcnchen.de",
]  # fmt: skip
_HOST_WORDS = (
    b".", b":", b"[", b"]", b"@", b"%", b"%2e", b"0x", b"0", b"127", b"255", b"::", b"ffff:", b"64:ff9b::", b"2002:",
    b"localhost", b".localhost", b"metadata.google.internal", b"\xe3\x80\x82", b"\xef\xbd\x81", b":65536", b":+443",
    b"fe80::1%eth0", b"10.1.2.3",
)  # fmt: skip


def _text(data: bytes) -> str:
    """As mitmproxy shows the bytes of a head."""
    return data.decode("utf-8", "surrogateescape")


@target("authority", _HOSTS, _HOST_WORDS, longest=300)
def authority(data: bytes) -> None:
    """One spelling for one host: what is read reads as itself, and holds nothing odd."""
    text = _text(data)
    host = parse_host(text)
    if host is not None:
        assert parse_host(host) == host == host.lower() and host.isascii()
        assert not set(host) & set("@/\\%?# \t\r\n\0[]")
    found = parse_authority(text)
    if found is not None:
        bracketed = f"[{found.host}]" if ":" in found.host else found.host
        assert parse_authority(bracketed if found.port is None else f"{bracketed}:{found.port}") == found
        assert found.port is None or 0 < found.port < 65536


def _dialled(host: str) -> str | None:
    """The IPv4 address that the C library would dial for a spelling of numbers; None for a name."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host)) if host and host[-1] not in " \t\n\r\v\f" else None
    except (OSError, ValueError):  # no address, or a character that none has
        return None


@target("addresses", _HOSTS, _HOST_WORDS, longest=300)
def addresses(data: bytes) -> None:
    """Nothing that leads to an address which is not public is open, in whatever spelling."""
    host = _text(data)
    for ruling in (_RULES, _DENY):
        refusal = destination(host, 443, ruling, (8080,))
        if refusal is None and (dialled := _dialled(host)) is not None:
            named = ruling is _DENY and dialled.startswith("10.1.")
            assert ip_address(dialled).is_global or named, f"{host!r} leads to {dialled}"
    reason = address_refusal(host, 443, (), None, (8080,))
    if reason is None:
        assert ip_address(host.partition("%")[0]).is_global


_FACTS_WORDS = (
    b"evil.test", b"api.openai.com", b"api.openai.com:443", b"", b"HTTP/1.1", b"HTTP/2.0", b"\n", b"localhost:8045", b"null",
    b"http://127.0.0.1:8045", b"cross-site", *_HOST_WORDS,
)  # fmt: skip


@target("agreement", [b"api.openai.com\napi.openai.com\napi.openai.com\napi.openai.com", *_HOSTS], _FACTS_WORDS, longest=600)
def agreement(data: bytes) -> None:
    """When a request is let in, all of its words name the place that was dialled."""
    host, sni, name, *others = [*_text(data).split("\n"), "", ""]
    facts = ClientFacts("https", host, 443, "origin", True, True, sni, name, tuple(others[:-2]) or (name,), "HTTP/1.1")
    if egress.agreement(facts) is None:
        words = {word.lower().removesuffix(":443") for word in (host, sni, *facts.host_headers, *([name] if name else []))}
        spelled = {parse_host(word.removeprefix("[").removesuffix("]")) for word in words}
        assert len(spelled) == 1 and None not in spelled
    refusal = egress.api_door((host,), {"origin": sni, "sec-fetch-site": name}, 8045)
    if refusal is None:
        found = parse_authority(host)
        assert found is not None and (found.host == "localhost" or ip_address(found.host).is_loopback)


_PATHS = [
    b"/v1/chat/completions", b"/v1/messages", b"/v1beta/models/gemini-2.5-pro:generateContent", b"/v1/models/gpt-4o",
    b"/openai/v1/chat/completions", b"/v1/messages/../files", b"/v1/messages/%2e%2e/files", b"//v1/files",
    b"/v1/responses/resp_1", b"/groq/openai/v1/chat/completions", b"/v1/files/file-1/content",
]  # fmt: skip
_PATH_WORDS = (
    b"/", b"..", b".", b"%2e", b"%2E%2e", b"%2f", b"%5c", b"\\", b";", b"//", b"%", b"%00", b"%25", b"%252e", b"?", b"#",
    b"/files", b"/v1", b"/chat/completions", b"\xe3\x80\x82", b":generateContent", b"/models/",
)  # fmt: skip


@target("paths", _PATHS, _PATH_WORDS, longest=400)
def path(data: bytes) -> None:
    """A path that a key may be sent to has one reading: undoing its escapes moves it nowhere."""
    text = _text(data)
    for facts in CATALOG.values():
        found = paths.locate(facts, "POST", text)
        if isinstance(found, Refusal):
            assert len(found.message) < 2000
            continue
        segments = unquote(unquote(text)).split("/")
        assert text.isascii() and not {".", ".."} & set(segments) and "" not in segments[1:-1]
        assert found.endpoint.group == "inference" and text.endswith(found.rest)
        assert unquote(text).count("/") == text.count("/")
    paths.locate_api(_RULES.providers, "POST", text, {})
    name = paths.HostTable(_RULES.providers).find(text, 443, "https")
    provider = _RULES.providers.get(name or "")
    assert provider is None or text.lower() in (*provider.facts.hosts, provider.upstream.host)


_HEADS = [
    b"/v1/chat/completions?key=sk-dummy&x=1\nAuthorization: Bearer sk-dummy\nCookie: a=b",
    b"/v1/x?a=1;api_key=sk-proj-FOREIGNkeyAAAAAAAA\nX_Api_Key: sk-proj-FOREIGNkeyAAAAAAAA\nProxy-Authorization: Basic YTpi",
    b"/\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-proj-FOREIGNkeyAAAAAAAA\nConnection: upgrade, x-a\nX-A: 1",
    b"/?$key=%73k-dummy\nauthorization: Basic c2stZHVtbXk6c2stcHJvai1GT1JFSUdO\nX-Api-Key: sk-dummy-alice.web",
]
_HEAD_WORDS = (
    b"\n", b": ", b"Authorization: ", b"Bearer ", b"Basic ", b"x-api-key: ", b"api_key=", b"key=", b"%6bey=", b"&", b";",
    b"?", b"=", b"sk-dummy", b"sk-proj-FOREIGNkeyAAAAAAAA", b",", b"openai-insecure-api-key.", b"Sec-WebSocket-Protocol: ",
    b"Connection: ", b"authorization", b"Cookie: ", b"Upgrade: websocket", b"X-Any-Api-Key: ", b"+", b"%20", b"$",
    b"api-key\xa0: ", b"Host",
)  # fmt: skip
_AUTH = CATALOG["openai"].surfaces[0].auth


def _head(data: bytes) -> tuple[str, list[tuple[bytes, bytes]]]:
    first, *lines = data.split(b"\n")
    return _text(first), [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


@target("credentials", _HEADS, _HEAD_WORDS)
def credential(data: bytes) -> None:
    """Strip leaves no credential, the mask no foreign one, and both leave alone what is none."""
    path, headers = _head(data)
    shown = credentials.presented(headers, path)
    callers.identify(credentials.basic_user(path), [each.value for each in shown], _RULES)
    callers.client_product(path)
    kind = credentials.judge(shown, _RULES).kind
    for upgrade in (False, True):
        stripped, bare = credentials.strip(headers, upgrade=upgrade), credentials.strip_query(path)
        assert credentials.presented(stripped, bare) == ()
        assert credentials.strip(stripped, upgrade=upgrade) == stripped and credentials.strip_query(bare) == bare
        assert bare.partition("?")[0] == path.partition("?")[0]
        sent = credentials.wire_headers(headers, _AUTH, None, "real", upgrade=upgrade)
        assert [each.value for each in credentials.presented(sent, bare)] == ["real"]
    masked, hidden = credentials.mask_headers(headers, _RULES), credentials.mask_query(path, _RULES)
    left = [each for each in credentials.presented(masked, hidden) if each.carrier != credentials.PROXY_AUTHORIZATION]
    foreign = [each.value for each in left if not credentials.is_dummy(each.value, _RULES)]
    assert all(value.endswith(credentials.MASK) for value in foreign), f"shown: {foreign!r}"
    assert bool(foreign) or kind != "foreign"
    assert credentials.mask_headers(masked, _RULES) == masked and credentials.mask_query(hidden, _RULES) == hidden


_TIMES = [
    b"7", b"1h2m3s", b"290.9ms", b"2 minutes", b"1700000060", b"1700000060000", b"Wed, 21 Oct 2026 07:28:00 GMT",
    b"2026-10-21T07:28:00Z", b"Please try again in 6.2s.", b"resets on Aug 1, 2026 at 00:00 UTC",
    b'{"error":{"details":[{"retryDelay":"3s"}]}}', b'{"error":{"metadata":{"headers":{"Retry-After":"9"}}}}',
    *(value.encode() for each in recordings() for name, value in each["headers"].items() if "retry" in name or "reset" in name),
]  # fmt: skip
_TIME_WORDS = (
    b"h", b"m", b"s", b"ms", b" days", b" and ", b", ", b"9" * 19, b"-", b".", b":", b"T", b"Z", b"+00:00", b"+99:99", b"-0001",
    b" GMT", b"Mon, ", b"31 Feb 2026", b"retry after ", b"try again in ", b"resets at ", b"limit reached|", b"1e9", b"inf",
    b"nan", b"Aug ", b"\xc2\xb5s", b"\xd9\xa3", b'"retryDelay":', b"[", b"{",
)  # fmt: skip
_NOW = 1.7e9


@target("waits", _TIMES, _TIME_WORDS, longest=600, steps=600)
def wait(data: bytes) -> None:
    """A time that is stated is a finite one, positive and at most 31 days; what is left is a share."""
    text = _text(data)
    found = waits.duration(text, _NOW)
    assert found is None or (math.isfinite(found) and found > 0)
    names = ("retry-after", "retry-after-ms", "date", "x-ratelimit-reset-requests", "x-ratelimit-remaining-requests")
    headers = dict.fromkeys(names, text) | {"x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-tokens": text}
    for facts in CATALOG.values():
        for shown in ({}, headers, {"date": text, "retry-after": "5"}, {"x-ratelimit-limit-requests": text, **headers}):
            stated, left = waits.stated(facts, shown, data, _NOW), waits.remaining(facts, shown, _NOW)
            assert stated is None or (0 < stated.seconds <= waits.LONGEST and len(stated.raw) <= 200)
            assert left is None or (0 <= left.share <= 1 and (left.resets_in is None or 0 < left.resets_in <= waits.LONGEST))
