"""A smallest agent: one call through the gateway, and one past it, which must fail."""

import json
import os
import urllib.error
import urllib.request

URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]}


def call(opener: urllib.request.OpenerDirector) -> str:
    """The answer's text, or why there is none."""
    headers = {"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}", "content-type": "application/json"}
    request = urllib.request.Request(URL, json.dumps(BODY).encode(), headers)
    try:
        with opener.open(request, timeout=60) as answer:
            return str(json.load(answer)["choices"][0]["message"]["content"])
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read().decode(errors='replace')}"
    except urllib.error.URLError as error:
        return f"no answer: {error.reason}"


print("through the gateway:", call(urllib.request.build_opener()))
print("past the gateway:", call(urllib.request.build_opener(urllib.request.ProxyHandler({}))))
