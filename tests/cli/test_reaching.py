from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager

import pytest

from valetkey.cli.reaching import reach, seen
from valetkey.model import Address


@contextmanager
def door(body, head=b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"):
    """Something that listens and gives one answer to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.recv(65536)
                client.sendall((head % len(body) if b"%d" in head else head) + body)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield Address("127.0.0.1", server.getsockname()[1])
        thread.join(5)


def test_a_gateway_says_that_it_is_one():
    with door(b'{"gateway":"valetkey","instance":"abc"}') as address:
        assert reach(address).is_instance("abc")


def test_another_gateway_is_another():
    with door(b'{"gateway":"valetkey","instance":"abc"}') as address:
        assert not reach(address).is_instance("xyz")


@pytest.mark.parametrize("body", [b"hello", b"{}", b"[]", b"\xff\xfe", b'{"gateway":"nginx"}'])
def test_what_answers_otherwise_is_something_else(body):
    with door(body) as address:
        assert reach(address).what == "other"


def test_what_speaks_no_http_is_something_else():
    with door(b"", b"SSH-2.0-OpenSSH\r\n") as address:
        assert reach(address).what == "other"


def test_where_nobody_listens_there_is_nobody():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert reach(Address("127.0.0.1", probe.getsockname()[1])).what == "nobody"


def test_what_came_to_a_port_is_asked():
    with door(json.dumps({"tunnel": 0.5, "request": None}).encode()) as address:
        assert seen(address, 23456) == {"tunnel": 0.5, "request": None}


@pytest.mark.parametrize("body", [b"hello", b"[]"])
def test_without_an_answer_nothing_came(body):
    with door(body) as address:
        assert seen(address, 23456) == {}
