"""How an attempt ended: one word, the same in code, receipts and documentation."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The class of an attempt's ending, by what it means for the key, the provider and the caller."""

    OK = "ok"
    THROTTLED = "throttled"
    """The key may call again soon (rate limit)."""
    QUOTA = "quota"
    """Money or a long quota has run out."""
    BAD_KEY = "bad_key"
    """The provider does not accept the key."""
    OVERLOADED = "overloaded"
    """The provider has no capacity for the model."""
    SERVER = "server"
    """The provider failed (5xx, cut stream)."""
    NETWORK = "network"
    """No connection, no TLS, reset before an answer."""
    TIMEOUT = "timeout"
    TOO_LONG = "too_long"
    """The prompt does not fit the model."""
    POLICY = "policy"
    """A content or region policy said no; never routed around."""
    CLIENT = "client"
    """The caller's own mistake, or the caller left."""
    REFUSED = "refused"
    """The gateway itself said no; nothing was sent."""
    GATEWAY = "gateway"
    """A defect of the gateway; the call failed closed."""
    SHUTDOWN = "shutdown"
    """The gateway stopped while the call was running."""
