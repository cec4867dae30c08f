"""Every exception valetkey raises on purpose.

ValetkeyError
├── ConfigurationError      the person who configures can fix it; exit code 2
│   ├── RulesError          rules.yaml: one or many `Problem`s with file and line
│   ├── CatalogError        a provider file of the catalogue is wrong
│   ├── SecretError         a reference cannot be read, or its value is unusable
│   └── StartError          the process cannot start safely (doors, options, canary)
├── LedgerError             receipts cannot be written or read
└── WireError               a call must not, or cannot, go on the wire; carries a status

Anything else that comes out of the package is a bug. No message ever holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ValetkeyError(Exception):
    """The base of all errors raised on purpose."""


class ConfigurationError(ValetkeyError):
    """Something the operator wrote is wrong; the message names the place, the value and the fix."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration file.

    `line` counts from 1; 0 means the file as a whole. `fix` is a sentence or empty.
    """

    file: str
    line: int
    text: str
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.text}" + (f" - {self.fix}" if self.fix else "")


class RulesError(ConfigurationError):
    """rules.yaml cannot be used; `problems` lists every reason found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CatalogError(ConfigurationError):
    """A provider file of the catalogue does not match its schema."""


class SecretError(ConfigurationError):
    """A key reference cannot be read or its value is unusable; never holds the value."""


class StartError(ConfigurationError):
    """The gateway refuses to start, with the reason."""


class LedgerError(ValetkeyError):
    """The ledger cannot be opened, written or read."""


class WireError(ValetkeyError):
    """A call ends here: `status` is the HTTP status for the client, `reason` a stable word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(message)
