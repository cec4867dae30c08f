"""The least that makes mitmdump stream: by itself it holds every answer until its end, also an event stream."""

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    """Let event streams through."""
    if flow.response and flow.response.headers.get("content-type", "").startswith("text/event-stream"):
        flow.response.stream = True
