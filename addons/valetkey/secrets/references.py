"""Read what a key reference points to: `file:PATH` here, `env:NAME` from the `Environment`, what is slow from the `Fetcher`."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ..errors import SecretError
from . import ownership
from .environment import Environment
from .fetching import Fetcher, is_slow
from .secret import Secret

LIMIT = 64 * 1024
"""No key is longer; a larger file is something else."""
SHARED = Path("/run/secrets")
"""Where containers mount secrets, owned by root and readable by all inside."""


def resolve(reference: str, environment: Environment, folder: Path, fetcher: Fetcher | None = None) -> Secret:
    """The secret behind a reference (paths are relative to `folder`). Raises SecretError, which never holds it.

    What is slow is not read here: the fetcher has it, or it is unknown.
    """
    kind, _, rest = reference.partition(":")
    if kind == "env":
        found = environment.get(rest)
        if found is None:
            raise SecretError(f"the variable {rest} is not set; set it for the gateway or in .env beside rules.yaml")
        return found
    if (path := file_of(reference, folder)) is not None:
        return Secret(read_file(path))
    if is_slow(reference):
        if fetcher is None:
            raise SecretError(f"{reference} is read by the gateway, valetkey check and valetkey keys only")
        return fetcher.get(reference)
    raise SecretError("a key is a reference: env:NAME, file:PATH, keyring:SERVICE/NAME or cmd:PROGRAM ARGUMENT …")


def file_of(reference: str, folder: Path) -> Path | None:
    """The file that a reference reads, to be watched; None when it reads none."""
    kind, _, rest = reference.partition(":")
    if kind != "file":
        return None
    # Not `Path.expanduser`, which raises for a user that does not exist; and without `..`, which is judged by where it leads.
    return Path(os.path.normpath(folder / os.path.expanduser(rest)))  # noqa: PTH111


def read_file(path: Path) -> str:
    """The content of a secret file without its final line break. Raises SecretError for one that others may read.

    It is opened without following a link in its last part, and judged by what was opened, not by its name.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise SecretError(_why(path, error)) from None
    except ValueError:
        raise SecretError("the path of a key file holds a character that no path can have") from None
    try:
        _check(path, os.fstat(descriptor))
        data = os.read(descriptor, LIMIT + 1)
    except OSError as error:
        raise SecretError(_why(path, error)) from None
    finally:
        os.close(descriptor)
    if len(data) > LIMIT:
        raise SecretError(f"{path} is larger than {LIMIT} bytes; that is no key")
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not text") from None


def _why(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return f"{path} is a symbolic link; name the file itself (of a mounted Kubernetes secret: ..data/NAME)"
    return f"{path} cannot be read: {error.strerror}"


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SecretError(f"{path} is no regular file")
    if owner := ownership.foreign_owner(status):
        raise SecretError(f"{path} {owner}; own it yourself")
    mode = stat.S_IMODE(status.st_mode)
    mounted = status.st_uid == 0 and path.absolute().is_relative_to(SHARED) and not mode & 0o022
    if mode & 0o077 and not mounted:
        raise SecretError(f"{path} may be read or written by others (mode {mode:04o}); chmod 600 it")
