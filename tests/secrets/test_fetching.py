from __future__ import annotations

import threading
import time

import pytest

from valetkey.errors import SecretError
from valetkey.model import KeySpec
from valetkey.secrets import Fetcher, Secret, fetching

KEY, OTHER = "sk-proj-REALrealREALrealREALreal0001", "sk-proj-REALrealREALrealREALreal0002"
REF = "cmd:op read op://vault/openai/key"


class World:
    """What programs print, how often they ran, and the time."""

    def __init__(self):
        self.now = 1000.0
        self.prints = {REF: KEY}
        self.runs = []

    def run(self, reference, env, folder, timeout, stop):
        self.runs.append((reference, dict(env), timeout))
        found = self.prints[reference]
        if found is None:
            raise SecretError(f"{reference} ended with status 1")
        return found


@pytest.fixture
def world(monkeypatch):
    made = World()
    monkeypatch.setattr(fetching.commands, "run", made.run)
    monkeypatch.setattr(fetching.keychain, "read", lambda reference, timeout: made.run(reference, {}, None, timeout, None))
    return made


@pytest.fixture
def fetcher(world, tmp_path):
    return Fetcher(tmp_path, clock=lambda: world.now)


def spec(ref=REF, **options):
    return KeySpec(ref, **options)


def test_what_was_fetched_is_there(fetcher):
    fetcher.fetch([spec()], {})
    assert fetcher.get(REF) == Secret(KEY)


def test_what_was_not_fetched_is_not(fetcher):
    with pytest.raises(SecretError, match="was not read"):
        fetcher.get(REF)


def test_without_a_life_it_is_read_once(fetcher, world):
    fetcher.fetch([spec()], {})
    world.now += 1e9
    fetcher.fetch([spec()], {})
    assert len(world.runs) == 1


@pytest.mark.parametrize(("later", "count"), [(899, 1), (900, 2)])
def test_it_is_read_anew_when_its_life_is_over(fetcher, world, later, count):
    fetcher.fetch([spec(ttl=900.0)], {})
    world.now += later
    fetcher.fetch([spec(ttl=900.0)], {})
    assert len(world.runs) == count


@pytest.mark.parametrize(("later", "due"), [(899, False), (900, True)])
def test_it_is_told_when_something_is_due(fetcher, world, later, due):
    fetcher.fetch([spec(ttl=900.0)], {})
    world.now += later
    assert fetcher.is_due is due


@pytest.mark.parametrize(("value", "changed"), [(KEY, False), (OTHER, True)])
def test_it_is_told_whether_something_changed(fetcher, world, value, changed):
    fetcher.fetch([spec(ttl=900.0)], {})
    world.now, world.prints[REF] = world.now + 900, value
    assert fetcher.fetch([spec(ttl=900.0)], {}) is changed


def failing(fetcher, world):
    """A value that could not be read anew."""
    fetcher.fetch([spec(ttl=900.0)], {})
    world.now, world.prints[REF] = world.now + 900, None
    fetcher.fetch([spec(ttl=900.0)], {})


def test_one_that_cannot_be_read_anew_keeps_its_value(fetcher, world):
    failing(fetcher, world)
    assert fetcher.get(REF) == Secret(KEY)


def test_that_a_value_is_old_is_told(fetcher, world):
    failing(fetcher, world)
    assert fetcher.problems() == (f"{REF} ended with status 1; the key that was read before stays in use",)


def test_one_that_never_could_be_read_has_its_reason(fetcher, world):
    world.prints[REF] = None
    fetcher.fetch([spec()], {})
    with pytest.raises(SecretError, match="ended with status 1"):
        fetcher.get(REF)


def test_one_that_failed_is_tried_again_in_a_minute(fetcher, world):
    world.prints[REF] = None
    fetcher.fetch([spec()], {})
    world.now, world.prints[REF] = world.now + 60, KEY
    fetcher.fetch([spec()], {})
    assert fetcher.get(REF) == Secret(KEY)


def test_one_that_is_doubted_is_due_at_once(fetcher):
    fetcher.fetch([spec()], {})
    fetcher.doubt(REF)
    assert fetcher.is_due


def doubted_twice(fetcher, world, value):
    fetcher.fetch([spec()], {})
    fetcher.doubt(REF)
    world.prints[REF] = value
    fetcher.fetch([spec()], {})
    fetcher.doubt(REF)


def test_the_same_value_is_not_doubted_at_once_again(fetcher, world):
    doubted_twice(fetcher, world, KEY)
    assert not fetcher.is_due


def test_the_same_value_is_doubted_again_later(fetcher, world):
    doubted_twice(fetcher, world, KEY)
    world.now += 60
    assert fetcher.is_due


def test_a_new_value_may_be_doubted_at_once(fetcher, world):
    doubted_twice(fetcher, world, OTHER)
    assert fetcher.is_due


@pytest.mark.parametrize("reference", ["", "env:OPENAI_API_KEY", "cmd:other"])
def test_what_is_not_held_is_not_doubted(fetcher, reference):
    fetcher.fetch([spec()], {})
    fetcher.doubt(reference)
    assert not fetcher.is_due


def test_what_is_no_longer_named_is_dropped(fetcher):
    fetcher.fetch([spec()], {})
    fetcher.fetch([], {})
    with pytest.raises(SecretError):
        fetcher.get(REF)


def test_one_reference_for_two_keys_is_read_once(fetcher, world):
    fetcher.fetch([spec(), spec(name="other")], {})
    assert len(world.runs) == 1


@pytest.mark.parametrize("lives", [(None, 60.0), (60.0, None), (60.0, 900.0)])
def test_of_two_lives_the_shorter_holds(fetcher, world, lives):
    fetcher.fetch([spec(ttl=life) for life in lives], {})
    world.now += 60
    assert fetcher.is_due


def test_quick_references_are_not_read_here(fetcher, world):
    fetcher.fetch([spec("env:A"), spec("file:b")], {})
    assert world.runs == []


def test_programs_get_the_variables_and_the_time(fetcher, world):
    fetcher.fetch([spec(timeout=3.0)], {"A": "b"})
    assert world.runs == [(REF, {"A": "b"}, 3.0)]


@pytest.mark.parametrize(("reference", "runs"), [(REF, 0), ("keyring:a/b", 1)])
def test_with_a_refusal_no_program_is_run(fetcher, world, reference, runs):
    world.prints[reference] = KEY
    fetcher.fetch([spec(reference)], {}, "rules.yaml may be changed by others")
    assert len(world.runs) == runs


def test_the_refusal_is_the_reason(fetcher, world):
    fetcher.fetch([spec()], {}, "rules.yaml may be changed by others")
    with pytest.raises(SecretError, match=r"is not run: rules\.yaml may be changed"):
        fetcher.get(REF)


def test_keys_are_read_side_by_side(world, tmp_path, monkeypatch):
    together = threading.Barrier(4, timeout=20)
    monkeypatch.setattr(fetching.commands, "run", lambda *_: f"{KEY}{together.wait()}")
    fetcher = Fetcher(tmp_path)
    fetcher.fetch([spec(f"cmd:{number}") for number in range(4)], {})
    assert not together.broken


def test_more_than_are_read_abreast_are_read_as_well(fetcher, world):
    world.prints |= {f"cmd:{number}": KEY for number in range(20)}
    fetcher.fetch([spec(f"cmd:{number}") for number in range(20)], {})
    assert len(world.runs) == 20


def test_what_takes_long_is_told(world, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "SLOW", 0.0)
    told = threading.Event()
    monkeypatch.setattr(fetching.commands, "run", lambda *_: told.wait(20) and KEY)
    said = []
    Fetcher(tmp_path, lambda text: (said.append(text), told.set())).fetch([spec()], {})
    assert said[0].startswith(f"waiting for {REF} (")


def test_the_end_of_the_gateway_ends_the_wait(world, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.commands, "run", lambda ref, env, folder, timeout, stop: stop.wait(20) and KEY)
    fetcher = Fetcher(tmp_path)
    begun = time.monotonic()
    ended = threading.Timer(0.05, fetcher.stop)
    ended.start()
    fetcher.fetch([spec()], {})
    assert time.monotonic() - begun < 15


def test_a_reader_that_dies_holds_nobody_up(fetcher, world, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda found: None)
    world.prints = {OTHER_REF: OTHER}
    fetcher.fetch([spec(), spec(OTHER_REF)], {})  # the first one is a KeyError
    for reader in fetcher._readers:
        reader.join()
    with pytest.raises(SecretError, match="defect"):
        fetcher.get(REF)
    assert fetcher.get(OTHER_REF) == Secret(OTHER)


OTHER_REF = "cmd:op read op://vault/anthropic/key"


def test_the_end_waits_once_for_all_readers(fetcher, monkeypatch):
    held = threading.Event()
    monkeypatch.setattr(fetching.keychain, "read", lambda reference, timeout: str(held.wait(60)))
    monkeypatch.setattr(fetching, "_GRACE", 0.3)
    fetch = threading.Thread(target=fetcher.fetch, args=([spec(f"keyring:valetkey/{n}") for n in range(8)], {}))
    fetch.start()
    begun = time.monotonic()
    fetcher.stop()
    took = time.monotonic() - begun
    held.set()
    fetch.join()
    assert took < 2.0


def test_ctrl_c_ends_what_is_being_read(fetcher, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(
        fetching.commands, "run", lambda reference, env, folder, timeout, stop: (stop.wait(30) and ended.set()) or KEY
    )

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetcher, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetcher.fetch([spec()], {})
    assert ended.is_set()
