"""The catalogue: what is known of each provider, as data."""

from .loader import like, load_catalog

__all__ = ["like", "load_catalog"]
