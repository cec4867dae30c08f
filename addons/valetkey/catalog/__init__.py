"""The catalogue: what is known of each provider, as data."""

from .loader import like, load_catalog
from .telemetry import TelemetryHost, find_telemetry, load_telemetry

__all__ = ["TelemetryHost", "find_telemetry", "like", "load_catalog", "load_telemetry"]
