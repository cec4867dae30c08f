"""Small makers of rules, snapshots and flows for unit tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mitmproxy.test import tflow, tutils

from valetkey.catalog import load_catalog
from valetkey.model import Key, Rules
from valetkey.proxy.runtime import Runtime
from valetkey.rules import Snapshot, parse_rules
from valetkey.secrets import Secret, Vault

CATALOG = load_catalog()
REAL = "sk-proj-REALrealREALrealREALreal0001"


def rules(text: str = "version: 1\n") -> Rules:
    """Rules from YAML text."""
    return parse_rules(text, "rules.yaml", CATALOG)


def snapshot(text: str = "version: 1\n", keys: Mapping[str, str] | None = None) -> Snapshot:
    """Rules with keys: id -> value; by default one for OpenAI."""
    values = {"openai/main": REAL} if keys is None else dict(keys)
    held = [Key(id, *id.split("/", 1)) for id in values]
    pools = {key.provider: tuple(k for k in held if k.provider == key.provider) for key in held}
    vault = Vault({id: Secret(value) for id, value in values.items()}, {key.id: key.provider for key in held})
    return Snapshot(rules=rules(text), keys=pools, vault=vault, notices=(), revision=1, files=())


def runtime(text: str = "version: 1\n", **options: Any) -> Runtime:
    """A ready runtime without a ledger."""
    made = Runtime(CATALOG, clock=lambda: 1_700_000_000.0, monotonic=lambda: 100.0)
    made.adopt(snapshot(text, **options))
    made.ready = True
    return made


def flow(
    host: str = "api.openai.com",
    path: str = "/v1/chat/completions",
    body: bytes = b'{"model":"gpt-4o","messages":[]}',
    **headers: str,
) -> Any:
    """A live HTTPS flow as it looks inside a provider's tunnel."""
    fields = {"host": host, "authorization": "Bearer sk-dummy", "content-type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    fields["content-length"] = str(len(body))
    request = tutils.treq(
        host=host, port=443, scheme=b"https", authority=b"", path=path.encode(), method=b"POST", content=body,
        headers=[(name.encode(), value.encode()) for name, value in fields.items() if value],
    )  # fmt: skip
    made = tflow.tflow(req=request)
    made.live = True
    made.client_conn.sni = host
    made.client_conn.timestamp_tls_setup = 1.0
    made.client_conn.tls = True
    return made


def with_gateway(snap: Snapshot, **changes: Any) -> Snapshot:
    """The same rules with other gateway settings."""
    return replace(snap, rules=replace(snap.rules, gateway=replace(snap.rules.gateway, **changes)))


def attempt(runtime: Runtime, flow: Any) -> Any:
    """Make the first attempt of a routed flow, as the stream layer would; gives its passage."""
    passage = runtime.passages.of(flow)
    if passage is not None and passage.dispatch is not None and passage.plan is None:
        passage.dispatch.attempt(passage.dispatch.begin())  # type: ignore[arg-type]
    return passage
