"""Unmodified SDK programs, in processes of their own, that hold nothing but a dummy and two variables."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from support.processes import REAL_KEYS

pytestmark = pytest.mark.e2e

PROGRAMS = {
    "openai chat": """
        import openai
        out = openai.OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        print(json.dumps([out.choices[0].message.content, out.usage.total_tokens > 0]))
    """,
    "openai chat streamed": """
        import openai
        parts = openai.OpenAI().chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=True)
        print(json.dumps(["".join(p.choices[0].delta.content or "" for p in parts), True]))
    """,
    "openai chat tools": """
        import openai
        tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
        out = openai.OpenAI().chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "use the tool"}], tools=[tool], tool_choice="required")
        print(json.dumps([out.choices[0].message.tool_calls[0].function.name, True]))
    """,
    "openai image": """
        import openai
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
        content = [{"type": "text", "text": "look"}, image]
        out = openai.OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": content}])
        print(json.dumps([out.choices[0].message.content, True]))
    """,
    "openai responses": """
        import openai
        out = openai.OpenAI().responses.create(model="gpt-4o", input="hi")
        print(json.dumps([out.output_text, out.usage.total_tokens > 0]))
    """,
    "openai responses streamed": """
        import openai
        with openai.OpenAI().responses.stream(model="gpt-4o", input="hi") as stream:
            for event in stream: pass
            out = stream.get_final_response()
        print(json.dumps([out.output_text, out.usage.total_tokens > 0]))
    """,
    "openai embeddings": """
        import openai
        out = openai.OpenAI().embeddings.create(model="text-embedding-3-small", input="hi")
        print(json.dumps([str(len(out.data[0].embedding)), True]))
    """,
    "openai models": """
        import openai
        print(json.dumps([[m.id for m in openai.OpenAI().models.list()][0], True]))
    """,
    "openai async": """
        import asyncio, openai
        async def main():
            return await openai.AsyncOpenAI().chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        print(json.dumps([asyncio.run(main()).choices[0].message.content, True]))
    """,
    "anthropic": """
        import anthropic
        out = anthropic.Anthropic().messages.create(
            model="claude-sonnet-4-5", max_tokens=50, messages=[{"role": "user", "content": "hi"}])
        print(json.dumps([out.content[0].text, out.usage.output_tokens > 0]))
    """,
    "anthropic streamed": """
        import anthropic
        with anthropic.Anthropic().messages.stream(
                model="claude-sonnet-4-5", max_tokens=50, messages=[{"role": "user", "content": "hi"}]) as stream:
            text = "".join(stream.text_stream)
        print(json.dumps([text, True]))
    """,
    "anthropic count_tokens": """
        import anthropic
        out = anthropic.Anthropic().messages.count_tokens(
            model="claude-sonnet-4-5", messages=[{"role": "user", "content": "hi"}])
        print(json.dumps([str(out.input_tokens), out.input_tokens > 0]))
    """,
    "gemini": """
        from google import genai
        client = genai.Client()
        out = client.models.generate_content(model="gemini-2.5-flash", contents="hi")
        print(json.dumps([out.text, out.usage_metadata.total_token_count > 0]))
    """,
    "gemini streamed": """
        from google import genai
        client = genai.Client()
        parts = client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi")
        print(json.dumps(["".join(p.text or "" for p in parts), True]))
    """,
    "gemini count_tokens": """
        from google import genai
        client = genai.Client()
        out = client.models.count_tokens(model="gemini-2.5-flash", contents="hi")
        print(json.dumps([str(out.total_tokens), out.total_tokens > 0]))
    """,
    "requests": """
        import requests
        out = requests.post("https://api.openai.com/v1/chat/completions", headers={"authorization": "Bearer sk-dummy"},
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
        print(json.dumps([out.json()["choices"][0]["message"]["content"], True]))
    """,
    "httpx": """
        import httpx
        out = httpx.post("https://api.openai.com/v1/chat/completions", headers={"authorization": "Bearer sk-dummy"},
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
        print(json.dumps([out.json()["choices"][0]["message"]["content"], True]))
    """,
    "aiohttp": """
        import aiohttp, asyncio
        async def main():
            async with aiohttp.ClientSession(trust_env=True) as session, session.post(
                    "https://api.openai.com/v1/chat/completions", headers={"authorization": "Bearer sk-dummy"},
                    json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}) as out:
                return await out.json()
        print(json.dumps([asyncio.run(main())["choices"][0]["message"]["content"], True]))
    """,
}
BASE_URLS = {"OPENAI_BASE_URL": "/v1", "ANTHROPIC_BASE_URL": "", "GOOGLE_GEMINI_BASE_URL": ""}
DIRECT = ("requests", "httpx", "aiohttp")


def run(program: str, env: dict[str, str]) -> list[object]:
    code = "import json\n" + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", PROGRAMS)
def test_through_the_proxy_door(lab, shared, name):
    text, fine = run(PROGRAMS[name], shared.agent_env())
    assert text and fine


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in DIRECT])
def test_through_the_base_url_door(lab, shared, name):
    env = {name: value for name, value in shared.agent_env().items() if "proxy" not in name.lower()}
    env |= {variable: shared.api + suffix for variable, suffix in BASE_URLS.items()}
    text, fine = run(PROGRAMS[name], env)
    assert text and fine


def test_curl(lab, shared):
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
    command = ["curl", "-sS", "--fail", "https://api.openai.com/v1/chat/completions", "-H", "authorization: Bearer sk-dummy"]
    done = subprocess.run([*command, "-d", body], env=shared.agent_env(), capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["choices"], done.stderr


def test_the_simulator_saw_only_real_keys(lab, shared):
    """Runs last in this file: one credential per call, a real one, on a host that it belongs to."""
    run(PROGRAMS["openai chat"], shared.agent_env())
    assert all(len(seen.credentials) <= 1 for seen in lab.simulator.seen if not seen.path.startswith("/_simulator"))
    values = {str(value) for seen in lab.simulator.seen for value in seen.credentials}
    assert (
        values and not any("dummy" in value for value in values) and all(any(k in v for k in REAL_KEYS.values()) for v in values)
    )
