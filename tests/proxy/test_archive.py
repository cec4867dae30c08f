from __future__ import annotations

import gzip

from support import making
from support.proxy_receipts import receipt
from valetkey.proxy import archive


class Store:
    def __init__(self):
        self.kept = []

    def write(self, *record):
        self.kept.append(record)


def test_request_and_answer_are_kept_as_the_agent_saw_them():
    from mitmproxy import http

    store, flow = Store(), making.flow()
    flow.response = http.Response.make(200, b"hello")
    archive.keep(store, flow, receipt())
    id, _, request, response = store.kept[0]
    assert (id, request["method"], response["body"]) == ("1", "POST", b"hello")


def test_a_compressed_body_is_kept_readable():
    from mitmproxy import http

    message = http.Response(b"HTTP/1.1", 200, b"", http.Headers(content_encoding="gzip"), gzip.compress(b"hello"), None, 0, 0)
    assert archive.plain_body(message) == b"hello"


def test_a_bomb_is_cut():
    from mitmproxy import http

    body = gzip.compress(b"x" * 50_000_000)
    message = http.Response(b"HTTP/1.1", 200, b"", http.Headers(content_encoding="gzip"), body, None, 0, 0)
    assert len(archive.plain_body(message)) == 1024 * 1024 + 1


def test_a_corrupt_body_is_kept_as_it_came():
    from mitmproxy import http

    message = http.Response(b"HTTP/1.1", 200, b"", http.Headers(content_encoding="gzip"), b"nonsense", None, 0, 0)
    assert archive.plain_body(message) == b"nonsense"
