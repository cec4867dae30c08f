"""mitmweb: flows can be read there, and hold no secret."""

from __future__ import annotations

import json

import httpx
import pytest

from support.processes import REAL_KEYS, running, wait_for

pytestmark = pytest.mark.e2e

CHAT = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello there"}]}
BEARER = {"authorization": "Bearer sk-dummy-alice"}
LIMIT = 5


@pytest.fixture(scope="module")
def web(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    with running(lab.gateway(folder, gateway=f"max_flows: {LIMIT}", tool="mitmweb")) as gateway:
        yield gateway


def flows(gateway):
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.web_port}", trust_env=False, follow_redirects=True) as client:
        client.get("/", params={"token": "test"})
        return client.get("/flows").json(), client.cookies, client.get


def latest(gateway, **body):
    with gateway.client() as client:
        answer = client.post(CHAT, json=BODY | body, headers=BEARER)
    call = answer.headers["x-valetkey-id"]

    def find():
        return next(
            (f for f in flows(gateway)[0] if f.get("metadata", {}).get("valetkey_id") == call or call in json.dumps(f)), None
        )

    return wait_for(find, "the flow")


def test_a_flow_has_a_readable_comment(web):
    comment = latest(web)["comment"]
    assert "gpt-4o" in comment and "alice" in comment and "openai/" in comment and " in " in comment and "$" in comment


def test_a_refused_call_is_marked(web):
    with web.client() as client:
        client.post(CHAT, json=BODY)
    assert wait_for(lambda: [f for f in flows(web)[0] if f["marked"]], "the mark")


def test_a_streamed_body_can_be_read(web):
    flow = latest(web, stream=True)
    url = f"http://127.0.0.1:{web.web_port}/flows/{flow['id']}/response/content.data"
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        client.get(f"http://127.0.0.1:{web.web_port}/", params={"token": "test"})
        assert "data: [DONE]" in client.get(url).text


def test_old_flows_are_evicted(web):
    for _ in range(LIMIT + 3):
        latest(web)
    assert len(flows(web)[0]) <= LIMIT + 1


def test_no_flow_holds_a_real_key(web):
    latest(web)
    text = json.dumps(flows(web)[0])
    assert "sk-dummy" in text and not any(key in text for key in REAL_KEYS.values())


def test_mitmwebs_own_port_is_no_destination(web):
    """CVE-2025-23217: the inspector must not be reachable through the proxy."""
    answer = httpx.get(f"http://127.0.0.1:{web.web_port}/flows", proxy=web.proxy, trust_env=False)
    assert answer.status_code == 403
