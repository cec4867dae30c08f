from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from support import making
from support.assembling import assembled
from valetkey.cli import keyring
from valetkey.errors import LedgerError
from valetkey.ledger import Order, StateStore, state
from valetkey.model import Outcome
from valetkey.policy.health import Failure, Place
from valetkey.proxy import lifecycle as lifecycle_module
from valetkey.proxy import memory as memory_module
from valetkey.proxy.memory import Memory, document, documents, upstreams

NOW = 1_700_000_000.0
ONE, TWO = "sk-proj-ONEoneONEoneONEoneONE0001", "sk-proj-TWOtwoTWOtwoTWOtwoTWO0002"
KEYS = {"openai/1": ONE, "openai/2": TWO}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A locked file is given up at once, and no store is left open."""
    monkeypatch.setattr(state, "_BUSY", 0.0)
    monkeypatch.setattr(state, "_TRIES", 1)
    yield
    while Life.begun:
        Life.begun.pop().memory._let_go()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "ledger.state.db"


class Life:
    """The gateway from one start to the next end, as far as its memory goes."""

    begun = []

    def __init__(self, path, keys=KEYS, now=NOW):
        self.runtime = making.runtime(keys=keys)
        self.now = now
        self.runtime.clock = lambda: self.now
        self.use(keys)
        self.begun.append(self)
        self.problems = []
        self.memory = Memory(self.runtime, path, self.problems.append)
        self.pools = self.runtime.pools
        self.memory.open()

    def use(self, keys):
        """Put other keys in force, as a reload does."""
        self.runtime.adopt(replace(making.snapshot(keys=keys), states=dict.fromkeys(keys)))

    def sync(self, times=1):
        for _ in range(times):
            asyncio.run(self.memory.sync())

    def fails(self, outcome=Outcome.THROTTLED, key="openai/1", **details):
        self.pools.health.failed(place(key), Failure(outcome, self.now - 1, **details), self.now)

    def uses(self, key="openai/1"):
        """One call with a key; gives what is held for it."""
        provider = self.runtime.snapshot.rules.providers["openai"]
        return self.pools.began(provider, place(key), self.pools.slots.take(key, None), self.now)

    def rests(self, key="openai/1"):
        return self.pools.health.condition(place(key), self.now).excluded

    def owner(self, name="response:resp_1"):
        return self.pools.affinity.key_for("openai", (name,), self.now)

    def binds(self, key="openai/1", name="response:resp_1"):
        self.pools.affinity.bind("openai", (name,), key, self.now)

    def ends(self):
        self.memory.close()
        return self


def place(key="openai/1"):
    return Place(key, "openai", "gpt-4o", "gpt-4o", "https://api.openai.com")


def kept(path, kind):
    with closing(StateStore(path, readonly=True)) as store:
        return store.load(kind)


def orders(path, *verbs, key="openai/1"):
    with closing(StateStore(path)) as store:
        for verb in verbs:
            store.order(verb, key, NOW)


# What survives.


def test_a_cooldown_survives(path):
    life = Life(path)
    life.fails(stated=60)
    life.ends()
    assert Life(path).rests()


def test_a_cooldown_ends_when_it_would_have_ended(path):
    life = Life(path)
    life.fails(stated=60)
    life.ends()
    assert not Life(path, now=NOW + 61).rests()


def test_a_cooldown_that_was_cleared_does_not_come_back(path):
    life = Life(path)
    life.fails(stated=60)
    life.sync()
    life.pools.health.reset("openai/1")
    life.ends()
    assert not Life(path).rests()


def test_the_count_of_calls_survives(path):
    life = Life(path)
    life.uses()
    life.uses()
    life.ends()
    assert Life(path).pools.gauges.of("openai/1").used == 2


def test_what_remains_survives(path):
    life = Life(path)
    life.pools.gauges.stated("openai/1", 0.25, "tokens", 60, NOW)
    life.ends()
    assert Life(path).pools.gauges.of("openai/1").remaining == 0.25


def test_what_belongs_to_a_key_survives(path):
    life = Life(path)
    life.binds("openai/2")
    life.ends()
    assert Life(path).owner() == "openai/2"


def test_a_disabled_key_stays_disabled(path):
    life = Life(path)
    life.memory.obey(Order("disable", "openai/1", NOW))
    life.ends()
    assert Life(path).rests()


def test_a_key_that_was_enabled_again_stays_so(path):
    life = Life(path)
    life.memory.obey(Order("disable", "openai/1", NOW))
    life.ends()
    again = Life(path)
    again.memory.obey(Order("enable", "openai/1", NOW))
    again.ends()
    assert not Life(path).rests()


def test_everything_is_written_while_the_gateway_runs(path):
    life = Life(path)
    life.fails(stated=60)
    life.uses()
    life.binds()
    life.sync()
    assert all(kept(path, kind) for kind in ("mark", "use", "affinity", "keys"))


def test_strikes_that_are_long_over_are_forgotten_in_the_file_too(path):
    life = Life(path)
    life.fails()
    life.sync()
    life.now += 10 * 86400
    life.sync()
    assert kept(path, "mark") == {}


def test_what_has_not_changed_is_not_written(path, monkeypatch):
    life, saved = Life(path), []
    life.uses()
    life.sync()
    monkeypatch.setattr(StateStore, "save", lambda self, changes: saved.append(dict(changes)))
    life.sync()
    assert saved == [{}]


# Values that change.


OTHER = {"openai/1": "sk-proj-NEWnewNEWnewNEWnewNEW0003", "openai/2": TWO}


def test_a_key_with_another_value_starts_fresh(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.use(OTHER)
    life.memory.check_values()
    assert not life.rests()


def test_a_key_with_the_same_value_does_not(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY, "openai/2")
    life.use(OTHER)
    life.memory.check_values()
    assert life.rests("openai/2")


@pytest.mark.parametrize("keys", [KEYS, {}, {"openai/2": TWO}])
def test_a_reload_without_other_values_changes_nothing(path, keys):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.use(keys)
    life.memory.check_values()
    assert life.rests()


def test_a_value_that_changed_while_the_gateway_was_down_is_noticed(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.binds()
    life.uses()
    life.ends()
    again = Life(path, OTHER)
    assert (again.rests(), again.owner(), again.pools.gauges.of("openai/1").used) == (False, None, 0)


def test_the_other_keys_are_what_they_were(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY, "openai/2")
    life.ends()
    assert Life(path, OTHER).rests("openai/2")


def test_a_key_that_was_away_for_a_while_is_known_again(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.ends()
    Life(path, {"openai/2": TWO}).ends()
    assert Life(path).rests()


def test_what_was_forgotten_is_forgotten_in_the_file_too(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.ends()
    Life(path, OTHER).ends()
    assert kept(path, "mark") == {}


def test_a_change_is_noticed_once(path):
    life = Life(path)
    life.use(OTHER)
    life.memory.check_values()
    life.fails(Outcome.BAD_KEY)
    life.memory.check_values()
    life.ends()
    assert Life(path, OTHER).rests()


@pytest.mark.parametrize("salt", [None, "", "zz", 7, "00"])
def test_a_salt_that_cannot_be_read_costs_no_cooldown(path, salt):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.ends()
    with closing(StateStore(path)) as store:
        store.save({"salt": {"salt": salt}})
    again = Life(path).ends()
    assert again.rests() and len(kept(path, "salt")["salt"]) == 32


def test_a_new_salt_is_gone_on_with(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.ends()
    with closing(StateStore(path)) as store:
        store.save({"salt": {"salt": None}})
    Life(path).ends()
    assert (Life(path).rests(), Life(path, OTHER).rests()) == (True, False)


def test_the_reload_of_the_rules_looks_for_other_values(path, monkeypatch):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.runtime.memory = life.memory
    life.runtime.settings = SimpleNamespace(rules_path=None)
    life.runtime.environment = SimpleNamespace(refresh=lambda: None)
    monkeypatch.setattr(lifecycle_module, "load_snapshot", lambda *_: making.snapshot(keys=OTHER))
    assert (asyncio.run(assembled(life.runtime).lifecycle._reload()), life.rests()) == (True, False)


def test_no_value_is_in_the_file(path):
    life = Life(path)
    for outcome in (Outcome.THROTTLED, Outcome.BAD_KEY):
        life.fails(outcome)
    life.uses()
    life.binds()
    life.ends()
    held = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert held and not any(value.encode() in held for value in KEYS.values())


# Orders.


def test_an_order_is_seen_by_the_pools(path):
    life = Life(path)
    orders(path, "disable")
    life.sync()
    assert life.rests()


def test_orders_are_carried_out_one_after_the_other(path):
    life = Life(path)
    orders(path, "disable", "enable", "disable", "reset")
    life.sync()
    assert not life.rests()


def test_an_order_is_carried_out_once(path):
    life = Life(path)
    orders(path, "disable")
    life.sync()
    life.memory.obey(Order("enable", "openai/1", NOW))
    life.sync()
    assert not life.rests()


@pytest.mark.parametrize(("verb", "rests"), [("enable", False), ("reset", False), ("disable", True)])
def test_a_key_that_is_out_is_let_in_by_a_person(path, verb, rests):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.now += 400
    life.fails(Outcome.BAD_KEY)
    orders(path, verb)
    life.sync()
    assert life.rests() is rests


def test_an_order_from_before_the_start_is_obeyed_at_the_start(path):
    orders(path, "disable")
    assert Life(path).rests()


def test_an_order_that_came_last_is_kept(path):
    life = Life(path)
    orders(path, "disable")
    life.ends()
    assert Life(path).rests()


def test_an_unknown_order_does_nothing(path):
    life = Life(path)
    life.memory.obey(Order("explode", "openai/1", NOW))
    assert not life.rests()


def test_what_was_ordered_is_shown(path):
    life = Life(path)
    orders(path, "disable")
    life.sync(2)
    assert kept(path, "keys")["openai/1"]["state"] == "disabled"


# A file that does not work.


def lock(path):
    connection = sqlite3.connect(path)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_locked_file_costs_nothing(path):
    life = Life(path)
    with closing(lock(path)):
        life.fails(stated=60)
        life.sync(3)
    life.sync(2)
    life.memory._let_go()
    assert Life(path).rests()


def test_a_locked_file_is_said_once(path):
    life = Life(path)
    with closing(lock(path)):
        for at in range(4):
            life.fails(stated=60 + at)
            life.sync()
    assert len(life.problems) == 1


def test_what_is_said_names_the_file_and_what_it_means(path):
    life = Life(path)
    with closing(lock(path)):
        life.fails()
        life.sync()
    assert str(path) in life.problems[0] and life.problems[0].endswith("; cooldowns and affinity are kept in memory only")


def test_a_problem_that_comes_back_is_said_again(path):
    life = Life(path)
    for at in range(2):
        with closing(lock(path)):
            life.fails(stated=60 + at)
            life.sync()
        life.sync(2)
    assert len(life.problems) == 2


def test_a_deleted_file_is_made_anew_with_all_that_is_known(path):
    life = Life(path)
    life.fails(stated=60)
    life.binds()
    life.memory.obey(Order("disable", "openai/2", NOW))
    life.sync()
    for file in path.parent.iterdir():
        file.unlink()
    life.uses()
    life.sync(3)
    life.memory._let_go()
    again = Life(path)
    assert (again.rests(), again.rests("openai/2"), again.owner()) == (True, True, "openai/1")


def test_after_a_deleted_file_values_are_still_compared(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.sync()
    for file in path.parent.iterdir():
        file.unlink()
    life.ends()
    assert (Life(path).rests(), Life(path, OTHER).rests()) == (True, False)


def test_a_file_that_is_deleted_right_before_the_end_is_made_anew(path):
    life = Life(path)
    life.fails(stated=60)
    life.sync()
    for file in path.parent.iterdir():
        file.unlink()
    life.ends()
    assert Life(path).rests()


def test_a_full_disk_costs_nothing(path):
    life = Life(path)
    life.sync()
    pages = life.memory._store._connection.execute("PRAGMA page_count").fetchone()[0]
    life.memory._store._connection.execute(f"PRAGMA max_page_count = {pages}")
    for at in range(500):
        life.binds(name=f"file:{at:0200}")
    life.fails(stated=60)
    life.sync()
    said = list(life.problems)
    life.ends()
    assert "full" in said[0] and Life(path).rests()


def test_a_disk_that_stays_full_is_said_once(path, monkeypatch):
    life = Life(path)

    def full(self, changes):
        if changes:
            raise LedgerError("the disk is full")

    monkeypatch.setattr(StateStore, "save", full)
    for _ in range(6):
        life.uses()
        life.sync()
    assert len(life.problems) == 1


@pytest.fixture
def damaged(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database, however long it may be " * 100)
    return path


def test_a_damaged_file_stops_nothing(damaged):
    life = Life(damaged)
    life.fails(stated=60)
    life.sync(3)
    life.ends()
    assert life.rests() and len(life.problems) == 1


def test_a_file_that_cannot_be_made_stops_nothing(tmp_path):
    (tmp_path / "kept").write_text("a file where the folder should be")
    life = Life(tmp_path / "kept" / "ledger.state.db")
    life.sync(2)
    life.ends()
    assert len(life.problems) == 1


def test_a_damaged_file_that_is_taken_away_is_made_anew(damaged):
    life = Life(damaged)
    life.fails(stated=60)
    life.sync()
    damaged.unlink()
    life.sync(2)
    life.memory._let_go()
    assert Life(damaged).rests()


@pytest.fixture
def late(path):
    """A gateway that starts while the file of an earlier one cannot be opened; `late()` starts it, `late.free()` lets it."""
    earlier = Life(path)
    earlier.fails(Outcome.BAD_KEY)
    earlier.fails(key="openai/2", stated=60)
    earlier.binds()
    earlier.ends()
    with pytest.MonkeyPatch.context() as patch:

        class Locked:
            def __init__(self, path):
                raise LedgerError("database is locked")

        patch.setattr(memory_module, "StateStore", Locked)

        def start(keys=KEYS, **options):
            return Life(path, keys, **options)

        start.free = patch.undo
        yield start


def test_a_file_that_could_not_be_opened_at_the_start_is_taken_up_later(late):
    life = late()
    late.free()
    life.sync()
    assert (life.rests(), life.rests("openai/2"), life.owner()) == (True, True, "openai/1")


def test_what_happened_before_it_could_be_opened_is_newer(late):
    life = late()
    life.fails(key="openai/2", stated=90)
    life.binds("openai/2")
    life.sync()
    late.free()
    life.sync()
    rest = next(mark for scope, mark in life.pools.health.marks() if scope.name == "openai/2")
    assert (rest.length, life.owner()) == (90, "openai/2")


def test_what_happened_before_it_could_be_opened_is_written(late, path):
    life = late()
    life.uses()
    life.sync()
    late.free()
    life.sync(2)
    assert kept(path, "use")["openai/1"]["used"] == 1


@pytest.mark.parametrize(("keys", "rests"), [(KEYS, True), (OTHER, False)])
def test_values_are_compared_when_it_is_taken_up(late, keys, rests):
    life = late(keys)
    life.memory.check_values()
    life.sync()
    late.free()
    life.sync()
    assert life.rests() is rests


def test_a_late_start_spoils_no_fingerprint(late, path):
    life = late()
    life.sync()
    late.free()
    life.sync()
    life.ends()
    assert Life(path).rests()


def test_without_a_file_a_changed_value_is_noticed_all_the_same(late):
    life = late()
    life.fails(Outcome.BAD_KEY)
    life.use(OTHER)
    life.memory.check_values()
    assert not life.rests()


@pytest.mark.parametrize("kind", ["mark", "use", "affinity", "disabled", "fingerprint", "salt"])
@pytest.mark.parametrize("document", [7, "x", [], {}, {"key": []}, None])
def test_documents_that_nobody_wrote_stop_nothing(path, kind, document):
    Life(path).ends()
    with closing(StateStore(path)) as store:
        store.save({kind: {"openai/1": document, "key\topenai/1\t": document, "salt": document}})
    life = Life(path)
    life.sync(2)
    assert life.ends().problems == []


# Thread and loop.


class Slow:
    """Makes a store's writing wait until the test lets it go on."""

    def __init__(self, monkeypatch, name="save"):
        self.entered, self.go = threading.Event(), threading.Event()
        original = getattr(StateStore, name)

        def slow(store, *args):
            self.entered.set()
            assert self.go.wait(10)
            return original(store, *args)

        monkeypatch.setattr(StateStore, name, slow)


def during(life, slow, act):
    """Do something on the loop while the thread writes."""

    async def play():
        task = asyncio.create_task(life.memory.sync())
        await asyncio.to_thread(slow.entered.wait, 10)
        act(task)
        slow.go.set()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())


def test_what_happens_while_it_is_written_is_written_next(path, monkeypatch):
    life = Life(path)
    life.fails(stated=60)
    during(life, Slow(monkeypatch), lambda _: (life.binds("openai/2"), life.use(OTHER), life.memory.check_values()))
    life.ends()
    again = Life(path, OTHER)
    assert (again.rests(), again.owner()) == (False, "openai/2")


def test_a_key_that_a_person_disables_while_it_is_written_stays_disabled(path, monkeypatch):
    life = Life(path)
    during(life, Slow(monkeypatch), lambda _: life.memory.obey(Order("disable", "openai/1", NOW)))
    life.ends()
    assert Life(path).rests()


def test_what_could_not_be_written_takes_no_place_of_what_came_since(path, monkeypatch):
    life = Life(path)
    life.binds("openai/1")
    slow = Slow(monkeypatch)
    with closing(lock(path)):
        during(life, slow, lambda _: life.binds("openai/2"))
    life.ends()
    assert Life(path).owner() == "openai/2"


def test_a_change_that_is_noticed_while_nothing_can_be_written_is_not_lost(path, monkeypatch):
    life = Life(path)
    life.sync()
    life.uses()
    slow = Slow(monkeypatch)
    with closing(lock(path)):
        during(life, slow, lambda _: (life.use(OTHER), life.memory.check_values()))
    life.fails(Outcome.BAD_KEY)
    life.ends()
    assert Life(path, OTHER).rests()


def ended(life, slow):
    """The task that writes is cancelled, and the gateway ends while the thread still writes."""

    def act(task):
        task.cancel()
        threading.Timer(0, slow.go.set).start()

    async def play():
        task = asyncio.create_task(life.memory.sync())
        await asyncio.to_thread(slow.entered.wait, 10)
        act(task)
        life.memory.close()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())


def test_the_end_waits_for_the_thread_that_writes(path, monkeypatch):
    life = Life(path)
    life.fails(stated=60)
    ended(life, Slow(monkeypatch))
    assert Life(path).rests() and life.problems == []


def test_orders_that_were_taken_when_the_end_came_are_obeyed(path, monkeypatch):
    life = Life(path)
    orders(path, "disable")
    ended(life, Slow(monkeypatch, "take_orders"))
    assert Life(path).rests()


def test_what_was_never_begun_is_written_at_the_end(path, monkeypatch):
    life = Life(path)
    life.fails(stated=60)

    async def cancelled(call, *args):
        raise asyncio.CancelledError

    monkeypatch.setattr(memory_module.asyncio, "to_thread", cancelled)
    with pytest.raises(asyncio.CancelledError):
        life.sync()
    life.ends()
    assert Life(path).rests()


def test_a_thread_that_comes_too_late_writes_nothing(path, monkeypatch):
    life, given = Life(path), []

    async def cancelled(call, *args):
        given.append((call, args))
        raise asyncio.CancelledError

    monkeypatch.setattr(memory_module.asyncio, "to_thread", cancelled)
    with pytest.raises(asyncio.CancelledError):
        life.sync()
    life.ends()
    ((call, args),) = given
    call(*args)
    assert life.memory._store is None


def test_it_can_be_closed_twice(path):
    life = Life(path).ends()
    life.ends()
    assert life.problems == []


# What people are shown.


def shown(life, key="openai/1"):
    return document(life.runtime, key, life.now)


def test_a_well_key(path):
    assert shown(Life(path)) == {
        "state": "ready", "reason": None, "until": None, "raw": None, "url": None, "rests": [], "in_flight": 0, "used": 0,
        "remaining": None, "remaining_dimension": None, "last_used": None,
    }  # fmt: skip


def test_a_key_at_work(path):
    life = Life(path)
    life.uses()
    found = shown(life)
    assert (found["in_flight"], found["used"], found["last_used"]) == (1, 1, NOW)


def test_a_key_that_rests_for_a_model(path):
    life = Life(path)
    life.fails(stated=7, raw="7")
    assert (shown(life)["state"], shown(life)["rests"]) == (
        "resting", [{"model": "gpt-4o", "reason": "throttled", "until": NOW + 7, "raw": "7"}],
    )  # fmt: skip


def test_a_rest_that_is_over(path):
    life = Life(path)
    life.fails(stated=7, url="https://help.openai.com")
    life.now += 8
    assert (shown(life)["state"], shown(life)["rests"], shown(life)["url"]) == ("ready", [], None)


def test_a_bad_key_rests(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY, url="https://help.openai.com")
    found = shown(life)
    assert [found[name] for name in ("state", "reason", "until", "url")] == [
        "resting", "bad_key", NOW + 300, "https://help.openai.com",
    ]  # fmt: skip


def test_a_key_that_is_probed(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.now += 301
    life.uses()
    assert shown(life)["state"] == "probing"


def test_a_key_that_is_out(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.now += 301
    life.fails(Outcome.BAD_KEY)
    assert (shown(life)["state"], shown(life)["until"]) == ("out", None)


def test_a_disabled_key_is_first_of_all_disabled(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.memory.obey(Order("disable", "openai/1", NOW))
    assert shown(life)["state"] == "disabled"


def test_the_page_of_a_model_that_rests(path):
    life = Life(path)
    life.fails(Outcome.QUOTA, url="https://platform.openai.com/settings")
    assert shown(life)["url"] == "https://platform.openai.com/settings"


@pytest.mark.parametrize(("resets_in", "later", "remaining"), [(60, 59, 0.25), (60, 61, None), (None, 61, 0.25)])
def test_what_remains_until_there_is_more(path, resets_in, later, remaining):
    life = Life(path)
    life.pools.gauges.stated("openai/1", 0.25, "tokens", resets_in, NOW)
    life.now += later
    assert shown(life)["remaining"] == remaining


@pytest.mark.parametrize("outcome", [None, Outcome.THROTTLED, Outcome.BAD_KEY])
def test_all_keys_are_shown_like_each_one(path, outcome):
    life = Life(path)
    if outcome:
        life.fails(outcome)
    assert documents(life.runtime, NOW) == {key: shown(life, key) for key in KEYS}


def test_keys_of_other_rules_are_not_shown(path):
    life = Life(path)
    life.fails(Outcome.BAD_KEY)
    life.use({"openai/2": TWO})
    assert [*documents(life.runtime, NOW)] == ["openai/2"]


def test_what_is_written_of_a_key_is_what_is_shown_and_when(path):
    life = Life(path)
    life.fails()
    life.sync()
    assert kept(path, "keys")["openai/1"] == shown(life) | {"time": NOW}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda life: None, "ready"),
        (lambda life: life.fails(stated=7), "resting gpt-4o: throttled, 7 s left"),
        (lambda life: life.fails(Outcome.QUOTA), "resting gpt-4o: quota, 60 min left"),
        (lambda life: life.fails(Outcome.BAD_KEY), "resting: bad_key, 5 min left"),
        (lambda life: life.memory.obey(Order("disable", "openai/1", NOW)), "disabled"),
    ],
)
def test_the_command_line_reads_it(path, prepare, words):
    life = Life(path)
    prepare(life)
    life.sync()
    assert keyring._state(kept(path, "keys")["openai/1"], NOW) == words


def fails_in_a_row(life, outcome):
    for _ in range(3):
        life.now += 1
        life.pools.health.failed(place(), Failure(outcome, life.now - 0.5), life.now)


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome.SERVER, "https://api.openai.com: last choice for 10 s (server)"),
        (Outcome.OVERLOADED, "openai/gpt-4o: last choice for 10 s (overloaded)"),
    ],
)
def test_what_is_the_last_choice_is_told(path, outcome, line):
    life = Life(path)
    fails_in_a_row(life, outcome)
    assert upstreams(life.runtime, life.now) == [line]


def test_a_single_failure_is_not_told(path):
    life = Life(path)
    life.fails(Outcome.SERVER)
    assert upstreams(life.runtime, NOW) == []


def test_what_is_over_is_not_told(path):
    life = Life(path)
    fails_in_a_row(life, Outcome.SERVER)
    assert upstreams(life.runtime, life.now + 11) == []
