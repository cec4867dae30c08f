"""`cmd:PROGRAM ARGUMENT …`: a key that a program prints, such as `op`, `vault`, `gcloud` or `aws`.

No shell reads the line. What the program writes to stderr is not read, and nothing that it prints comes into a message.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import SecretError

LIMIT = 64 * 1024
"""Bytes; a program that prints more prints no key."""
_LOOK = 0.2
"""Seconds between two looks at whether the gateway is about to end."""


def arguments(reference: str) -> list[str]:
    """The program and its arguments, split as a shell would split them. Raises SecretError for quotes without an end."""
    try:
        words = shlex.split(reference.removeprefix("cmd:"))
    except ValueError:
        raise SecretError(f"{reference}: a quotation mark has no end") from None
    if not words:
        raise SecretError("cmd: names no program; write it with its arguments, as in cmd:op read op://vault/item/field")
    return words


def run(reference: str, env: Mapping[str, str], folder: Path, timeout: float, stop: threading.Event) -> str:
    """The one line that the program prints. Blocks for `timeout` seconds at most, or until `stop`. Raises SecretError."""
    command = arguments(reference)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=dict(env), cwd=folder, start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise SecretError(_not_started(reference, command[0], error)) from None
    try:
        data, status = _finish(process, reference, time.monotonic() + timeout, timeout, stop)
    except OSError as error:
        raise SecretError(f"what {reference} prints cannot be read: {error.strerror}") from None
    finally:
        _end(process)
    if status:
        how = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise SecretError(f"{reference} {how}; run it in a shell to see why (what it says is not kept)")
    return _line(reference, data)


def _finish(
    process: subprocess.Popen[bytes], reference: str, deadline: float, timeout: float, stop: threading.Event
) -> tuple[bytes, int]:
    """All that is printed, and the exit status."""
    assert process.stdout is not None
    data = b""
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and not stop.is_set():
            if not waiting.select(min(left, _LOOK)):
                continue
            piece = os.read(process.stdout.fileno(), LIMIT)
            data += piece
            if len(data) > LIMIT:
                raise SecretError(f"{reference} prints more than {LIMIT} bytes; that is no key")
            if not piece:
                waiting.unregister(process.stdout)
                while (left := deadline - time.monotonic()) > 0 and not stop.is_set():
                    with suppress(subprocess.TimeoutExpired):
                        return data, process.wait(min(left, _LOOK))
    text = f"{reference} did not end within {timeout:g} s; unlock what it reads from, or give the key a longer timeout:"
    raise SecretError("the gateway ends" if stop.is_set() else text)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program with all that it started, and leave no zombie. One that ended well may leave something behind it (an agent
    that keeps its store unlocked); one that nobody has waited for keeps its group's number from being given to another."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _not_started(reference: str, program: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{reference}: there is no program {program} on the gateway's PATH; install it, or write its whole path"
    why = error.strerror if isinstance(error, OSError) else "an argument holds a character that none can have"
    return f"{reference} cannot be started: {why}"


def _line(reference: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretError(f"{reference} prints what is no text") from None
    if not text:
        raise SecretError(f"{reference} prints nothing; it must print the key, alone, on stdout")
    if "\n" in text:
        raise SecretError(f"{reference} prints more than one line; choose one field, so that it prints the key alone")
    return text
