"""The range: recording servers, the proxy among them, and the evidence of one attack at a time."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.processes import PATIENCE, Gateway, wait_for
from valetkey.simulator import AuthorityFiles, make_authority

from . import canaries
from .client import Client, call
from .evidence import Attack, Evidence, Verdict, judge
from .servers import Record, Reply, Server, plain_reply

NAMES = Path(__file__).with_name("names.py")
_SETTINGS = """\
egress_allow: [{names}]
timeouts: {{retry: 20ms, max_wait: 200ms, connect: 2s}}
max_body: 1 MB
archive: archive
"""


def _context(files: AuthorityFiles, *alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Servers:
    """All recording servers, and the authorities behind their certificates."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        files = {name: self._files(folder / name, hosts) for name, hosts in self._owned().items()}
        self.ca = folder / "trusted.pem"
        self.ca.write_bytes(files["provider"].ca.read_bytes() + files["evil"].ca.read_bytes())
        provider = _context(files["provider"], "http/1.1")
        # OpenAI and Anthropic speak HTTP/1.1 here, so that HTTP/2 is translated; Groq speaks HTTP/2.
        self.provider = Server("provider", {"": provider, canaries.GROQ: _context(files["provider"], "h2")}, port)
        self.evil = Server("evil", {"": _context(files["evil"])})
        self.plain = Server("plain evil")
        self.local = Server("local")
        imposter, wrong_name = _context(files["imposter"]), _context(files["provider"])
        self.imposter = Server("imposter", {"": imposter, canaries.DEEPSEEK: wrong_name})
        self.no_tls = Server("imposter without TLS")
        self.all = (self.provider, self.evil, self.plain, self.local, self.imposter, self.no_tls)

    def _owned(self) -> dict[str, tuple[str, ...]]:
        imposters = (canaries.MISTRAL, canaries.OPENROUTER)
        return {"provider": canaries.PROVIDERS, "evil": (canaries.EVIL, canaries.REBIND), "imposter": imposters}

    def _files(self, folder: Path, hosts: tuple[str, ...]) -> AuthorityFiles:
        folder.mkdir(parents=True)
        return make_authority(folder, hosts)

    def table(self) -> str:
        """What `names.py` has to know."""
        ports = dict.fromkeys(canaries.PROVIDERS, self.provider.port) | dict.fromkeys(canaries.IMPOSTERS, self.imposter.port)
        ports[canaries.OPENROUTER] = self.no_tls.port
        names = {canaries.REBIND: ["93.184.216.34", "127.0.0.1"]} | {name: [ip] for name, ip in canaries.INSIDE.items()}
        others = {"evil": self.evil.port, "plain": self.plain.port, "local": self.local.port}
        return json.dumps({"ports": ports, "names": names} | others)

    def stop(self) -> None:
        """Close all ports."""
        for server in self.all:
            server.stop()


@dataclass
class _Marks:
    """Where every record and file ended before an attack."""

    records: dict[str, int]
    files: dict[Path, tuple[int, int]] = field(default_factory=dict)


class Range:
    """One proxy under attack. `gateway` is None for a proxy that was started elsewhere."""

    def __init__(self, servers: Servers, folder: Path, proxy: tuple[str, int] | None = None, ca: Path | None = None) -> None:
        self.servers, self.folder = servers, folder
        self.started: Gateway | None = None
        self._address = proxy or ("127.0.0.1", 0)
        self._ca = ca
        self._clients: list[Client] = []
        self._exits: list[tuple[int | None, str]] = []
        self._receipts: list[object] = []
        self._processes = 0
        self._judged: dict[int, int] = {}
        self._known: set[Path] = set()
        self.sees_upstream = True

    # Starting.

    def start(self) -> Range:
        """Start the gateway of this tree, as its users do."""
        self.started = self._make(self.folder / "gateway", ["-w", "flows.mitm", "--set", "termlog_verbosity=debug"])
        self.started.start()
        self._address, self._ca = ("127.0.0.1", self.started.proxy_port), self.started.ca
        return self

    def _make(self, folder: Path, arguments: list[str], **options: object) -> Gateway:
        folder.mkdir(parents=True, exist_ok=True)
        names = ", ".join((*canaries.PROVIDERS, *canaries.IMPOSTERS, canaries.EVIL))
        env = {"VALETKEY_RANGE": self.servers.table()} | canaries.VARIABLES | dict(options.pop("env", {}))  # type: ignore[call-overload]
        confdir: Path = options.pop("confdir", self.folder / "confdir")  # type: ignore[assignment]
        gateway = _SETTINGS.format(names=names) + str(options.pop("gateway", ""))
        return Gateway(
            folder, ca=self.servers.ca, confdir=confdir, env=env, scripts=[NAMES], gateway=gateway,
            arguments=arguments, **options,  # type: ignore[arg-type]
        )  # fmt: skip

    @contextmanager
    def gateway(self, rules: str = "", **options: object) -> Iterator[Gateway | None]:
        """A gateway of its own with these rules, attacked until the end of the block; None when it refuses to start.

        Options: `gateway` (lines of that section), `env` (name -> value), `arguments`, `files` (name -> bytes, in its folder),
        `confdir`, `tool`.
        """
        self._processes += 1
        folder = self.folder / f"own{self._processes}"
        folder.mkdir()
        for name, data in dict(options.pop("files", {})).items():  # type: ignore[call-overload]
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o600)
        made = self._make(folder, list(options.pop("arguments", ())), rules=rules, **options)  # type: ignore[call-overload]
        before, self._address = self._address, ("127.0.0.1", made.proxy_port)
        try:
            made.start(ready=False)
            assert made.process is not None
            wait_for(lambda: made.process.poll() is not None or made.healthy(), "the gateway")  # type: ignore[union-attr]
            status = made.process.poll()
            yield made if status is None else None
            if status is None:
                self.settle(made)
            self._exits.append((status, made.output()))
        finally:
            made.stop()
            self._address = before
        self._receipts += made.receipts()

    def stop(self) -> None:
        """End the gateway; the servers end with their owner."""
        if self.started is not None:
            self.started.stop()

    # Attacking.

    def client(self, patience: float = 3.0, port: int | None = None) -> Client:
        """A new connection to the proxy, or to another port of its."""
        made = Client(port or self._address[1], self._address[0], patience)
        self._clients.append(made)
        return made

    def raw(self, data: bytes, count: int = 1) -> bytes:
        """Bytes to the proxy's own port, and what comes back."""
        client = self.client()
        client.send(data)
        return client.read(count)

    def tunnel(self, host: str = canaries.OPENAI, *, sni: str | None = "", port: int = 443, alpn: tuple[str, ...] = ()) -> Client:
        """A tunnel with TLS inside; `sni` is the host unless given, None for no name. It may have been refused."""
        client = self.client()
        if client.connect(f"{host}:{port}"):
            client.tls(host if sni == "" else sni, alpn)
        return client

    def inside(self, data: bytes, host: str = canaries.OPENAI, *, count: int = 1, sni: str | None = "", port: int = 443) -> bytes:
        """Bytes inside a TLS tunnel to a host, and what comes back."""
        client = self.tunnel(host, sni=sni, port=port)
        if client.refused_tunnel or client.closed or client.hung:
            return bytes(client.seen)
        client.send(data)
        return client.read(count)

    def h2(self, headers: list[tuple[bytes, bytes]], host: str = canaries.OPENAI, **options: object) -> None:
        """One HTTP/2 request inside a tunnel."""
        client = self.tunnel(host, sni=options.pop("sni", ""), alpn=("h2",))  # type: ignore[arg-type]
        if not (client.refused_tunnel or client.closed or client.hung):
            client.h2(headers, **options)  # type: ignore[arg-type]

    def script(self, reply: Reply) -> None:
        """Let the providers answer so, until this attack ends; `{KEY}` in the bytes is the key that they got."""

        def with_key(seen: object) -> bytes:
            credential = b"".join(v for name in (b"authorization", b"x-api-key") for v in seen.get(name))  # type: ignore[attr-defined]
            return reply(seen).replace(b"{KEY}", credential.removeprefix(b"Bearer "))  # type: ignore[arg-type]

        self.servers.provider.reply = with_key  # type: ignore[assignment]

    # Evidence.

    def attempt(self, attack: Attack) -> tuple[Verdict, Evidence]:
        """Carry out one attack and judge it."""
        if reason := self.not_applicable(attack):
            return Verdict("not applicable", reason), Evidence()
        self._clients, self._exits, self._receipts = [], [], []
        marks = self._marks()
        try:
            attack.run(self)
            self.settle(self.started)
            evidence = self._evidence(marks)
            self._judged = {id(record): len(record.data) for record in self._hostile()}
        finally:
            self.servers.provider.reply = plain_reply
            for client in self._clients:
                client.close()
        verdict = judge(attack, evidence)
        if verdict.result == "BROKEN":
            self._known |= set(self.files_with_keys())
        return verdict, evidence

    def not_applicable(self, attack: Attack) -> str | None:
        """Why an attack says nothing about this proxy."""
        if attack.absent:
            return attack.absent
        if attack.own_process and self.started is None:
            return "it needs a gateway with rules of its own"
        if not self.sees_upstream and not attack.unseen:
            return "what the provider gets cannot be watched"
        return None

    def control(self) -> bool:
        """Whether a good call passes, under the proxy's own certificate; without that no refusal proves anything.

        Whether a provider's server saw it decides what counts from here on.
        """
        before = len(self._requests())
        client = self.client()
        if client.connect(f"{canaries.OPENAI}:443") and client.tls(canaries.OPENAI, ca=self._ca):
            client.send(call())
        answer = client.read() if not client.closed else b""
        self.sees_upstream = len(self._requests()) > before
        self._clients.pop().close()
        return answer.startswith(b"HTTP/1.1 200")

    def settle(self, gateway: Gateway | None) -> None:
        """Until the proxy has dealt with all that was sent, and no server gets any more."""
        if gateway is not None:
            _health(gateway)
        before, now = -1, self._received()
        while before != now:
            time.sleep(0.003)
            before, now = now, self._received()

    def files_with_keys(self) -> list[Path]:
        """Files of the gateways that hold a canary or the agent's own key, and are not known for it already."""

        def spoiled(path: Path) -> bool:
            data = _written(path, None)
            return canaries.FOREIGN in data or any(canaries.holds(data, key) for key in canaries.KEYS.values())

        return [path for path in self._files() if path not in self._known and spoiled(path)]

    def _received(self) -> int:
        return sum(len(record.data) for server in self.servers.all for record in list(server.records))

    def artefacts(self, marks: _Marks | None = None) -> bytes:
        """What the gateways have written since, or at all, in every file but their rules and the authority's.

        Of a file that grew only what was added: the test at the end reads them whole.
        """
        return b"\0".join(_written(path, marks.files.get(path) if marks else None) for path in self._files())

    def late(self) -> bytes:
        """What hostile servers got after the attack that caused it had been judged."""
        return b"".join(bytes(record.data[self._judged.get(id(record), 0) :]) for record in self._hostile())

    def _hostile(self) -> list[Record]:
        return [record for server in self.servers.all if server is not self.servers.provider for record in list(server.records)]

    def _files(self) -> list[Path]:
        kept = [path for path in self.folder.rglob("*") if path.is_file() and "confdir" not in path.parts]
        return [path for path in kept if path.suffix != ".key"]

    def _requests(self) -> list[object]:
        return [seen for record in self.servers.provider.records for seen in record.requests]

    def _marks(self) -> _Marks:
        files = {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in self._files()}
        return _Marks({server.name: len(server.records) for server in self.servers.all}, files)

    def _since(self, marks: _Marks, *servers: Server) -> tuple[Record, ...]:
        return tuple(record for server in servers for record in server.records[marks.records[server.name] :])

    def _evidence(self, marks: _Marks) -> Evidence:
        servers = self.servers
        return Evidence(
            visible=b"".join(bytes(client.seen) for client in self._clients),
            answers=tuple(answer for client in self._clients for answer in client.answers),
            hung=any(client.hung for client in self._clients),
            closed=all(client.closed for client in self._clients),
            providers=self._since(marks, servers.provider),
            evil=self._since(marks, servers.evil, servers.plain),
            imposters=self._since(marks, servers.imposter, servers.no_tls),
            local=self._since(marks, servers.local),
            artefacts=self.artefacts(marks),
            exits=tuple(self._exits),
            receipts=tuple(self._receipts),  # type: ignore[arg-type]
            exposed=tuple(path.name for path in self._files() if _is_of_calls(path) and path.stat().st_mode & 0o077),
        )


def _health(gateway: Gateway) -> None:
    """Go once around the event loop of the gateway. Raises AssertionError when it does not answer any more."""
    with socket.create_connection(("127.0.0.1", gateway.api_port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200"), gateway.output()


def _is_of_calls(path: Path) -> bool:
    """Whether a file is the ledger's, the archive's, or one of flows."""
    return path.suffix == ".mitm" or not {".valetkey", "archive"}.isdisjoint(path.parts)


def _written(path: Path, before: tuple[int, int] | None) -> bytes:
    """What a file holds, or since when it had this size and time of change."""
    try:
        state = path.stat()
        if before == (state.st_size, state.st_mtime_ns):
            return b""
        with path.open("rb") as file:
            file.seek(before[0] if before and before[0] < state.st_size else 0)
            return file.read()
    except FileNotFoundError:  # a temporary file of the ledger
        return b""


@contextmanager
def opened(folder: Path, proxy: tuple[str, int] | None = None, port: int = 0, ca: Path | None = None) -> Iterator[Range]:
    """A range with everything started; ended in any case."""
    with ExitStack() as stack:
        servers = Servers(folder / "servers", port)
        stack.callback(servers.stop)
        here = Range(servers, folder / "range", proxy, ca)
        (folder / "range").mkdir()
        stack.callback(here.stop)
        yield here if proxy else here.start()
