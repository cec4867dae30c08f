"""The composition root: which parts the gateway consists of, and in which order they see a flow."""

from __future__ import annotations

from pathlib import Path

from .catalog import load_catalog, load_telemetry
from .proxy.answers import ValetAnswers
from .proxy.canaryhost import ValetCanaryHost
from .proxy.commands import ValetCommands
from .proxy.connections import ValetConnections
from .proxy.intake import ValetIntake
from .proxy.lifecycle import ValetLifecycle
from .proxy.probing import ValetProbing
from .proxy.quiet import ValetQuiet
from .proxy.resumption import ValetResumption
from .proxy.runtime import Runtime
from .proxy.settlement import Settlement
from .proxy.traffic import Traffic
from .proxy.tunnels import Tunnels, ValetTunnels
from .proxy.views import FlowKeeper


def assemble(checkout: Path | None = None) -> list[object]:
    """The addons, in order. `checkout` is the folder whose rules.yaml is used when the working directory has none."""
    return assemble_on(Runtime(load_catalog()), checkout)


def assemble_on(runtime: Runtime, checkout: Path | None = None) -> list[object]:
    """The addons around a runtime that exists already."""
    flows = FlowKeeper()
    tunnels = Tunnels()
    settlement = Settlement(runtime, flows)
    runtime.settle = settlement.settle
    gate = ValetTunnels(runtime, tunnels)
    intake = ValetIntake(runtime, tunnels)
    answers = ValetAnswers(runtime, settlement)
    traffic = Traffic(runtime, answers.prepare, answers.pump, answers.reopen, intake.stream_request, settlement.settle)
    lifecycle = ValetLifecycle(runtime, traffic, flows, checkout or Path(__file__).resolve().parents[2])
    lifecycle.probed = (gate, intake, answers)
    # `answers` ends before `lifecycle`: calls that still run are settled before the ledger is closed.
    aside = [ValetCommands(runtime), ValetProbing(runtime), ValetConnections(runtime), ValetQuiet(runtime, load_telemetry())]
    return [ValetCanaryHost(runtime), gate, intake, answers, lifecycle, *aside, ValetResumption(runtime)]
