"""The vocabulary of valetkey: frozen data, no behaviour beyond their own fields."""

from .call import Call, Caller, Door, Refusal, Route, Target
from .config import (
    Address,
    AgentRule,
    GatewayRules,
    Key,
    KeySpec,
    Match,
    PriceOverride,
    Provider,
    RouteRule,
    Rules,
    Timeouts,
    Upstream,
)
from .facts import Auth, Endpoint, ErrorRule, ProviderFacts, Surface, UsageFacts
from .formats import Dialect, Format
from .outcome import Outcome
from .receipt import Attempt, CostSource, Metering, Receipt, UsageSource

__all__ = [
    "Address",
    "AgentRule",
    "Attempt",
    "Auth",
    "Call",
    "Caller",
    "CostSource",
    "Dialect",
    "Door",
    "Endpoint",
    "ErrorRule",
    "Format",
    "GatewayRules",
    "Key",
    "KeySpec",
    "Match",
    "Metering",
    "Outcome",
    "PriceOverride",
    "Provider",
    "ProviderFacts",
    "Receipt",
    "Refusal",
    "Route",
    "RouteRule",
    "Rules",
    "Surface",
    "Target",
    "Timeouts",
    "Upstream",
    "UsageFacts",
    "UsageSource",
]
