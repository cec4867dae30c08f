"""C.2: games with dummies (20-31)."""

from __future__ import annotations

import base64

from .canaries import ANTHROPIC, DEEPSEEK, DUMMY, FOREIGN, GROQ, MISTRAL, OPENAI, OPENROUTER
from .client import BODY, call, h2_headers, message
from .evidence import Evidence, all_of, attack, either, lacks, no_call, not_started, one_key, refused
from .range import Range

_ONE = "one call, its key once, in one credential"
_CLEAN = either(one_key, refused(400, 401, 403, 431))
"""Served with one key alone, or refused."""


def _basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


# 20. A dummy in other places.


@attack(
    20,
    "dummy in a header that is no credential",
    "not substituted: the key stands in its own header alone",
    one_key,
    each={
        name.decode(): name
        for name in (
            b"X-Forwarded-For",
            b"X-Forwarded-Host",
            b"Referer",
            b"User-Agent",
            b"X-Custom",
            b"Origin",
            b"Accept",
            b"X-Request-Id",
            b"Idempotency-Key",
            b"traceparent",
        )
    },
)
def dummy_in_header(here: Range, name: bytes) -> None:
    here.inside(call(extra=name + b": sk-dummy\r\n"))


@attack(
    20,
    "dummy in the target",
    "not substituted",
    one_key,
    each={
        "query": b"/v1/chat/completions?x=sk-dummy",
        "query twice": b"/v1/chat/completions?a=sk-dummy&b=Bearer%20sk-dummy",
        "path": b"/v1/models/sk-dummy",
    },
)
def dummy_in_target(here: Range, path: bytes) -> None:
    reading = path.startswith(b"/v1/models")
    here.inside(call(path=path, method=b"GET" if reading else b"POST", body=b"" if reading else BODY))


@attack(
    20,
    "dummy in the body",
    "not substituted: keys never enter bodies",
    one_key,
    each={
        "message": b'"messages":[{"role":"user","content":"sk-dummy"}]',
        "field": b'"messages":[],"api_key":"sk-dummy"',
        "metadata": b'"messages":[],"metadata":{"key":"Bearer sk-dummy"}',
    },
)
def dummy_in_body(here: Range, word: bytes) -> None:
    here.inside(call(body=b'{"model":"gpt-4o",' + word + b"}"))


@attack(20, "dummy in a cookie", "the cookie is taken off", all_of(one_key, lacks(b"cookie", b"sk-dummy")))
def dummy_in_cookie(here: Range) -> None:
    here.inside(call(extra=b"Cookie: key=sk-dummy; session=1\r\n"))


@attack(
    20,
    "dummy as the only credential, but elsewhere",
    "401: it is no credential there",
    refused(401),
    each={
        "User-Agent": b"User-Agent: sk-dummy\r\n",
        "Cookie": b"Cookie: sk-dummy\r\n",
        "X-Forwarded-For": b"X-Forwarded-For: sk-dummy\r\n",
    },
)
def dummy_elsewhere(here: Range, extra: bytes) -> None:
    here.inside(call(credential=None, extra=extra))


# 21 and 26. Many credentials.

_STRAY = {
    "x-api-key": b"X-Api-Key: sk-dummy\r\n",
    "api-key": b"Api-Key: sk-dummy\r\n",
    "x-goog-api-key": b"X-Goog-Api-Key: sk-dummy\r\n",
    "proxy-authorization": b"Proxy-Authorization: Bearer sk-dummy\r\n",
    "x-authorization": b"X-Authorization: Bearer sk-dummy\r\n",
    "ocp-apim": b"Ocp-Apim-Subscription-Key: sk-dummy\r\n",
    "x-auth-token": b"X-Auth-Token: sk-dummy\r\n",
    "subprotocol": b"Sec-WebSocket-Protocol: openai-insecure-api-key.sk-dummy\r\n",
    "xi-api-key": b"xi-api-key: sk-dummy\r\n",
    "anthropic-api-key": b"anthropic-api-key: sk-dummy\r\n",
}


@attack(
    21,
    "a dummy in a second credential header",
    "only the provider's header is set, all others are taken off",
    all_of(one_key, lacks(b"sk-dummy")),
    each=_STRAY,
)
def second_credential(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra))


@attack(
    21,
    "a dummy many times in one header",
    _ONE,
    all_of(_CLEAN, lacks(b"sk-dummy")),
    each={
        "list": b"Bearer sk-dummy, Bearer sk-dummy",
        "blanks": b"Bearer sk-dummy sk-dummy",
        "parameters": b"Bearer sk-dummy; token=sk-dummy",
        "digest": b'Digest username="sk-dummy", response="sk-dummy"',
    },
)
def repeated_dummy(here: Range, value: bytes) -> None:
    here.inside(call(credential=b"Authorization: " + value))


@attack(
    26,
    "all credential headers at once",
    "all are taken off, one is set",
    all_of(one_key, lacks(b"sk-dummy")),
    each={
        "openai": (
            OPENAI,
            call(
                extra=b"".join(_STRAY.values()), path=b"/v1/chat/completions?key=sk-dummy&api_key=sk-dummy&access_token=sk-dummy"
            ),
        ),
        "anthropic": (ANTHROPIC, message(extra=b"Authorization: Bearer sk-dummy\r\nApi-Key: sk-dummy\r\n")),
    },
)
def all_credentials(here: Range, what: tuple[str, bytes]) -> None:
    here.inside(what[1], what[0])


@attack(
    26,
    "credential in the query",
    "taken off, one header is set",
    all_of(one_key, lacks(b"sk-dummy")),
    each={
        name.replace("_", " underscore ").replace("KEY", "upper case"): name.encode()
        for name in (
            "key",
            "api_key",
            "api-key",
            "apikey",
            "KEY",
            "k%65y",
            "access_token",
            "%24key",
            "x-goog-api-key",
            "subscription-key",
        )
    },
)
def query_credential(here: Range, name: bytes) -> None:
    here.inside(call(path=b"/v1/chat/completions?a=1&" + name + b"=sk-dummy&b=2"))


@attack(
    26,
    "credential behind an odd separator of the query",
    "taken off, one header is set",
    all_of(one_key, lacks(b"sk-dummy")),
    each={
        "semicolon": b"?a=1;key=sk-dummy",
        "twice": b"?key=sk-dummy&key=sk-dummy",
        "encoded ampersand": b"?a=1&key=sk-dummy%26x",
        "array": b"?key=&key=sk-dummy",
        "question mark": b"?&key=sk-dummy",
    },
)
def odd_query(here: Range, query: bytes) -> None:
    here.inside(call(path=b"/v1/chat/completions" + query))


@attack(26, "many credentials in h2", _ONE, all_of(one_key, lacks(b"sk-dummy")), each={"openai": OPENAI, "groq": GROQ})
def h2_credentials(here: Range, host: str) -> None:
    stray = [
        (b"x-api-key", b"sk-dummy"),
        (b"cookie", b"a=sk-dummy"),
        (b"cookie", b"b=2"),
        (b"proxy-authorization", b"Bearer sk-dummy"),
        (b"authorization", b"Bearer sk-dummy"),
    ]
    path = b"/openai/v1/chat/completions" if host == GROQ else b"/v1/chat/completions"
    here.h2(h2_headers(host.encode(), path, stray), host)


# 22. A dummy that is not quite one.


@attack(
    22,
    "a dummy in disguise",
    "never passed on: one key in its place, or refused",
    all_of(_CLEAN, lacks(b"dummy", b"c2stZHVtbXk")),
    each={
        "percent": b"Bearer sk%2Ddummy",
        "upper case": b"Bearer SK-DUMMY",
        "basic": _basic(b"sk-dummy:"),
        "basic password": _basic(b"x:sk-dummy"),
        "base64": b"Bearer " + base64.b64encode(DUMMY),
        "split": b"Bearer sk- dummy",
        "quoted": b'Bearer "sk-dummy"',
        "no scheme": b"sk-dummy",
        "lower scheme": b"bearer sk-dummy",
        "two schemes": b"Bearer Bearer sk-dummy",
        "tab": b"Bearer\tsk-dummy",
        "nul": b"Bearer sk-dummy\0",
        "odd scheme": b"Tok3n sk-dummy",
        "not utf-8": b"Bearer sk-dummy\xff",
        "long": b"Bearer sk-dummy" + b"x" * 5000,
    },
)
def disguised(here: Range, value: bytes) -> None:
    here.inside(call(credential=b"Authorization: " + value))


@attack(22, "a dummy in two pieces", "never passed on", all_of(_CLEAN, lacks(b"sk-dum")))
def pieces(here: Range) -> None:
    here.inside(call(credential=b"Authorization: Bearer sk-dum\r\nAuthorization: my"))


# 23. Another provider's dummy.


@attack(
    23,
    "the dummy of one provider at another",
    "only the key of the provider that is called",
    one_key,
    each={
        "anthropic at openai": (OPENAI, call(credential=b"Authorization: Bearer sk-ant-dummy")),
        "anthropic's header at openai": (OPENAI, call(credential=b"x-api-key: sk-ant-dummy")),
        "openai at anthropic": (ANTHROPIC, message(credential=b"Authorization: Bearer sk-dummy")),
    },
)
def cross_binding(here: Range, what: tuple[str, bytes]) -> None:
    here.inside(what[1], what[0])


# 24. A key of the agent's own.

_FOREIGN_PLACES = {
    "authorization": b"Authorization: Bearer " + FOREIGN,
    "no scheme": b"Authorization: " + FOREIGN,
    "x-api-key": b"X-Api-Key: " + FOREIGN,
    "api-key": b"Api-Key: " + FOREIGN,
    "x-goog-api-key": b"X-Goog-Api-Key: " + FOREIGN,
    "basic": b"Authorization: " + _basic(FOREIGN + b":"),
    "password": b"Authorization: " + _basic(b"u:" + FOREIGN),
    "behind a dummy": b"Authorization: Bearer sk-dummy\r\nX-Api-Key: " + FOREIGN,
    "in a list": b"Authorization: Bearer sk-dummy, Bearer " + FOREIGN,
    "glued to a dummy": b"Authorization: Bearer sk-dummy," + FOREIGN,
    "cookie": b"Authorization: Bearer sk-dummy\r\nCookie: key=" + FOREIGN,
    "proxy": b"Authorization: Bearer sk-dummy\r\nProxy-Authorization: Bearer " + FOREIGN,
    "underscore": b"Authorization: Bearer sk-dummy\r\nX_Api_Key: " + FOREIGN,
    "subprotocol": b"Authorization: Bearer sk-dummy\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key." + FOREIGN,
    "odd scheme": b"Authorization: Token " + FOREIGN,
    "unknown scheme": b"Authorization: Sesame " + FOREIGN,
    "x-auth-token": b"Authorization: Bearer sk-dummy\r\nX-Auth-Token: " + FOREIGN,
    "upper case": b"AUTHORIZATION: BEARER " + FOREIGN,
}


@attack(24, "a real key of the agent's", "replaced: never passed on, never written down", _CLEAN, each=_FOREIGN_PLACES)
def own_key(here: Range, credential: bytes) -> None:
    here.inside(call(credential=credential))


@attack(
    24,
    "a real key in the query",
    "taken off, masked in what is written",
    _CLEAN,
    each={
        "key": b"?key=" + FOREIGN,
        "encoded name": b"?k%65y=" + FOREIGN,
        "api_key": b"?a=1&api_key=" + FOREIGN,
        "semicolon": b"?a=1;key=" + FOREIGN,
        "access_token": b"?access_token=" + FOREIGN,
    },
)
def own_key_in_query(here: Range, query: bytes) -> None:
    here.inside(call(path=b"/v1/chat/completions" + query))


@attack(
    24,
    "a real key in a refused call",
    "never written down either",
    refused(400, 401, 403, 405, 421),
    each={
        "closed endpoint": call(path=b"/v1/files?key=" + FOREIGN, credential=b"Authorization: Bearer " + FOREIGN),
        "other host": call(host=b"evil.test", credential=b"Authorization: Bearer " + FOREIGN),
        "two hosts": call(extra=b"Host: evil.test\r\n", credential=b"x-api-key: " + FOREIGN),
        "duplicate keys": call(body=b'{"model":"a","model":"b"}', credential=b"Authorization: Bearer " + FOREIGN),
    },
)
def own_key_refused(here: Range, data: bytes) -> None:
    here.inside(data)


@attack(
    24,
    "a real key outside a tunnel",
    "never written down either",
    refused(400, 401, 403, 421),
    each={
        "plain http": call(
            target=b"http://api.openai.com/v1/chat/completions?key=" + FOREIGN, credential=b"Authorization: Bearer " + FOREIGN
        ),
        "origin form": call(credential=b"Authorization: Bearer " + FOREIGN),
    },
)
def own_key_outside(here: Range, data: bytes) -> None:
    here.raw(data)


@attack(
    24,
    "a real key in h2",
    "replaced",
    _CLEAN,
    each={"openai": (OPENAI, b"/v1/chat/completions"), "groq": (GROQ, b"/openai/v1/chat/completions")},
)
def own_key_h2(here: Range, what: tuple[str, bytes]) -> None:
    headers = [field for field in h2_headers(what[0].encode(), what[1]) if field[0] != b"authorization"]
    here.h2([*headers, (b"authorization", b"Bearer " + FOREIGN), (b"x-api-key", FOREIGN)], what[0])


@attack(24, "a real key where the rules reject them", "401, nothing is sent", refused(401), own_process=True)
def own_key_rejected(here: Range) -> None:
    with here.gateway(gateway="foreign_keys: reject\n") as started:
        for credential in _FOREIGN_PLACES.values() if started else ():
            if not any(word in credential for word in (b"Cookie", b"Proxy-")):
                here.inside(call(credential=credential))


# 25. None at all.


@attack(
    25,
    "no credential",
    "401 in the provider's own words",
    refused(401),
    each={
        "none": (OPENAI, call(credential=None)),
        "anthropic": (ANTHROPIC, message(credential=None)),
        "empty": (OPENAI, call(credential=b"Authorization:")),
        "scheme alone": (OPENAI, call(credential=b"Authorization: Bearer")),
        "blank": (OPENAI, call(credential=b"Authorization: Bearer  ")),
        "empty x-api-key": (ANTHROPIC, message(credential=b"x-api-key:")),
        "empty basic": (OPENAI, call(credential=b"Authorization: Basic Og==")),
        "empty key in the query": (OPENAI, call(credential=None, path=b"/v1/chat/completions?key=")),
    },
)
def no_credential(here: Range, what: tuple[str, bytes]) -> None:
    here.inside(what[1], what[0])


# 27. Names of headers.


@attack(
    27,
    "oddly written credential header",
    "taken off in every spelling, or 400",
    all_of(_CLEAN, lacks(b"sk-dummy")),
    each={
        "upper case": b"X-API-KEY: sk-dummy\r\n",
        "mixed case": b"x-ApI-kEy: sk-dummy\r\n",
        "underscores": b"x_api_key: sk-dummy\r\n",
        "authorization twice": b"AUTHORIZATION: Bearer sk-dummy\r\naUTHORIZATION: sk-dummy\r\n",
        "space before colon": b"X-Api-Key : sk-dummy\r\n",
        "tab before colon": b"X-Api-Key\t: sk-dummy\r\n",
        "leading blank": b" X-Api-Key: sk-dummy\r\n",
        "obs-fold": b"X-Api-Key:\r\n sk-dummy\r\n",
        "obs-fold of another": b"X-Custom: a\r\n X-Api-Key: sk-dummy\r\n",
        "nul in the name": b"X-Api\0-Key: sk-dummy\r\n",
        "vertical tab": b"X-Api-Key\x0b: sk-dummy\r\n",
        "no value": b"X-Api-Key\r\n",
        "duplicates": b"X-Api-Key: sk-dummy\r\n" * 50,
        "bare cr": b"X-Custom: a\rX-Api-Key: sk-dummy\r\n",
        "bare lf": b"X-Custom: a\nX-Api-Key: sk-dummy\r\n",
        "non-ascii": b"X-Api-Key\xa0: sk-dummy\r\n",
        "dots": b"x.api.key: sk-dummy\r\n",
    },
)
def odd_names(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra))


# 28. Connection.


@attack(
    28,
    "Connection names the credential",
    "dealt with before the key is set, and not passed on",
    all_of(one_key, lacks(b"connection: auth", b"connection: x-api")),
    each={
        "authorization": b"Connection: authorization\r\n",
        "x-api-key": b"Connection: x-api-key\r\n",
        "list": b"Connection: close, Authorization, x-api-key\r\n",
        "two headers": b"Connection: Authorization\r\nConnection: X-Api-Key\r\n",
        "upper case": b"CONNECTION: AUTHORIZATION\r\n",
        "proxy-connection": b"Proxy-Connection: authorization\r\n",
        "keep-alive": b"Connection: keep-alive, authorization\r\nKeep-Alive: authorization\r\n",
        "underscore": b"Connection: x_api_key\r\n",
    },
)
def connection_names(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra, close=False))


def _one_host_and_length(evidence: Evidence) -> str | None:
    found = {name: len(evidence.requests[0].get(name.encode())) for name in ("host", "content-length")}
    return next((f"{count} {name} headers" for name, count in found.items() if count != 1), None)


@attack(
    28,
    "Connection names the framing",
    "host and length stay",
    all_of(one_key, _one_host_and_length),
    each={
        "host": b"Connection: host\r\n",
        "length": b"Connection: content-length\r\n",
        "type": b"Connection: content-type, transfer-encoding\r\n",
    },
)
def connection_framing(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra, close=False))


@attack(28, "Connection names the credential, for Anthropic", _ONE, one_key)
def connection_anthropic(here: Range) -> None:
    here.inside(message(extra=b"Connection: x-api-key\r\n", close=False), ANTHROPIC)


# 29 and 30. Broken secrets.


_PATHS = {
    "openai": (OPENAI, b"/v1/chat/completions"),
    "groq": (GROQ, b"/openai/v1/chat/completions"),
    "mistral": (MISTRAL, b"/v1/chat/completions"),
    "deepseek": (DEEPSEEK, b"/chat/completions"),
    "openrouter": (OPENROUTER, b"/api/v1/chat/completions"),
}
_BROKEN = [b"%s\r\nX-Evil: 1", b"%s\nX-Evil: 1", b"%s\rX-Evil: 1", b"%s\0AAAA", b"%s \xc3\xa9"]
_EMPTY = [b"", b"\n", b"   ", b"sk-1", b"sk-dummy"]


def _no_secret(evidence: Evidence) -> str | None:
    """Each provider's call ended in 503 for want of a key, or the gateway did not start."""
    started = all(status is None for status, _ in evidence.exits)
    if started and evidence.statuses != [503] * len(_PATHS):
        return f"answered with {evidence.statuses}"
    return no_call(evidence) or ("an imposter was called" if evidence.imposters else None)


def _with_secrets(here: Range, values: list[bytes]) -> None:
    """One provider for each value, in one gateway."""
    rules = "".join(f"  {name}: {{keys: ['file:{name}.key']}}\n" for name in _PATHS)
    files = {f"{name}.key": value for name, value in zip(_PATHS, values, strict=True)}
    with here.gateway("providers:\n" + rules, files=files) as started:
        for host, path in _PATHS.values() if started else ():
            here.inside(call(host=host.encode(), path=path), host)


@attack(29, "CR, LF, NUL or other letters in a stored secret", "the key is left out: no call", _no_secret, own_process=True)
def broken_secrets(here: Range) -> None:
    _with_secrets(here, [value.replace(b"%s", b"sk-AAAAAAAAAAAAAAAAAAAAAAAAAAAA") for value in _BROKEN])


@attack(
    29,
    "CR or LF in the rules",
    "start refused",
    all_of(not_started, no_call),
    own_process=True,
    each={
        "key name": 'providers: {openai: {keys: [{name: "a\\r\\nX: y", ref: env:OPENAI_API_KEY}]}}\n',
        "header of a key": 'providers: {openai: {keys: [{ref: env:OPENAI_API_KEY, headers: {X-A: "a\\r\\nX-Evil: 1"}}]}}\n',
        "header name": 'providers: {openai: {keys: [{ref: env:OPENAI_API_KEY, headers: {"X-A: b\\r\\nX-Evil": "1"}}]}}\n',
    },
)
def broken_rules(here: Range, rules: str) -> None:
    with here.gateway(rules) as started:
        if started:
            here.inside(call())


@attack(29, "CR or LF in an organization of the rules", "start refused, or the call is", no_call, own_process=True)
def broken_organization(here: Range) -> None:
    with here.gateway(
        'providers: {openai: {keys: [{ref: env:OPENAI_API_KEY, organization: "org\\r\\nX-Evil: 1"}]}}\n'
    ) as started:
        if started:
            here.inside(call())


@attack(
    30,
    "empty, blank or short files of secrets",
    "the key is left out: never `Bearer ` with nothing",
    _no_secret,
    own_process=True,
)
def empty_files(here: Range) -> None:
    _with_secrets(here, _EMPTY)


@attack(30, "empty, blank or short variables", "the key is left out", _no_secret, own_process=True)
def empty_variables(here: Range) -> None:
    env = {f"{name.upper()}_API_KEY": value.decode() for name, value in zip(_PATHS, _EMPTY, strict=True)}
    with here.gateway(env=env) as started:
        for host, path in _PATHS.values() if started else ():
            here.inside(call(host=host.encode(), path=path), host)


# 31. Who is billed.


@attack(
    31,
    "a header that changes who is billed",
    "taken off: the key says who is billed",
    all_of(_CLEAN, lacks(b"evil-org")),
    each={
        "openai-organization": b"OpenAI-Organization: evil-org\r\n",
        "openai-project": b"OpenAI-Project: evil-org\r\n",
        "x-goog-user-project": b"X-Goog-User-Project: evil-org\r\n",
        "anthropic-organization-id": b"Anthropic-Organization-Id: evil-org\r\n",
        "underscores": b"OpenAI_Organization: evil-org\r\n",
        "subprotocol": b"Sec-WebSocket-Protocol: realtime, openai-organization.evil-org\r\n",
        "twice": b"OpenAI-Organization: evil-org\r\nOPENAI-ORGANIZATION: evil-org\r\n",
        "connection": b"Connection: x\r\nOpenAI-Project: evil-org\r\n",
    },
)
def billing(here: Range, extra: bytes) -> None:
    here.inside(call(extra=extra))


@attack(
    31,
    "a parameter that changes who is billed",
    "taken off",
    all_of(one_key, lacks(b"evil-org")),
    each={"userProject": b"?$userProject=evil-org", "encoded": b"?%24userProject=evil-org", "plain": b"?userProject=evil-org"},
)
def billing_query(here: Range, query: bytes) -> None:
    here.inside(call(path=b"/v1/chat/completions" + query))
