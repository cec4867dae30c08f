"""Every way to start it, and what is listened on afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import httpx
import pytest

from support.processes import GATEWAY, REAL_KEYS, free_ports, running, wait_for

pytestmark = pytest.mark.e2e
BIN = Path(sys.executable).parent


@pytest.fixture
def stage(lab, tmp_path):
    """Rules with free ports; the proxy's port, the base URL's, and how to start something."""
    proxy, api = free_ports(2)
    (tmp_path / "rules.yaml").write_text(f"version: 1\ngateway: {{proxy: 127.0.0.1:{proxy}, api: 127.0.0.1:{api}}}\n")
    kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name and "proxy" not in name.lower()}
    started = []

    def start(*command, **options):
        log = (tmp_path / "log").open("ab")
        options = {
            "stdout": log,
            "stderr": log,
            "cwd": tmp_path,
            "env": kept | REAL_KEYS | {"PYTHONPATH": str(GATEWAY.parent)},
        } | options
        started.append(subprocess.Popen([str(part) for part in command], **options))
        log.close()
        return started[-1]

    yield proxy, api, start, tmp_path
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def healthy(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def listening(process):
    """Addresses that a process listens on, as /proc tells."""
    inodes = {str(f.readlink()) for f in Path(f"/proc/{process.pid}/fd").iterdir() if f.exists() or f.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, port = fields[1].split(":")
                found.add((address, int(port, 16)))
    return found


def test_the_plain_command_opens_both_doors_on_loopback_only(lab, stage):
    proxy, api, start, _ = stage
    process = start(BIN / "mitmdump", "-s", GATEWAY, "--set", f"confdir={lab.confdir}", "--listen-port", proxy)
    wait_for(lambda: healthy(api), "the gateway", process)
    assert listening(process) == {("0100007F", proxy), ("0100007F", api)}


def test_three_lines_say_that_it_is_ready(lab, stage):
    proxy, api, start, folder = stage
    process = start(BIN / "mitmdump", "-s", GATEWAY, "--set", f"confdir={lab.confdir}", "-p", proxy)
    wait_for(lambda: healthy(api), "the gateway", process)
    printed = (folder / "log").read_text()
    assert "is ready" in printed and "usable key: anthropic" in printed and f"HTTPS_PROXY=http://127.0.0.1:{proxy}" in printed


def test_valetkey_run_opens_the_doors_of_the_rules(lab, stage):
    proxy, api, start, _ = stage
    process = start(sys.executable, "-m", "valetkey", "run", "--", "--set", f"confdir={lab.confdir}")
    wait_for(lambda: healthy(api), "the gateway", process)
    assert listening(process) == {("0100007F", proxy), ("0100007F", api)}


def test_mitmweb_starts(lab, stage):
    proxy, api, start, _ = stage
    (web,) = free_ports(1)
    options = ["--set", f"confdir={lab.confdir}", "--web-port", web, "--no-web-open-browser"]
    process = start(BIN / "mitmweb", "-s", GATEWAY, "-p", proxy, *options)
    assert wait_for(lambda: healthy(api), "the gateway", process)


def test_the_console_starts(lab, stage):
    proxy, api, start, _ = stage
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    terminal = {"stdin": follower, "stdout": follower, "stderr": follower}
    env = {name: value for name, value in os.environ.items() if "API_KEY" not in name} | {"TERM": "xterm"}
    process = start(BIN / "mitmproxy", "-s", GATEWAY, "-p", proxy, "--set", f"confdir={lab.confdir}", env=env, **terminal)
    os.close(follower)
    reader = threading.Thread(target=_swallow, args=(leader,), daemon=True)
    reader.start()
    assert wait_for(lambda: healthy(api), "the gateway", process)
    process.kill()
    process.wait()
    reader.join(5)
    os.close(leader)


def _swallow(leader):
    try:
        while os.read(leader, 65536):
            pass
    except OSError:
        return


def test_a_taken_port_stops_the_start_with_the_reason(lab, stage):
    import socket

    proxy, api, start, folder = stage
    with socket.create_server(("127.0.0.1", api)):
        process = start(BIN / "mitmdump", "-s", GATEWAY, "-p", proxy, "--set", f"confdir={lab.confdir}")
        assert process.wait(30) == 1
    assert str(api) in (folder / "log").read_text()


def test_connections_before_readiness_are_closed(lab, stage):
    """The default server is open before any script is loaded; nothing passes through it ungoverned."""
    proxy, api, start, folder = stage
    slow = folder / "slow.py"
    slow.write_text("import time\ndef running():\n    time.sleep(0.5)\n")
    process = start(BIN / "mitmdump", "-s", GATEWAY, "-s", slow, "-p", proxy, "--set", f"confdir={lab.confdir}")
    answers = []

    def knock():
        try:
            answers.append(httpx.get("http://example.invalid/", proxy=f"http://127.0.0.1:{proxy}", trust_env=False).status_code)
        except httpx.HTTPError as error:
            answers.append(type(error).__name__)
        return healthy(api)

    wait_for(knock, "the gateway", process)
    assert 200 not in answers


UNWANTED = {"genai_prices._cli", "httpx", "keyring", "rich", "typer", "valetkey.cli", "valetkey.simulator"}
"""Modules of commands and rehearsals. Each takes memory that a gateway holds for as long as it runs."""
_TELL = """
import pathlib, sys

def done():
    pathlib.Path("modules").write_text("\\n".join(sys.modules))
"""


def test_a_gateway_does_not_hold_what_only_commands_need(lab, tmp_path):
    script = tmp_path / "tell.py"
    script.write_text(_TELL)
    with running(lab.gateway(tmp_path, scripts=[script])):
        pass
    loaded = set((tmp_path / "modules").read_text().splitlines())
    assert loaded & (UNWANTED | {"valetkey.proxy.lifecycle"}) == {"valetkey.proxy.lifecycle"}
