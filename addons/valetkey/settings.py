"""Where this process finds its rules, and what relative paths in them are relative to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .errors import ConfigurationError

FILE = "rules.yaml"


@dataclass(frozen=True, slots=True)
class Settings:
    """`rules_path` is None when there is no file: then the defaults hold. `folder` is the file's, else the working directory."""

    rules_path: Path | None
    folder: Path

    @classmethod
    def find(cls, option: str | None, cwd: Path, checkout: Path) -> Settings:
        """Look for the rules file. Raises ConfigurationError when the one that was named does not exist."""
        path = find_rules(option, cwd, checkout)
        return cls(path, path.parent if path else cwd)


def find_rules(option: str | None, cwd: Path, checkout: Path) -> Path | None:
    """The file named by the option, else the one in the working directory, else the one beside `addons/`."""
    if option:
        path = (cwd / os.path.expanduser(option)).absolute()  # noqa: PTH111 - that of Path raises for unknown users
        if not path.is_file():
            raise ConfigurationError(f"{path}: there is no such rules file (option rules); name an existing one or leave it out")
        return path
    return next((folder.absolute() / FILE for folder in (cwd, checkout) if (folder / FILE).is_file()), None)


def resolve_ledger(uri: str, folder: Path) -> str:
    """`sqlite:///relative` becomes absolute, from `folder`; `sqlite:////absolute` and other schemes stay."""
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return uri
    return prefix + str((folder / os.path.expanduser(uri.removeprefix(prefix))).absolute())  # noqa: PTH111


def instance_id(settings: Settings) -> str:
    """Which gateway: the same for all that share a rules file (or, without one, a folder), and nobody reads a path from it."""
    place = settings.rules_path or settings.folder
    return sha256(str(place.resolve()).encode()).hexdigest()[:16]
