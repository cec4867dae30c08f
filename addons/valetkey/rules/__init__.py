"""rules.yaml: its words, its errors, and the snapshot that calls are decided by."""

from .jsonschema import as_text as json_schema_text
from .loader import load_rules, parse_rules
from .snapshot import Snapshot, load_snapshot, renewed
from .values import duration
from .watcher import Watcher

__all__ = ["Snapshot", "Watcher", "duration", "json_schema_text", "load_rules", "load_snapshot", "parse_rules", "renewed"]
