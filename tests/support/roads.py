"""The ways by which an agent reaches the gateway, each as a socket to speak HTTP on; and a corporate proxy in front."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

PATIENCE = 30.0
MARK = 7
"""Packets of agents in a network namespace carry it, so that only they are redirected."""


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(connected: socket.socket, host: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One HTTP/1.1 exchange; the socket is closed."""
    connection = http.client.HTTPConnection(host, timeout=PATIENCE)
    connection.sock = connected
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request("GET" if data is None else "POST", path, data, {"Host": host, **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def tls(plain: socket.socket, ca: Path, name: str | None, alpn: str = "http/1.1") -> ssl.SSLSocket:
    """TLS on a socket, verified with `ca`; no server name (SNI) where `name` is None."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols([alpn])
    context.check_hostname = name is not None
    if name is None:
        context.verify_mode = ssl.CERT_NONE
    with closed_on_failure(plain):
        return context.wrap_socket(plain, server_hostname=name)


def dialled(port: int, host: str = "127.0.0.1", mark: int = 0) -> socket.socket:
    """A TCP connection; `mark` needs root."""
    with closed_on_failure(socket.socket()) as made:
        made.settimeout(PATIENCE)
        if mark:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            made.bind(("127.0.0.1", 0))  # or it would come from the address that it goes to, which here is ours
        made.connect((host, port))
    return made


@contextmanager
def closed_on_failure[S: socket.socket](made: S) -> Iterator[S]:
    """Close a socket unless all goes well with it."""
    try:
        yield made
    except BaseException:
        made.close()
        raise


def tunnelled(proxy_port: int, host: str, port: int = 443) -> socket.socket:
    """Through CONNECT. Raises ConnectionError where it is refused."""
    with closed_on_failure(dialled(proxy_port)) as made:
        made.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += _exactly(made, 1)
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(head.decode())
    return made


def socksed(proxy_port: int, host: str, port: int = 443) -> socket.socket:
    """Through SOCKS5 (RFC 1928); an address goes as an address, a name as a name."""
    try:
        place = b"\x01" + ip_address(host).packed
    except ValueError:
        place = b"\x03" + bytes([len(host)]) + host.encode()
    with closed_on_failure(dialled(proxy_port)) as made:
        made.sendall(b"\x05\x01\x00")
        assert _exactly(made, 2) == b"\x05\x00"
        made.sendall(b"\x05\x01\x00" + place + struct.pack("!H", port))
        if (said := _exactly(made, 10)[1]) != 0:
            raise ConnectionError(f"SOCKS5 says {said}")
    return made


def _exactly(connected: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connected.recv(count - len(data))
        if not piece:
            raise ConnectionError("closed")
        data += piece
    return data


# A proxy in front of the gateway.


@dataclass
class CorporateProxy:
    """Answers to CONNECT and to absolute targets with the right password, and leads `hosts` to ports of this machine."""

    hosts: Mapping[str, int]
    password: str = "gw:secret-of-corp"
    seen: list[str] = field(default_factory=list)
    """First lines of the requests, with `denied` before those without the password."""
    port: int = 0

    def handle(self, client: socket.socket) -> None:
        """Serve one connection."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(4096)
            if not piece:
                return
            head += piece
        line, *fields = head.split(b"\r\n\r\n")[0].decode().split("\r\n")
        wanted = "Basic " + base64.b64encode(self.password.encode()).decode()
        if f"proxy-authorization: {wanted}".lower() not in [each.lower() for each in fields]:
            self.seen.append("denied " + line)
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        self.seen.append(line)
        if not line.startswith("CONNECT "):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nfrom corp")
            return
        host = line.split()[1].rpartition(":")[0]
        with dialled(self.hosts[host]) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def corporate_proxy(hosts: Mapping[str, int]) -> Iterator[CorporateProxy]:
    """A running `CorporateProxy`."""
    proxy = CorporateProxy(hosts)
    with serving(proxy.handle) as port:
        proxy.port = port
        yield proxy


@contextmanager
def serving(handle: Callable[[socket.socket], None], host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A TCP server, each connection in a thread of its own; gives its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(PATIENCE)
            with suppress(OSError):
                handle(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def greet(client: socket.socket) -> None:
    """A host that speaks no HTTP at all: it says back what it hears first."""
    client.sendall(b"heard " + client.recv(64))


# A network of its own.


class Namespace:
    """A network namespace: what `run` is given happens in it, with all threads and processes that are started there."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(os.unshare, os.CLONE_NEWNET).result()
        self.command("ip link set lo up")

    def run(self, what: Callable[..., Any], *arguments: object) -> Any:
        """Call `what` inside."""
        return self._thread.submit(what, *arguments).result()

    def command(self, line: str, text: str | None = None) -> None:
        """Run a program inside; `text` is its input."""
        self.run(lambda: subprocess.run(line.split(), input=text, text=True, check=True, capture_output=True))

    def close(self) -> None:
        """End it; it goes with the last process inside."""
        self._thread.shutdown()


def why_no_namespace() -> str | None:
    """Why this machine lets us make no network namespace with redirects in it, None when it does."""
    if not hasattr(os, "unshare") or not hasattr(os, "CLONE_NEWNET"):
        return "network namespaces need Linux and Python 3.12"
    if os.geteuid() != 0:
        return "a network namespace needs root"
    try:
        inside = Namespace()
    except (OSError, subprocess.SubprocessError) as error:
        return f"no network namespace can be made here: {error}"
    try:
        inside.command("nft -f -", "table ip probe {\nchain out { type nat hook output priority -100; }\n}\n")
    except (OSError, subprocess.SubprocessError) as error:
        return f"nft cannot redirect here: {error}"
    finally:
        inside.close()
    return None
