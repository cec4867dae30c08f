"""The table: what was tried, what should stop it, what came of it, and what the attacker could see."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .evidence import Attack, Evidence, Verdict

_COLOURS = {"defended": "green", "BROKEN": "bold red", "not applicable": "dim"}
_SHOWN = 60
_OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(frozen=True)
class Line:
    """One attack and its result."""

    attack: Attack
    verdict: Verdict
    evidence: Evidence


def table(lines: list[Line]) -> Table:
    """One row for each attack."""
    made = Table(show_lines=False, pad_edge=False)
    for title in ("attack", "tried", "expected defence", "result"):
        made.add_column(title, overflow="fold")
    made.add_column("the attacker saw", overflow="fold", max_width=_SHOWN)
    for line in lines:
        result = f"[{_COLOURS[line.verdict.result]}]{line.verdict.result}[/]"
        why = f"\n{escape(line.verdict.why)}" if line.verdict.why else ""
        attack = line.attack
        number = f"{attack.part[0]}.{attack.part[1:]} {attack.number}"
        made.add_row(number, escape(attack.title), escape(attack.defence), result + why, escape(shown(line.evidence.visible)))
    return made


def shown(data: bytes) -> str:
    """Bytes as text in one line, the middle left out, without the answers to CONNECT; beginning and end tell most."""
    text = data.replace(_OPENED, b"").decode("latin-1").encode("unicode_escape").decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]} ({len(data)} bytes)"


def totals(lines: list[Line]) -> str:
    """`600 attacks: 580 defended, 20 BROKEN, …`."""
    counts = Counter(line.verdict.result for line in lines)
    return f"{len(lines)} attacks: " + ", ".join(f"{count} {result}" for result, count in counts.most_common())


def show(lines: list[Line], console: Console) -> None:
    """Print the table and the totals."""
    console.print(table(lines))
    console.print(totals(lines))
