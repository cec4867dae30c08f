"""Pools through the real process: rotation, warm caches, what belongs to a key, limits, restarts and orders of a person."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.pooling import (
    KEYS,
    Call,
    Came,
    Stage,
    agent,
    key,
    keys_of,
    make,
    number_of,
    post,
    provider_line,
    staged,
    together,
    valetkey,
)
from support.processes import wait_for

pytestmark = pytest.mark.e2e

WRITTEN = 1.2
"""Seconds after which what is known has been kept: it is written twice a second."""
GATEWAY = "timeouts: {retry: 20ms, max_wait: 20s, small_wait: 100ms}"
PERSONS = tuple(f"person-{letter}" for letter in "abcdefgh")
"""Providers of two keys, one for each test in which a person acts."""
OWN = ("warm", "bound", "named", "narrow", "heavy", "exact", "tiers", "rests", "turns", "file", *PERSONS)


def rules_of(rotation: str = "sequential", file: Path | None = None) -> str:
    """The providers of this file; `turns` is the one whose rotation is changed."""
    weighed = ", ".join(f'{{name: "{n}", ref: "env:OPENAI_API_KEY_{n}", weight: {n}, share: true}}' for n in (1, 2, 3))
    tiers = ", ".join(
        f'{{name: "{n}", ref: "env:OPENAI_API_KEY_{n}", priority: {(n + 1) // 2}, share: true}}' for n in (1, 2, 3, 4)
    )
    lines = [
        provider_line("warm", 5, like="anthropic", more="rotation: sticky"),
        provider_line("bound", 3, more="rotation: round_robin"),
        provider_line("named", 3, more="rotation: round_robin"),
        provider_line("narrow", 2, more="concurrency: 2"),
        f'  heavy: {{like: openai, upstream: "https://heavy.example", keys: [{weighed}]}}',
        f'  exact: {{like: openai, upstream: "https://exact.example", keys: [{weighed}], window: {{tolerance: 0}}}}',
        f'  tiers: {{like: openai, upstream: "https://tiers.example", keys: [{tiers}]}}',
        *(provider_line(name, 2, more="rotation: sequential") for name in PERSONS),
        provider_line("rests", 2),
        provider_line("turns", 3, more=f"rotation: {rotation}"),
    ]
    if file is not None:
        key = f'{{name: "1", ref: "file:{file}", share: true}}'
        lines.append(f'  file: {{like: openai, upstream: "https://file.example", keys: [{key}]}}')
    routes = [f"  - {{match: {{model: '{name}*'}}, to: {name}}}" for name in OWN if name != "file" or file]
    return "\n".join(["providers:", *lines, "routes:", *routes])


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with staged(tmp_path_factory.mktemp("pools"), rules_of(), gateway=GATEWAY, own=OWN) as started:
        yield started


def calls(stage: Stage, many: list[Call], at_once: int = 4, **headers: str) -> list[Came]:
    """Make many calls over few connections; all must be well."""

    async def work() -> list[Came]:
        async with agent(stage.gateway) as client:
            return await together((make(client, call, **headers) for call in many), at_once)

    found = asyncio.run(work())
    assert [(came.status, came.body[:200]) for came in found if came.status != 200] == []
    return found


def key_of(came: Came) -> str:
    return came.headers["x-valetkey-key"].rpartition("/")[2]


# Warm caches.

CONVERSATIONS, TURNS = 20, 10


def talk(stage: Stage, mark: str, turns: range, ill: range = range(0), number: int = 0) -> dict[int, list[str]]:
    """Interleaved conversations, each with its own first message; in the turns `ill` key `number` is throttled.

    Gives the keys of each conversation, turn by turn.
    """
    keys: dict[int, list[str]] = {talker: [] for talker in range(CONVERSATIONS)}
    for turn in turns:
        if turn == ill.start and ill:
            stage.fail(f"status=429,retry_after_ms=600,key={key('anthropic', number)}")
        if turn == ill.stop and ill:
            stage.heal()
            time.sleep(0.7)
        came = calls(stage, [Turn("messages", "warm-model", text=f"{mark} {talker}", turn=turn) for talker in keys], 8)
        for talker, each in enumerate(came):
            keys[talker].append(key_of(each))
    return keys


class Turn(Call):
    """A call that has the turns before it in its messages."""

    def __init__(self, format: str, model: str, text: str, turn: int) -> None:
        super().__init__(format, model, False, text)
        object.__setattr__(self, "turn", turn)

    @property
    def body(self) -> bytes:
        import json

        said: list[dict[str, Any]] = [{"role": "user", "content": f"{self.text}: let us begin"}]
        for number in range(self.turn):
            said += [{"role": "assistant", "content": f"answer {number}"}, {"role": "user", "content": f"question {number}"}]
        return json.dumps({"model": self.model, "max_tokens": 50, "system": "be brief", "messages": said}).encode()


def share(keys: dict[int, list[str]]) -> float:
    """The share of turns, after the first, that went to the key of the turn before."""
    moves = [before == after for each in keys.values() for before, after in pairwise(each)]
    return sum(moves) / len(moves)


def test_conversations_stay_with_their_key(stage):
    keys = talk(stage, "warm", range(TURNS))
    found = share(keys)
    print(f"\n{CONVERSATIONS} conversations, {TURNS} turns each, 5 keys: {found:.1%} of turns with the key of the turn before")
    assert found == 1.0


def test_conversations_are_spread_over_the_keys(stage):
    keys = talk(stage, "spread", range(1))
    assert len({each[0] for each in keys.values()}) >= 4


def test_only_the_conversations_of_a_key_that_fails_move(stage):
    first = talk(stage, "moving", range(1))
    ill = int(first[0][0])
    keys = talk(stage, "moving", range(1, TURNS), range(3, 6), ill)
    found = {talker: [*first[talker], *keys[talker]] for talker in first}
    theirs = {talker for talker, each in found.items() if each[0] == str(ill)}
    others = {talker: each for talker, each in found.items() if talker not in theirs}
    moved = {talker: found[talker] for talker in theirs}
    print(
        f"\nkey {ill} throttled in turns 4 to 6: its {len(theirs)} conversations stayed with their key in {share(moved):.1%} of "
        f"turns, the other {len(others)} in {share(others):.1%}, all in {share(found):.1%}"
    )
    assert share(others) == 1.0
    assert all(len(set(each)) > 1 for each in moved.values())


def test_a_conversation_that_moved_moves_once(stage):
    """It is warm at its new key; going back would be cold again."""
    first = talk(stage, "once", range(1))
    ill = int(first[0][0])
    keys = talk(stage, "once", range(1, TURNS), range(3, 6), ill)
    found = [[*first[talker], *keys[talker]] for talker in first if first[talker][0] == str(ill)]
    assert {sum(before != after for before, after in pairwise(each)) for each in found} == {1}


def test_a_named_conversation_stays_with_its_key_in_any_rotation(stage):
    async def turns() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        async with agent(stage.gateway) as client:
            for _ in range(5):
                for name in ("a", "b", "c", "d"):
                    came = await make(client, Call("chat", "named"), session_id=f"conversation-{name}")
                    found.setdefault(name, set()).add(key_of(came))
        return found

    assert {len(keys) for keys in asyncio.run(turns()).values()} == {1}


# What belongs to a key.


class Following(Call):
    """A call that goes on from the simulator's response."""

    @property
    def body(self) -> bytes:
        return super().body[:-1] + b', "previous_response_id": "resp_sim1"}'


def test_what_belongs_to_a_key_goes_to_that_key(stage):
    """Round robin would take the next key each time."""
    made = key_of(calls(stage, [Call("responses", "bound")])[0])
    followed = calls(stage, [Following("responses", "bound", bool(n % 2), f"following {n}") for n in range(12)])
    assert {key_of(came) for came in followed} == {made}
    assert set(stage.numbers('"previous_response_id": "resp_sim1"')) == {made}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_what_belongs_to_a_key_still_does_after_a_restart(stage, how):
    made = key_of(calls(stage, [Call("responses", "bound", text=f"before {how}")])[0])
    time.sleep(WRITTEN)
    stage.gateway.stop(how)
    stage.gateway.start()
    followed = calls(stage, [Following("responses", "bound", False, f"after {how}: {n}") for n in range(6)])
    assert {key_of(came) for came in followed} == {made}


def test_a_call_waits_for_the_key_that_it_belongs_to(stage):
    made = key_of(calls(stage, [Call("responses", "bound", text="waiting")])[0])
    stage.fail(f"status=429,retry_after_ms=700,times=1,key={key('openai', int(made))},model=bound")
    came = calls(stage, [Following("responses", "bound", text="the one that waits")])[0]
    stage.heal()
    attempts = [(a["key"], a["outcome"]) for a in stage.receipt(came.id)["attempts"]]
    assert attempts == [(f"bound/{made}", "throttled"), (f"bound/{made}", "ok")]


# At most so many at once.


def test_no_key_serves_more_calls_at_once_than_it_may(stage):
    lasts = 0.3
    stage.fail(f"slow={lasts},model=narrow")
    begun = time.monotonic()
    came = calls(stage, [Call("chat", "narrow", bool(n % 2), f"in line {n}") for n in range(20)], 20)
    took = time.monotonic() - begun
    stage.heal()
    arrivals: dict[str, list[float]] = {}
    for seen in stage.seen("narrow"):
        arrivals.setdefault(number_of(seen), []).append(seen.time)
    most = {
        number: max(sum(start <= moment < start + lasts - 0.02 for start in starts) for moment in starts)
        for number, starts in arrivals.items()
    }
    print(f"\n20 calls of {lasts} s at 2 keys with concurrency 2: {took:.2f} s, at most at once by key {most}")
    assert (len(came), most, len(stage.seen("narrow"))) == (20, {"1": 2, "2": 2}, 20)


def test_nothing_is_in_flight_when_all_is_done(stage):
    """Runs after the calls in line."""
    wait_for(
        lambda: {row["in_flight"] for row in keys_of(stage.gateway).values() if row["usable"]} == {0}, "the end of all calls"
    )


# Shares.


@pytest.mark.parametrize(("name", "slack"), [("heavy", 0.08), ("exact", 0.01)])
def test_keys_are_used_by_their_weight(stage, name, slack):
    count = 300
    used = Counter(key_of(came) for came in calls(stage, [Call("chat", name)] * count, 1))
    shares = {number: used[number] / count for number in "123"}
    print(f"\n{name}: {count} calls at keys of weight 1, 2, 3: {shares}")
    assert shares == {number: pytest.approx(int(number) / 6, abs=slack) for number in "123"}


def test_the_first_tier_serves_while_it_can(stage):
    assert {key_of(came) for came in calls(stage, [Call("chat", "tiers-good")] * 100)} == {"1", "2"}


def test_the_next_tier_serves_when_the_first_rests(stage):
    for number in (1, 2):
        stage.fail(f"status=429,retry_after_ms=60000,times=1,model=tiers-next,key={key('openai', number)}")
    calls(stage, [Call("chat", "tiers-next")] * 8, 1)  # until both were taken
    used = Counter(key_of(came) for came in calls(stage, [Call("chat", "tiers-next")] * 80, 4))
    stage.heal()
    assert set(used) == {"3", "4"} and min(used.values()) >= 20


@pytest.mark.parametrize("number", range(8))
def test_a_key_whose_rest_begins_among_other_calls_rests(stage, number):
    """Calls that were on their way to it may still be answered; that does not end its rest."""
    model = f"tiers-among-{number}"
    for tier in (1, 2):
        stage.fail(f"status=429,retry_after_ms=60000,times=1,model={model},key={key('openai', tier)}")
    used = [key_of(came) for came in calls(stage, [Call("chat", model)] * 40, 4)]
    stage.heal()
    assert set(used[12:]) == {"3", "4"}


# Restarts and reloads.


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_a_key_that_rests_still_rests_after_a_restart(stage, how):
    model = f"rests-{int(how)}"
    stage.fail(f"status=429,retry_after_ms=60000,times=1,model={model},key={key('openai', 1)}")
    calls(stage, [Call("chat", model)] * 20, 1)  # until key 1 was taken once
    stage.heal()
    before = wait_for(lambda: _rest(stage, "rests/1", model), "the rest")
    stage.gateway.stop(how)
    stage.gateway.start()
    used = {key_of(came) for came in calls(stage, [Call("chat", model)] * 20, 1)}
    after = _rest(stage, "rests/1", model)
    assert (used, after["reason"], after["until"]) == ({"2"}, "throttled", pytest.approx(before["until"], abs=0.5))


def _rest(stage: Stage, id: str, model: str) -> dict[str, Any] | None:
    """The rest of a key for a model, as `valetkey keys --json` tells it."""
    row = keys_of(stage.gateway)[id]
    return next((rest for rest in row["rests"] if rest["model"] == model and row["state"] == "resting"), None)


def test_another_rotation_takes_effect_on_reload(stage):
    before = {key_of(came) for came in calls(stage, [Call("chat", "turns")] * 6, 1)}
    stage.gateway.write_rules(rules_of("round_robin"))
    wait_for(lambda: "rules reloaded (revision 2)" in _log(stage), "the reload")
    after = [key_of(came) for came in calls(stage, [Call("chat", "turns")] * 6, 1)]
    assert (len(before), sorted(after), after[:3]) == (1, ["1", "1", "2", "2", "3", "3"], after[3:])


def _log(stage: Stage) -> str:
    """What the process has said since its last start."""
    return stage.gateway.output().rpartition("valetkey: ready")[2] or stage.gateway.output()


# A person.


_persons = iter(PERSONS)


@pytest.fixture
def in_use(stage) -> str:
    """The id of the key that a provider which no other test has uses, and goes on to use."""
    return calls(stage, [Call("chat", next(_persons))])[0].headers["x-valetkey-key"]


def model_of(id: str) -> str:
    """The model for which a provider is called, which is named like it."""
    return id.partition("/")[0]


def other(id: str) -> str:
    """The id of the other key of the two."""
    return id[:-1] + {"1": "2", "2": "1"}[id[-1]]


def used(stage: Stage, id: str) -> set[str]:
    """The ids of the keys that the next calls go to."""
    return {came.headers["x-valetkey-key"] for came in calls(stage, [Call("chat", model_of(id))] * 3, 1)}


def within_two_seconds(stage: Stage, wanted: str) -> None:
    """The calls go to this key, at the latest in two seconds."""
    within(2.0, lambda: used(stage, wanted) == {wanted})


def within(seconds: float, condition: Callable[[], bool]) -> None:
    """A condition becomes true in time."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds
        time.sleep(0.05)


def test_a_key_that_is_disabled_is_used_no_more(stage, in_use):
    valetkey(stage.gateway, "keys", "disable", in_use)
    within_two_seconds(stage, other(in_use))
    wait_for(lambda: keys_of(stage.gateway)[in_use]["state"] == "disabled", "the state")


def test_a_disabled_key_stays_so_after_a_restart(stage, in_use):
    valetkey(stage.gateway, "keys", "disable", in_use)
    within_two_seconds(stage, other(in_use))
    time.sleep(WRITTEN)
    stage.gateway.stop(signal.SIGKILL)
    stage.gateway.start()
    assert used(stage, in_use) == {other(in_use)}


def test_a_key_that_is_enabled_is_used_again(stage, in_use):
    valetkey(stage.gateway, "keys", "disable", in_use)
    within_two_seconds(stage, other(in_use))
    valetkey(stage.gateway, "keys", "enable", in_use)
    valetkey(stage.gateway, "keys", "disable", other(in_use))
    within_two_seconds(stage, in_use)


def test_all_keys_disabled_is_a_refusal_that_says_so(stage, in_use):
    for id in (in_use, other(in_use)):
        valetkey(stage.gateway, "keys", "disable", id)
    call = Call("chat", model_of(in_use))
    came = wait_for(lambda: (found := post(stage.gateway, call)).status == 503 and found, "the refusal")
    assert (came.headers["x-valetkey-refusal"], came.headers["x-should-retry"]) == ("no_usable_key", "false")


@pytest.mark.parametrize("fault", ["status=429,retry_after_ms=60000", "kind=bad_key", "kind=quota"])
def test_a_key_that_is_reset_is_used_again(stage, in_use, fault):
    """Both keys are marked; the call after the reset goes to the one that was reset."""
    call = Call("chat", model_of(in_use))
    stage.fail(f"{fault},times=2,{call.fault}")
    refused = post(stage.gateway, call)
    stage.heal()
    assert refused.status in (429, 503)
    valetkey(stage.gateway, "keys", "reset", in_use)
    within(2.0, lambda: post(stage.gateway, call).headers.get("x-valetkey-key") == in_use)


def test_all_keys_that_rest_are_told_with_the_time(stage, in_use):
    call = Call("chat", model_of(in_use))
    stage.fail(f"status=429,retry_after_ms=60000,times=2,{call.fault}")
    first, second = post(stage.gateway, call), post(stage.gateway, call)
    stage.heal()
    assert (first.status, second.status, second.headers["x-valetkey-refusal"]) == (429, 429, "all_keys_rest")
    assert 55 <= float(second.headers["retry-after"]) <= 61


def test_a_changed_value_of_a_bad_key_is_used_at_once(stage):
    path = stage.gateway.folder / "key"
    path.touch(mode=0o600)
    path.write_text(key("openai", 4))
    stage.gateway.write_rules(rules_of("round_robin", path))
    wait_for(
        lambda: post(stage.gateway, Call("chat", "file-first")).headers.get("x-valetkey-key") == "file/1", "the new provider"
    )
    stage.fail(f"kind=bad_key,key={key('openai', 4)}")
    bad = post(stage.gateway, Call("chat", "file-second"))
    path.write_text(key("openai", 5))
    came = wait_for(lambda: (found := post(stage.gateway, Call("chat", "file-third"))).status == 200 and found, "the new value")
    stage.heal()
    assert (bad.status, came.headers["x-valetkey-key"], set(stage.numbers("file-third"))) == (503, "file/1", {"5"})


def test_no_key_is_told_anywhere(stage):
    """Runs last in this file."""
    said = stage.gateway.output() + valetkey(stage.gateway, "keys") + valetkey(stage.gateway, "keys", "--json")
    kept = [path.read_bytes() for path in (stage.gateway.folder / ".valetkey").iterdir()]
    assert kept and not any(value in said or any(value.encode() in each for each in kept) for value in KEYS.values())
