"""Hosts that agents call for telemetry and updates, as data: `telemetry.yaml`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from ..errors import CatalogError

FILE = Path(__file__).with_name("telemetry.yaml")


@dataclass(frozen=True, slots=True)
class TelemetryHost:
    """A host, or all below it (`*.example.com`); `of` is the program that calls it."""

    name: str
    of: str
    source: str

    def takes(self, host: str) -> bool:
        """Whether `host`, in lower case, is meant."""
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name


def load_telemetry(path: Path = FILE) -> tuple[TelemetryHost, ...]:
    """All of them, in the order of the file. Raises CatalogError, which names the file."""
    try:
        return TypeAdapter(tuple[TelemetryHost, ...]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise CatalogError(f"{path}: {error}") from error


def find_telemetry(hosts: Iterable[TelemetryHost], host: str) -> TelemetryHost | None:
    """The entry for a host, None for hosts of other kinds."""
    lowered = host.lower()
    return next((each for each in hosts if each.takes(lowered)), None)
