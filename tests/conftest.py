"""Fixtures for tests that start real processes."""

from support.lab import lab, shared

__all__ = ["lab", "shared"]
