"""Targets, and a run over one of them for some seconds."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import hypothesis
from hypothesis import HealthCheck, Phase, settings

from support.chunks import randomly, singly

from . import corpus
from .steps import counted, monitored

_ROUND = 300
"""Inputs of one run of Hypothesis; then its search begins anew with the next seed."""
_LEAST_STEPS = 20_000
"""Steps that any input may take, however short: a rule file is checked, a table is made."""


@dataclass(frozen=True)
class Target:
    """A property of one parser. `steps` is how many steps it may take for a byte of input."""

    name: str
    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes]
    longest: int
    steps: int

    def examine(self, data: bytes) -> int:
        """Check one input, and count its steps. Raises what the property raises."""
        with counted(_LEAST_STEPS + self.steps * len(data)) as counter:
            self.check(data)
        return counter.steps


TARGETS: dict[str, Target] = {}
"""All of them, by name."""


def target(
    name: str, seeds: Sequence[bytes], words: Sequence[bytes] = (), *, longest: int = 2048, steps: int = 100
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Make a target of a check. Seeds that are too long are cut."""

    def register(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[name] = Target(name, check, [seed[:longest] for seed in seeds] or [b""], words, longest, steps)
        return check

    return register


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The same bytes in other pieces: byte by byte, and two ways that the bytes themselves fix."""
    yield singly(data)
    yield from (randomly(data, zlib.crc32(data) + more, largest) for more, largest in ((0, 7), (1, 200)))


@dataclass
class Result:
    """What came of a run. `worst` is the most steps for a byte, of inputs of 64 bytes and more; `failure` the smallest found."""

    target: Target
    inputs: int = 0
    size: int = 0
    worst: float = 0.0
    failure: bytes | None = None
    error: BaseException | None = None


def run(target: Target, seconds: float, seed: int, most: int | None = None) -> Result:
    """Try inputs for so many seconds, or `most` inputs; stop at the first failure."""
    result, deadline = Result(target), time.monotonic() + seconds
    with monitored():
        while result.error is None and time.monotonic() < deadline and (most is None or result.inputs < most):
            seed += 1
            _round(result, deadline, seed, _ROUND if most is None else most)
    return result


def _round(result: Result, deadline: float, seed: int, examples: int) -> None:
    target = result.target

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @hypothesis.given(corpus.inputs(target.seeds, target.words, target.longest))
    def trial(data: bytes) -> None:
        if result.error is not None or time.monotonic() > deadline:
            return
        try:
            taken = target.examine(data)
        except Exception as error:  # whatever a parser lets out is what is looked for
            result.failure, result.error = smallest(target, data, error)
            return
        result.inputs += 1
        result.size += len(data)
        if len(data) >= 64:
            result.worst = max(result.worst, taken / len(data))

    trial()


def smallest(target: Target, data: bytes, error: Exception) -> tuple[bytes, Exception]:
    """The input with all parts taken out that it fails without, in the same way; and its error."""
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            part = data[:at] + data[at + size :]
            failed = _failure(target, part)
            if type(failed) is type(error):
                data, error = part, failed
            else:
                at += size
        size //= 2
    return data, error


def _failure(target: Target, data: bytes) -> Exception | None:
    try:
        target.examine(data)
    except Exception as error:
        return error
    return None
