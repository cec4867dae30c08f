"""The programs of a run: started with their output in a file, and ended in any case."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.processes import wait_for
from valetkey.simulator import AuthorityFiles, make_authority

from .orders import Order
from .plan import HOST

HERE = Path(__file__).parent
Running = subprocess.Popen[bytes]
_started: list[Running] = []
"""Programs that have not been ended."""
_PATIENCE = 15.0
"""Seconds that a program may take to end."""


class StartError(Exception):
    """A program does not do what it should."""


@contextmanager
def program(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, **options: Any) -> Iterator[Running]:
    """A running program in a session of its own: Ctrl-C reaches the benchmark, which then ends it.

    Raises StartError with the end of `log` where `wait_for` has given up inside.
    """
    process = _start(command, log, env, options)
    try:
        yield process
    except AssertionError as error:
        raise StartError(f"{Path(command[-1]).name}: {error}: {_tail(log)}") from None
    finally:
        with undisturbed():
            _end(process)


def _start(command: Sequence[str], log: Path, env: Mapping[str, str] | None, options: Mapping[str, Any]) -> Running:
    with log.open("ab") as output, undisturbed():
        ours: dict[str, Any] = {
            "env": clean_environment() | dict(env or {}),
            "stdout": output,
            "stderr": output,
            "cwd": log.parent,
        }
        process: Running = subprocess.Popen(command, start_new_session=True, **(ours | dict(options)))
        _started.append(process)
        return process


def end_all() -> None:
    """End what is left: an interruption may come where a program was started, and nobody has taken it yet."""
    with undisturbed():
        while _started:
            _end(_started[-1])


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is over."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda number, frame: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-5:])[-600:] or "it has said nothing"


def _end(process: Running) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        _kill(process)
    if process in _started:
        _started.remove(process)


def _kill(process: Running) -> None:
    """With all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def clean_environment() -> dict[str, str]:
    """Ours without keys, proxies and Python's settings."""
    unwanted = ("api_key", "proxy", "python", "mitmproxy")
    return {name: value for name, value in os.environ.items() if not any(word in name.lower() for word in unwanted)}


def wait_for_port(port: int, process: Running) -> None:
    """Until the program listens. Raises AssertionError when it ends or takes too long."""

    def listens() -> bool:
        with socket.socket() as trying:
            return trying.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens, f"port {port}", process)


class Mock:
    """The provider, with an authority of its own."""

    def __init__(self, process: Running, files: AuthorityFiles) -> None:
        assert process.stdout is not None
        self.pid, self.ca = process.pid, files.ca
        ports = json.loads(process.stdout.readline())
        self.plain, self.tls = int(ports["plain"]), int(ports["tls"])


@contextmanager
def mock(folder: Path) -> Iterator[Mock]:
    """A running provider."""
    files = make_authority(folder, [HOST])
    command = [sys.executable, "-P", str(HERE / "mock.py"), str(files.cert), str(files.key)]
    with program(command, folder / "mock.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Mock(process, files)


class Loader:
    """The load generator."""

    def __init__(self, process: Running) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def carry_out(self, order: Order) -> dict[str, Any]:
        """The figures of one order. Raises RuntimeError when the generator has ended."""
        self._stdin.write(order.to_json().encode() + b"\n")
        self._stdin.flush()
        line = self._stdout.readline()
        if not line:
            raise RuntimeError("the load generator has ended")
        figures: dict[str, Any] = json.loads(line)
        return figures


@contextmanager
def loader(folder: Path) -> Iterator[Loader]:
    """A running load generator."""
    command, env = [sys.executable, "-P", "-m", "bench.load"], {"PYTHONPATH": str(HERE.parent)}
    with program(command, folder / "load.log", env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Loader(process)
