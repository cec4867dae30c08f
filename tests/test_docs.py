"""The documentation does not rot: its examples load, its links lead somewhere, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import yaml
from typer.testing import CliRunner

from support.making import CATALOG
from valetkey.catalog.loader import FOLDER
from valetkey.cli import app
from valetkey.formats.bindings import _ANTHROPIC, _GEMINI, _OPENAI, _SESSION_HEADERS
from valetkey.model import Outcome, Rotation
from valetkey.policy.failover import Ending
from valetkey.policy.health import LADDER, ROW, ROW_WINDOW, TABLE
from valetkey.proxy.dispatch import Best, Dispatch
from valetkey.rules import load_rules, parse_rules
from valetkey.rules.schema import (
    AgentEntry,
    ConcurrencyEntry,
    FallbackEntry,
    GatewayEntry,
    KeyEntry,
    MatchEntry,
    ModelLists,
    PriceEntry,
    ProviderEntry,
    RouteEntry,
    TimeoutsEntry,
    WindowEntry,
)
from valetkey.rules.values import duration
from valetkey.secrets import Vault

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / ".github").glob("*.md")),
    ROOT / "certs/README.md",
]
EXAMPLES = [
    (page.name, block)
    for page in PAGES
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    if block.startswith("version: 1")
]


@pytest.mark.parametrize(("page", "text"), EXAMPLES)
def test_every_example_of_rules_loads(page, text):
    assert parse_rules(text, page, CATALOG)


def test_the_shipped_rules_load():
    assert load_rules(ROOT / "rules.yaml", CATALOG)


def test_the_shipped_rules_load_with_everything_uncommented():
    text = (ROOT / "rules.yaml").read_text()
    body = "".join(line + "\n" for line in text.split("version: 1\n")[1].splitlines())
    live = re.sub(r"^# (?=(?:gateway|providers|routes):| )", "", body, flags=re.MULTILINE)
    assert parse_rules("version: 1\n" + live, "rules.yaml", CATALOG).routes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


ENTRIES = [
    GatewayEntry, TimeoutsEntry, ProviderEntry, KeyEntry, ModelLists, PriceEntry, ConcurrencyEntry, WindowEntry, RouteEntry,
    MatchEntry, FallbackEntry, AgentEntry,
]  # fmt: skip


def cells_of(page, word):
    """The cells of the row that begins with `word`, without it."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    row = next(line for line in lines if re.match(rf"\|(?: `[\w.]+`,)* `{re.escape(word)}`", line))
    return [cell.strip() for cell in row.split("|")[2:-1]]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_every_word_of_the_rules_is_documented(entry):
    text = (ROOT / "docs" / "rules.md").read_text()
    assert [word for word in entry.model_fields if not re.search(rf"`(?:\{{)?{word}[`:]", text)] == []


def test_words_that_were_taken_out_are_not_documented():
    words = {word for entry in ENTRIES for word in entry.model_fields}
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (ROOT / "docs" / "rules.md").read_text(), re.MULTILINE)
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row)} <= words


@pytest.mark.parametrize("word", TimeoutsEntry.model_fields)
def test_every_time_limit_is_documented_with_its_default(word):
    assert duration(cells_of("rules.md", word)[0].strip("`")) == TimeoutsEntry.model_fields[word].default


LIMITS = re.findall(r"`(gateway|timeouts)\.(\w+)` \| `([\w]+)`", (ROOT / "docs" / "pools.md").read_text())


@pytest.mark.parametrize(("section", "word", "default"), LIMITS)
def test_limits_are_the_same_where_pools_are_told_of(section, word, default):
    entry = {"gateway": GatewayEntry, "timeouts": TimeoutsEntry}[section]
    assert duration(default) == entry.model_fields[word].default


def test_all_limits_are_told_of_where_pools_are():
    assert {word for _, word, _ in LIMITS} == {*TimeoutsEntry.model_fields, "deadline", "attempts"}


# What pools.md says of how keys are, and of how they are chosen.


REST = {None: ", ".join(f"{seconds:g}" for seconds in LADDER), 3600.0: "1 h", 300.0: "5 min", 10.0: "10 s"}
MARKS = {
    "key": "the key",
    "key_model": "the key, for this model or quota group",
    "model": "the model",
    "upstream": "the upstream",
}


@pytest.mark.parametrize("outcome", TABLE)
def test_what_rests_after_an_outcome_is_as_in_the_table(outcome):
    cells = cells_of("pools.md", outcome)
    marks, rest, again = (cells_of("pools.md", "server") if "as `server`" in cells else cells)[1:4]
    row = TABLE[outcome]
    assert marks.startswith(MARKS[row.marks]) and REST[row.default] in rest
    said = (
        "as stated" in rest,
        "third in a row" in rest,
        "within 60 s" in rest,
        "once, after a pause" in again,
        "until a person acts" in rest,
    )
    assert said == (row.stated, row.after == ROW, row.window == ROW_WINDOW, row.again, row.out_after is not None)


@pytest.mark.parametrize("outcome", [Outcome.CLIENT, Outcome.POLICY, Outcome.TOO_LONG])
def test_what_passes_through_marks_nothing(outcome):
    assert "nothing" in cells_of("pools.md", outcome) and outcome not in TABLE


@pytest.mark.parametrize("rotation", get_args(Rotation))
def test_every_rotation_is_documented(rotation):
    assert cells_of("pools.md", rotation) and f"`{rotation}`" in " ".join(cells_of("rules.md", "rotation"))


@pytest.mark.parametrize(
    "word", ["priority", "weight", "concurrency", "spacing", "leave_at", "model_tiers", "quota_groups", "window"]
)
def test_every_word_of_a_pool_is_told_of_where_pools_are(word):
    assert cells_of("pools.md", word)


@pytest.mark.parametrize("kind", get_args(WindowEntry.model_fields["kind"].annotation))
def test_every_window_is_documented(kind):
    assert cells_of("pools.md", kind)


@pytest.mark.parametrize("name", _SESSION_HEADERS)
def test_every_header_that_names_a_conversation_is_documented(name):
    assert f"`{name}`" in (ROOT / "docs" / "pools.md").read_text()


@pytest.mark.parametrize("name", [*_OPENAI, *_ANTHROPIC, *_GEMINI])
def test_every_kind_of_thing_that_belongs_to_a_key_is_documented(name):
    text = (ROOT / "docs" / "pools.md").read_text()
    kinds = {**_OPENAI, **_ANTHROPIC, **_GEMINI}
    others = {other for other, kind in kinds.items() if kind == kinds[name]}
    assert kinds[name] == "model" or any(re.search(rf"`(?:metadata\.)?{other}`", text) for other in others)


ENDINGS = [
    (Ending("resting", 7.0), None),
    (Ending("busy"), None),
    (Ending("failed"), None),
    (Ending("deadline"), None),
    (Ending("failed"), Outcome.BAD_KEY),
    (Ending("failed"), Outcome.NETWORK),
    (Ending("failed"), Outcome.TIMEOUT),
]


class Referable(SimpleNamespace):
    """What can be referred to weakly."""


@pytest.mark.parametrize(("ending", "best"), ENDINGS, ids=lambda each: getattr(each, "reason", str(each)))
def test_every_end_of_all_attempts_is_documented(ending, best):
    passage = Referable(attempts=[], snapshot=SimpleNamespace(vault=Vault({}, {})))
    dispatch = Dispatch(None, passage, None, None)
    if best is not None:
        provider = parse_rules("", "f", CATALOG).providers["openai"]
        dispatch.best = Best(best, SimpleNamespace(provider=provider), None, "reset")
    refusal = dispatch.ending(ending)
    assert f"| {refusal.status} | `{refusal.reason}` |" in (ROOT / "docs" / "pools.md").read_text()


def test_what_providers_say_of_limits_is_documented():
    line = re.search(r"^In headers,.*?do not\.", (ROOT / "docs" / "providers.md").read_text(), re.DOTALL | re.MULTILINE)[0]
    told, untold = (re.findall(r"`(\w+)`", part) for part in line.split(";"))
    assert {name for name, facts in CATALOG.items() if facts.limits} == {*told}
    assert {name for name, facts in CATALOG.items() if not facts.limits} == {*untold}


def row_of(name):
    """The cells of a provider's row, each as the words in it that are not in brackets."""
    page = (ROOT / "docs" / "providers.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
    return [set(re.findall(r"[\w./{}*-]+", re.sub(r"\(.*?\)", "", cell))) for cell in row.split("|")[1:-1]]


@pytest.mark.parametrize("name", CATALOG)
def test_every_provider_is_documented_as_it_is(name):
    facts = CATALOG[name]
    _, hosts, formats, variables, closed = row_of(name)
    groups = {e.group for s in facts.surfaces for e in s.endpoints} - {"inference"}
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text()).get("hosts", facts.tenant_hosts)
    assert (hosts, variables - {"none", "needed"}, closed) == ({*written}, {*facts.env}, groups)
    assert {word for word in formats if word.startswith("/")} == {surface.base or "/" for surface in facts.surfaces}


def test_every_provider_of_the_table_is_in_the_catalogue():
    rows = re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "providers.md").read_text(), re.MULTILINE)
    assert rows and {*rows} == {*CATALOG}


COMMANDS = sorted(
    {
        m
        for page in PAGES
        for m in re.findall(
            r"valetkey ((?:run|env|exec|doctor|check|keys|providers|flows|usage|purge|demo|simulate)[^`\n|)]*)", page.read_text()
        )
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_in_the_documentation_exists(command):
    name, *words = command.split("#")[0].split(" -- ")[0].split()  # what follows is the agent's
    options = [word.rstrip(".,;:\"') ") for word in words if word.startswith("--") and len(word) > 2]
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    assert [option for option in options if option not in shown] == []


@pytest.mark.parametrize("target", ["run", "test", "check", "demo", "help"])
def test_every_make_target_exists_and_is_shown(target):
    assert re.search(rf"^{target}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_exported_line_of_the_readme_is_the_greetings():
    from support import making
    from valetkey.model import Address
    from valetkey.proxy.doors import Doors
    from valetkey.proxy.greeting import lines

    *_, last = lines(making.snapshot(), Doors(("regular@127.0.0.1:8080",), Address("127.0.0.1", 8080), None))
    assert last.partition(" (")[0] in (ROOT / "README.md").read_text()
