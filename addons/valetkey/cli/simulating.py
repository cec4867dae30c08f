"""`valetkey simulate`: a provider for tests, that speaks all formats and fails on command."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ..errors import StartError
from ..simulator import Fault, Simulator, TlsFiles, parse_fault
from .app import UnusedRulesOption, app, say


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for a free one.")] = 8900,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of a certificate, for TLS and HTTP/2.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="What goes wrong, e.g. status=429,times=2 (may be repeated).")] = None,
    rules: UnusedRulesOption = None,
) -> None:
    """Simulate the providers, in every format that the gateway knows: whole, streamed, and over WebSockets.

    A request can ask for trouble itself: `x-simulate: status=429` (or slow=1, stall=2, cut=3, reset, eof, headers-stall,
    first-stall, noise=3, error-first, error-whole, malformed, empty, echo, words=500; with chance=0.3 in 30 % of the cases).
    `GET /_simulator/seen` tells what came in, `GET /_simulator/counts` what was answered.

    **Examples:** `valetkey simulate --port 8900` · `valetkey simulate --fault host=api.openai.com,status=503,times=3`
    """
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key go together")
    try:
        faults = [parse_fault(text) for text in fault or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    tls = TlsFiles(tls_cert, tls_key) if tls_cert and tls_key else None
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(Simulator(host=host, port=port, tls=tls), faults))


async def _serve(simulator: Simulator, faults: list[Fault]) -> None:
    for fault in faults:
        simulator.faults.append(fault)
    try:
        await simulator.start()
    except OSError as error:
        raise StartError(f"the simulator cannot start on {simulator.url}: {error.strerror or error}") from error
    try:
        say(f"the simulated providers listen on {simulator.url}")
        await asyncio.Event().wait()
    finally:
        await simulator.stop()
