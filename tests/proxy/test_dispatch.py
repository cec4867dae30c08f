from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from mitmproxy import http

from support import making
from support.assembling import assembled
from valetkey.model import Dialect, Outcome
from valetkey.policy.failover import Ending, Pause, Try
from valetkey.policy.health import Failure, Place
from valetkey.proxy import refusals
from valetkey.proxy.hearing import Trouble

NOW = 1_700_000_000.0
A, B = "sk-proj-AAAAaaaaAAAAaaaa0001", "sk-proj-BBBBbbbbBBBBbbbb0002"
TWO = {"openai/1": A, "openai/2": B}
RULES = """
version: 1
gateway: {timeouts: {max_wait: %s}, deadline: %s, attempts: %d}
providers:
  openai: {rotation: %s%s}
"""


class Stage:
    """One call on its way, with a clock that the test moves."""

    def __init__(
        self,
        keys=TWO,
        provider="",
        rotation="round_robin",
        max_wait="120s",
        deadline="600s",
        attempts=16,
        body=None,
        runtime=None,
    ):
        self.runtime = runtime or making.runtime(RULES % (max_wait, deadline, attempts, rotation, provider), keys=keys)
        self.time = SimpleNamespace(passed=self.runtime.now() - NOW)
        self.runtime.clock = lambda: NOW + self.time.passed
        self.runtime.monotonic = lambda: 100.0 + self.time.passed
        self.runtime.chance = lambda: 0.0
        _, intake, *_ = assembled(self.runtime)
        self.flow = making.flow(body=body or b'{"model":"gpt-4o","messages":[]}')
        intake.requestheaders(self.flow)
        intake.request(self.flow)
        self.passage = self.runtime.passages.of(self.flow)
        self.dispatch = self.passage.dispatch
        self.pools = self.runtime.pools

    def begin(self):
        """Until the first attempt is made, or the call is over."""
        return self._follow(self.dispatch.begin())

    def fail(self, trouble):
        """The attempt gives no answer: until the next one is made, or the call is over."""
        self.time.passed += 0.5
        return self._follow(self.dispatch.failed(trouble))

    def failing(self, *troubles):
        step = self.begin()
        for trouble in troubles:
            step = self.fail(trouble)
        return step

    def _follow(self, step):
        while isinstance(step, Pause):
            self.time.passed += step.seconds
            step = self.dispatch.resume()
        if isinstance(step, Try):
            self.dispatch.attempt(step)
        return step

    @property
    def tried(self):
        return [(attempt.key, attempt.outcome) for attempt in self.passage.attempts]

    @property
    def active(self):
        return [self.pools.slots.active(key) for key in TWO]

    def place(self, key="openai/1", model="gpt-4o"):
        return Place(key, "openai", model, model, "https://api.openai.com")

    def mark(self, kind="key_model", key="openai/1"):
        return {scope.kind + scope.name: mark for scope, mark in self.pools.health.marks()}.get(kind + key)

    def refusal(self, ending):
        return self.dispatch.ending(ending)


def answer(status=200, body=b"{}", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.Response.make(status, body, {"content-type": "application/json"} | names)


def error(status, code=None, message="no", **headers):
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Trouble(f"status {status}", answer(status, body, **headers))


THROTTLED = error(429, "rate_limit_exceeded")
QUOTA = error(429, "insufficient_quota")
BAD_KEY = error(401, "invalid_api_key")
SERVER = error(500)
OVERLOADED = error(503, "server_is_overloaded")
CLIENT = error(400, "invalid_value")
RESET = Trouble("the connection was reset")
LATE = Trouble("no answer within 120 s", None, Outcome.TIMEOUT)


# Attempts.


def test_an_attempt_is_noted_before_it_is_made():
    stage = Stage()
    stage.begin()
    assert stage.tried == [("openai/1", None)]


def test_an_attempt_names_where_it_goes():
    stage = Stage()
    stage.begin()
    (attempt,) = stage.passage.attempts
    assert (attempt.provider, attempt.model, attempt.upstream) == ("openai", "gpt-4o", "https://api.openai.com")


def test_an_attempt_holds_its_key():
    stage = Stage()
    stage.begin()
    assert stage.active == [1, 0]


def test_the_wire_plan_has_the_key_of_its_attempt():
    stage = Stage()
    stage.failing(THROTTLED)
    assert stage.passage.plan.key.id == "openai/2"


@pytest.mark.parametrize(
    ("trouble", "outcome", "status"),
    [
        (THROTTLED, "throttled", 429),
        (QUOTA, "quota", 429),
        (BAD_KEY, "bad_key", 401),
        (SERVER, "server", 500),
        (OVERLOADED, "overloaded", 503),
        (CLIENT, "client", 400),
        (RESET, "network", None),
        (LATE, "timeout", None),
    ],
)
def test_a_failed_attempt_has_its_class(trouble, outcome, status):
    stage = Stage()
    stage.failing(trouble)
    assert (stage.passage.attempts[0].outcome, stage.passage.attempts[0].status) == (outcome, status)


def test_a_failed_attempt_tells_how_long_it_took():
    stage = Stage()
    stage.failing(THROTTLED)
    assert stage.passage.attempts[0].ms == 500


def test_the_class_of_a_compressed_error_is_read():
    stage = Stage()
    trouble = error(429, "insufficient_quota")
    trouble.answer.encode("gzip")
    stage.failing(trouble)
    assert stage.passage.attempts[0].outcome is Outcome.QUOTA


def test_a_failed_attempt_frees_its_key():
    stage = Stage()
    stage.failing(THROTTLED)
    assert stage.active == [0, 1]


def test_what_cannot_be_sent_again_is_over():
    stage = Stage()
    stage.begin()
    stage.dispatch.note(SERVER)
    assert (stage.dispatch.go_on(final=True), stage.active) == (Ending("failed"), [0, 0])


@pytest.mark.parametrize("trouble", [CLIENT, error(400, "content_policy_violation"), error(400, "context_length_exceeded")])
def test_what_is_the_callers_to_see_passes(trouble):
    assert Stage().failing(trouble).reason == "passes"


# What the pools learn.


def test_a_stated_wait_is_the_rest_of_the_key():
    stage = Stage()
    stage.failing(error(429, "rate_limit_exceeded", retry_after="77"))
    assert (stage.mark().length, stage.mark().raw) == (77, "77")


def test_a_wait_that_is_stated_in_words_is_the_rest_of_the_key():
    stage = Stage()
    stage.failing(error(429, "rate_limit_exceeded", "Please try again in 6.2s."))
    assert stage.mark().length == pytest.approx(6.2)


def test_without_a_stated_wait_the_key_rests_as_long_as_the_ladder_says():
    stage = Stage()
    stage.failing(THROTTLED)
    assert stage.mark().length == 10


def test_the_catalogues_rest_is_the_rest_of_the_key():
    stage = Stage()
    stage.failing(error(429, None, "Some quota or other"))
    assert (stage.mark().reason, stage.mark().length) == (Outcome.QUOTA, 60)


@pytest.mark.parametrize(("headers", "length"), [({}, 3600), ({"retry_after": "5"}, 3600), ({"retry_after": "7200"}, 7200)])
def test_the_catalogues_least_rest_is_kept(headers, length):
    runtime = making.runtime(keys={"gemini/main": "AIzaREALrealREALrealREALrealREALreal001"})
    _, intake, *_ = assembled(runtime)
    flow = making.flow("generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-pro:generateContent", b"{}")
    intake.requestheaders(flow)
    intake.request(flow)
    dispatch = making.attempt(runtime, flow).dispatch
    dispatch.failed(error(429, None, "Quota exceeded: GenerateRequestsPerDayPerProjectPerModel", **headers))
    ((_, mark),) = runtime.pools.health.marks()
    assert mark.length == length


def test_a_page_where_a_person_must_act_is_kept():
    stage = Stage()
    stage.failing(error(401, "account_deactivated", "Contact us at https://help.openai.com, if this is in error."))
    assert stage.mark("key").url == "https://help.openai.com"


def test_a_key_in_a_page_is_not_kept():
    stage = Stage()
    stage.failing(error(401, "account_deactivated", f"See https://help.openai.com/{A} now"))
    assert stage.mark("key").url == "https://help.openai.com/" + "*" * len(A)


LIMITS = {"x_ratelimit_limit_tokens": "1000", "x_ratelimit_remaining_tokens": "250", "x_ratelimit_reset_tokens": "6m0s"}


@pytest.mark.parametrize(
    "learn",
    [
        lambda stage: stage.dispatch.answered(answer(**LIMITS)),
        lambda stage: stage.dispatch.answered(answer(500, **LIMITS)),
        lambda stage: stage.fail(error(429, "rate_limit_exceeded", **LIMITS)),
    ],
)
def test_what_remains_is_noted_on_good_and_bad_answers(learn):
    stage = Stage()
    stage.begin()
    learn(stage)
    gauge = stage.pools.gauges.of("openai/1")
    assert (gauge.remaining, gauge.dimension) == (0.25, "tokens")


def test_what_remains_is_noted_when_the_head_is_here():
    stage = Stage()
    stage.begin()
    stage.dispatch.heard(answer(**LIMITS))
    assert stage.pools.gauges.of("openai/1").remaining == 0.25


def test_it_is_not_noted_twice(monkeypatch):
    stage, head, noted = Stage(), answer(**LIMITS), []
    stage.begin()
    stage.dispatch.heard(head)
    monkeypatch.setattr(stage.pools.gauges, "stated", lambda *_: noted.append(1))
    stage.dispatch.answered(head)
    assert noted == []


def test_a_good_answer_makes_the_key_well():
    stage = Stage(keys={"openai/1": A}, max_wait="30s")
    stage.failing(error(429, "rate_limit_exceeded", retry_after="7"))
    stage.dispatch.answered(answer())
    assert stage.mark() is None


CACHED = b'{"model":"gpt-4o","messages":[],"prompt_cache_key":"k1"}'


def bound(stage):
    return stage.pools.affinity.key_for("openai", stage.dispatch._ask.soft, NOW)


def test_a_good_answer_binds_the_conversation_to_its_key():
    stage = Stage(body=CACHED)
    stage.failing(THROTTLED)
    stage.dispatch.answered(answer())
    assert bound(stage) == "openai/2"


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_binds_nothing(status):
    stage = Stage(body=CACHED)
    stage.begin()
    stage.dispatch.answered(answer(status))
    assert bound(stage) is None


def test_a_failed_attempt_binds_nothing():
    stage = Stage(body=CACHED)
    stage.failing(THROTTLED)
    assert bound(stage) is None


def test_a_conversation_without_a_name_is_bound_where_it_sticks():
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Tell me of the sea."}]}'
    first = Stage(rotation="sticky", body=body)
    first.begin()
    first.dispatch.answered(answer())
    assert len(first.pools.affinity) == 1


def test_nothing_is_learned_of_an_answer_without_an_attempt():
    stage = Stage()
    stage.dispatch.answered(answer(**LIMITS))
    assert stage.pools.gauges.of("openai/1").remaining is None


# The end of a call.


ENDINGS = [Outcome.OK, Outcome.CLIENT, Outcome.SHUTDOWN, Outcome.GATEWAY, Outcome.SERVER, Outcome.TIMEOUT]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_gives_the_permit_back(ending):
    stage = Stage(provider=", concurrency: 1")
    stage.begin()
    stage.dispatch.close(ending)
    assert stage.active == [0, 0]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_after_the_answer_began_gives_the_permit_back(ending):
    stage = Stage(provider=", concurrency: 1")
    stage.begin()
    stage.dispatch.answered(answer())
    stage.dispatch.close(ending)
    assert stage.active == [0, 0]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_before_the_first_attempt_gives_the_permit_back(ending):
    stage = Stage(provider=", concurrency: 1")
    step = stage.dispatch.begin()
    stage.dispatch.close(ending)
    assert (type(step), stage.active) == (Try, [0, 0])


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_during_a_pause_holds_nothing(ending):
    stage = Stage()
    stage.begin()
    step = stage.dispatch.failed(SERVER)
    stage.dispatch.close(ending)
    assert (type(step), stage.active) == (Pause, [0, 0])


def test_a_call_that_never_began_can_be_closed():
    stage = Stage()
    stage.dispatch.close(Outcome.CLIENT)
    assert stage.active == [0, 0]


def test_who_waits_in_line_leaves_it_at_the_end():
    first = Stage(keys={"openai/1": A}, provider=", concurrency: 1")
    first.begin()
    second = Stage(runtime=first.runtime)
    assert isinstance(second.dispatch.begin(), Pause)
    second.dispatch.close(Outcome.CLIENT)
    assert first.pools.slots.waiting == 0


def test_a_permit_that_was_granted_at_the_end_is_given_back():
    first = Stage(keys={"openai/1": A}, provider=", concurrency: 1")
    first.begin()
    second = Stage(runtime=first.runtime)
    second.dispatch.begin()
    first.dispatch.close(Outcome.OK)
    second.dispatch.close(Outcome.CLIENT)
    assert first.active == [0, 0]


def test_who_waits_in_line_is_woken():
    first = Stage(keys={"openai/1": A}, provider=", concurrency: 1")
    first.begin()
    second = Stage(runtime=first.runtime)
    woken = []
    second.passage.wake = lambda: woken.append(second.dispatch.resume())
    second.dispatch.begin()
    first.dispatch.close(Outcome.OK)
    assert [type(step) for step in woken] == [Try]


def test_a_wire_plan_that_cannot_be_made_loses_no_permit():
    stage = Stage(provider=", concurrency: 1")
    step = stage.dispatch.begin()
    stage.dispatch._equip = None
    with pytest.raises(TypeError):
        stage.dispatch.attempt(step)
    stage.dispatch.close(Outcome.GATEWAY)
    assert stage.active == [0, 0]


def test_a_defect_in_the_pools_loses_no_permit(monkeypatch):
    stage = Stage(provider=", concurrency: 1")
    stage.begin()
    monkeypatch.setattr(type(stage.pools), "ended", None)
    with pytest.raises(TypeError):
        stage.dispatch.close(Outcome.OK)
    assert stage.active == [0, 0]


@pytest.mark.parametrize("outcome", [Outcome.SERVER, Outcome.TIMEOUT, Outcome.NETWORK])
def test_a_stream_that_broke_is_a_failure_of_the_upstream(outcome):
    stage = Stage()
    stage.begin()
    stage.dispatch.answered(answer())
    stage.dispatch.close(outcome)
    assert stage.mark("upstream", "https://api.openai.com").reason is outcome


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.CLIENT, Outcome.SHUTDOWN, Outcome.GATEWAY, Outcome.REFUSED])
def test_other_endings_mark_nothing(outcome):
    stage = Stage()
    stage.begin()
    stage.dispatch.answered(answer())
    stage.dispatch.close(outcome)
    assert stage.pools.health.marks() == []


def test_a_failure_is_booked_once():
    stage = Stage(max_wait="1s", keys={"openai/1": A})
    stage.failing(error(429, "rate_limit_exceeded", retry_after="5"))
    stage.dispatch.close(Outcome.THROTTLED)
    assert (stage.mark().strikes, stage.mark().length) == (1, 5)


@pytest.mark.parametrize("second", [Outcome.OK, Outcome.SERVER])
def test_only_the_first_end_counts(second):
    stage = Stage()
    stage.begin()
    stage.dispatch.close(Outcome.OK)
    stage.dispatch.close(second, ("response:resp_1",))
    assert (stage.pools.health.marks(), len(stage.pools.affinity), stage.active) == ([], 0, [0, 0])


@pytest.mark.parametrize("go_on", [lambda dispatch: dispatch.failed(RESET), lambda dispatch: dispatch.resume()])
def test_a_stream_that_goes_on_after_the_end_gets_no_attempt(go_on):
    stage = Stage()
    stage.begin()
    stage.dispatch.close(Outcome.SHUTDOWN)
    assert (go_on(stage.dispatch), stage.active) == (Ending("failed"), [0, 0])


def test_a_call_that_ends_before_its_first_attempt_holds_no_key():
    stage = Stage()
    stage.dispatch.begin()
    stage.dispatch.close(Outcome.SHUTDOWN)
    assert stage.active == [0, 0]


def test_an_answer_that_comes_after_the_end_changes_nothing():
    stage = Stage(body=CACHED)
    stage.begin()
    stage.dispatch.close(Outcome.SHUTDOWN)
    stage.dispatch.answered(answer(**LIMITS))
    assert (len(stage.pools.affinity), stage.pools.gauges.of("openai/1").remaining) == (0, None)


def test_an_error_that_was_too_long_to_be_heard_is_booked_at_the_end():
    stage = Stage()
    stage.begin()
    stage.dispatch.answered(answer(429, retry_after="77"))
    stage.dispatch.close(Outcome.THROTTLED)
    assert (stage.mark().length, stage.mark().raw) == (77, "77")


def test_an_error_that_passed_makes_no_key_well():
    stage = Stage(keys={"openai/1": A}, max_wait="30s")
    stage.failing(error(429, "rate_limit_exceeded", retry_after="7"))
    stage.dispatch.answered(answer(429))
    assert stage.mark().strikes == 1


def test_what_an_answer_made_belongs_to_its_key():
    stage = Stage()
    stage.begin()
    stage.dispatch.close(Outcome.OK, ("response:resp_1",))
    assert stage.pools.affinity.key_for("openai", ("response:resp_1",), NOW) == "openai/1"


# The best error.


def best(*troubles, **options):
    stage = Stage(keys={f"openai/{n}": f"sk-proj-KEYSkeysKEYSkeys000{n}" for n in range(9)}, **options)
    stage.failing(*troubles)
    return stage.dispatch.best


@pytest.mark.parametrize(
    ("first", "second", "which"),
    [
        (BAD_KEY, QUOTA, 1),
        (QUOTA, BAD_KEY, 0),
        (QUOTA, THROTTLED, 1),
        (THROTTLED, QUOTA, 0),
        (THROTTLED, SERVER, 1),
        (SERVER, THROTTLED, 0),
        (THROTTLED, CLIENT, 1),
        (SERVER, CLIENT, 1),
    ],
)
def test_the_best_error_wins(first, second, which):
    assert best(first, second).answer is (first, second)[which].answer


@pytest.mark.parametrize(("first", "second"), [(SERVER, OVERLOADED), (OVERLOADED, SERVER), (THROTTLED, error(429))])
def test_of_equals_the_later_wins(first, second):
    assert best(first, second).answer is second.answer


@pytest.mark.parametrize(("troubles", "which"), [((SERVER, RESET), 0), ((RESET, SERVER), 1), ((LATE, RESET), 1)])
def test_of_equals_a_real_answer_wins(troubles, which):
    assert best(*troubles).message == troubles[which].message


def test_the_best_error_knows_who_gave_it():
    assert best(QUOTA, BAD_KEY).plan.key.id == "openai/0"


# Refusals of ours.


def told(refusal):
    """Status, reason, Retry-After and x-should-retry, as the agent gets them."""
    made = refusals.response(refusal, Dialect.OPENAI)
    return refusal.status, refusal.reason, made.headers.get("retry-after"), made.headers["x-should-retry"]


def refused(stage, *troubles):
    ending = stage.failing(*troubles)
    assert isinstance(ending, Ending), ending
    return told(stage.refusal(ending))


def resting(seconds, keys=TWO, **options):
    """A call that comes while all keys rest for so many seconds."""
    earlier = Stage(keys=keys, **options)
    earlier.failing(*[error(429, "rate_limit_exceeded", retry_after=str(seconds))] * len(keys))
    earlier.dispatch.close(Outcome.THROTTLED)
    return Stage(runtime=earlier.runtime)


def test_keys_that_rest_are_a_429_with_the_true_time():
    assert refused(resting(300)) == (429, "all_keys_rest", "300", "false")


def test_a_short_rest_is_worth_waiting():
    assert refused(resting(45, max_wait="5s")) == (429, "all_keys_rest", "45", "true")


def test_the_first_key_that_is_free_counts():
    earlier = Stage()
    earlier.failing(*(error(429, "rate_limit_exceeded", retry_after=seconds) for seconds in ("900", "300")))
    earlier.dispatch.close(Outcome.THROTTLED)
    assert refused(Stage(runtime=earlier.runtime))[2] == "300"


def test_keys_that_are_busy_are_a_429_that_is_worth_repeating():
    first = Stage(keys={"openai/1": A}, provider=", concurrency: 1", max_wait="5s")
    first.begin()
    assert refused(Stage(runtime=first.runtime)) == (429, "all_keys_busy", "1", "true")


def test_keys_that_a_person_must_see_to_are_a_503():
    stage = Stage()
    for key in TWO:
        stage.pools.health.disable(key)
    assert refused(stage) == (503, "no_usable_key", None, "false")


def test_only_bad_keys_are_a_503():
    assert refused(Stage(), BAD_KEY, BAD_KEY)[:2] == (503, "no_usable_key")


def test_bad_keys_are_not_worth_repeating_at_once():
    assert refused(Stage(), BAD_KEY, BAD_KEY)[2:] == ("300", "false")


def test_a_bad_key_beside_one_that_rests_is_no_503():
    stage = Stage(max_wait="5s")
    stage.pools.health.failed(stage.place("openai/2"), Failure(Outcome.THROTTLED, NOW - 1, 100), NOW)
    assert refused(stage, BAD_KEY) == (429, "all_keys_rest", "100", "false")


def test_a_bad_key_beside_one_that_is_busy_is_no_503():
    stage = Stage(provider=", concurrency: 1", max_wait="5s")
    stage.pools.slots.take("openai/2", 1)
    assert refused(stage, BAD_KEY)[:2] == (429, "all_keys_busy")


@pytest.mark.parametrize(("trouble", "status", "reason"), [(LATE, 504, "upstream_timeout"), (RESET, 502, "upstream_failed")])
def test_no_answer_at_all(trouble, status, reason):
    assert refused(Stage(attempts=2), trouble, trouble) == (status, reason, None, "false")


def test_a_call_whose_time_is_up_is_a_504():
    first = Stage(keys={"openai/1": A}, provider=", concurrency: 1", deadline="3s")
    first.begin()
    assert refused(Stage(runtime=first.runtime))[:2] == (504, "deadline")


def test_the_refusal_counts_the_attempts():
    stage = Stage(attempts=2)
    text = stage.refusal(stage.failing(RESET, RESET)).message
    assert text == "openai at https://api.openai.com gave no answer (2 attempts): the connection was reset"


def test_a_single_attempt_is_not_counted():
    stage = Stage(attempts=1)
    assert "attempts" not in stage.refusal(stage.failing(RESET)).message


@pytest.mark.parametrize("seconds", [300, 299.2])
def test_the_time_that_is_told_is_never_too_short(seconds):
    stage = resting(seconds)
    ending = stage.begin()
    assert int(told(stage.refusal(ending))[2]) >= seconds - 0.5 and "valetkey keys" in stage.refusal(ending).message


@pytest.mark.parametrize(("value", "rests"), [(B, False), (A, True)])
def test_an_old_value_that_is_refused_says_nothing_of_the_new_one(value, rests):
    stage = Stage(keys={"openai/1": A})
    stage.begin()
    stage.runtime.adopt(making.runtime(keys={"openai/1": value}).snapshot)
    stage.fail(Trouble("wrong key", None, Outcome.BAD_KEY))
    assert bool(stage.pools.health.marks()) is rests
