"""Targets that read files which somebody else may have written: rules.yaml, and the audit log."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from support.making import CATALOG
from support.proxy_receipts import receipt
from valetkey.errors import LedgerError, RulesError
from valetkey.ledger import AuditLog, Head, Place, entries, verify
from valetkey.ledger.audit import link, read_head
from valetkey.model import Attempt, Outcome
from valetkey.rules import parse_rules

from .engine import target

_ROOT = Path(__file__).resolve().parents[2]
_SECRET = "sk-proj-Zz9LookslikeakeyAAAA1234567890"
_RULES = [
    (_ROOT / "rules.yaml").read_bytes(),
    b"version: 1\nproviders: {openai: {keys: [env:OPENAI_API_KEY]}}\nroutes:\n  - match: {model: gpt-*}\n    to: openai/gpt-4o\n",
    b"version: 1\ngateway: {egress: deny, timeouts: {connect: 2s}}\nagents:\n  - {name: a, key: 'sha256:" + b"0" * 64 + b"'}\n",
    b"a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: [*c, *c, *c, *c]\n",
    b"version: 1\nproviders: {openai: {keys: [" + _SECRET.encode() + b"]}}\n",
]
_YAML = (
    b"version: 1\n", b"&a ", b"*a", b"<<: *a", b"!!python/object/apply:os.system ['id']", b"!!int ", b"- ", b": ", b"\n  ",
    b"[", b"]", b"{", b"}", b"? ", b"|\n", b">\n", b"---\n", b"%YAML 9.9\n", b"\t", b"'", b'"', b"env:OPENAI_API_KEY",
    b"file:../../etc/passwd", _SECRET.encode(), b"9" * 30, b".inf", b"2026-01-01", b"gateway:", b"providers:", b"routes:",
    b"keys:", b"match:", b"to:", b"~", b"'0x1F'", b"1:30:00", b"\xef\xbf\xbf", b"\x85", b"\\u0000",
)  # fmt: skip


@target("rules", _RULES, _YAML, longest=1500, steps=400)
def rules(data: bytes) -> None:
    """Rules, or RulesError that names lines and never shows what looks like a key."""
    text = data.decode("utf-8", "replace")
    try:
        parse_rules(text, "rules.yaml", CATALOG)
    except RulesError as error:
        assert error.problems and _SECRET not in str(error)
        assert all(
            0 <= problem.line <= text.count("\n") + text.count("\r") + text.count("\x85") + 8 for problem in error.problems
        )


@cache
def _log() -> tuple[bytes, bytes]:
    """An audit log of six entries, and its head."""
    attempt = Attempt("openai", "gpt-4o", "openai/1", "https://api.openai.com", 200, Outcome.OK, 20.0)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), "ledger")
        log = AuditLog(place, clock=lambda: 5.0)
        for number in range(6):
            log.append([receipt(id=str(number), attempts=(attempt,))])
        return place.current.read_bytes(), place.head.read_bytes()


_AUDIT_WORDS = (
    b"\n", b'{"seq":', b'"prev":', b'"event":"recovered"', b'"event":"continued"', b'"hash":"', b"0" * 64, b'"}\n',
    b'"hmac":', b"[" * 50,
    *_log()[0].splitlines(keepends=True),
)  # fmt: skip


@target("audit", [_log()[0], *_log()[0].splitlines(keepends=True), _log()[1]], _AUDIT_WORDS, longest=8192)
def audit(data: bytes) -> None:
    """A log is well only if its bytes are those that were written."""
    log, head = _log()
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        place = Place(Path(folder), "ledger")
        place.current.write_bytes(data)
        place.head.write_bytes(head)
        with suppress(LedgerError):
            assert verify([place.current], place, None, whole=True).well == (data == log)
            assert sum(1 for _ in entries([place.current], place)) >= data.count(b"\n")
        place.head.write_bytes(data)
        place.current.write_bytes(log)
        with suppress(LedgerError):
            assert verify([place.current], place, None, whole=True).well == (data == head)
    link(data, b"k" * 16)
    read_head(data, b"k" * 16)
    with suppress(ValueError):
        Head.parse(data.decode("latin-1"))


def _memory() -> str | None:
    """A folder in memory, where there is one: a file for every input."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
