"""Does a provider take a key? Asked at no cost, of the endpoints that the catalogue calls free.

Not part of what `secrets` exports: rules need keys, but no HTTP client.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from ..errors import ConfigurationError
from ..model import Address, Endpoint, Key, Outcome, Provider, Surface
from ..policy import credentials, egress, outcome, paths
from .vault import Vault

PATIENCE = 10.0
"""Seconds that a provider has for each step of a test."""
_MOST = 64 * 1024
"""Bytes that are read of an error."""
_SHOWN = 160
"""Characters of a provider's message that are shown."""
_ELSEWHERE = (404, 405)
"""This server does not have the endpoint; that says nothing of the key."""
_ASKING = ((b"accept", b"application/json"), (b"user-agent", b"valetkey"))


@dataclass(frozen=True, slots=True)
class Trial:
    """What a provider says of a key. `seconds` are those until the answer began.

    `outcome` is `unusable` for a key that cannot be sent, None when there was nothing to ask. `message` holds no secret.
    """

    id: str
    outcome: Outcome | Literal["unusable"] | None
    status: int | None = None
    seconds: float | None = None
    message: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing speaks against the key."""
        return self.outcome in (Outcome.OK, None)

    def __str__(self) -> str:
        status = f" ({self.status})" if self.status is not None else ""
        if self.outcome is Outcome.OK:
            return f"{self.id}  ok  {self.seconds or 0:.2f} s"
        return f"{self.id}  {self.outcome or 'not tested'}{status}  {self.message}".rstrip()


class Held(Protocol):
    """The keys of the moment, as a snapshot of the rules holds them."""

    @property
    def keys(self) -> Mapping[str, tuple[Key, ...]]:
        """Usable keys by provider."""
        ...

    @property
    def vault(self) -> Vault:
        """Their values."""
        ...

    @property
    def states(self) -> Mapping[str, str | None]:
        """Key id -> why it is not usable."""
        ...


def shell_client(gateway: Address) -> httpx.Client:
    """A client that verifies TLS and takes the shell's proxy and CA variables. Raises ConfigurationError when those are wrong.

    A proxy that is this very gateway is gone around: it would put another key in place of the one that is tested. Plain HTTP,
    which stays on this machine, goes through none: a proxy would read the key.
    """
    ourselves = any(_is(url, gateway) for url in getproxies().values())
    direct = dict.fromkeys(("all://", "http://", "https://") if ourselves else ("http://",))
    try:
        return httpx.Client(timeout=PATIENCE, follow_redirects=False, mounts=direct)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(f"the proxy or CA variables of this shell cannot be used: {error}") from error


def direct_client(trusted: ssl.SSLContext) -> httpx.Client:
    """A client that goes straight to the provider and trusts what `trusted` does, whatever the environment says."""
    return httpx.Client(verify=trusted, timeout=PATIENCE, follow_redirects=False, trust_env=False)


def probe_id(client: httpx.Client, id: str, providers: Mapping[str, Provider], held: Held) -> Trial:
    """As `probe`, for the key with this id, which may be unusable."""
    key = next((key for pool in held.keys.values() for key in pool if key.id == id), None)
    if key is None:
        return Trial(id, "unusable", message=held.states.get(id) or "")
    return probe(client, providers[key.provider], key, held.vault)


def probe(client: httpx.Client, provider: Provider, key: Key, vault: Vault) -> Trial:
    """Ask the provider's free endpoints in turn until one is there. Blocks, up to `PATIENCE` for each step."""
    found = Trial(key.id, None, message=f"the catalogue has no free endpoint of {provider.name}")
    opened = _opened(provider)
    for surface, path in free_places(provider):
        reason = _withheld(opened, key, vault, surface, path)
        if reason is not None:
            return Trial(key.id, "unusable", message=reason)
        found = _ask(client, provider, key, vault, surface, path)
        if found.status not in _ELSEWHERE:
            break
    return found


def free_places(provider: Provider) -> Iterator[tuple[Surface, str]]:
    """Endpoints that cost nothing and need no argument, with their paths: of the account, then listings of models.

    Those of the account come first: a provider may list its models for everybody, whatever key is sent.
    """
    opened = _opened(provider)
    for surface, endpoint in sorted(_free(provider), key=lambda pair: pair[1].group != "account"):
        mapped = paths.wire_path(opened, paths.Place(surface, endpoint, None, endpoint.path), None)
        if mapped is not None:
            yield surface, mapped.path


def _opened(provider: Provider) -> Provider:
    """The provider with the groups open that its free endpoints belong to: agents may not ask them, we may."""
    return replace(provider, open=tuple({endpoint.group for _, endpoint in _free(provider)}))


def _free(provider: Provider) -> list[tuple[Surface, Endpoint]]:
    return [(surface, each) for surface in provider.facts.surfaces for each in surface.endpoints if _is_free(each)]


def _is_free(endpoint: Endpoint) -> bool:
    asked = endpoint.group == "account" or endpoint.format.endswith("_models")
    return asked and endpoint.free and "GET" in endpoint.methods and "{" not in endpoint.path


def _is(url: str, gateway: Address) -> bool:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return parts.port == gateway.port and parts.hostname in (gateway.host, "localhost", "127.0.0.1", "::1")
    except ValueError:
        return False


def _withheld(provider: Provider, key: Key, vault: Vault, surface: Surface, path: str) -> str | None:
    """Why the key must not be sent there, by the rule that every credential passes; None when it may.

    There is no connection yet, so the upstream's own words stand for it: TLS is verified for its name, and plain HTTP goes out
    only when it names this machine.
    """
    upstream, here = provider.upstream, provider.named_on_loopback
    wire = egress.Wire(
        key_provider=vault.binding(key.id), provider=provider.name, upstream=upstream, named_on_loopback=here,
        dialled_host=upstream.host, dialled_port=upstream.port, tls=upstream.scheme == "https", tls_verified=True,
        sni=upstream.host, scheme=upstream.scheme, authority=upstream.origin.partition("://")[2], host_headers=(),
        method="GET", path=path, surface=surface, peer_ip="127.0.0.1" if here else "", via=not here, open=provider.open,
    )  # fmt: skip
    return egress.may_carry(wire)


def _ask(client: httpx.Client, provider: Provider, key: Key, vault: Vault, surface: Surface, path: str) -> Trial:
    begun = time.monotonic()
    try:
        headers = credentials.wire_headers(_ASKING, surface.auth, key, vault.reveal(key.id))
        with client.stream("GET", provider.upstream.origin + path, headers=list(headers)) as answer:
            seconds = round(time.monotonic() - begun, 3)
            if answer.is_success:
                return Trial(key.id, Outcome.OK, answer.status_code, seconds)
            body = _beginning(answer, begun + 2 * PATIENCE)
    except httpx.TimeoutException:
        return Trial(key.id, Outcome.TIMEOUT, message=f"no answer within {PATIENCE:.0f} s")
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, ValueError) as error:
        return Trial(key.id, Outcome.NETWORK, message=_line(str(error) or type(error).__name__, vault))
    status, names = answer.status_code, {name.lower(): value for name, value in answer.headers.items()}
    if status < 400:
        return Trial(key.id, Outcome.SERVER, status, seconds, "it sends elsewhere; keys do not follow")
    kind = outcome.classify(provider.facts, status, names, body)
    return Trial(key.id, kind, status, seconds, _line(_message(body), vault))


def _beginning(answer: httpx.Response, deadline: float) -> bytes:
    """As much of a body as an error needs. A server that trickles is not waited for, and one that breaks off has said enough."""
    body = b""
    with suppress(httpx.HTTPError):
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) >= _MOST or time.monotonic() > deadline:
                break
    return body[:_MOST]


def _message(body: bytes) -> str:
    """What a provider says in words: `error.message` at most, `message`, or the whole body."""
    with suppress(ValueError, RecursionError):
        found = json.loads(body)
        found = found[0] if isinstance(found, list) and found else found
        error = found.get("error") if isinstance(found, dict) else None
        candidates = (
            error.get("message") if isinstance(error, dict) else error,
            found.get("message") if isinstance(found, dict) else None,
        )
        for text in candidates:
            if isinstance(text, str) and text:
                return text
    return body.decode("utf-8", "replace")


def _line(text: str, vault: Vault) -> str:
    """A text as one short line without a secret: redacted while it is whole, since half a key is a secret as well.

    What a terminal would obey is taken out: the line goes to one, or to a log that somebody reads in one.
    """
    words = " ".join(vault.redact(text).split())
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
