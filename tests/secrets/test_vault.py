from __future__ import annotations

import pytest

from support import making
from valetkey.errors import SecretError
from valetkey.model import KeySpec
from valetkey.secrets import Environment, Fetcher, Secret, Vault, fetch_keys, fetching, key_name, resolve_keys

REAL, OTHER = "sk-proj-REALrealREALrealREALreal0001", "sk-proj-OTHERotherOTHERother000001"


def resolved(tmp_path, text="version: 1\n", **values):
    return resolve_keys(making.rules(text), Environment(values, tmp_path), tmp_path)


def ids(found):
    return [key.id for keys in found.keys.values() for key in keys]


def test_a_key_is_revealed_by_its_id():
    assert Vault({"a/b": Secret(REAL)}, {"a/b": "a"}).reveal("a/b") == REAL


def test_a_key_is_bound_to_its_provider():
    assert Vault({"a/b": Secret(REAL)}, {"a/b": "a"}).binding("a/b") == "a"


@pytest.mark.parametrize("method", ["reveal", "binding"])
def test_an_unknown_id_is_an_error(method):
    with pytest.raises(SecretError, match="x/y"):
        getattr(Vault({}, {}), method)("x/y")


def test_what_is_held_is_taken_out_of_a_text():
    assert Vault({"a/b": Secret(REAL)}, {"a/b": "a"}).redact(f"your key {REAL} is bad") == f"your key {'*' * len(REAL)} is bad"


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_key_that_begins_with_another_no_rest_is_left(order):
    entries = dict([("a/b", Secret(REAL)), ("a/c", Secret(f"{REAL}tail"))][::order])
    assert set(Vault(entries, {}).redact(f"{REAL}tail{REAL}")) == {"*"}


def test_what_is_held_is_found_in_other_spellings():
    assert REAL.encode().hex() not in Vault({"a/b": Secret(REAL)}, {"a/b": "a"}).redact(f"<{REAL.encode().hex()}>")


def test_vaults_with_the_same_values_share_their_scrubber():
    first, second = (Vault({name: Secret(REAL)}, {name: "a"}) for name in ("a/b", "a/c"))
    assert first.scrubber is second.scrubber


def test_a_vault_shows_nothing():
    assert REAL not in repr(Vault({"a/b": Secret(REAL)}, {"a/b": "a"}))


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (KeySpec("env:OPENAI_API_KEY"), "main"),
        (KeySpec("env:OPENAI_API_KEY_1"), "1"),
        (KeySpec("env:GATEWAY_OPENAI_API_KEY_2"), "2"),
        (KeySpec("env:OPENAI_API_KEY_WORK"), "work"),
        (KeySpec("env:SOMETHING"), "something"),
        (KeySpec("file:/run/secrets/anthropic"), "anthropic"),
        (KeySpec("file:team.key"), "team"),
        (KeySpec("env:OPENAI_API_KEY", name="spare"), "spare"),
        (KeySpec("keyring:valetkey/openai/team"), "team"),
        (KeySpec("keyring:work/openai"), "openai"),
        (KeySpec("cmd:op read op://vault/item/field"), "op"),
        (KeySpec("cmd:/usr/local/bin/key.sh --now"), "key"),
        (KeySpec("cmd:op 'read"), ""),
    ],
)
def test_names_of_keys(spec, name):
    assert key_name(spec) == name


VARIABLES = ("OPENAI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "VERTEX_AI_ACCESS_TOKEN", "DEEPINFRA_TOKEN")


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("AWS_BEARER_TOKEN_BEDROCK", "main"),
        ("AWS_BEARER_TOKEN_BEDROCK_1", "1"),
        ("GATEWAY_AWS_BEARER_TOKEN_BEDROCK_2", "2"),
        ("VERTEX_AI_ACCESS_TOKEN", "main"),
        ("VERTEX_AI_ACCESS_TOKEN_WORK", "work"),
        ("DEEPINFRA_TOKEN", "main"),
        ("OPENAI_API_KEY_1", "1"),
        ("OTHER_API_KEY_1", "1"),
        ("DEEPINFRA_TOKENS", "deepinfra_tokens"),
    ],
)
def test_names_of_keys_follow_the_catalogues_variables(variable, name):
    assert key_name(KeySpec(f"env:{variable}"), VARIABLES) == name


BEDROCK = "version: 1\nproviders: {bedrock: {upstream: 'https://bedrock-runtime.us-east-1.amazonaws.com'}}\n"


def test_a_key_without_api_key_in_its_variable_has_the_id_of_its_suffix(tmp_path):
    found = resolved(tmp_path, BEDROCK, AWS_BEARER_TOKEN_BEDROCK=REAL, AWS_BEARER_TOKEN_BEDROCK_1=OTHER)
    assert ids(found) == ["bedrock/main", "bedrock/1"]


def test_two_variables_of_one_name_are_one_key(tmp_path):
    found = resolved(tmp_path, DEEPINFRA_API_KEY=REAL, DEEPINFRA_TOKEN=OTHER)
    assert ids(found) == ["deepinfra/main"] and "env:DEEPINFRA_TOKEN is left out" in " ".join(found.notices)


def test_keys_are_found_under_the_catalogues_names(tmp_path):
    assert ids(resolved(tmp_path, OPENAI_API_KEY=REAL, ANTHROPIC_API_KEY_1=OTHER)) == ["anthropic/1", "openai/main"]


def test_written_keys_replace_found_ones(tmp_path):
    rules = "version: 1\nproviders: {openai: {keys: [env:MINE]}}\n"
    assert ids(resolved(tmp_path, rules, MINE=REAL, OPENAI_API_KEY=OTHER)) == ["openai/mine"]


def test_a_reference_that_fails_costs_that_key_only(tmp_path):
    rules = "version: 1\nproviders: {openai: {keys: [env:MISSING, env:MINE]}}\n"
    found = resolved(tmp_path, rules, MINE=REAL)
    assert ids(found) == ["openai/mine"] and "openai/missing" in found.notices[0]


def test_a_dummy_is_ignored_with_a_notice(tmp_path):
    found = resolved(tmp_path, OPENAI_API_KEY="sk-dummy")
    assert ids(found) == [] and "OPENAI_API_KEY looks like a dummy" in found.notices[0]


def test_the_same_key_twice_is_a_warning_without_the_value(tmp_path):
    notices = " ".join(resolved(tmp_path, OPENAI_API_KEY_1=REAL, OPENAI_API_KEY_2=REAL).notices)
    assert "openai/1 and openai/2" in notices and REAL not in notices


def test_what_goes_with_a_key_is_kept(tmp_path):
    rules = (
        "version: 1\nproviders: {openai: {keys: [{ref: env:MINE, priority: 2, organization: org-1, project: p-1, "
        "headers: {x-team: blue}}]}}\n"
    )
    key = resolved(tmp_path, rules, MINE=REAL).keys["openai"][0]
    assert (key.priority, key.organization, key.project, key.headers) == (2, "org-1", "p-1", (("x-team", "blue"),))


def test_the_process_loses_what_was_found(tmp_path):
    environ = {"OPENAI_API_KEY": REAL, "GATEWAY_ANTHROPIC_API_KEY": OTHER, "PATH": "/bin"}
    resolve_keys(making.rules(), Environment.from_process(tmp_path, environ), tmp_path)
    assert environ == {"PATH": "/bin"}


def test_a_provider_that_needs_no_key_takes_none(tmp_path):
    rules = "version: 1\nproviders: {openai: {keys: none}}\n"
    assert ids(resolved(tmp_path, rules, OPENAI_API_KEY=REAL)) == []


def test_files_are_to_be_watched(tmp_path):
    rules = "version: 1\nproviders: {openai: {keys: [file:key]}}\n"
    assert resolved(tmp_path, rules).files == (tmp_path / "key",)


def test_keys_that_are_not_used_leave_the_process_as_well(tmp_path):
    environ = {"OPENAI_API_KEY": REAL}
    rules = "version: 1\nproviders: {openai: {keys: none}}\n"
    resolve_keys(making.rules(rules), Environment.from_process(tmp_path, environ), tmp_path)
    assert environ == {}


def references(found):
    return {key.id: found.references[key.id] for keys in found.keys.values() for key in keys}


def test_of_two_variables_for_one_name_the_usable_one_is_taken(tmp_path):
    found = resolved(tmp_path, GEMINI_API_KEY="sk-dummy", GOOGLE_API_KEY=REAL)
    assert references(found) == {"gemini/main": "env:GOOGLE_API_KEY"}


def test_of_two_variables_for_one_name_the_other_is_said_to_be_left_out(tmp_path):
    found = resolved(tmp_path, GEMINI_API_KEY=REAL, GOOGLE_API_KEY=OTHER)
    assert references(found) == {"gemini/main": "env:GEMINI_API_KEY"} and "env:GOOGLE_API_KEY is left out" in found.notices[0]


def test_two_variables_with_the_same_key_are_nothing_to_remark(tmp_path):
    assert resolved(tmp_path, GEMINI_API_KEY=REAL, GOOGLE_API_KEY=REAL).notices == ()


def shared_file(tmp_path, rules):
    file = tmp_path / "lab.key"
    file.write_text(REAL)
    file.chmod(0o600)
    return resolved(tmp_path, f"version: 1\n{rules}\n", OPENAI_API_KEY=REAL)


LAB = "providers: {lab: {like: openai, upstream: '%s', keys: [%s]}}"


def test_threat_18_a_copy_of_a_providers_key_goes_to_no_other_place(tmp_path):
    found = shared_file(tmp_path, LAB % ("https://evil.test", "file:lab.key"))
    said = "the same key as openai/main, and would be sent to https://evil.test"
    assert ids(found) == ["openai/main"] and said in found.states["lab/lab"]


@pytest.mark.parametrize(
    ("upstream", "key"),
    [
        ("https://lab.test", "{ref: file:lab.key, share: true}"),
        ("http://127.0.0.1:8000", "file:lab.key"),
        ("https://api.openai.com/v2", "file:lab.key"),
    ],
    ids=["shared", "on this machine", "at its own host"],
)
def test_a_copy_that_is_meant_or_at_home_is_used(tmp_path, upstream, key):
    assert ids(shared_file(tmp_path, LAB % (upstream, key))) == ["openai/main", "lab/lab"]


def test_a_variable_of_its_own_may_hold_the_same_key(tmp_path):
    rules = "version: 1\n" + LAB % ("https://lab.test", "env:LAB_API_KEY")
    found = resolved(tmp_path, rules, OPENAI_API_KEY=REAL, LAB_API_KEY=REAL)
    assert ids(found) == ["openai/main", "lab/main"]


SLOW = "version: 1\nproviders: {openai: {keys: ['cmd:op read x', env:MINE]}}\n"


def fetched(tmp_path, monkeypatch, printed, text=SLOW, **values):
    """Keys after the slow ones were read; gives them, and what the program saw."""
    saw = {}
    monkeypatch.setattr(fetching.commands, "run", lambda ref, env, *_: (saw.update(env), printed)[1])
    rules, environment, fetcher = making.rules(text), Environment(values, tmp_path), Fetcher(tmp_path)
    fetch_keys(rules, environment, fetcher)
    return resolve_keys(rules, environment, tmp_path, fetcher), saw


def test_a_slow_key_is_used_like_any_other(tmp_path, monkeypatch):
    found, _ = fetched(tmp_path, monkeypatch, REAL, MINE=OTHER)
    assert ids(found) == ["openai/op", "openai/mine"]


@pytest.mark.parametrize(
    ("printed", "said"), [("sk-dummy-x", "looks like a dummy"), (f"{REAL} ", "white space"), ("short", "shorter")]
)
def test_what_a_program_prints_is_judged_like_any_key(tmp_path, monkeypatch, printed, said):
    found, _ = fetched(tmp_path, monkeypatch, printed)
    assert found.states["openai/op"].startswith("cmd:op read x ") and said in found.states["openai/op"]


def test_programs_see_no_key_of_the_gateway(tmp_path, monkeypatch):
    keys = {"MINE": OTHER, "GATEWAY_MINE": OTHER, "ANTHROPIC_API_KEY_2": OTHER, "GATEWAY_OPENAI_API_KEY": OTHER}
    _, saw = fetched(tmp_path, monkeypatch, REAL, VAULT_TOKEN="t", **keys)
    assert saw == {"VAULT_TOKEN": "t"}


def test_a_slow_key_that_was_not_read_is_unusable(tmp_path):
    found = resolved(tmp_path, SLOW, MINE=OTHER)
    assert ids(found) == ["openai/mine"] and "valetkey check" in found.states["openai/op"]


def test_a_program_does_not_see_a_key_that_the_rules_named_before(tmp_path):
    environment = Environment({"MINE": REAL, "PATH": "x"}, tmp_path)
    resolve_keys(making.rules("version: 1\nproviders: {openai: {keys: [env:MINE]}}\n"), environment, tmp_path)
    assert environment.without(()) == {"PATH": "x"}
