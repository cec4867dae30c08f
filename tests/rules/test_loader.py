from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from support.making import CATALOG
from valetkey.errors import RulesError
from valetkey.rules import load_rules, parse_rules
from valetkey.rules.explain import _WORDS

LITERAL = "sk-proj-REALrealREALrealREALreal0001"
WORDS = sorted({name for _, model in _WORDS for name in model.model_fields} | {"openai", "lab", "*"})
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["openai/x", "env:A", "none", "5s"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)
FILES = st.dictionaries(st.sampled_from(["gateway", "providers", "routes", "agents"]), VALUES)


def load(text):
    return parse_rules(text, "rules.yaml", CATALOG)


def problems(text):
    with pytest.raises(RulesError) as raised:
        load(text)
    return [str(problem) for problem in raised.value.problems]


def test_an_empty_file_is_the_defaults():
    assert load("").routes == ()


def test_no_file_is_the_defaults():
    assert set(load_rules(None, CATALOG).providers) == set(CATALOG)


def test_a_file_is_read(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\ngateway: {egress: deny}\n")
    assert load_rules(path, CATALOG).gateway.egress == "deny"


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(RulesError, match="cannot be read"):
        load_rules(tmp_path / "nowhere", CATALOG)


def test_a_large_file_is_not_read_to_its_end():
    with pytest.raises(RulesError, match="larger than"):
        load_rules(Path("/dev/zero"), CATALOG)


@pytest.mark.parametrize(("mode", "count"), [(0o644, 0), (0o600, 0), (0o666, 1)])
def test_a_file_that_others_may_change_is_noted(tmp_path, mode, count):
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\n")
    path.chmod(mode)
    notices = load_rules(path, CATALOG).notices
    assert len([each for each in notices if "whoever changes it says where keys go" in each]) == count


def test_a_file_that_is_no_text_is_said(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RulesError, match="UTF-8"):
        load_rules(path, CATALOG)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("routez: []\nversion: 1\n", "rules.yaml:1: unknown word 'routez' in the file - did you mean routes?"),
        ("version: 1\ngateway:\n  egres: deny\n", "rules.yaml:3: unknown word 'egres' in gateway - did you mean egress?"),
        ("version: 1\ngateway:\n  egress: den\n", "rules.yaml:3: gateway.egress: Input should be 'passthrough' or 'deny'"),
        ("version: 2\n", "rules.yaml:1: version: Input should be 1"),
        ("gateway: {}\n", "rules.yaml:1: version is missing"),
        ("version: 1\nproviders:\n  opnai: {}\n", "rules.yaml:3: opnai is no provider of the catalogue - did you mean openai?"),
        ("version: 1\nproviders:\n  lab: {like: opnai, upstream: 'https://x.test'}\n", "opnai is no provider of the catalogue"),
        ("version: 1\nproviders:\n  lab: {like: openai}\n", "rules.yaml:3: lab needs an upstream"),
        ("version: 1\nproviders:\n  openai: {open: [file]}\n", "did you mean files?"),
        (
            "version: 1\nroutes:\n  - {match: {model: x}, to: opnai/x}\n",
            "rules.yaml:3: opnai/x: 'opnai' is no provider - did you mean",
        ),
        (
            "version: 1\nroutes:\n  - {match: {model: x}}\n",
            "rules.yaml:3: routes.0: a route needs to, fallback, deny, set or remove",
        ),
        ("version: 1\nroutes:\n  - {deny: x, to: openai}\n", "a route denies, or it sends and edits; not both"),
        ("version: 1\nroutes:\n  - {match: {format: openai_chatt}, to: openai}\n", "openai_chatt is no format"),
        ("version: 1\nroutes:\n  - {match: {format: gemini_generate}, to: openai}\n", "openai does not speak gemini_generate"),
        ("version: 1\nagents:\n  - {name: a, key: secret}\n", "rules.yaml:3: agents.0.key"),
        ("version: 1\nagents:\n  - {name: a}\n  - {name: a}\n", "rules.yaml:4: there are two agents called a"),
        ("version: 1\ngateway: {proxy: '0.0.0.0:80'}\n", "do not authenticate yet"),
        ("version: 1\nproviders:\n  lab: {like: openai, upstream: 'http://x.test'}\n", "would show the key to the network"),
        ("[]\n", "the file is a mapping"),
    ],
)
def test_errors_name_line_value_and_fix(text, expected):
    assert any(expected in problem for problem in problems(text))


def test_all_problems_are_listed_at_once():
    assert len(problems("version: 1\nroutez: []\ngateway: {egres: x}\nproviders: {openai: {keyz: []}}\n")) == 3


@pytest.mark.parametrize("key", [f"[{LITERAL}]", f"[{{ref: {LITERAL}}}]"])
def test_a_literal_key_is_said_but_not_shown(key):
    found = " ".join(problems(f"version: 1\nproviders:\n  openai:\n    keys: {key}\n"))
    assert "literal key" in found and LITERAL not in found


def test_an_unreachable_route_is_an_error():
    text = "version: 1\nroutes:\n  - {match: {model: 'gpt-*'}, deny: x}\n  - {match: {model: gpt-4o}, to: openai}\n"
    assert "rules.yaml:4: route route-2 is never reached" in problems(text)[0]


def test_problems_of_meaning_are_listed_with_those_of_form():
    text = "version: 1\ngateway: {egres: x}\nroutes:\n  - {match: {model: x}, to: opnai}\nagents: [{name: a}, {name: a}]\n"
    assert [problem.split(":")[1] for problem in problems(text)] == ["2", "4", "5"]


def test_an_entry_of_wrong_form_is_not_complained_of_twice():
    text = "version: 1\nproviders:\n  lab: {like: openai, upstream: ftp://x}\nroutes: [{match: {model: x}, to: lab}]\n"
    assert len(problems(text)) == 1


def test_a_condition_of_wrong_form_makes_no_other_route_unreachable():
    text = "version: 1\nroutes:\n  - {match: {modell: x}, to: openai}\n  - {match: {model: y}, to: openai}\n"
    assert len(problems(text)) == 1


@pytest.mark.parametrize(
    "text",
    ["gateway:", "providers:", "routes:", "agents:", "providers:\n  openai:"],
)
def test_a_section_that_is_all_comments_is_an_empty_one(text):
    assert load(f"version: 1\n{text}\n  # nothing\n").routes == ()


@pytest.mark.parametrize(
    "text",
    [
        "routes: [{match: {model: []}, deny: x}]",
        "routes: [{match: {model: }, deny: x}]",
        "routes: [{match: {model: ''}, deny: x}]",
        "routes: [{match: , deny: x}]",
        "providers: {openai: {models: {allow: []}}}",
        "providers: {openai: {models: {allow: }}}",
        "providers: {openai: {models: }}",
        "agents: [{name: a, models: []}]",
    ],
)
def test_a_condition_that_is_empty_does_not_stand_for_all(text):
    assert problems(f"version: 1\n{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{openai: {LITERAL}}}",
        f"providers: {{openai: {{keys: {LITERAL}}}}}",
        f"providers: {{openai: {{keys: {{{LITERAL}: x}}}}}}",
        f"providers: {{openai: {{keys: [{{{LITERAL}: x}}]}}}}",
        f"providers: {{openai: {{keys: [{{key: {LITERAL}}}]}}}}",
        f"providers: {{openai: {{upstream: 'https://u:{LITERAL}@x.test'}}}}",
        f"providers: {{openai: {{upstream: 'https://u:{LITERAL}'}}}}",
        f"providers: {{openai: {{rotation: {LITERAL}}}}}",
        f"providers: {{openai: {{keys: [{{ref: env:A, headers: {{authorization: {LITERAL}}}}}]}}}}",
        f"providers: {{openai: {{keys: [{{ref: env:A, headers: {{x-a: ['{LITERAL}']}}}}]}}}}",
        f"agents: [{{name: a, key: {LITERAL}}}]",
        f"agents: [{LITERAL}]",
        f"gateway: {{ledger: {LITERAL}}}",
        f"gateway: {{api: {LITERAL}}}",
        f"{LITERAL}: x",
    ],
)
def test_a_key_in_a_wrong_place_is_an_error_that_does_not_show_it(text):
    assert LITERAL not in " ".join(problems(f"version: 1\n{text}\n"))


@given(FILES)
def test_any_file_is_rules_or_an_error_of_ours(data):
    with contextlib.suppress(RulesError):
        load(yaml.safe_dump({"version": 1, **data}))


def test_keys_none_needs_no_key():
    rules = load("version: 1\nproviders: {lab: {like: openai, upstream: 'http://127.0.0.1:8000', keys: none}}\n")
    assert rules.providers["lab"].keys_needed is False


def test_the_example_of_the_design_is_fine():
    text = """
version: 1
gateway:
  proxy: 127.0.0.1:8080
  api: 127.0.0.1:8045
  ledger: sqlite:///.valetkey/ledger.db
  dummy_keys: ["sk-dummy*", "sk-ant-dummy*", "dummy*"]
  foreign_keys: replace
  no_credential: refuse
  egress: passthrough
  deadline: 600s
  timeouts: {connect: 10s, first_byte: 120s, between_events: 300s, hold: 15s, max_wait: 120s}
providers:
  openai:
    keys: [env:OPENAI_API_KEY_1, env:OPENAI_API_KEY_2]
  anthropic:
    rotation: sticky
    keys:
      - {name: team,  ref: env:ANTHROPIC_API_KEY, priority: 1, concurrency: 8}
      - {name: spare, ref: file:/run/secrets/anthropic, priority: 2, budget: 20 USD/month}
    quota_groups: {claude: ["claude-opus-*", "claude-sonnet-*"]}
  lab:
    like: openai
    upstream: http://127.0.0.1:8000
    keys: none
routes:
  - match: {model: "*-preview*", agent: "ci-*"}
    deny: "preview models are not for CI"
  - match: {model: think-high}
    to: [anthropic/claude-opus-4-5, gemini/gemini-2.5-pro]
    order: priority
  - match: {host: api.openai.com, model: gpt-4o}
    to: lab/llama-3.3-70b
agents:
  - {name: alice, key: "sha256:%s", models: ["claude-*"], budget: 5 USD/day, rate: 60/minute}
"""
    assert len(load(text % ("0" * 64)).routes) == 3


WHOLE = """
version: 1
gateway: {proxy: '127.0.0.1:1', ledger: 'sqlite:///x', ledger_failure: open, retention: 9d, dummy_keys: [a], egress: deny,
          egress_allow: [a.test], deadline: 5s, attempts: 3, retry_empty: on,
          timeouts: {connect: 5s, whole: 5s, small_wait: 5s, retry: 5s}, headers: on, max_body: 5, log: text, archive: x,
          max_connections: 9}
providers:
  openai:
    rotation: sticky
    concurrency: {soft: 1, hard: 3}
    spacing: 1s
    leave_at: 10%
    model_tiers: {c: 1}
    window: {kind: daily, length: 1h, tolerance: 0}
    open: [files]
    models: {allow: [a], deny: [b]}
    prices: {x: {input: 1, output: 2}}
    quota_groups: {a: [b], c: [d]}
    keys:
      - env:A
      - {ref: 'env:B', name: b, priority: 1, organization: o, project: p, headers: {x-a: b}, weight: 1, concurrency: 2,
         budget: 20 USD/month}
  lab: {like: openai, upstream: 'http://127.0.0.1:8000', keys: none}
routes:
  - match: {host: a, path: b, format: openai_chat, model: m, agent: a, header: {x: y}}
    to: [openai/a, groq/a]
    order: weighted
    weights: [1, 2]
    fallback: {too_long: gemini/x, exhausted: [openrouter/x]}
    set: {a: 1}
    remove: [b]
  - {match: {model: x}, deny: never}
agents: [{name: a, models: [a], budget: 5 USD/day, rate: 60/minute}]
"""


def places(value, path=()):
    """Every path in a document but the empty one."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for step, inner in steps for place in [(*path, step), *places(inner, (*path, step))]]


def put(path, change):
    """`WHOLE` with what stands at `path` changed by `change(parent, step)`."""
    document = yaml.safe_load(WHOLE)
    parent = document
    for step in path[:-1]:
        parent = parent[step]
    change(parent, path[-1])
    return yaml.safe_dump(document, sort_keys=False)


def told(text):
    """Everything that is said of a file."""
    try:
        return " ".join(load(text).notices)
    except RulesError as error:
        return str(error)


PLACES = places(yaml.safe_load(WHOLE))


def test_the_file_that_the_next_tests_change_is_fine():
    assert load(WHOLE).routes


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_key_in_the_place_of_any_value_is_not_shown(path):
    """Both kinds: one with a mark that no variable has, and one that could be the name of a variable."""
    forms = (LITERAL, [LITERAL], {LITERAL: "x"}, f"http://{LITERAL}.test", "env:gsk_REALrealREALrealREALreal0001")
    found = "".join(told(put(path, lambda parent, step, form=form: parent.__setitem__(step, form))) for form in forms)
    assert "realreal" not in found.lower()


@pytest.mark.parametrize(
    "path", [path for path in PLACES if isinstance(path[-1], str)], ids=lambda path: ".".join(map(str, path))
)
def test_a_key_in_the_place_of_any_word_is_not_shown(path):
    found = told(put(path, lambda parent, step: parent.__setitem__(LITERAL, parent.pop(step))))
    assert LITERAL.lower() not in found.lower()


@pytest.mark.parametrize(
    "text",
    [f"{LITERAL}: 1\n{LITERAL}: 2", f"a: *{LITERAL}", f"a: !{LITERAL} x", f"a: !!{LITERAL} x", f"a: [{LITERAL}\nb"],
    ids=["twice", "alias", "tag", "known tag", "syntax"],
)
def test_a_key_in_what_is_no_yaml_is_not_shown(text):
    assert LITERAL not in " ".join(problems(text))


def test_a_traceback_does_not_quote_the_file():
    import traceback

    with pytest.raises(RulesError) as raised:
        load(f"a: *{LITERAL}")
    assert LITERAL not in "".join(traceback.format_exception(raised.value))
