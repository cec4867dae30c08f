"""All attacks, from the modules of the parts (`c1_steering.py`, `c2_…`), which are found by their names."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from .evidence import ATTACKS, Attack

FINISHED = tuple(range(1, 83))
"""The numbers of the parts that are written; each has an attack, or the reason why not."""


@cache
def all_attacks() -> tuple[Attack, ...]:
    """Every attack, in the order of the numbers."""
    for path in sorted(Path(__file__).parent.glob("c[0-9]_*.py")):
        import_module(f"{__package__}.{path.stem}")
    return tuple(sorted(ATTACKS, key=lambda attack: attack.number))
