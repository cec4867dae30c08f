"""The keys that nobody but their provider may ever see, and how they are looked for."""

from __future__ import annotations

import base64
from functools import lru_cache
from urllib.parse import quote

OPENAI, ANTHROPIC, GROQ = "api.openai.com", "api.anthropic.com", "api.groq.com"
MISTRAL, DEEPSEEK, OPENROUTER = "api.mistral.ai", "api.deepseek.com", "openrouter.ai"
PROVIDERS = (OPENAI, ANTHROPIC, GROQ)
IMPOSTERS = (MISTRAL, DEEPSEEK, OPENROUTER)
"""Names that lead to somebody without a valid certificate for them."""

KEYS = {
    OPENAI: "sk-proj-CANARY1openaiAAAAAAAAAAAAAAAAAAAAAAA",
    ANTHROPIC: "sk-ant-api03-CANARY2anthropicBBBBBBBBBBBBBB",
    GROQ: "gsk_CANARY3groqCCCCCCCCCCCCCCCCCCCCCCCCCCCCC",
    MISTRAL: "CANARY4mistralDDDDDDDDDDDDDDDDDDDD",
    DEEPSEEK: "sk-CANARY5deepseekEEEEEEEEEEEEEEEEEEEE",
    OPENROUTER: "sk-or-v1-CANARY6openrouterFFFFFFFFFFFFFFFFFFF",
}
"""Host -> its key."""
VARIABLES = {
    "OPENAI_API_KEY": KEYS[OPENAI],
    "ANTHROPIC_API_KEY": KEYS[ANTHROPIC],
    "GROQ_API_KEY": KEYS[GROQ],
    "MISTRAL_API_KEY": KEYS[MISTRAL],
    "DEEPSEEK_API_KEY": KEYS[DEEPSEEK],
    "OPENROUTER_API_KEY": KEYS[OPENROUTER],
}
DUMMY = b"sk-dummy"
FOREIGN = b"sk-proj-FOREIGNkeyOfAnAttackerZZZZZZZZZZZZZZ"
"""A real-looking key that the agent brings along, to carry data out to another account."""
EVIL = "evil.test"
REBIND = "rebind.test"
"""A name that is public when asked first, and this machine when asked again."""
INSIDE = {
    "loopback.test": "127.0.0.1",
    "private.test": "10.0.0.5",
    "metadata.test": "169.254.169.254",
    "six.test": "::1",
    "mapped.test": "::ffff:127.0.0.1",
    "unique.test": "fd00:ec2::254",
}
"""Innocent names that lead to the proxy's own machine or network."""


@lru_cache(maxsize=64)
def spellings(key: str) -> tuple[bytes, ...]:
    """A key as it could be carried out: plain, reversed, hexadecimal, percent-encoded, base64 at three alignments."""
    raw = key.encode()
    aligned = [base64.b64encode(raw[skip:])[:32].rstrip(b"=") for skip in range(3)]
    percent = "".join(f"%{byte:02X}" for byte in raw).encode()
    return (raw, raw[::-1], raw.hex().encode(), percent, quote(key, safe="").encode(), *aligned)


def holds(data: bytes, key: str) -> bool:
    """Whether the key stands anywhere in the bytes, in any of its spellings."""
    return any(spelling in data for spelling in spellings(key))
