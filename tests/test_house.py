"""The house: which room may import which, that every module has its test, and that pure rooms are pure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "addons" / "valetkey"
RANK = {
    "assembly": 0, "proxy": 1, "cli": 1, "simulator": 1, "ledger": 2, "secrets": 2, "rules": 2, "catalog": 2, "settings": 2,
    "policy": 3, "formats": 3, "model": 4, "errors": 4,
}  # fmt: skip
PURE = ("policy", "formats", "model")
IMPURE = {"mitmproxy", "asyncio", "sqlite3", "random", "secrets", "os", "time", "socket", "threading", "httpx", "logging"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Absolute names of the modules that `path` imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ("valetkey", *path.relative_to(PACKAGE).parts[:-1])
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_goes_against_the_arrow(path):
    here = RANK.get(room(path), -1)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("valetkey.")}
    assert [other for other in rooms if RANK.get(other, 9) < here] == []


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in PURE], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_rooms_stay_pure(path):
    assert {name.split(".")[0] for name in imports(path)} & IMPURE == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_prices_come_through_two_files(path):
    assert path.name in ("metering.py", "pricelist.py") or not any(name.startswith("genai_prices") for name in imports(path))


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_has_its_test(path):
    if path.read_text().count("\n") > 15:
        assert (ROOT / "tests" / path.relative_to(PACKAGE).parent / f"test_{path.stem}.py").exists()


def test_the_readme_stays_short():
    assert (ROOT / "README.md").read_text().count("\n") < 150
