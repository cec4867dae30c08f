"""C.1: steering the key to the wrong place (1-19)."""

from __future__ import annotations

from .canaries import ANTHROPIC, DEEPSEEK, EVIL, GROQ, MISTRAL, OPENAI, OPENROUTER, REBIND
from .client import CHAT, call, h2_headers, message
from .evidence import (
    Evidence,
    all_of,
    attack,
    calls_at_most,
    either,
    no_call,
    nothing_more,
    one_key,
    refused,
)
from .range import Range
from .servers import plain_reply

_FROM_THE_CONNECTION = "where the connection leads decides, never Host: no key"
_AGREE = "SNI, tunnel and request must name one host: 421, or cut off"

_LOOKALIKES = {
    "suffix": "api.openai.com.evil.test",
    "prefix": "xapi.openai.com",
    "parent": "openai.com",
    "trailing dot": "api.openai.com.",
    "leading dot": ".api.openai.com",
    "doubled dot": "api..openai.com",
    "percent dot": "api%2eopenai.com",
    "percent nul": "api.openai.com%00.evil.test",
    "userinfo": "api.openai.com@evil.test",
    "userinfo reversed": "evil.test@api.openai.com",
    "hyphen": "api-openai.com",
    "punycode": "xn--pi-7kc.openai.com",
    "cyrillic": "\u0430pi.openai.com".encode().decode("latin-1"),
    "full width": "\uff41pi.openai.com".encode().decode("latin-1"),
    "ideographic dot": "api\u3002openai.com".encode().decode("latin-1"),
    "fragment": "evil.test#api.openai.com",
    "query": "evil.test?api.openai.com",
    "path": "evil.test/api.openai.com",
    "backslash": "evil.test\\api.openai.com",
    "brackets": "[api.openai.com]",
    "comma": "api.openai.com,evil.test",
    "blank": "api.openai.com evil.test",
}


# 1. CONNECT elsewhere, Host of a provider.


@attack(
    1,
    "Host of a provider in a tunnel to evil",
    _FROM_THE_CONNECTION,
    no_call,
    each={
        "openai": call(),
        "anthropic": message(),
        "with port": call(host=b"api.openai.com:443"),
        "absolute": call(target=b"https://api.openai.com/v1/chat/completions"),
        "forwarded": call(host=b"evil.test", extra=b"X-Forwarded-Host: api.openai.com\r\n"),
    },
)
def host_in_evil_tunnel(here: Range, data: bytes) -> None:
    here.inside(data, EVIL)


@attack(
    1,
    "Host of a provider in a plain request to evil",
    _FROM_THE_CONNECTION,
    no_call,
    each={"Host": b"api.openai.com", "Host with port": b"api.openai.com:443", "Host of anthropic": b"api.anthropic.com"},
)
def host_in_plain_request(here: Range, host: bytes) -> None:
    here.raw(call(target=b"http://evil.test/v1/chat/completions", host=host))


@attack(1, "CONNECT says evil, its Host says the provider", _FROM_THE_CONNECTION, no_call)
def host_of_connect(here: Range) -> None:
    client = here.client()
    if client.connect(f"{EVIL}:443", host=b"api.openai.com:443") and client.tls(OPENAI):
        client.send(call())
        client.read()


# 2. SNI and tunnel.


@attack(
    2,
    "SNI that is not the tunnel's",
    _AGREE,
    refused(),
    each={
        "evil": EVIL,
        "other provider": ANTHROPIC,
        "none": None,
        "suffix": "api.openai.com.evil.test",
        "parent": "openai.com",
        "address": "127.0.0.1",
    },
)
def foreign_sni(here: Range, sni: str | None) -> None:
    here.inside(call(), OPENAI, sni=sni)


@attack(2, "SNI of a provider in a tunnel to evil", _AGREE, no_call, each={"openai": OPENAI, "anthropic": ANTHROPIC})
def provider_sni_at_evil(here: Range, sni: str) -> None:
    here.inside(call(host=sni.encode()), EVIL, sni=sni)


# 3. HTTP/2: :authority, host and SNI.


@attack(
    3,
    "h2 authority, host and SNI disagree",
    _AGREE,
    refused(),
    each={
        "host header": (b"api.openai.com", [(b"host", b"evil.test")]),
        "authority": (b"evil.test", []),
        "authority of another provider": (b"api.anthropic.com", []),
        "both elsewhere": (b"evil.test", [(b"host", b"evil.test")]),
        "authority with port": (b"api.openai.com:8443", []),
        "two hosts": (b"api.openai.com", [(b"host", b"api.openai.com"), (b"host", b"evil.test")]),
        "userinfo": (b"api.openai.com@evil.test", []),
        "empty authority": (b"", [(b"host", b"evil.test")]),
    },
)
def h2_authority(here: Range, names: tuple[bytes, list[tuple[bytes, bytes]]]) -> None:
    here.h2(h2_headers(names[0], extra=names[1]))


@attack(3, "h2 SNI that is not the authority", _AGREE, refused(), each={"evil": EVIL, "groq": GROQ})
def h2_sni(here: Range, sni: str) -> None:
    here.h2(h2_headers(), sni=sni)


@attack(3, "two authorities in h2", _AGREE, refused())
def h2_two_authorities(here: Range) -> None:
    headers = h2_headers()
    here.h2([*headers[:3], (b":authority", b"evil.test"), *headers[3:]])


# 4. Fronting.


@attack(
    4,
    "one allowed host fronts for another",
    _AGREE,
    refused(),
    each={
        "openai for anthropic": (OPENAI, message()),
        "anthropic for openai": (ANTHROPIC, call()),
        "openai for evil": (OPENAI, call(host=b"evil.test")),
        "openai for groq": (OPENAI, call(host=GROQ.encode())),
        "openai for a sibling": (OPENAI, call(host=b"files.openai.com")),
    },
)
def fronting(here: Range, names: tuple[str, bytes]) -> None:
    here.inside(names[1], names[0])


# 5. Absolute form inside the tunnel.


@attack(
    5,
    "absolute form in a tunnel",
    "refused, or the tunnel's host is used",
    either(refused(), one_key),
    each={
        "https": b"https://evil.test/v1/chat/completions",
        "http": b"http://evil.test/v1/chat/completions",
        "userinfo": b"https://api.openai.com@evil.test/v1/chat/completions",
        "other provider": b"https://api.anthropic.com/v1/chat/completions",
        "http to itself": b"http://api.openai.com/v1/chat/completions",
        "other port": b"https://api.openai.com:8443/v1/chat/completions",
        "other scheme": b"gopher://api.openai.com/v1/chat/completions",
        "no scheme": b"//evil.test/v1/chat/completions",
        "authority form": b"evil.test:443",
        "backslash": b"https:\\\\evil.test/v1/chat/completions",
    },
)
def absolute_form(here: Range, target: bytes) -> None:
    here.inside(call(target=target))


@attack(
    5,
    "CONNECT inside a tunnel",
    "refused: a key is no tunnel",
    refused(400, 403, 405, 421),
    each={"evil": b"evil.test:443", "itself": b"api.openai.com:443"},
)
def connect_inside(here: Range, target: bytes) -> None:
    here.inside(call(method=b"CONNECT", target=target, host=target, body=b"", length=b""))


# 6. Lookalikes.


@attack(6, "lookalike in Host", "exact match on one spelling: 400 or 421", refused(), each=_LOOKALIKES)
def lookalike_host(here: Range, host: str) -> None:
    here.inside(call(host=host.encode("latin-1")))


@attack(6, "lookalike in CONNECT", "it is no provider: refused, or a tunnel without a key", no_call, each=_LOOKALIKES)
def lookalike_connect(here: Range, host: str) -> None:
    client = here.client()
    if client.connect(f"{host}:443") and client.tls(OPENAI):
        client.send(call(host=host.encode("latin-1")))
        client.read()


@attack(
    6,
    "NUL in the host",
    "400",
    refused(),
    each={
        "Host": call(host=b"api.openai.com\0.evil.test"),
        "target": call(target=b"https://api.openai.com\0.evil.test/v1/chat/completions"),
    },
)
def nul_in_host(here: Range, data: bytes) -> None:
    here.inside(data)


@attack(6, "NUL in CONNECT", "400", no_call)
def nul_in_connect(here: Range) -> None:
    here.client().connect(b"api.openai.com\0.evil.test:443")


@attack(
    6,
    "upper case is the same host",
    "one call, one key",
    one_key,
    each={"Host": ("api.openai.com", b"API.OpenAI.COM"), "CONNECT": ("API.OPENAI.COM", b"api.openai.com")},
)
def upper_case(here: Range, names: tuple[str, bytes]) -> None:
    here.inside(call(host=names[1]), names[0], sni=OPENAI)


# 7. Addresses.


@attack(
    7,
    "address in place of the name",
    "an address is no provider: no key",
    no_call,
    each={
        "plain": "162.159.140.245",
        "decimal": "2728365301",
        "octal": "0242.0237.0214.0365",
        "hexadecimal": "0xa29f8cf5",
        "mixed": "0xa2.159.140.245",
        "short": "162.10456309",
        "v6": "[2606:4700::6812:1a90]",
        "mapped": "[::ffff:162.159.140.245]",
        "zone": "[fe80::1%25eth0]",
    },
)
def address(here: Range, host: str) -> None:
    here.inside(call(), host, sni=OPENAI)


@attack(
    7,
    "address in Host",
    _AGREE,
    refused(),
    each={"v4": b"162.159.140.245", "loopback": b"127.0.0.1", "v6": b"[::1]", "decimal": b"2130706433"},
)
def address_in_host(here: Range, host: bytes) -> None:
    here.inside(call(host=host))


# 8. Ports.


@attack(
    8,
    "CONNECT to another port of the provider",
    "the port is part of the binding: no key",
    no_call,
    each={"8443": "8443", "4430": "4430", "22": "22", "0": "0", "none": "", "65979 (443 + 65536)": "65979", "signed": "+443"},
)
def other_port(here: Range, port: str) -> None:
    client = here.client()
    if client.connect(f"{OPENAI}:{port}" if port else OPENAI) and client.tls(OPENAI):
        client.send(call(host=f"{OPENAI}:{port}".encode()))
        client.read()


@attack(8, "the same port, written oddly", "one reading: no key, or the provider's", either(no_call, one_key))
def padded_port(here: Range) -> None:
    here.inside(call(), port="00443")  # type: ignore[arg-type]


@attack(
    8,
    "Host with another port",
    _AGREE,
    refused(),
    each={"8443": b"8443", "80": b"80", "0": b"0", "65979": b"65979", "text": b"https", "negative": b"-443"},
)
def other_port_in_host(here: Range, port: bytes) -> None:
    here.inside(call(host=b"api.openai.com:" + port))


# 9. Host, twice.


@attack(
    9,
    "more than one Host",
    "400",
    refused(400),
    each={
        "evil last": b"Host: evil.test\r\n",
        "the same": b"Host: api.openai.com\r\n",
        "other case": b"hOST: evil.test\r\n",
        "empty": b"Host:\r\n",
        "folded": b"Host:\r\n evil.test\r\n",
        "three": b"Host: evil.test\r\nHost: api.anthropic.com\r\n",
    },
)
def two_hosts(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra))


@attack(
    9,
    "Host that holds two names",
    "400",
    refused(400),
    each={
        "evil last": b"api.openai.com, evil.test",
        "evil first": b"evil.test, api.openai.com",
        "folded": b"api.openai.com\r\n evil.test",
        "tab": b"api.openai.com\tevil.test",
    },
)
def joined_hosts(here: Range, host: bytes) -> None:
    here.inside(call(host=host))


@attack(9, "no Host", "400", refused(400), each={"left out": None, "empty": b""})
def no_host(here: Range, host: bytes | None) -> None:
    here.inside(call(host=host))


# 10. Downgrade.


@attack(
    10,
    "a provider over plain HTTP",
    "400, nothing is sent",
    refused(),
    each={
        "http": b"http://api.openai.com",
        "upper case": b"HTTP://api.openai.com",
        "mixed case": b"hTTp://api.openai.com",
        "port 443": b"http://api.openai.com:443",
        "port 80": b"http://api.openai.com:80",
        "ws": b"ws://api.openai.com",
        "upper host": b"http://API.OPENAI.COM",
        "trailing dot": b"http://api.openai.com.",
        "userinfo": b"http://x@api.openai.com",
    },
)
def plain_http(here: Range, origin: bytes) -> None:
    here.raw(call(target=origin + CHAT))


@attack(10, "no TLS inside the tunnel", "no key", no_call, each={"443": 443, "80": 80})
def plain_in_tunnel(here: Range, port: int) -> None:
    client = here.client()
    if client.connect(f"{OPENAI}:{port}"):
        client.send(call())
        client.read()


@attack(10, "https in an absolute request outside a tunnel", "400, or TLS to the provider", refused())
def https_outside(here: Range) -> None:
    here.raw(call(target=b"https://evil.test/v1/chat/completions"))


# 11. Origin form to the proxy.


@attack(
    11,
    "origin form to the proxy's port",
    "400",
    refused(400),
    each={
        "POST": call(),
        "GET": call(method=b"GET", path=b"/v1/models", body=b""),
        "anthropic": message(),
        "doubled slash": call(path=b"//api.openai.com/v1/chat/completions"),
        "asterisk": call(method=b"OPTIONS", path=b"*", body=b""),
        "HTTP/1.0": call(version=b"HTTP/1.0"),
        "no Host": call(host=None),
    },
)
def origin_form(here: Range, data: bytes) -> None:
    here.raw(data)


@attack(11, "HTTP/2 to the proxy's port", "400 or cut off", refused())
def h2_prior_knowledge(here: Range) -> None:
    here.client().h2(h2_headers())


@attack(11, "TLS to the proxy's port", "400 or cut off: no tunnel, no key", refused())
def tls_to_the_port(here: Range) -> None:
    client = here.client()
    if client.tls(OPENAI):
        client.send(call())
        client.read()


# 12. A poisoned name.


def _no_imposter(evidence: Evidence) -> str | None:
    got = b"".join(bytes(record.data) for record in evidence.imposters)
    return f"the imposter got {got[:60]!r}" if b"HTTP/" in got else None


@attack(
    12,
    "a provider's name leads to an imposter",
    "TLS verification refuses before any header",
    all_of(_no_imposter, refused(502, 503, 504)),
    each={"untrusted authority": MISTRAL, "certificate of another name": DEEPSEEK},
)
def poisoned(here: Range, host: str) -> None:
    here.inside(call(host=host.encode(), body=b'{"model":"m","messages":[]}', path=CHAT), host)


@attack(12, "a provider's name leads to a plain server", "no TLS, no header", all_of(_no_imposter, refused(502, 503, 504)))
def poisoned_without_tls(here: Range) -> None:
    here.inside(call(host=OPENROUTER.encode(), path=b"/api/v1/chat/completions"), OPENROUTER)


@attack(12, "verification switched off by an option", "start refused, or no key", all_of(_no_imposter, no_call), own_process=True)
def insecure_option(here: Range) -> None:
    with here.gateway(arguments=["--set", "ssl_insecure=true"]) as started:
        if started:
            here.inside(call(host=MISTRAL.encode()), MISTRAL)


# 13. Rebinding.


@attack(
    13,
    "a name that is this machine when asked again",
    "what was judged is what is dialled",
    nothing_more,
    each={"https": 443, "http": 80},
)
def rebinding(here: Range, port: int) -> None:
    for _ in range(2):
        client = here.client()
        if port == 443 and client.connect(f"{REBIND}:443"):
            client.listen(0.05)
        elif port == 80:
            client.send(call(target=b"http://rebind.test/", host=REBIND.encode()))
            client.read()


# 14. Routing words.


def _only(host: str):
    def expect(evidence: Evidence) -> str | None:
        names = {record.sni for record in evidence.providers if record.requests}
        if evidence.evil:
            return "the attacker's server was called"
        return f"{names - {host}} was called" if names - {host} else None

    return expect


@attack(
    14,
    "routing words in headers",
    "ignored",
    all_of(one_key, _only(OPENAI)),
    each={
        name.decode(): name + b": https://evil.test\r\n"
        for name in (
            b"X-Upstream",
            b"X-Base-Url",
            b"Api-Base",
            b"X-Forwarded-Host",
            b"X-Original-URL",
            b"X-Rewrite-URL",
            b"Forwarded",
            b"X-Host",
            b"Destination",
            b"X-Portkey-Custom-Host",
            b"Helicone-Target-Url",
            b"X-Proxy-Target",
        )
    },
)
def routing_headers(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra))


@attack(
    14,
    "routing words in the body",
    "ignored",
    all_of(one_key, _only(OPENAI)),
    each={
        "api_base": b'"api_base":"https://evil.test"',
        "base_url": b'"base_url":"https://evil.test"',
        "extra_body": b'"extra_body":{"api_base":"https://evil.test"}',
        "custom_llm_provider": b'"custom_llm_provider":"anthropic"',
        "user_config": b'"user_config":{"model_list":[{"api_base":"https://evil.test"}]}',
    },
)
def routing_body(here: Range, word: bytes) -> None:
    here.inside(call(body=b'{"model":"gpt-4o","messages":[],' + word + b"}"))


@attack(
    14,
    "a model that looks like a route",
    "the tunnel's provider is called",
    all_of(one_key, _only(OPENAI)),
    each={
        "url": b"https://evil.test/x",
        "provider": b"anthropic/claude-sonnet-4-5",
        "dots": b"../../anthropic",
        "at": b"gpt-4o@evil.test",
    },
)
def routing_model(here: Range, model: bytes) -> None:
    here.inside(call(body=b'{"model":"%s","messages":[]}' % model))


# 15. Redirects.


@attack(
    15,
    "the provider redirects to evil",
    "never followed; the client's follow-up gets no key",
    all_of(calls_at_most(1), _only(OPENAI)),
    each={str(status): status for status in (301, 302, 303, 307, 308)},
)
def redirect(here: Range, status: int) -> None:
    answer = b"HTTP/1.1 %d Moved\r\nLocation: https://evil.test/v1/chat/completions\r\nContent-Length: 0\r\n\r\n" % status
    here.script(lambda _: answer)
    here.inside(call())


@attack(15, "the client follows a redirect to evil", "a new decision: no key", calls_at_most(1))
def follow_up(here: Range) -> None:
    here.script(lambda _: b"HTTP/1.1 307 Moved\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n")
    here.inside(call())
    here.inside(call(host=EVIL.encode()), EVIL)


# 16. Endpoints.


@attack(
    16,
    "an endpoint that others could read",
    "method and path allow list: 403, 404 or 405",
    refused(403, 404, 405),
    each={
        f"{method} {path}": (method, path)
        for method, path in (
            ("POST", "/v1/files"),
            ("GET", "/v1/files/abc/content"),
            ("POST", "/v1/uploads"),
            ("GET", "/v1/organization/admin_api_keys"),
            ("POST", "/v1/organization/projects"),
            ("POST", "/v1/batches"),
            ("POST", "/v1/fine_tuning/jobs"),
            ("POST", "/v1/vector_stores"),
            ("POST", "/v1/assistants"),
            ("POST", "/v1/webhooks"),
            ("POST", "/v1/containers"),
            ("GET", "/dashboard/billing/usage"),
            ("GET", "/"),
            ("DELETE", "/v1/models/ft"),
            ("TRACE", "/v1/chat/completions"),
            ("PUT", "/v1/chat/completions"),
            ("GET", "/v1"),
            ("OPTIONS", "/v1/chat/completions"),
        )
    },
)
def endpoint(here: Range, what: tuple[str, str]) -> None:
    here.inside(call(method=what[0].encode(), path=what[1].encode()))


@attack(
    16,
    "an endpoint of Anthropic that others could read",
    "403 or 404",
    refused(403, 404, 405),
    each={
        path: path
        for path in (
            "/v1/files",
            "/v1/messages/batches",
            "/v1/organizations/api_keys",
            "/v1/skills",
            "/v1/mcp",
            "/api/oauth/token",
        )
    },
)
def endpoint_of_anthropic(here: Range, path: str) -> None:
    here.inside(message(path=path.encode()), ANTHROPIC)


@attack(
    16,
    "a method in disguise",
    "the method that is sent decides",
    refused(400, 403, 404, 405, 501),
    each={"lower case": b"post", "override": b"DELETE", "odd": b"POST\tX", "long": b"POST" * 50},
)
def odd_method(here: Range, method: bytes) -> None:
    here.inside(call(method=method, extra=b"X-HTTP-Method-Override: POST\r\n"))


# 17. Path tricks.

_PATHS = {
    "dot dot": b"/v1/chat/completions/../../files",
    "dot dot at the end": b"/v1/chat/completions/..",
    "single dot": b"/v1/./chat/completions",
    "encoded dots": b"/v1/chat/completions/%2e%2e/%2e%2e/files",
    "half encoded": b"/v1/.%2E/v1/files",
    "doubly encoded": b"/v1/chat/%252e%252e/files",
    "doubled slash": b"/v1//chat/completions",
    "doubled at the start": b"//v1/files",
    "encoded slash": b"/v1%2ffiles",
    "parameter": b"/v1/chat/completions;x=/../files",
    "backslash": b"/v1\\files",
    "encoded backslash": b"/v1%5cfiles",
    "nul": b"/v1/chat/completions%00",
    "newline": b"/v1/chat/completions%0d%0aX:%20y",
    "upper case": b"/V1/CHAT/COMPLETIONS",
    "trailing slash": b"/v1/chat/completions/",
    "encoded letter": b"/v1/%66iles",
    "overlong": b"/v1/%c0%ae%c0%ae/files",
    "fragment": b"/v1/files#/v1/chat/completions",
    "encoded question mark": b"/v1/files%3f/v1/chat/completions",
    "tab": b"/v1/chat\t/completions",
    "full width": b"/v1/\xef\xbc\x8e\xef\xbc\x8e/files",
    "no slash": b"v1/chat/completions",
    "bare percent": b"/v1/chat/completions%",
    "model with dots": b"/v1/models/../files",
    "model with encoded slash": b"/v1/models/x%2f..%2f..%2ffiles",
}


@attack(17, "path trick", "400, 403 or 404", refused(400, 403, 404, 405), each=_PATHS)
def path_trick(here: Range, path: bytes) -> None:
    here.inside(call(path=path))


@attack(
    17,
    "path trick in h2",
    "400, 403 or 404",
    refused(400, 403, 404, 405),
    each={
        name: _PATHS[name]
        for name in ("dot dot", "encoded dots", "encoded slash", "backslash", "nul", "no slash", "doubled slash")
    },
)
def path_trick_h2(here: Range, path: bytes) -> None:
    here.h2(h2_headers(path=path))


@attack(
    17,
    "path trick in the place of a model",
    "400, 403 or 404",
    refused(400, 403, 404),
    each={
        "dots": b"/v1/models/..",
        "encoded dots": b"/v1/models/%2e%2e",
        "encoded dots and slash": b"/v1/models/%2e%2e%2ffiles",
        "encoded slash": b"/v1/models/x%2f..%2f..%2ffiles",
        "backslash": b"/v1/models/..%5cfiles",
    },
)
def path_trick_in_a_model(here: Range, path: bytes) -> None:
    here.inside(call(path=path, method=b"GET", body=b""))


# 18. A key bound to one provider, rules that send it elsewhere.

_LAB = "providers:\n  lab: {like: openai, upstream: 'https://evil.test', keys: %s}\n"
_ROUTES = """\
routes:
  - {match: {model: to-lab}, to: [lab/x]}
  - {match: {model: to-groq}, to: [groq/x]}
  - {match: {model: over}, to: [openai/x, groq/x, lab/x]}
"""


@attack(
    18,
    "rules put a provider's key under another host",
    "the loader refuses: the binding lives with the secret",
    nothing_more,
    own_process=True,
)
def misplaced_key(here: Range) -> None:
    with here.gateway(_LAB % "[env:OPENAI_API_KEY]" + _ROUTES) as started:
        if started:
            here.inside(call(body=b'{"model":"to-lab","messages":[]}'))


def _three_answers(evidence: Evidence) -> str | None:
    return None if len(evidence.statuses) == 3 else f"{len(evidence.statuses)} answers to three calls"


@attack(
    18,
    "rules send a call to another host, to another provider, and over",
    "each target gets its own key or none",
    _three_answers,
    own_process=True,
)
def misdirected_calls(here: Range) -> None:
    with here.gateway(_LAB % "none" + _ROUTES) as started:
        here.script(lambda seen: plain_reply(seen) if b"groq" in seen.raw else b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        for model in (b"to-lab", b"to-groq", b"over") if started else ():
            here.inside(call(body=b'{"model":"%s","messages":[]}' % model))


# 19. Another agent's dummy.

_DIGEST = "sha256:2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"
"""alice's key is the word `alice`: nobody here sends it."""
_AGENTS = f"agents:\n  - {{name: alice, key: '{_DIGEST}'}}\n"
_ALICES = (
    b"Authorization: Bearer sk-dummy-alice",
    b"Authorization: Bearer sk-dummy-alice.web",
    b"Authorization: Bearer sk-dummy\r\nProxy-Authorization: Basic YWxpY2U6",
)


def _not_alice(evidence: Evidence) -> str | None:
    if not evidence.receipts:
        return "no receipt was written"
    named = [receipt for receipt in evidence.receipts if receipt["agent"] == "alice" and not receipt["refused"]]
    return "a call without alice's key is booked as hers" if named else None


@attack(19, "an agent takes another's name", "a configured agent is known by its key alone", _not_alice, own_process=True)
def another_name(here: Range) -> None:
    with here.gateway(_AGENTS) as started:
        for credential in _ALICES if started else ():
            here.inside(call(credential=credential))


@attack(19, "guessing an agent's key", "what is no agent's key is nobody's: not booked as hers", _not_alice, own_process=True)
def guessing(here: Range) -> None:
    with here.gateway(_AGENTS) as started:
        for guess in (b"Alice", b"alicf", b"alic", b"alice alice", _DIGEST.encode()) if started else ():
            here.inside(call(credential=b"Authorization: Bearer " + guess))
