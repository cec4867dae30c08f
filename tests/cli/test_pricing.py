from __future__ import annotations

import gzip
import json
import re
import shlex
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.pricing import GPT, model, published
from support.processes import free_ports
from valetkey.cli import main, pricing

RULES = "version: 1\nproviders: {openai: {keys: [env:MY_KEY]}}\n"


@pytest.fixture(scope="module")
def server():
    """Serves `answer` (status, body) at any path; `url` leads to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body, *headers = self.server.answer
            self.send_response(status)
            for header in headers:
                self.send_header(*header)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{made.server_port}/data.json"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `valetkey prices`; gives status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def call(*arguments, rules=RULES):
        (tmp_path / "rules.yaml").write_text(rules)
        with pytest.raises(SystemExit) as ended:
            main(["prices", *arguments])
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def update(run, server):
    """Fetch a list that the server then has."""

    def fetch(document, *arguments, status=200):
        server.answer = status, document if isinstance(document, bytes) else json.dumps(document).encode()
        return run("update", "--url", server.url, *arguments)

    return fetch


CHEAPER = published(model(prices=GPT | {"input_mtok": 1.5}), model("gpt-99"))


def shown(run, *arguments, **options):
    return [json.loads(line) for line in run("show", *arguments, "--json", **options)[1].splitlines()]


def test_a_price_is_shown_by_the_name_that_a_call_would_have(run):
    [row] = shown(run, "gpt-4o-2024-08-06")
    assert (row["provider"], row["prices"]["input_mtok"], row["source"]) == ("openai", "2.5", "built in")


def test_a_table_is_for_people(run):
    lines = run("show", "gpt-4o")[1].splitlines()
    assert lines[0].split()[:4] == ["provider", "model", "input", "output"] and lines[1].split()[:4] == [
        "openai",
        "gpt-4o",
        "2.5",
        "10",
    ]


def test_globs_show_many(run):
    assert {"gpt-4o", "gpt-4o-mini"} <= {row["model"] for row in shown(run, "gpt-4o*")}


def test_all_models_of_the_providers_in_use_are_shown(run):
    assert {row["provider"] for row in shown(run)} == {"openai"}


def test_a_provider_may_be_named(run):
    assert {row["provider"] for row in shown(run, "claude-*", "--provider", "anthropic")} == {"anthropic"}


def test_prices_of_the_rules_go_before(run):
    rules = 'version: 1\nproviders: {openai: {keys: none, prices: {"gpt-4o*": {input: 1, output: 2}}}}\n'
    [row] = shown(run, "gpt-4o", rules=rules)
    assert row == {"provider": "openai", "model": "gpt-4o", "prices": {"input_mtok": "1", "output_mtok": "2"}, "source": "rules"}


def test_prices_by_length_are_shown(run):
    found = run("show", "claude-sonnet-4-5", "--provider", "anthropic")[1]
    assert "3, 6 over 200,000" in found


def test_a_model_without_a_price_is_status_1(run):
    status, _, errors = run("show", "no-such-model")
    assert status == 1 and "unpriced" in errors


def test_an_unknown_provider_is_an_error(run):
    status, _, errors = run("show", "--provider", "opnai")
    assert status == 2 and "openai" in errors


def test_fetched_prices_are_kept(update, run):
    update(CHEAPER)
    [row] = shown(run, "gpt-4o")
    assert (row["prices"]["input_mtok"], row["source"]) == ("1.5", "kept")


def test_what_changed_is_told(update):
    status, said, _ = update(CHEAPER)
    assert status == 0 and said.startswith("prices of 122 models from 127.0.0.1, kept in")


def test_an_update_may_be_told_to_programs(update, tmp_path):
    found = json.loads(update(CHEAPER, "--json")[1])
    assert (found["file"], found["models"]) == (str(tmp_path / ".valetkey" / "ledger.prices.json"), 122)


def test_the_second_update_is_compared_with_the_first(update):
    update(published())
    assert "  openai/gpt-4o  input_mtok  2.5 -> 1.5" in update(CHEAPER)[1].splitlines()


def test_the_differences_are_told(update, run):
    update(CHEAPER)
    said = run("diff", "--provider", "openai")[1].splitlines()
    assert {"openai/gpt-4o  input_mtok  2.5 -> 1.5", "openai/gpt-99  output_mtok  none -> 10"} <= set(said)


def test_the_differences_may_be_told_to_programs(update, run):
    update(CHEAPER)
    found = [json.loads(line) for line in run("diff", "--json")[1].splitlines()]
    assert {"provider": "openai", "model": "gpt-4o", "unit": "input_mtok", "old": "2.5", "new": "1.5"} in found


def test_without_kept_prices_there_is_nothing_to_compare(run):
    status, _, errors = run("diff")
    assert status == 1 and "valetkey prices update" in errors


@pytest.mark.parametrize(
    ("document", "status", "said"),
    [
        (b"", 200, "it is no JSON"),
        (b"<html>", 200, "it is no JSON"),
        (b"\xff", 200, "it is no JSON"),
        ({}, 200, "no list of providers"),
        (published(model(prices={"input_mtok": -1})), 200, "cannot be meant"),
        (CHEAPER, 404, "status 404"),
        (CHEAPER, 302, "status 302"),
    ],
)
def test_when_anything_is_wrong_nothing_changes(update, run, document, status, said):
    update(published())
    found, _, errors = update(document, status=status)
    assert (found, said in errors, "nothing was changed" in errors, shown(run, "gpt-4o")[0]["prices"]["input_mtok"]) == (
        1, True, True, "2.5",
    )  # fmt: skip


def test_a_list_that_is_too_long_is_refused(update, monkeypatch):
    monkeypatch.setattr(pricing, "LIMIT", 100)
    status, _, errors = update(CHEAPER)
    assert status == 1 and "more than 100 bytes" in errors


def test_without_a_network_nothing_changes(run, tmp_path):
    status, _, errors = run("update", "--url", f"http://127.0.0.1:{free_ports(1)[0]}/data.json")
    assert (status, "nothing was changed" in errors, (tmp_path / ".valetkey").exists()) == (1, True, False)


@pytest.mark.parametrize("url", ["http://prices.test/data.json", "file:///etc/passwd", "data.json"])
def test_prices_come_over_tls(run, url):
    status, _, errors = run("update", "--url", url)
    assert status == 2 and "https://" in errors


@contextmanager
def broken(tmp_path):
    (tmp_path / ".valetkey").mkdir()
    (tmp_path / ".valetkey" / "ledger.prices.json").write_text("nonsense")
    yield


def test_a_broken_file_is_told(run, tmp_path):
    with broken(tmp_path):
        status, _, errors = run("show", "gpt-4o")
    assert status == 1 and "the built-in prices hold" in errors


def test_an_update_mends_a_broken_file(update, tmp_path):
    with broken(tmp_path):
        assert update(CHEAPER)[0] == 0


def test_the_commands_of_the_documentation_work(run, server, monkeypatch):
    server.answer = 200, json.dumps(CHEAPER).encode()
    monkeypatch.setattr(pricing.pricelist, "update_url", lambda: server.url)
    [block] = re.findall(r"```sh\n(.*?)```", (Path(__file__).parents[2] / "docs" / "prices.md").read_text(), re.DOTALL)
    assert [run(*shlex.split(line)[2:])[0] for line in block.splitlines()] == [0] * 4


@pytest.mark.parametrize("way", [("location", "file:///etc/passwd"), ("location", "http://127.0.0.1:1/")])
def test_a_redirection_is_not_followed(run, server, way):
    server.answer = 302, b"", way
    status, _, problem = run("update", "--url", server.url)
    assert status == 1 and "status 302" in problem


def test_what_comes_compressed_is_not_unpacked(run, server):
    server.answer = 200, gzip.compress(json.dumps(CHEAPER).encode()), ("content-encoding", "gzip")
    status, _, problem = run("update", "--url", server.url)
    assert status == 1 and "compressed" in problem


def test_a_password_in_the_address_is_refused_and_not_repeated(run):
    status, _, problem = run("update", "--url", "https://me:SECRET@example.com/data.json")
    assert status == 2 and "SECRET" not in problem


def test_names_of_a_list_do_not_reach_the_terminal_as_they_are(update, run):
    _, said, _ = update(published(model(), model("gpt-\x1b]0;x\x07")))
    assert "\x1b" not in said + run("diff")[1]


def test_nor_do_they_in_errors(update):
    _, _, problem = update(published(model("gpt-\x1b[31m", prices={"input_mtok": -1})))
    assert "cannot be meant" in problem and "\x1b" not in problem
