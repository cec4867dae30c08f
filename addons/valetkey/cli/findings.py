"""What the doctor has found, one thing at a time, and what it makes of all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["ok", "note", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`note` is worth knowing and no fault. `fix` tells a person what to do; `repair` does it, where that is safe."""

    subject: str
    level: Level
    text: str
    fix: str = ""
    repair: Callable[[], None] | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, str]:
        """For --json."""
        return {"subject": self.subject, "level": self.level, "text": self.text, "fix": self.fix}


def ok(subject: str, text: str) -> Finding:
    """Something that is as it should be."""
    return Finding(subject, "ok", text)


def note(subject: str, text: str, fix: str = "") -> Finding:
    """Something that is no fault, but may surprise."""
    return Finding(subject, "note", text, fix)


def fault(subject: str, text: str, fix: str, repair: Callable[[], None] | None = None) -> Finding:
    """Something that keeps calls from working, or keys from being safe."""
    return Finding(subject, "fault", text, fix, repair)


def status(findings: Iterable[Finding]) -> int:
    """The exit status: 2 when the configuration cannot be used, 1 for any other fault, else 0."""
    faults = [finding for finding in findings if finding.level == "fault"]
    if any(finding.subject == "rules" for finding in faults):
        return 2
    return 1 if faults else 0
