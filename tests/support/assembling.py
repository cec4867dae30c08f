"""The addons of a runtime by what they do: their place in the list is nobody's business."""

from __future__ import annotations

from typing import NamedTuple

from valetkey.assembly import assemble_on
from valetkey.proxy.answers import ValetAnswers
from valetkey.proxy.intake import ValetIntake
from valetkey.proxy.lifecycle import ValetLifecycle
from valetkey.proxy.runtime import Runtime
from valetkey.proxy.tunnels import ValetTunnels


class Assembled(NamedTuple):
    """Those that a call passes, and who starts and ends the gateway."""

    gate: ValetTunnels
    intake: ValetIntake
    answers: ValetAnswers
    lifecycle: ValetLifecycle

    @property
    def on_the_way(self) -> tuple[object, ...]:
        """Those that a call passes, in order."""
        return self[:3]


def assembled(runtime: Runtime) -> Assembled:
    """Addons as in the gateway."""
    addons = assemble_on(runtime)
    kinds = (ValetTunnels, ValetIntake, ValetAnswers, ValetLifecycle)
    return Assembled._make(next(each for each in addons if isinstance(each, kind)) for kind in kinds)
