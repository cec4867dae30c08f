"""Everything that can go wrong: each with the promised end, and exactly one receipt."""

from __future__ import annotations

import signal
import socket
import sqlite3
from pathlib import Path

import httpx
import pytest

from support import sabotage_targets
from support.processes import REAL_KEYS, ROOT, Gateway, free_ports, running, wait_for

pytestmark = pytest.mark.e2e

CHAT = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello there"}]}
BEARER = {"authorization": "Bearer sk-dummy"}
NOT_SERVED = {"OPENAI_API_KEY": REAL_KEYS["OPENAI_API_KEY_1"]}
STALLING = {"model": "stall", "stream": True}


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    rules = """
    providers:
      dead: {like: openai, upstream: "http://127.0.0.1:9", keys: none}
      groq: {upstream: "https://localhost:%d"}
      lab: {like: openai, upstream: "https://127.0.0.1:%d", keys: none}
    routes:
      - {match: {model: "dead-*"}, to: dead/gone}
      - {match: {model: "wrong-certificate"}, to: groq/some}
      - {match: {model: "no-tls"}, to: lab/some}
    """
    with socket.create_server(("127.0.0.1", 0)) as plain:
        plain.listen()
        port = plain.getsockname()[1]
        with running(
            lab.gateway(tmp_path_factory.mktemp("failures"), rules % (free_ports(1)[0], port), gateway="max_body: 1 MB")
        ) as started:
            yield started


def post(gateway: Gateway, body=BODY, headers=None, url=CHAT, **options) -> httpx.Response:
    with gateway.client() as client:
        return client.post(url, json=body, headers=BEARER | (headers or {}), **options)


def the_receipt(gateway: Gateway, answer: httpx.Response):
    call = answer.headers["x-valetkey-id"]
    found = wait_for(lambda: [r for r in gateway.receipts() if r["id"] == call], "the receipt")
    assert len(found) == 1
    return found[0]


def test_a_dead_upstream_is_a_502_in_the_clients_format(gateway):
    answer = post(gateway, BODY | {"model": "dead-model"})
    assert answer.status_code == 502 and "dead" in answer.json()["error"]["message"]


def test_a_dead_upstream_leaves_a_receipt(gateway):
    receipt = the_receipt(gateway, post(gateway, BODY | {"model": "dead-model"}))
    assert (receipt["outcome"], receipt["attempts"][0]["outcome"], receipt["status"]) == ("network", "network", 502)


def test_a_host_that_came_back_is_dialled_again(lab, tmp_path):
    port = free_ports(1)[0]
    rules = f"providers:\n  later: {{like: openai, upstream: 'http://127.0.0.1:{port}', keys: none}}\n"
    rules += "routes: [{match: {model: later}, to: later/x}]\n"
    with running(lab.gateway(tmp_path, rules)) as gateway, gateway.client() as client:
        first = client.post(CHAT, json=BODY | {"model": "later"}, headers=BEARER).status_code
        from valetkey.simulator import run_in_thread

        with run_in_thread(port=port):
            second = client.post(CHAT, json=BODY | {"model": "later"}, headers=BEARER).status_code
    assert (first, second) == (502, 200)


def test_a_wrong_certificate_gets_no_key(lab, tmp_path):
    """The simulator's certificate does not name this host: TLS fails before any header is written."""
    other = "codestral.example.com"
    keys = "[{ref: env:OPENAI_API_KEY_1, share: true}]"
    rules = f"providers:\n  other: {{like: openai, upstream: 'https://{other}', keys: {keys}}}\n"
    rules += "routes: [{match: {model: other}, to: other/x}]\n"
    seen = len(lab.simulator.seen)
    with running(lab.gateway(tmp_path, rules, dial=lab.dial | {other: lab.simulator.port})) as gateway:
        answer = post(gateway, BODY | {"model": "other"})
    assert (answer.status_code, len(lab.simulator.seen)) == (502, seen) and "certificate" in answer.text.lower()


def test_an_upstream_without_tls_gets_no_key(lab, tmp_path):
    from valetkey.simulator import run_in_thread

    with run_in_thread() as plain:
        with running(lab.gateway(tmp_path, dial=lab.dial | {"api.openai.com": plain.port})) as gateway:
            answer = post(gateway)
        assert (answer.status_code, list(plain.seen)) == (502, [])


def test_an_oversized_body_is_refused_with_the_reason(gateway):
    answer = post(gateway, BODY | {"padding": "x" * 2_000_000})
    assert answer.status_code == 413 and "max_body" in answer.json()["error"]["message"]


def test_an_oversized_chunked_body_is_refused(gateway):
    def chunks():
        yield b'{"model":"gpt-4o","padding":"'
        for _ in range(30):
            yield b"x" * 100_000
        yield b'"}'

    with gateway.client() as client:
        answer = client.post(CHAT, content=chunks(), headers=BEARER | {"content-type": "application/json"})
    assert answer.status_code == 413


def test_an_oversized_body_streams_where_the_path_names_the_model(lab, gateway):
    url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "x" * 2_000_000}]}]}
    with gateway.client() as client:
        answer = client.post(url, json=body, headers={"x-goog-api-key": "dummy"})
    assert (answer.status_code, len(lab.simulator.seen[-1].body) > 2_000_000) == (200, True)


def test_a_malformed_stream_passes(gateway):
    with gateway.client() as client:
        answer = client.post(CHAT, json=BODY | {"stream": True}, headers=BEARER | {"x-simulate": "malformed"})
    assert answer.status_code == 200 and the_receipt(gateway, answer)


def test_a_provider_error_passes_untouched(gateway):
    answer = post(gateway, headers={"x-simulate": "status=429"})
    assert answer.status_code == 429 and the_receipt(gateway, answer)["outcome"] == "throttled"


def test_a_cut_stream_has_one_receipt(gateway):
    before = len(gateway.receipts())
    with pytest.raises(httpx.HTTPError), gateway.client() as client:
        client.post(CHAT, json=BODY | {"model": "cut", "stream": True}, headers=BEARER | {"x-simulate": "cut=4"})
    assert gateway.receipts(before + 1)[-1]["outcome"] in ("server", "network")


def test_a_client_that_leaves_closes_the_upstream_and_is_estimated(gateway):
    before = len(gateway.receipts())
    with (
        gateway.client() as client,
        client.stream("POST", CHAT, json=BODY | STALLING, headers=BEARER | {"x-simulate": "stall=4"}) as answer,
    ):
        next(answer.iter_raw())
    receipt = gateway.receipts(before + 1)[-1]
    assert (receipt["outcome"], receipt["usage_source"]) == ("client", "estimated")


def test_duplicate_keys_in_a_body_are_refused(gateway):
    body = b'{"model":"gpt-4o-mini","model":"gpt-4o","messages":[]}'
    with gateway.client() as client:
        answer = client.post(CHAT, content=body, headers=BEARER | {"content-type": "application/json"})
    assert answer.status_code == 400


def test_an_invalid_reload_keeps_the_old_rules(lab, tmp_path):
    with running(lab.gateway(tmp_path, "routes: [{match: {model: secret}, deny: not here}]\n")) as gateway:
        gateway.write_rules("routez: []\n")
        wait_for(lambda: "routez" in gateway.output(), "the complaint")
        assert post(gateway, BODY | {"model": "secret"}).status_code == 403


def test_a_valid_reload_takes_effect(lab, tmp_path):
    with running(lab.gateway(tmp_path)) as gateway:
        gateway.write_rules("routes: [{match: {model: secret}, deny: not here}]\n")
        wait_for(lambda: "revision 2" in gateway.output(), "the reload")
        assert "not here" in post(gateway, BODY | {"model": "secret"}).text


def test_a_bad_file_at_start_stops_the_start(lab, tmp_path):
    gateway = lab.gateway(tmp_path, "routez: []\n").start(ready=False)
    assert gateway.process.wait(30) == 2 and "routez" in gateway.output()


@pytest.mark.parametrize("option", ["proxy_debug=true", "ssl_insecure=true"])
def test_an_option_that_leaks_keys_stops_the_start(lab, tmp_path, option):
    gateway = lab.gateway(tmp_path, arguments=["--set", option]).start(ready=False)
    assert gateway.process.wait(30) == 1


def test_a_wider_listener_is_refused(lab, tmp_path):
    gateway = lab.gateway(tmp_path, arguments=["--mode", f"regular@0.0.0.0:{free_ports(1)[0]}"]).start(ready=False)
    assert gateway.process.wait(30) == 1 and "authenticated" in gateway.output()


def test_a_broken_canary_stops_the_start(lab, tmp_path):
    script = tmp_path / "leak.py"
    script.write_text(
        "from valetkey.proxy import traffic\n"
        "original = traffic.Traffic.wire_request\n"
        "def leaking(self, flow, passage, server):\n"
        "    flow.request.headers['authorization'] = original(self, flow, passage, server).headers['authorization']\n"
        "    return original(self, flow, passage, server)\n"
        "traffic.Traffic.wire_request = leaking\n"
    )
    env = REAL_KEYS | {"PYTHONPATH": str(ROOT / "addons")}
    gateway = lab.gateway(tmp_path, env=env, scripts=[script]).start(ready=False)
    assert gateway.process.wait(30) == 1 and "canary" in gateway.output()


def test_kill_9_loses_nothing_older_than_a_second(lab, tmp_path):
    with running(lab.gateway(tmp_path)) as gateway, gateway.client() as client:
        calls = [client.post(CHAT, json=BODY, headers=BEARER).headers["x-valetkey-id"] for _ in range(20)]
        gateway.receipts(20)
        late = [client.post(CHAT, json=BODY, headers=BEARER).headers["x-valetkey-id"] for _ in range(5)]
        gateway.stop(signal.SIGKILL)
    kept = {receipt["id"] for receipt in gateway.receipts()}
    assert set(calls) <= kept <= {*calls, *late}


def test_shutdown_settles_what_still_runs(lab, tmp_path):
    with (
        running(lab.gateway(tmp_path)) as gateway,
        gateway.client() as client,
        client.stream("POST", CHAT, json=BODY | STALLING, headers=BEARER | {"x-simulate": "stall=4"}) as answer,
    ):
        chunks = answer.iter_raw()
        next(chunks)
        gateway.stop()
    assert [receipt["outcome"] for receipt in gateway.receipts()] == ["shutdown"]


def lock(gateway: Gateway) -> sqlite3.Connection:
    connection = sqlite3.connect(gateway.folder / ".valetkey" / "ledger.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def test_a_locked_ledger_lets_traffic_go_on_when_open(lab, tmp_path):
    with running(lab.gateway(tmp_path)) as gateway:
        holder = lock(gateway)
        statuses = [post(gateway).status_code for _ in range(3)]
        holder.rollback()
        holder.close()
        assert statuses == [200] * 3 and len(gateway.receipts(3)) == 3


def test_a_locked_ledger_stops_traffic_when_closed(lab, tmp_path):
    with running(lab.gateway(tmp_path, gateway="ledger_failure: closed")) as gateway:
        holder = lock(gateway)
        post(gateway)
        refused = wait_for(lambda: post(gateway).status_code == 503, "the refusal")
        holder.rollback()
        holder.close()
        assert refused and wait_for(lambda: post(gateway).status_code == 200, "the recovery")


def test_a_full_disk_is_loud_and_open(lab, tmp_path):
    """A limit on file size stands for the full disk."""
    import resource

    with running(lab.gateway(tmp_path)) as gateway:
        size = (gateway.folder / ".valetkey" / "ledger.db-wal").stat().st_size
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (max(size, 4096), resource.RLIM_INFINITY))
        status = post(gateway).status_code
        wait_for(lambda: "ledger" in gateway.output().lower() and "cannot" in gateway.output().lower(), "the complaint")
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert status == 200 and len(gateway.receipts(1)) == 1


@pytest.fixture(scope="module")
def sabotaged(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sabotaged")
    switch = folder / "switch"
    switch.write_text("")
    env = REAL_KEYS | {"VALETKEY_TEST_SABOTAGE": str(switch), "PYTHONPATH": str(ROOT / "addons")}
    scripts = [Path(__file__).parents[1] / "support" / "sabotage.py"]
    with running(lab.gateway(folder, env=env, scripts=scripts)) as gateway:
        yield gateway, switch


@pytest.mark.parametrize("target", sabotage_targets.TARGETS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_defect_anywhere_ends_the_call_and_leaks_nothing(sabotaged, target, streamed):
    gateway, switch = sabotaged
    switch.write_text(target)
    try:
        text, status = _call(gateway, streamed)
    finally:
        switch.write_text("")
    assert status in (0, 200, 502) and not any(key in text for key in REAL_KEYS.values())


@pytest.mark.parametrize("target", sabotage_targets.IN_A_CALL)
def test_a_defect_in_a_call_leaves_one_receipt(sabotaged, target):
    gateway, switch = sabotaged
    probe = "probe-" + target.replace(":", "-").replace(".", "-")
    switch.write_text(target)
    try:
        _call(gateway, True, {"user-agent": probe})
    finally:
        switch.write_text("")
    wait_for(lambda: [r for r in gateway.receipts() if r["client"].startswith(probe)], "the receipt")
    _call(gateway, True, {"user-agent": "after"})
    assert len([r for r in gateway.receipts(1) if r["client"].startswith(probe)]) == 1


def _call(gateway: Gateway, streamed: bool, headers=None) -> tuple[str, int]:
    try:
        answer = post(gateway, BODY | ({"stream": True} if streamed else {}), headers)
        return answer.text, answer.status_code
    except httpx.HTTPError as error:
        return str(error), 0
