from __future__ import annotations

import json
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.proxy.layers.websocket import WebSocketMessageInjected
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from support import making
from support.assembling import assembled
from support.playing import broken
from valetkey.formats.messages import OPEN, ResponsesTalk
from valetkey.policy import metering
from valetkey.proxy import sockets, views
from valetkey.proxy.answers import ValetAnswers
from valetkey.proxy.intake import ValetIntake
from valetkey.proxy.sockets import Sockets

KEYS = {"openai/main": making.REAL, "gemini/main": "AIzaREALrealREALrealREALrealREAL0001"}
USAGE = {"input_tokens": 36, "output_tokens": 87, "total_tokens": 123}


def dump(**document):
    return json.dumps(document).encode()


class Ledger:
    healthy = True

    def __init__(self):
        self.receipts = []

    def submit(self, receipt):
        self.receipts.append(receipt)


class Connection:
    """A WebSocket that was just opened, and what was posted to its client."""

    def __init__(self, path="/v1/responses", rules="", host="api.openai.com", watched=True, **headers):
        self.runtime = making.runtime(f"version: 1\n{rules}", keys=KEYS)
        self.runtime.writer = Ledger()
        self.later = []
        if not watched:
            self.runtime.later = lambda seconds, step: self.later.append(step)
        addons = assembled(self.runtime)
        (intake,), (self.answers,) = ([one for one in addons if isinstance(one, kind)] for kind in (ValetIntake, ValetAnswers))
        self.posted = []
        self.answers.sockets = Sockets(self.runtime, self.answers.settlement, lambda client, event: self.posted.append(event))
        self.flow = flow = making.flow(host, path, b"", connection="Upgrade", upgrade="websocket", **headers)
        flow.request.method = "GET"
        intake.requestheaders(flow)
        intake.request(flow)
        self.passage = making.attempt(self.runtime, flow)
        flow.response = http.Response.make(101, b"", {"upgrade": "websocket"})
        self.answers.responseheaders(flow)
        flow.websocket = WebSocketData()
        self.answers.response(flow)

    def message(self, content, from_client=False, is_text=True, injected=False):
        made = WebSocketMessage(Opcode.TEXT if is_text else Opcode.BINARY, from_client, content, injected=injected)
        self.flow.websocket.messages.append(made)
        self.answers.websocket_message(self.flow)
        return made

    def ask(self, content, **options):
        return self.message(content, from_client=True, **options)

    def end(self, by_client=True):
        self.flow.websocket.closed_by_client = by_client
        self.answers.websocket_end(self.flow)
        return self.receipts

    @property
    def receipts(self):
        return self.runtime.writer.receipts

    @property
    def told(self):
        """The errors that the agent was told."""
        return [json.loads(event.message.content) for event in self.posted]


CREATE = dump(type="response.create", model="gpt-4.1", input="hi")
CREATED = dump(type="response.created", response={"id": "resp_1", "model": "gpt-4.1-2025-04-14"})
DELTA = dump(type="response.output_text.delta", delta="Hello there!")
COMPLETED = dump(
    type="response.completed", response={"id": "resp_1", "model": "gpt-4.1-2025-04-14", "output": [], "usage": USAGE}
)
DENY = 'providers: {openai: {models: {deny: ["*4.1*", "gpt-realtime*"]}}, gemini: {models: {deny: [gemini-x]}}}'


def talked(connection, count=1):
    for _ in range(count):
        connection.ask(CREATE)
    connection.message(CREATED)
    connection.message(DELTA)
    connection.message(COMPLETED)
    return connection


def test_an_answer_has_a_receipt_of_its_own():
    (receipt,) = talked(Connection()).receipts
    assert (receipt.usage, receipt.usage_source, receipt.outcome) == (
        {"input_tokens": 36, "output_tokens": 87},
        "reported",
        "ok",
    )


def test_the_receipt_of_an_answer_names_its_connection():
    connection = talked(Connection())
    assert connection.receipts[0].parent == connection.passage.id


def test_an_answer_has_a_cost_a_model_and_a_key():
    (receipt,) = talked(Connection()).receipts
    assert (receipt.model, receipt.requested_model, receipt.key, receipt.request_id, float(receipt.cost_usd) > 0) == (
        "gpt-4.1-2025-04-14", "gpt-4.1", "openai/main", "resp_1", True,
    )  # fmt: skip


def test_the_connections_receipt_has_counts_and_no_usage():
    *_, connection = talked(Connection()).end()
    assert (connection.messages_in, connection.messages_out, connection.answers, connection.usage) == (1, 3, 1, {})


def test_the_connection_is_settled_once():
    connection = talked(Connection())
    connection.end()
    connection.end()
    connection.answers.error(connection.flow)
    connection.answers.done()
    assert len(connection.receipts) == 2


def test_the_connections_receipt_is_that_of_its_upgrade():
    connection = talked(Connection())
    *_, receipt = connection.end()
    attempt = receipt.attempts[0]
    assert (receipt.id, receipt.status, receipt.outcome, receipt.parent) == (connection.passage.id, 101, "ok", None)
    assert (attempt.key, attempt.status, str(attempt.outcome)) == ("openai/main", 101, "ok")


def test_a_connection_without_a_message_has_counts():
    (receipt,) = Connection().end()
    assert (receipt.messages_in, receipt.messages_out, receipt.answers) == (0, 0, 0)


def test_the_key_is_given_up_with_the_connection():
    connection = talked(Connection())
    closed = []
    connection.passage.dispatch.close = closed.append
    connection.end()
    assert closed == ["ok"]


@pytest.mark.parametrize(("by_client", "outcome", "notes"), [(True, "client", "client_left"), (False, "network", None)])
def test_an_answer_that_is_cut_is_estimated(by_client, outcome, notes):
    connection = Connection()
    connection.ask(CREATE)
    connection.message(CREATED)
    connection.message(DELTA)
    receipt, _ = connection.end(by_client)
    assert (receipt.outcome, receipt.usage_source, receipt.usage["output_tokens"]) == (outcome, "estimated", 3)
    assert set(receipt.notes) == {"usage_missing", notes} - {None}


def test_an_answer_at_the_end_of_the_process_is_settled():
    connection = Connection()
    connection.ask(CREATE)
    connection.answers.done()
    assert [receipt.outcome for receipt in connection.receipts] == ["shutdown", "shutdown"]


def test_an_error_of_the_providers_is_classified():
    connection = Connection()
    connection.ask(CREATE)
    error = {"type": "requests", "code": "insufficient_quota", "message": "You exceeded your current quota"}
    connection.message(dump(type="error", status=429, error=error))
    (receipt,) = connection.receipts
    assert (receipt.outcome, receipt.status, receipt.usage_source) == ("quota", 429, "none")


@pytest.mark.parametrize(("owner", "name"), [(metering, "measure"), (metering, "format_usd"), (ResponsesTalk, "heard")])
def test_a_defect_in_metering_does_not_stop_the_connection_from_being_settled(caplog, owner, name):
    connection = Connection()
    with broken(owner, name):
        talked(connection)
    assert connection.end()[-1].messages_out == 3


# The rules.


def test_an_allowed_message_passes_as_it_came():
    assert Connection().ask(CREATE).content is CREATE


@pytest.mark.parametrize("message", [CREATE, b'{"type":"response.create","mod\\u0065l":"GPT-4.1"}'])
def test_a_denied_model_is_dropped(message):
    assert Connection(rules=DENY).ask(message).dropped


def test_a_denied_model_is_answered_with_an_error_of_the_protocol():
    connection = Connection(rules=DENY)
    connection.ask(CREATE)
    (error,) = connection.told
    assert (error["type"], error["status"], error["error"]["code"]) == ("error", 403, "model_not_allowed")


def test_a_denied_model_has_a_receipt_without_a_key():
    connection = Connection(rules=DENY)
    connection.ask(CREATE)
    (receipt,) = connection.receipts
    assert (receipt.refused, receipt.outcome, receipt.key, receipt.model, receipt.parent) == (
        "model_not_allowed", "refused", None, "gpt-4.1", connection.passage.id,
    )  # fmt: skip


def test_the_connection_stays_after_a_refusal():
    connection = Connection(rules=DENY)
    connection.ask(CREATE)
    assert not connection.ask(dump(type="response.create", model="gpt-4o")).dropped


def test_the_rules_in_force_count_not_those_of_the_beginning():
    connection = Connection()
    connection.ask(CREATE)
    connection.runtime.adopt(making.snapshot(f"version: 1\n{DENY}", keys=KEYS))
    assert connection.ask(CREATE).dropped


AGENT = "agents: [{name: alice, models: [gpt-4o, gpt-realtime]}]"


@pytest.mark.parametrize(
    ("path", "message", "dropped"),
    [
        ("/v1/responses", CREATE, True),
        ("/v1/responses", dump(type="response.create", model="gpt-4o"), False),
        ("/v1/responses", dump(type="response.create"), True),
        ("/v1/responses", b'{"type":"response.create","model":"gpt-4o","model":"gpt-5"}', True),
        ("/v1/realtime?model=gpt-realtime", dump(type="response.create"), False),
        ("/v1/realtime?model=gpt-realtime-mini", dump(type="input_audio_buffer.append", audio="AA"), True),
        ("/v1/realtime?model=gpt-realtime&model=gpt-5", dump(type="response.create"), True),
        ("/v1/realtime", dump(type="response.create"), True),
        ("/v1/realtime?model=gpt-realtime", dump(type="session.update", session={"model": "gpt-5"}), True),
    ],
)
def test_the_models_of_an_agent_hold_inside_a_connection(path, message, dropped):
    connection = Connection(path, rules=AGENT, authorization="Bearer sk-dummy-alice")
    assert connection.ask(message).dropped is dropped


def test_what_asks_for_no_answer_is_refused_aloud_once():
    connection = Connection("/v1/realtime?model=gpt-realtime", rules=DENY)
    dropped = [connection.ask(dump(type="input_audio_buffer.append", audio="AA")).dropped for _ in range(3)]
    assert (dropped, len(connection.told), len(connection.receipts)) == ([True] * 3, 1, 1)


ROUTE = "routes: [{match: {model: smart}, to: TARGET, set: {store: false}}]"


def test_a_route_to_another_model_of_the_provider_changes_the_message():
    sent = Connection(rules=ROUTE.replace("TARGET", "openai/gpt-4.1")).ask(dump(type="response.create", model="smart"))
    assert json.loads(sent.content) == {"type": "response.create", "model": "gpt-4.1", "store": False}


def test_the_receipt_names_the_route_and_what_was_asked_for():
    connection = Connection(rules=ROUTE.replace("TARGET", "openai/gpt-4.1").replace("{match", "{name: mine, match"))
    connection.ask(dump(type="response.create", model="smart"))
    receipt, _ = connection.end()
    assert (receipt.route, receipt.requested_model, receipt.model) == ("mine", "smart", "gpt-4.1")


def test_a_route_to_another_provider_cannot_be_taken():
    connection = Connection(rules=ROUTE.replace("TARGET", "gemini/gemini-2.5-pro"))
    assert connection.ask(dump(type="response.create", model="smart")).dropped
    assert connection.told[0]["error"]["code"] == "routed_elsewhere"


def test_a_model_in_the_address_cannot_be_changed():
    connection = Connection("/v1/realtime?model=smart", rules=ROUTE.replace("TARGET", "openai/gpt-realtime"))
    connection.ask(dump(type="response.create"))
    assert connection.told[0]["error"]["code"] == "model_not_changeable"


def test_nothing_is_asked_while_receipts_cannot_be_written():
    connection = Connection(rules="gateway: {ledger_failure: closed}")
    connection.runtime.writer.healthy = False
    assert connection.ask(CREATE).dropped


def test_a_defect_lets_no_message_pass(caplog):
    connection = Connection()
    with broken(ResponsesTalk, "read"):
        assert connection.ask(CREATE).dropped


# What is put in between.


def test_an_error_of_ours_is_put_in_between():
    connection = Connection(rules=DENY)
    connection.ask(CREATE)
    assert isinstance(connection.posted[0], WebSocketMessageInjected)


def test_an_error_of_ours_is_no_message_of_the_providers():
    connection = Connection(rules=DENY)
    connection.ask(CREATE)
    connection.message(connection.posted[0].message.content, injected=True)
    assert connection.end()[-1].messages_out == 0


def test_what_somebody_else_puts_in_is_judged_like_what_the_agent_says():
    assert Connection(rules=DENY).ask(CREATE, injected=True).dropped


def test_a_message_that_somebody_else_injects_is_left_alone():
    assert Connection().message(b"hello", injected=True).content == b"hello"


# Where the protocol has no error.

LIVE = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
SETUP = dump(setup={"model": "models/gemini-2.5-flash"})
TURN = dump(clientContent={"turns": [{"parts": [{"text": "hello"}]}]})


def live(rules=""):
    return Connection(LIVE, host="generativelanguage.googleapis.com", rules=rules)


def denied_midway():
    """A Live connection whose model is denied after its first turn has begun."""
    connection = live()
    connection.ask(SETUP)
    connection.message(dump(setupComplete={}), is_text=False)
    connection.ask(TURN)
    connection.message(dump(serverContent={"modelTurn": {"parts": [{"text": "Hello"}]}}), is_text=False)
    connection.runtime.adopt(making.snapshot('version: 1\nproviders: {gemini: {models: {deny: ["gemini-*"]}}}', keys=KEYS))
    connection.dropped = [connection.ask(TURN).dropped for _ in range(2)]
    return connection


def test_a_refused_setup_closes_the_connection_with_the_reason():
    connection = live('providers: {gemini: {models: {deny: ["gemini-*"]}}}')
    connection.ask(SETUP)
    (event,) = connection.posted
    assert (event.code, event.message.text.partition(":")[0]) == (1008, "model_not_allowed")


def test_a_refusal_midway_closes_the_connection_once():
    connection = denied_midway()
    assert (connection.dropped, [event.code for event in connection.posted]) == ([True, True], [1008])


def test_an_answer_that_we_cut_is_said_to_be_refused():
    cut = denied_midway().end(by_client=False)[-2]
    assert (cut.outcome, cut.refused, cut.usage_source) == ("refused", None, "estimated")


# More than one model.

ROUTED = "routes: [{name: down, match: {model: dear}, to: openai/cheap}]"
SEVERAL = {
    "in the address": ("/v1/realtime?model=cheap&model=dear", dump(type="response.create")),
    "in the response": ("/v1/responses", dump(type="response.create", model="cheap", response={"model": "dear"})),
    "who writes down": (
        "/v1/realtime?model=cheap",
        dump(type="session.update", session={"audio": {"input": {"transcription": {"model": "dear"}}}}),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("path", "message"), SEVERAL.values(), ids=SEVERAL)
def test_threat_48_a_second_model_that_the_rules_replace_does_not_pass(path, message):
    connection = Connection(path, ROUTED)
    assert (connection.ask(message).dropped, connection.told[0]["error"]["code"]) == (True, "model_not_changeable")


def test_threat_48_a_session_cannot_hide_the_model_of_the_address():
    connection = Connection("/v1/realtime?model=gpt-realtime", DENY)
    messages = (dump(type="session.update", session={"model": "cheap"}), dump(type="response.create", session={"model": "cheap"}))
    assert [connection.ask(message).dropped for message in messages] == [True, True]


# Around.


@pytest.mark.parametrize("sound", [b"\x00\x01", b"{\x80"])
def test_sound_passes(sound):
    assert not Connection(rules=DENY).ask(sound, is_text=False).dropped


@pytest.mark.parametrize(("watched", "left"), [(True, 4), (False, 1)])
def test_messages_are_kept_only_where_somebody_looks(watched, left):
    assert len(talked(Connection(watched=watched)).flow.websocket.messages) == left


def test_of_many_messages_the_last_ones_are_kept(monkeypatch):
    monkeypatch.setattr(sockets, "KEPT", 3)
    connection = talked(Connection(), count=5)
    assert [message.content for message in connection.flow.websocket.messages] == [CREATED, DELTA, COMPLETED]


def test_of_large_messages_the_last_ones_are_kept(monkeypatch):
    monkeypatch.setattr(sockets, "KEPT_BYTES", len(DELTA) + len(COMPLETED))
    connection = talked(Connection())
    assert [message.content for message in connection.flow.websocket.messages] == [DELTA, COMPLETED]


def test_one_message_is_kept_however_large(monkeypatch):
    monkeypatch.setattr(sockets, "KEPT_BYTES", 1)
    connection = talked(Connection())
    assert [message.content for message in connection.flow.websocket.messages] == [COMPLETED]


def test_the_connection_is_decorated_where_somebody_looks(monkeypatch):
    connection = talked(Connection())
    connection.end()
    assert connection.flow.metadata["valetkey_id"] == connection.passage.id


def test_the_connection_is_kept_like_other_calls(monkeypatch):
    connection = talked(Connection())
    kept = []
    monkeypatch.setattr(views.FlowKeeper, "keep", lambda self, flow, limit: kept.append(flow))
    connection.end()
    assert kept == [connection.flow]


def test_the_limits_are_documented():
    page = (Path(__file__).resolve().parents[2] / "docs" / "websockets.md").read_text()
    told = (f"the last {sockets.KEPT} messages", f"at most {sockets.KEPT_BYTES >> 20} MB", f"more than {OPEN} is")
    assert [words for words in told if words not in page.replace("\n  ", " ")] == []
