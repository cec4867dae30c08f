"""The vocabulary of valetkey: frozen data, no behaviour beyond their own fields."""

from .call import Call, Caller, Door, Order, Refusal, Route, Target
from .config import (
    Address,
    AgentRule,
    GatewayRules,
    Key,
    KeySpec,
    Match,
    PriceOverride,
    Provider,
    Rotation,
    RouteRule,
    Rules,
    Timeouts,
    Upstream,
    Window,
)
from .facts import Auth, Endpoint, ErrorRule, LimitFacts, ProviderFacts, ResetFormat, Surface, UsageFacts
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
    "LimitFacts",
    "Match",
    "Metering",
    "Order",
    "Outcome",
    "PriceOverride",
    "Provider",
    "ProviderFacts",
    "Receipt",
    "Refusal",
    "ResetFormat",
    "Rotation",
    "Route",
    "RouteRule",
    "Rules",
    "Surface",
    "Target",
    "Timeouts",
    "Upstream",
    "UsageFacts",
    "UsageSource",
    "Window",
]
