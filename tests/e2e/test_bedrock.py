"""Bedrock through the real process: documents and event streams pass byte for byte, are read for usage, and fail over."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256

import httpx
import pytest

from support.processes import Gateway, running, wait_for
from valetkey.formats.eventstream import EventStreamParser
from valetkey.simulator.faults import parse_fault

pytestmark = pytest.mark.e2e

EAST, WEST = "bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime.eu-west-1.amazonaws.com"
KEYS = [f"bedrock-api-key-REALrealREALrealREAL000{number}" for number in range(1, 10)]
"""One more than there are calls that make one rest."""
NOVA, CLAUDE = "amazon.nova-micro-v1%3A0", "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"
PROFILE = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2F" + CLAUDE
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello there"}]}]}
MESSAGES = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hello there"}]}
CALLS = {
    "converse": (NOVA, "converse", CONVERSE),
    "converse-stream": (NOVA, "converse-stream", CONVERSE),
    "invoke": (CLAUDE, "invoke", MESSAGES),
    "invoke-stream": (CLAUDE, "invoke-with-response-stream", MESSAGES),
    "nova": (NOVA, "invoke-with-response-stream", CONVERSE),
    "profile": (PROFILE, "converse-stream", CONVERSE),
}
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=ab"
)


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory) -> Iterator[Gateway]:
    env = {f"AWS_BEARER_TOKEN_BEDROCK_{number}": key for number, key in enumerate(KEYS, 1)}
    rules = "providers: {bedrock: {rotation: sequential}}\n"
    with running(lab.gateway(tmp_path_factory.mktemp("bedrock"), rules=rules, env=env)) as started:
        yield started


def ask(gateway, name, host=EAST, **headers):
    model, action, body = CALLS[name]
    fields = {"authorization": "Bearer sk-dummy"} | {name.replace("_", "-"): value for name, value in headers.items()}
    with gateway.client() as client:
        return client.post(f"https://{host}/model/{model}/{action}", json=body, headers=fields)


def directly(lab, name):
    """The same from the simulator itself."""
    model, action, body = CALLS[name]
    headers = {"authorization": f"Bearer {KEYS[0]}", "host": EAST}
    context = ssl.create_default_context(cafile=str(lab.ca))
    context.check_hostname = False
    with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
        return client.post(f"{lab.simulator.url}/model/{model}/{action}", json=body, headers=headers)


def receipt(gateway, answer):
    id = answer.headers["x-valetkey-id"]
    return wait_for(lambda: next((each for each in gateway.receipts() if each["id"] == id), None), f"receipt {id}")


def events(content):
    parser = EventStreamParser(1 << 20)
    found = parser.feed(content)
    assert parser.at_rest
    return found


@pytest.mark.parametrize("name", CALLS)
def test_the_bytes_are_those_of_the_provider(lab, gateway, name):
    answer = ask(gateway, name)
    assert (answer.status_code, sha256(answer.content).hexdigest()) == (200, sha256(directly(lab, name).content).hexdigest())


USED = {"input_tokens": 3, "output_tokens": 8}


@pytest.mark.parametrize("name", CALLS)
def test_usage_and_cost_are_on_the_receipt(gateway, name):
    found = receipt(gateway, ask(gateway, name))
    used = {count: found["usage"][count] for count in USED}
    assert (used, found["usage_source"], found["cost_source"], found["outcome"]) == (USED, "reported", "prices", "ok")


def test_the_cost_is_that_of_the_list(gateway):
    assert receipt(gateway, ask(gateway, "converse-stream"))["cost_usd"] == "0.000001225"  # 3 * 0.035 + 8 * 0.14 per million


@pytest.mark.parametrize(("name", "streamed"), [("converse", False), ("invoke-stream", True)])
def test_a_stream_is_told_by_its_path(gateway, name, streamed):
    assert receipt(gateway, ask(gateway, name))["streamed"] is streamed


def test_the_model_is_the_one_of_the_path(gateway):
    assert receipt(gateway, ask(gateway, "invoke"))["model"] == "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def test_a_signature_gives_way_to_the_key(lab, gateway):
    answer = ask(gateway, "converse", authorization=SIGNED, x_amz_security_token="AQoDYXdzEJr", x_amz_date="20260101T000000Z")
    seen = {name.lower(): value for name, value in lab.simulator.seen[-1].headers}
    assert (answer.status_code, seen["authorization"][:-1], "x-amz-security-token" in seen) == (
        200,
        f"Bearer {KEYS[0][:-1]}",
        False,
    )


@pytest.mark.parametrize("name", ["converse", "profile"])
def test_the_path_is_sent_as_it_came(lab, gateway, name):
    ask(gateway, name)
    assert lab.simulator.seen[-1].path == f"/model/{CALLS[name][0]}/{CALLS[name][1]}"


@pytest.mark.parametrize("host", [EAST, WEST])
def test_a_call_stays_in_its_region(lab, gateway, host):
    found = receipt(gateway, ask(gateway, "converse-stream", host))
    assert (lab.simulator.seen[-1].host, found["attempts"][0]["upstream"]) == (host, f"https://{host}")


def test_the_base_url_door_calls_the_upstream(lab, gateway):
    model, action, body = CALLS["converse-stream"]
    url = f"{gateway.api}/model/{model}/{action}"
    answer = httpx.post(url, json=body, headers={"authorization": "Bearer sk-dummy"}, trust_env=False, timeout=30)
    assert (answer.status_code, lab.simulator.seen[-1].host) == (200, EAST)


@pytest.mark.parametrize("fault", ["kind=rate_limit", "error_first,kind=rate_limit", "error_first,noise=2,kind=rate_limit"])
@pytest.mark.parametrize("name", ["converse-stream", "invoke-stream"])
def test_a_throttled_key_gives_way_to_the_next(lab, gateway, name, fault):
    lab.simulator.faults.append(parse_fault(f"host={EAST},times=1,{fault}"))
    answer = ask(gateway, name)
    attempts = [each["outcome"] for each in receipt(gateway, answer)["attempts"]]
    assert (answer.status_code, attempts) == (200, ["throttled", "ok"])
    assert "error" not in [name for name, _ in events(answer.content)]


def broken(gateway, fault):
    """What comes of a stream with a fault until it ends before its time, and its receipt."""
    model, action, body = CALLS["converse-stream"]
    headers, came = {"authorization": "Bearer sk-dummy", "x-simulate": fault}, b""
    url = f"https://{EAST}/model/{model}/{action}"
    with gateway.client() as client, client.stream("POST", url, json=body, headers=headers) as answer:
        with suppress(httpx.RemoteProtocolError):
            for piece in answer.iter_bytes():
                came += piece
        return came, receipt(gateway, answer)


def test_a_stream_that_broke_ends_in_its_own_words(gateway):
    came, found = broken(gateway, "cut=3")
    name, data = events(came)[-1]
    assert (name, json.loads(data)["error"]["type"], found["outcome"]) == ("error", "internalServerException", "server")


def test_a_stream_ends_before_a_key_in_a_frame(gateway):
    came, found = broken(gateway, "echo")
    assert (any(key.encode() in came for key in KEYS), "key_echoed" in found["notes"]) == (False, True)


def test_a_refusal_is_an_exception_of_aws(gateway):
    with gateway.client() as client:
        answer = client.post(f"https://{EAST}/model/{NOVA}/dance", json={}, headers={"authorization": "Bearer sk-dummy"})
    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDeniedException")


def test_the_sdk_of_anthropic(gateway):
    import anthropic

    http = anthropic.DefaultHttpxClient(proxy=gateway.proxy, verify=str(gateway.ca), trust_env=False)
    with anthropic.AnthropicBedrock(api_key="sk-dummy", aws_region="us-east-1", http_client=http) as sdk:
        answer = sdk.messages.create(
            model="us.anthropic.claude-sonnet-4-5-20250929-v1:0", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        )
    assert answer.usage.output_tokens > 1


class TestTheSdkOfAws:
    """boto3, where it is installed."""

    @pytest.fixture(scope="class")
    def bedrock(self, gateway):
        boto3 = pytest.importorskip("boto3")
        from botocore.config import Config

        config = Config(proxies={"https": gateway.proxy}, retries={"total_max_attempts": 1}, read_timeout=60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_BEARER_TOKEN_BEDROCK", "sk-dummy")
            yield boto3.client("bedrock-runtime", region_name="us-east-1", verify=str(gateway.ca), config=config)

    def test_converse(self, bedrock):
        assert bedrock.converse(modelId="amazon.nova-micro-v1:0", **CONVERSE)["usage"]["outputTokens"] == 8

    def test_converse_stream(self, bedrock):
        stream = bedrock.converse_stream(modelId="amazon.nova-micro-v1:0", **CONVERSE)["stream"]
        assert [next(iter(event)) for event in stream][-1] == "metadata"

    def test_invoke_stream(self, bedrock):
        model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
        stream = bedrock.invoke_model_with_response_stream(modelId=model, body=json.dumps(MESSAGES))["body"]
        assert json.loads([event["chunk"]["bytes"] for event in stream][-1])["type"] == "message_stop"

    def test_a_resource_name(self, bedrock):
        profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/otnfa2ysixqd"
        assert bedrock.converse(modelId=profile, **CONVERSE)["stopReason"] == "end_turn"

    @pytest.mark.parametrize(
        ("fault", "name"), [("error_first,kind=client", "ValidationException"), ("kind=client", "ValidationException")]
    )
    def test_errors_have_their_names(self, lab, bedrock, fault, name):
        lab.simulator.faults.append(parse_fault(f"host={EAST},times=1,{fault}"))
        with pytest.raises(bedrock.exceptions.ClientError) as caught:
            bedrock.converse_stream(modelId="amazon.nova-lite-v1:0", **CONVERSE)
        assert caught.value.response["Error"]["Code"] == name

    def test_a_stream_that_broke_raises(self, lab, bedrock):
        from botocore.exceptions import EventStreamError

        lab.simulator.faults.append(parse_fault(f"host={EAST},times=1,cut=3"))
        with pytest.raises(EventStreamError, match="internalServerException"):
            list(bedrock.converse_stream(modelId="amazon.nova-lite-v1:0", **CONVERSE)["stream"])
