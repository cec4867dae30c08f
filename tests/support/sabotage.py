"""Loaded into the gateway's process by tests only: makes one named function raise while a file holds its name."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import sabotage_targets

_SWITCH = Path(os.environ["VALETKEY_TEST_SABOTAGE"])


def _sabotage(target: str) -> None:
    module_name, _, path = target.partition(":")
    owner: Any = importlib.import_module(f"valetkey.proxy.{module_name}")
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)

    def broken(*args: Any, **options: Any) -> Any:
        if _SWITCH.read_text() == target:
            raise RuntimeError(f"sabotaged {target}")
        return original(*args, **options)

    setattr(owner, name, broken)


for each in sabotage_targets.TARGETS:
    _sabotage(each)
addons: list[object] = []
