from __future__ import annotations

import json
from contextlib import closing

import pytest

from support.proxy_receipts import receipt
from valetkey.cli import keyring, main
from valetkey.ledger import StateStore, open_store
from valetkey.simulator import Fault, run_in_thread

KEY, OTHER = "sk-proj-REALrealREALrealREALreal0001", "sk-proj-REALrealREALrealREALreal0002"
NOW = 1_795_235_309.0
TODAY = NOW - NOW % 86_400


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `valetkey`; gives status, stdout and stderr. Two keys of OpenAI are in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keyring.time, "time", lambda: NOW)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    (tmp_path / "rules.yaml").write_text("version: 1\n")

    def call(*arguments, rules=None, keys=(("1", KEY), ("2", OTHER))):
        if rules is not None:
            (tmp_path / "rules.yaml").write_text(rules)
        for name, value in keys:
            monkeypatch.setenv(f"OPENAI_API_KEY_{name}", value)
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def state(tmp_path):
    """Write what a gateway would about `openai/1`."""

    def write(**document):
        with closing(StateStore(tmp_path / ".valetkey" / "ledger.state.db")) as store:
            store.save({"keys": {"openai/1": document}})

    return write


@pytest.fixture
def spent(tmp_path):
    """A ledger: openai/1 cost something yesterday and today."""
    with closing(open_store(f"sqlite:///{tmp_path}/.valetkey/ledger.db")) as store:
        store.add(
            [
                receipt(id="1", time=TODAY - 1, key="openai/1", cost_usd="5"),
                receipt(id="2", time=TODAY, key="openai/1", cost_usd="0.25"),
                receipt(id="3", time=TODAY + 1, key="openai/1", cost_usd="0.5"),
            ]
        )


def line_of(output, id):
    return next(line for line in output.splitlines() if line.startswith(id))


def rows(output):
    return {row["id"]: row for row in map(json.loads, output.splitlines())}


# Without a store.


def test_keys_are_listed_by_id(run):
    _, output, _ = run("keys", "--json", keys=[("2", KEY)])
    assert json.loads(output) == {"id": "openai/2", "reference": "env:OPENAI_API_KEY_2", "usable": True, "problem": None}


def test_a_table_is_for_people(run):
    assert line_of(run("keys")[1], "openai/1").split() == ["openai/1", "env:OPENAI_API_KEY_1", "usable"]


def test_a_key_that_cannot_be_used_says_why(run):
    assert "cannot be read" in run("keys", rules="version: 1\nproviders: {openai: {keys: [file:nowhere]}}\n")[1]


def test_no_keys_are_said(run):
    assert "no keys were found" in run("keys", keys=())[1]


def test_a_listing_makes_no_file(run, tmp_path):
    run("keys")
    assert not (tmp_path / ".valetkey").exists()


@pytest.mark.parametrize("arguments", [("keys",), ("keys", "--json"), ("keys", "disable", "openai/1")])
def test_no_value_is_shown(run, arguments):
    assert KEY not in "".join(map(str, run(*arguments)))


# With what a gateway wrote.


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, "ready"),
        ({"state": "ready"}, "ready"),
        ({"state": "disabled", "until": NOW - 1}, "disabled"),
        ({"state": "probing", "until": NOW - 1}, "probing"),
        ({"state": "out", "reason": "bad_key"}, "out: bad_key"),
        ({"state": "out", "reason": "bad_key", "until": NOW - 1}, "ready"),
        ({"state": "out", "reason": "bad_key", "url": "https://x.test/verify"}, "out: bad_key (see https://x.test/verify)"),
        ({"state": "resting", "reason": "bad_key", "until": NOW + 300}, "resting: bad_key, 5 min left"),
        ({"state": "resting", "reason": "throttled", "until": NOW - 1}, "ready"),
        ({"state": "resting", "rests": [{"model": "gpt-4o", "reason": "throttled", "until": NOW + 6.2}]},
         "resting gpt-4o: throttled, 7 s left"),
        ({"state": "ready", "rests": [{"model": "gpt-4o", "reason": "quota", "until": NOW + 3600}]},
         "resting gpt-4o: quota, 60 min left"),
        ({"state": "resting", "until": NOW + 9, "rests": [{"model": "a", "until": NOW + 9}, {"model": "b", "until": NOW - 9}]},
         "resting a: 9 s left"),
        ({"state": "resting", "rests": [{"model": "gpt-4o", "reason": "throttled", "until": NOW}]}, "ready"),
        ({"state": "resting", "rests": "nonsense", "until": "soon", "reason": "quota"}, "resting: quota"),
        ({"rests": [None, {}, {"until": float("inf")}]}, "ready"),
    ],
)  # fmt: skip
def test_the_state_is_told_in_words(run, state, document, expected):
    state(**document)
    assert line_of(run("keys")[1], "openai/1").removeprefix("openai/1").lstrip().split("  ")[0] == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"in_flight": 3, "used": 12}, "3     12  -          -           -"),
        ({"remaining": 0.43, "remaining_dimension": "tokens"}, "0      -  43 % tokens  -           -"),
        ({"remaining": 0.0}, "0      -  0 %        -           -"),
        ({"last_used": NOW - 90}, "0      -  -          -           90 s ago"),
        ({"last_used": NOW + 5}, "0      -  -          -           0 s ago"),
        ({"in_flight": "many", "used": None, "remaining": float("nan")}, "0      -  -          -           -"),
    ],
)
def test_numbers_have_their_columns(run, state, document, expected):
    state(**document)
    cells = line_of(run("keys")[1], "openai/1").split()
    assert cells == ["openai/1", "ready", *expected.split()]


def test_a_key_that_the_gateway_does_not_know_is_ready(run, state):
    state(used=1)
    assert line_of(run("keys")[1], "openai/2").split()[1] == "ready"


def test_why_a_key_cannot_be_used_comes_before_what_was(run, state):
    state(state="resting", until=NOW + 9)
    assert "cannot be read" in run("keys", rules="version: 1\nproviders: {openai: {keys: [{name: '1', ref: file:no}]}}\n")[1]


def test_a_document_that_is_none_is_no_trouble(run, tmp_path):
    with closing(StateStore(tmp_path / ".valetkey" / "ledger.state.db")) as store:
        store.save({"keys": {"openai/1": ["nonsense"]}})
    assert run("keys")[0] == 0


@pytest.mark.parametrize(("age", "expected"), [(86_400, "3"), (86_401, "-"), (-5, "3")])
def test_calls_in_flight_are_not_told_of_a_gateway_that_has_ended(run, state, age, expected):
    state(in_flight=3, used=12, time=NOW - age)
    assert line_of(run("keys")[1], "openai/1").split()[2:4] == [expected, "12"]


@pytest.mark.parametrize(
    ("orders", "document", "expected"),
    [
        (["disable"], {}, "ready (ordered: disable)"),
        (["disable", "enable"], {"state": "disabled"}, "disabled (ordered: disable, enable)"),
        (["reset"], {"state": "out", "reason": "bad_key", "url": "https://x.test"},
         "out: bad_key (see https://x.test) (ordered: reset)"),
    ],
)  # fmt: skip
def test_an_order_that_nobody_has_taken_is_shown(run, state, orders, document, expected):
    state(**document)
    for verb in orders:
        run("keys", verb, "openai/1")
    assert expected in line_of(run("keys")[1], "openai/1")


def test_an_order_before_the_first_start_is_shown(run):
    run("keys", "disable", "openai/1")
    assert "ready (ordered: disable)" in line_of(run("keys")[1], "openai/1")


def test_an_order_for_a_key_that_cannot_be_used_is_shown(run):
    rules = "version: 1\nproviders: {openai: {keys: [{name: '1', ref: file:no}]}}\n"
    run("keys", "disable", "openai/1", rules=rules)
    assert "(ordered: disable)" in " ".join(run("keys")[1].split())


def test_an_order_is_that_of_its_key_alone(run):
    run("keys", "disable", "openai/1")
    assert "ordered" not in line_of(run("keys")[1], "openai/2")


def test_an_order_that_was_taken_is_shown_no_more(run, tmp_path):
    run("keys", "disable", "openai/1")
    with closing(StateStore(tmp_path / ".valetkey" / "ledger.state.db")) as store:
        store.take_orders()
    assert "ordered" not in run("keys")[1]


def test_json_has_the_orders(run, state):
    state(orders="forged")
    run("keys", "disable", "openai/1")
    found = rows(run("keys", "--json")[1])
    assert {id: row["orders"] for id, row in found.items()} == {"openai/1": [{"verb": "disable", "time": NOW}], "openai/2": []}


def test_cost_is_that_of_today(run, state, spent):
    state()
    assert line_of(run("keys")[1], "openai/1").split()[-2:] == ["$0.75", "-"]


def test_without_a_ledger_no_cost_is_known_and_nothing_is_complained_of(run, state):
    state()
    _, output, errors = run("keys", "--json")
    assert (rows(output)["openai/1"]["cost_usd_today"], errors) == (None, "")


def test_json_has_state_and_cost(run, state, spent):
    state(state="resting", until=NOW + 9, rests=[])
    row = rows(run("keys", "--json")[1])["openai/1"]
    assert (row["state"], row["until"], row["usable"], row["cost_usd_today"]) == ("resting", NOW + 9, True, "0.75")


def test_the_rules_win_over_the_document(run, state):
    state(id="forged", usable=False, problem="forged")
    assert rows(run("keys", "--json")[1])["openai/1"]["problem"] is None


def test_a_store_that_cannot_be_read_is_said_beside_the_list(run, tmp_path):
    (tmp_path / ".valetkey").mkdir()
    (tmp_path / ".valetkey" / "ledger.state.db").write_bytes(b"nonsense" * 1000)
    status, output, errors = run("keys", "--json")
    assert (status, set(rows(output)), "state.db cannot be opened" in errors) == (0, {"openai/1", "openai/2"}, True)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-3, "0 s"), (0.1, "1 s"), (120, "120 s"), (121, "3 min"), (7201, "3 h"), (49 * 3600, "3 days")],
)
def test_spans_are_rounded_up(seconds, expected):
    assert keyring._span(seconds) == expected


# Orders.


@pytest.mark.parametrize("verb", ["disable", "enable", "reset"])
def test_an_order_is_left_for_the_gateway(run, tmp_path, verb):
    run("keys", verb, "openai/1")
    with closing(StateStore(tmp_path / ".valetkey" / "ledger.state.db")) as store:
        assert [(order.verb, order.name, order.time) for order in store.take_orders()] == [(verb, "openai/1", NOW)]


def test_it_is_said_when_an_order_is_taken(run):
    assert "a running gateway takes it within a second, a later start at once" in run("keys", "disable", "openai/1")[1]


def test_a_slip_is_told_the_nearest_key(run):
    assert run("keys", "disable", "opnai/1") == (2, "", "valetkey: there is no key opnai/1; did you mean openai/1?\n")


def test_a_slip_leaves_no_order(run, tmp_path):
    run("keys", "disable", "opnai/1")
    assert not (tmp_path / ".valetkey").exists()


@pytest.mark.parametrize("order", [("keys", "--rules", "{}", "reset", "lab/x"), ("keys", "reset", "lab/x", "--rules", "{}")])
def test_rules_may_stand_before_or_after_the_word(run, tmp_path, order):
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "other.yaml"
    path.write_text(
        "version: 1\nproviders: {lab: {like: openai, upstream: 'https://lab.test/v1', keys: [{name: x, ref: file:no}]}}\n"
    )
    run(*(word.format(path) for word in order))
    assert (tmp_path / "elsewhere" / ".valetkey" / "ledger.state.db").exists()


# Asking the provider.


@pytest.fixture
def provider():
    with run_in_thread() as simulator:
        yield simulator


@pytest.fixture
def ask(run, provider):
    """`valetkey keys test` against a simulated OpenAI."""
    rules = f"version: 1\nproviders: {{openai: {{upstream: '{provider.url}/v1'}}}}\n"
    return lambda *arguments, **options: run("keys", "test", *arguments, **({"rules": rules} | options))


def test_a_good_key_is_ok(ask):
    status, output, _ = ask("openai/1")
    assert status == 0 and output.startswith("openai/1  ok  0.") and output.endswith(" s\n")


def test_all_keys_are_tested_when_none_is_named(ask):
    assert [line[:12] for line in ask()[1].splitlines()] == ["openai/1  ok", "openai/2  ok"]


def test_a_key_is_tested_once(ask, provider):
    ask("openai/1", "openai/1")
    assert len(provider.seen) == 1


def test_a_bad_key_is_said_in_the_providers_words(ask, provider):
    provider.faults.append(Fault(kind="bad_key", key=OTHER))
    status, output, _ = ask()
    assert (status, line_of(output, "openai/2")) == (
        1,
        "openai/2  bad_key (401)  Incorrect API key provided. You can find your API key on the dashboard.",
    )


def test_an_unusable_key_is_not_ok(ask):
    rules = "version: 1\nproviders: {openai: {keys: [file:nowhere]}}\n"
    status, output, _ = ask(rules=rules)
    assert status == 1 and "openai/nowhere  unusable  " in output and "cannot be read" in output


def test_an_unknown_key_is_wrong_usage(ask):
    assert ask("openai/1", "openai/11x")[0] == 2


def test_nobody_is_asked_when_one_key_is_unknown(ask, provider):
    ask("openai/1", "openai/11x")
    assert not provider.seen


def test_a_provider_without_keys_is_said(run):
    rules = "version: 1\nproviders: {lab: {like: openai, upstream: 'http://127.0.0.1:1', keys: none}}\n"
    assert run("keys", "test", rules=rules, keys=())[:2] == (0, "lab  needs no key\n")


def test_results_for_programs(ask, provider):
    provider.faults.append(Fault(kind="bad_key", key=OTHER))
    found = rows(ask("--json")[1])
    assert {id: (row["outcome"], row["status"]) for id, row in found.items()} == {
        "openai/1": ("ok", 200),
        "openai/2": ("bad_key", 401),
    }


def test_a_proxy_that_is_none_is_said(ask, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "gopher://x")
    status, _, errors = ask("openai/1")
    assert status == 2 and "the proxy or CA variables of this shell cannot be used" in errors


def test_a_key_that_is_out_stays_so_when_a_rest_of_it_is_over():
    rests = [{"model": "m", "reason": "throttled", "until": 1.0}]
    assert keyring._state({"state": "out", "reason": "bad_key", "until": None, "rests": rests}, 100.0) == "out: bad_key"
