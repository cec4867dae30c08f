"""Small providers, rules, calls and wires for the tests of pure decisions; every test changes only what it is about."""

from __future__ import annotations

from copy import replace
from typing import Any

from valetkey.model import (
    AgentRule,
    Auth,
    Call,
    Caller,
    Dialect,
    Endpoint,
    Format,
    GatewayRules,
    Key,
    Provider,
    ProviderFacts,
    Rules,
    Surface,
    Upstream,
)
from valetkey.policy.egress import ClientFacts, Wire

OPENAI_AUTH = Auth("Authorization", "Bearer ", organization_header="OpenAI-Organization", project_header="OpenAI-Project")
ANTHROPIC_AUTH = Auth("x-api-key", defaults={"anthropic-version": "2023-06-01"})
GEMINI_AUTH = Auth("x-goog-api-key")

OPENAI_SURFACE = Surface(
    "openai",
    Dialect.OPENAI,
    "/v1",
    OPENAI_AUTH,
    (
        Endpoint("chat", ("POST",), "/chat/completions", Format.OPENAI_CHAT, stream="body"),
        Endpoint("models", ("GET",), "/models", Format.OPENAI_MODELS, model="none"),
        Endpoint("files", ("GET", "POST"), "/files", Format.OPENAI_OTHER, model="none", group="files"),
    ),
)
ANTHROPIC_SURFACE = Surface(
    "anthropic",
    Dialect.ANTHROPIC,
    "/v1",
    ANTHROPIC_AUTH,
    (
        Endpoint("messages", ("POST",), "/messages", Format.ANTHROPIC_MESSAGES, stream="body"),
        Endpoint("models", ("GET",), "/models", Format.ANTHROPIC_MODELS, model="none"),
    ),
)


def provider(name: str = "openai", host: str = "api.openai.com", surface: Surface = OPENAI_SURFACE, **changes: Any) -> Provider:
    """A provider over TLS at its own host."""
    facts = ProviderFacts(name, name.title(), (host,), f"https://{host}", (surface,))
    return replace(Provider(name, facts, Upstream("https", host, 443)), **changes)


def rules(*, agents: tuple[AgentRule, ...] = (), **changes: Any) -> Rules:
    """Rules with openai, anthropic and a local `lab`; `gateway_...` changes the gateway section."""
    gateway = {name.removeprefix("gateway_"): value for name, value in changes.items() if name.startswith("gateway_")}
    others = {name: value for name, value in changes.items() if not name.startswith("gateway_")}
    providers = {
        "openai": provider(),
        "anthropic": provider("anthropic", "api.anthropic.com", ANTHROPIC_SURFACE),
        "lab": provider("lab", "127.0.0.1", upstream=Upstream("http", "127.0.0.1", 8000), keys_needed=False),
    }
    return replace(Rules("rules.yaml", GatewayRules(**gateway), providers, agents=agents), **others)


def call(**changes: Any) -> Call:
    """`gpt-4o` in a chat at OpenAI's own host, by nobody in particular."""
    return replace(
        Call(
            id="c1",
            time=0.0,
            caller=Caller(),
            door="proxy",
            method="POST",
            scheme="https",
            host="api.openai.com",
            port=443,
            path="/v1/chat/completions",
            query="",
            provider="openai",
            surface="openai",
            endpoint="chat",
            format=Format.OPENAI_CHAT,
            model="gpt-4o",
            requested_model="gpt-4o",
            streamed=False,
        ),
        **changes,
    )


def client_facts(**changes: Any) -> ClientFacts:
    """An HTTP/1.1 request in a TLS tunnel to Anthropic, in which everything agrees."""
    return replace(
        ClientFacts(
            scheme="https",
            host="api.anthropic.com",
            port=443,
            form="origin",
            tunnelled=True,
            tls=True,
            sni="api.anthropic.com",
            authority="",
            host_headers=("api.anthropic.com",),
            http_version="HTTP/1.1",
        ),
        **changes,
    )


def wire(**changes: Any) -> Wire:
    """OpenAI's key on its way to OpenAI over a verified connection."""
    return replace(
        Wire(
            key_provider="openai",
            provider="openai",
            upstream=Upstream("https", "api.openai.com", 443),
            named_on_loopback=False,
            dialled_host="api.openai.com",
            dialled_port=443,
            tls=True,
            tls_verified=True,
            sni="api.openai.com",
            scheme="https",
            authority="api.openai.com",
            host_headers=("api.openai.com",),
            method="POST",
            path="/v1/chat/completions",
            surface=OPENAI_SURFACE,
            peer_ip="104.18.6.192",
            own_ports=(8080, 8045),
        ),
        **changes,
    )


def key(provider: str = "openai", name: str = "main", **changes: Any) -> Key:
    """A key without its value."""
    return replace(Key(f"{provider}/{name}", provider, name), **changes)
