"""The pages of the documentation as a whole: each can be found, its commands are commands, its messages are messages."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from valetkey.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
README = ROOT / "README.md"
PAGES = [README, *DOCS, ROOT / "certs/README.md", ROOT / ".github/CONTRIBUTING.md"]
COMMANDS = typer.main.get_command(app)
GAP = "…"
INCOMPLETE = ("MissingParameter", "NoArgsIsHelpError")
"""A command that is only spoken of may lack its arguments."""


def blocks(page):
    """The lines of the page's shell blocks, without their comments."""
    for block in re.findall(r"^ *```sh\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE):
        yield from (re.sub(r"(^|\s)#.*", "", line).strip() for line in block.replace("\\\n", " ").splitlines())


def spans(page):
    """What stands between single backticks, outside of blocks."""
    text = re.sub(r"^ *```.*?```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text))


BEFORE = r"^(?:\$ )?|\$\(|/bin/|-- |&& |\| |--rm |gateway "
"""What stands before `valetkey` where it is a command."""
SAID = ("is ready", "cannot start")
"""Messages that begin with the program's name."""


def commands_in(line):
    """Each command of ours in a line of shell, without what is piped or redirected."""
    for found in re.findall(rf"(?:{BEFORE})valetkey ([^|;&)<>]*)", line):
        text = found.replace('"', "") if found.count('"') % 2 else found
        if (words := shlex.split(text)) and not found.startswith(SAID):
            yield words


def misuse(words):
    """What is wrong with a command line, by the command's own parser; None when nothing is."""
    command, context, rest = COMMANDS, COMMANDS.make_context("valetkey", [], resilient_parsing=True), list(words)
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("-"):
            known = {option for param in command.get_params(context) for option in (*param.opts, *param.secondary_opts)}
            return None if rest[0] in known else f"no option {rest[0]}"
        if rest[0] not in command.commands:
            return None if command.params and command is not COMMANDS else f"no command {rest[0]}"
        command = command.commands[rest.pop(0)]
        context = type(context)(command, info_name=command.name, parent=context)
    try:
        command.make_context(command.name, [word for word in rest if word != GAP], parent=context)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


IN_BLOCKS = sorted({tuple(words) for page in PAGES for line in blocks(page) for words in commands_in(line)})
IN_SPANS = sorted({tuple(words) for page in PAGES for span in spans(page) if "valetkey " in span for words in commands_in(span)})


@pytest.mark.parametrize("words", IN_BLOCKS, ids=" ".join)
def test_every_command_of_a_block_is_understood(words):
    assert misuse(words) is None


@pytest.mark.parametrize("words", IN_SPANS, ids=" ".join)
def test_every_command_that_is_spoken_of_exists(words):
    found = misuse(words)
    assert found is None or found.startswith(INCOMPLETE)


@pytest.mark.parametrize(
    "words", [["flows", "--nonsense"], ["nonsense"], ["keys", "disable"], ["env", "--shell", "vms"]], ids=" ".join
)
def test_a_wrong_command_would_be_noticed(words):
    assert misuse(words)


@pytest.mark.parametrize("name", COMMANDS.commands)
def test_every_command_stands_in_the_documentation(name):
    assert any(words[0] == name for words in (*IN_BLOCKS, *IN_SPANS))


TARGETS = sorted({found for page in PAGES for line in blocks(page) for found in re.findall(r"^make ([a-z-]+)", line)})


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_exists(target):
    assert re.search(rf"^{target}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


def targets_of(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    return {(page.parent / link).resolve() for link in links if "://" not in link}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_page_is_linked_from_the_readme(page):
    assert page in targets_of(README)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_anchor_is_a_heading(page):
    """Files are looked for in test_docs.py."""
    wrong = []
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        target = page if not link else page.parent / link
        if "://" not in link and anchor not in {slug(line) for line in target.read_text().splitlines() if line.startswith("#")}:
            wrong.append(f"{link}#{anchor}")
    assert wrong == []


def slug(heading):
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


# Messages.


@functools.cache
def messages_of_the_source():
    """Every text in the package, with a gap where a value stands."""
    texts = set()
    for path in (ROOT / "addons/valetkey").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values]
                texts.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(re.sub(r"%[sd]", GAP, node.value))
    return texts


def is_said(message):
    return any(message.removeprefix(GAP).removesuffix(GAP).strip() in text for text in messages_of_the_source())


def rows(page, before=None):
    text = (ROOT / "docs" / page).read_text().partition(before)[0] if before else (ROOT / "docs" / page).read_text()
    table = re.findall(r"^\| `([^`]+)` \|", text.partition("| message |")[2], re.MULTILINE)
    return [row for row in table if row != "message"]


@pytest.mark.parametrize("message", rows("troubleshooting.md", "## What agents and runtimes say"))
def test_every_message_of_troubleshooting_is_said(message):
    assert is_said(message)


def test_a_message_that_nobody_says_would_be_noticed():
    assert not is_said("the moon is made of …")
