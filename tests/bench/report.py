"""What a run has found, as tables: in the terminal, in Markdown for docs/performance.md, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from valetkey import __version__

from .figures import Goal, Results, goals, own_share, warnings
from .plan import DIRECT, DOORS, GATEWAY, OURS, Door, Load, Plan

BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"
_NONE = "–"
_LEGEND = (
    "Pairs are mitmdump / valetkey. Ratios are valetkey over mitmdump, round by round; for streams over a mitmdump that streams."
)


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column is on the left."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(results: Results) -> list[Table]:
    """All that have a row."""
    found = [make(results, door) for door in results.doors() for make in (_speed, _streams, _peers)]
    found += [make(results) for make in (_own_share, _memory, _shares, _goals)]
    return [table for table in found if table.rows]


def _number(value: float | None, digits: int = 2) -> str:
    return _NONE if value is None else f"{value:,.{digits}f}"


def _pair(results: Results, door: Door, load: Load, figure: str) -> str:
    """mitmdump's, then the gateway's."""
    values = (results.middle(door, load, name, figure) for name in (load.reference, GATEWAY))
    return " / ".join(_number(value) for value in values)


def _times(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f} ×"


def _speed(results: Results, door: Door) -> Table:
    columns = ("load × connections", "direct/s", "mitmdump/s", "valetkey/s", "ratio", "p50 ms", "p99 ms", "CPU ms/call")
    return Table(f"{DOORS[door]}: calls", columns, [_speed_row(results, door, load) for load in results.loads(door)])


def _speed_row(results: Results, door: Door, load: Load) -> list[str]:
    rates = [_number(results.middle(door, load, name, "rate"), 0) for name in (DIRECT, load.reference, GATEWAY)]
    times = [_pair(results, door, load, figure) for figure in ("p50", "p99", "cpu_per_call")]
    # The pace decides how many paced calls there are, not the proxy.
    ratio = None if load.pace else results.ratio(door, load, "rate")
    return [load.title, *rates, _times(ratio), *times]


def _streams(results: Results, door: Door) -> Table:
    columns = ("load × connections", "first byte ms", "first content ms", "added ms", "p99 ms", "gap p99 ms")
    rows = [_streams_row(results, door, load) for load in results.loads(door) if load.events]
    return Table(f"{DOORS[door]}: streams", columns, rows)


def _streams_row(results: Results, door: Door, load: Load) -> list[str]:
    first, content, late, gap = (
        _pair(results, door, load, figure) for figure in ("first_byte", "first_content", "first_content_p99", "gap_p99")
    )
    return [load.title, first, content, _number(results.difference(door, load, "first_content")), late, gap]


def _peers(results: Results, door: Door) -> Table:
    columns = ("load × connections", "peer", "peer/s", "valetkey/s", "ratio", "p50 ms", "valetkey p50 ms", "CPU ms/call")
    found = [(load, name) for at, load, name in results.rounds if at == door and name not in OURS]
    return Table(f"{DOORS[door]}: peers", columns, [_peer_row(results, door, load, name) for load, name in found])


def _peer_row(results: Results, door: Door, load: Load, name: str) -> list[str]:
    rates = [_number(results.middle(door, load, each, "rate"), 0) for each in (name, GATEWAY)]
    times = [_number(results.middle(door, load, each, "p50")) for each in (name, GATEWAY)]
    cpu = _number(results.middle(door, load, name, "cpu_per_call"))
    return [load.title, name, *rates, _times(results.ratio(door, load, "rate", name)), *times, cpu]


def _own_share(results: Results) -> Table:
    columns = ("p50 of one call at one connection, ms", "provider and generator", "mitmproxy adds", "valetkey adds")
    rows = []
    for door in results.doors():
        for load in results.loads(door):
            if load.connections == 1 and (shares := own_share(results, door, load)):
                rows.append([f"{DOORS[door]}, {load.name}", *(_number(share) for share in shares)])
    return Table("Whose time it is", columns, rows)


def _memory(results: Results) -> Table:
    names = list(dict.fromkeys(name for found in results.memory.values() for name in found))
    columns = ("RSS in MB", *("open streams" if name == "open" else name for name in names))
    rows = [
        [f"{DOORS[door]}, {subject}", *(_number(found.get(name), 1) for name in names)]
        for (door, subject), found in results.memory.items()
    ]
    return Table("Memory", columns, rows)


def _shares(results: Results) -> Table:
    columns = ("share of a core, in %", "generator", "provider", "mitmdump", "generator ", "provider ", "valetkey")
    rows = []
    for door in results.doors():
        for load in results.loads(door):
            pairs = product((load.reference, GATEWAY), ("load", "mock", "proxy"))
            cells = [_share(results, door, load, subject, process) for subject, process in pairs]
            rows.append([f"{DOORS[door]}, {load.title}", *cells])
    return Table("Who was busy: with mitmdump, then with valetkey", columns, rows)


def _share(results: Results, door: Door, load: Load, subject: str, process: str) -> str:
    share = results.share(door, load, subject, process)
    return _NONE if share is None else f"{share * 100:.0f}"


def _goals(results: Results) -> Table:
    return Table("Goals", ("goal", "bound", "found", "reached"), [_goal_row(goal) for goal in goals(results)])


def _goal_row(goal: Goal) -> list[str]:
    sign = "≤" if goal.most else "≥"
    unit = f" {goal.unit.strip()}" if goal.unit else ""
    found = _NONE if goal.value is None else f"{goal.value:,.2f}{unit}"
    return [goal.text, f"{sign} {goal.bound:g}{unit}", found, {True: "yes", False: "no", None: _NONE}[goal.is_reached]]


def show(results: Results, console: Console) -> None:
    """Print everything."""
    console.print(_LEGEND, style="dim", highlight=False)
    for table in tables(results):
        console.print(_rich(table))
    for name, lines in (("warning", warnings(results)), ("note", results.notes), ("PROBLEM", results.problems)):
        for line in lines:
            console.print(f"{name}: {line}", style="red" if name == "PROBLEM" else "yellow", markup=False, highlight=False)


def _rich(table: Table) -> RichTable:
    made = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, column in enumerate(table.columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in table.rows:
        made.add_row(*row)
    return made


def markdown(results: Results, plan: Plan) -> str:
    """The same for docs/performance.md."""
    parts = [_conditions(plan)]
    for table in tables(results):
        lines = [f"**{table.title}**", "", "| " + " | ".join(column.strip() for column in table.columns) + " |"]
        lines += ["|---" + "|---:" * (len(table.columns) - 1) + "|", *("| " + " | ".join(row) + " |" for row in table.rows)]
        parts.append("\n".join(lines))
    parts += [f"Warning: {line}." for line in warnings(results)] + [f"Note: {line}." for line in results.notes]
    return "\n\n".join(parts) + "\n"


def _conditions(plan: Plan) -> str:
    about = machine()
    return (
        f"{about['time'][:10]}, {about['processor']}, {about['cores']} cores, Python {about['python']}, "
        f"mitmproxy {about['mitmproxy']}; {plan.rounds} rounds of {plan.seconds:g} s, more for the goals. {_LEGEND}"
    )


def write_markdown(path: Path, text: str) -> None:
    """Put `text` between the marks in the file. Raises ValueError when it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no place for the figures: {BEGIN} … {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def write_json(path: Path, results: Results, plan: Plan) -> None:
    """Everything, every round of it."""
    found = [asdict(goal) | {"reached": goal.is_reached} for goal in goals(results)]
    ratios = [
        {"door": door, "load": load.title, "rate": results.ratio(door, load, "rate"), "p50": results.ratio(door, load, "p50")}
        for door in results.doors()
        for load in results.loads(door)
    ]
    settings = asdict(plan) | {"loads": [load.title for load in plan.loads]}
    document = {"machine": machine(), "plan": settings, "goals": found, "ratios": ratios, "warnings": warnings(results)}
    path.write_text(json.dumps(document | results.to_dict(), indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "mitmproxy": version("mitmproxy"),
        "valetkey": __version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
