"""Real processes for end-to-end tests: the gateway in front, the simulator behind it under the providers' own names."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = ROOT / "addons" / "gateway.py"
DIALLING = Path(__file__).with_name("dialling.py")
PATIENCE = 40.0

REAL_KEYS = {
    "OPENAI_API_KEY_1": "sk-proj-REAL1openaiAAAAAAAAAAAAAAAAAAAA",
    "OPENAI_API_KEY_2": "sk-proj-REAL2openaiBBBBBBBBBBBBBBBBBBBB",
    "ANTHROPIC_API_KEY": "sk-ant-api03-REALanthropicCCCCCCCCCCCCCC",
    "GEMINI_API_KEY": "AIzaREALgeminiDDDDDDDDDDDDDDDDDDDDDDDDD",
    "OPENROUTER_API_KEY": "sk-or-v1-REALopenrouterEEEEEEEEEEEEEEEEEEE",
    "GROQ_API_KEY": "gsk_REALgroqFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
}
PROVIDER_HOSTS = (
    "api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "openrouter.ai", "api.groq.com",
    "api.mistral.ai", "api.deepseek.com", "bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime.eu-west-1.amazonaws.com",
)  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_for(condition: Any, what: str, process: subprocess.Popen[bytes] | None = None) -> Any:
    """Poll until `condition()` gives something true; a dead `process` ends the wait at once."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended with {process.returncode} while waiting for {what}")
        time.sleep(0.02)
    raise AssertionError(f"waited {PATIENCE} s for {what}")


class Gateway:
    """A mitmdump or mitmweb process with the gateway in it."""

    def __init__(
        self,
        folder: Path,
        *,
        rules: str = "",
        gateway: str = "",
        dial: Mapping[str, int] | None = None,
        ca: Path | None = None,
        confdir: Path | None = None,
        env: Mapping[str, str] | None = None,
        tool: str = "mitmdump",
        arguments: Sequence[str] = (),
        scripts: Sequence[Path] = (),
        modes: Sequence[str] | None = None,
    ) -> None:
        self.folder = folder
        self.proxy_port, self.api_port, self.web_port = free_ports(3)
        self.confdir = confdir or folder / "confdir"
        self.log = folder / "gateway.log"
        self.rules = folder / "rules.yaml"
        allow = ["egress_allow: [" + ", ".join(dial) + "]"] if dial else []
        # Tests that are about waiting say so; the others do not wait.
        quick = [] if "timeouts:" in gateway else ["timeouts: {retry: 20ms, max_wait: 500ms}"]
        self.head = "\n".join(
            ["version: 1", "gateway:", f"  proxy: 127.0.0.1:{self.proxy_port}", f"  api: 127.0.0.1:{self.api_port}"]
            + [f"  {line}" for line in (*allow, *quick, *gateway.splitlines())]
        )
        self.write_rules(rules)
        self._has_api = modes is None
        doors = [f"regular@127.0.0.1:{self.proxy_port}", f"reverse:http://valetkey.invalid@127.0.0.1:{self.api_port}"]
        chosen = [word for mode in (doors if modes is None else modes) for word in ("--mode", mode)]
        self._command = self._build(tool, dial, ca, [*chosen, *arguments], scripts)
        self._env = self._environment(env, dial)
        self.process: subprocess.Popen[bytes] | None = None

    def write_rules(self, rules: str) -> None:
        """Write rules.yaml: the doors and `gateway` settings given at first, then `rules`."""
        self.rules.write_text(self.head + "\n" + textwrap.dedent(rules))

    def _build(self, tool: str, dial: object, ca: Path | None, arguments: Sequence[str], scripts: Sequence[Path]) -> list[str]:
        command = [str(Path(sys.executable).with_name(tool))]
        if dial:
            command += ["-s", str(DIALLING)]
        for script in scripts:
            command += ["-s", str(script)]
        command += ["-s", str(GATEWAY), "--set", f"rules={self.rules}", "--set", f"confdir={self.confdir}"]
        if tool == "mitmweb":
            command += ["--no-web-open-browser", "--web-host", "127.0.0.1", "--web-port", str(self.web_port)]
            command += ["--set", "web_password=test"]
        if ca is not None:
            command += ["--set", f"ssl_verify_upstream_trusted_ca={ca}"]
        return command + list(arguments)

    def _environment(self, env: Mapping[str, str] | None, dial: Mapping[str, int] | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name and "proxy" not in name.lower()}
        return kept | {"VALETKEY_TEST_DIAL": json.dumps(dict(dial or {}))} | dict(REAL_KEYS if env is None else env)

    def start(self, *, ready: bool = True) -> Gateway:
        """Start the process; with `ready`, wait until it says that it is."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=self.folder, env=self._env, stdout=log, stderr=log)
        if ready:
            try:
                wait_for(self.healthy, "the gateway's health", self.process)
            except AssertionError as error:
                self.stop()
                raise AssertionError(f"{error}\n{self.output()}") from None
        return self

    def healthy(self) -> bool:
        """Whether /health answers 200; without the door for it, whether the process has said that it is ready."""
        if not self._has_api:
            return "valetkey is ready" in self.output()
        try:
            return httpx.get(f"{self.api}/health", trust_env=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End the process and give its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.proxy_port}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def ca(self) -> Path:
        """The certificate that agents trust."""
        return self.confdir / "mitmproxy-ca-cert.pem"

    def output(self) -> str:
        """What the process has printed so far."""
        return self.log.read_text(errors="replace")

    def client(self, **options: Any) -> httpx.Client:
        """An HTTP client that calls through the proxy door, as an agent's SDK would."""
        import ssl

        context = ssl.create_default_context(cafile=str(self.ca))
        if options.get("http2"):
            # httpx offers http/1.1 first, and mitmproxy takes the first offer that it knows.
            context.set_alpn_protocols(["h2"])
            context.set_alpn_protocols = lambda protocols: None  # type: ignore[method-assign]
        return httpx.Client(proxy=self.proxy, verify=context, trust_env=False, timeout=30, **options)

    def agent_env(self) -> dict[str, str]:
        """The environment of an unmodified program behind the gateway."""
        kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name and "proxy" not in name.lower()}
        trust = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(self.ca))
        proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), self.proxy)
        dummies = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY"), "sk-dummy")
        return kept | trust | proxies | dummies

    def receipts(self, at_least: int = 0) -> list[dict[str, Any]]:
        """All receipts, oldest first; waits for the writer until there are `at_least` as many."""

        def read() -> list[dict[str, Any]] | None:
            found = self._read_receipts()
            return found if len(found) >= at_least else None

        if at_least == 0:
            return self._read_receipts()
        return wait_for(read, f"{at_least} receipts")

    def _read_receipts(self) -> list[dict[str, Any]]:
        from valetkey.ledger import Query, open_store, to_dict

        path = self.folder / ".valetkey" / "ledger.db"
        if not path.exists():
            return []
        store = open_store(f"sqlite:///{path}", readonly=True)
        try:
            return [to_dict(receipt) for receipt in store.receipts(Query())]
        finally:
            store.close()


@contextmanager
def running(gateway: Gateway) -> Iterator[Gateway]:
    """A started gateway that is stopped in any case."""
    try:
        yield gateway.start()
    finally:
        gateway.stop()
