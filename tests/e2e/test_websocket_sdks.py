"""Unmodified SDK programs that talk over WebSockets for several turns: what they say they used stands on receipts."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from decimal import Decimal

import pytest

from support.processes import running

pytestmark = pytest.mark.e2e

PROGRAMS = {
    "openai responses": """
        async with openai.AsyncOpenAI().responses.connect() as connection:
            for turn in range(3):
                await connection.response.create(model="gpt-4.1", input="hi " * (turn + 1))
                async for event in connection:
                    if event.type == "response.completed":
                        told(event.response.usage.input_tokens, event.response.usage.output_tokens)
                        break
    """,
    "openai realtime": """
        async with openai.AsyncOpenAI().realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session={"type": "realtime", "instructions": "be brief"})
            for turn in range(3):
                item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi " * (turn + 1)}]}
                await connection.conversation.item.create(item=item)
                await connection.input_audio_buffer.append(audio="A" * 1000)
                await connection.response.create()
                async for event in connection:
                    if event.type == "response.done":
                        told(event.response.usage.input_tokens, event.response.usage.output_tokens)
                        break
    """,
    "google-genai live": """
        model, config = "gemini-2.5-flash-native-audio-preview-09-2025", {"response_modalities": ["AUDIO"]}
        async with genai.Client().aio.live.connect(model=model, config=config) as session:
            for turn in range(3):
                content = {"role": "user", "parts": [{"text": "hi " * (turn + 1)}]}
                await session.send_client_content(turns=content, turn_complete=True)
                async for message in session.receive():
                    usage = message.usage_metadata or usage
                told(usage.prompt_token_count, usage.response_token_count)
    """,
}
FRAME = """
import asyncio, json, openai
from google import genai

turns, usage = [], None

def told(*tokens):
    turns.append(tokens)

async def main():
    global usage
{body}

asyncio.run(main())
print(json.dumps(turns))
"""


@pytest.fixture(scope="module")
def gateway(lab, tmp_path_factory):
    with running(lab.gateway(tmp_path_factory.mktemp("socket-sdks"))) as started:
        yield started


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_conversation_is_metered_turn_by_turn(gateway, name):
    known = len(gateway.receipts())
    turns = run(PROGRAMS[name], gateway.agent_env())
    receipts = gateway.receipts(known + 4)[known:]
    connection, answers = connection_and_answers(receipts)
    assert (len(turns), connection["answers"], {answer["parent"] for answer in answers}) == (3, 3, {connection["id"]})
    assert [[answer["usage"][each] for each in ("input_tokens", "output_tokens")] for answer in answers] == turns
    assert all(Decimal(answer["cost_usd"]) > 0 for answer in answers)


def connection_and_answers(receipts):
    answers = [receipt for receipt in receipts if receipt["parent"]]
    (connection,) = [receipt for receipt in receipts if not receipt["parent"]]
    return connection, sorted(answers, key=lambda answer: answer["time"])


def run(program, env):
    code = FRAME.replace("{body}", textwrap.indent(textwrap.dedent(program), "    "))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
