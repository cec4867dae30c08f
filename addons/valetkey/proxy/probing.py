"""`valetkey.keys.test` for mitmweb and the console: asks the providers whether they take the keys, and logs what they say."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from itertools import groupby

import certifi
from mitmproxy import command, ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.options import Options

from ..rules import Snapshot
from ..secrets.probe import Trial, direct_client, probe_id
from .runtime import Runtime

logger = logging.getLogger(__name__)
Tell = Callable[[Trial], None]


class ValetProbing:
    """The command. Each provider is asked in a thread of its own, one key after the other."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._asked: set[str] = set()
        """Keys whose answer is still to come."""

    def load(self, loader: Loader) -> None:
        """Keep the HTTP client's own lines out of mitmproxy's log: they hold headers as the provider sent them."""
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)

    @command.command("valetkey.keys.test")  # type: ignore[untyped-decorator]
    def test(self, key: str = "") -> Sequence[str]:
        """Ask the provider, at no cost, whether it takes a key (all keys when none is named). The answers come in the log."""
        snapshot = self._snapshot()
        ids = self._chosen(snapshot, key)
        trusted, tell = _trusted(ctx.options), self._teller(asyncio.get_running_loop())
        self._asked.update(ids)
        for _, same in groupby(sorted(ids), key=lambda id: id.partition("/")[0]):
            # Not on the loop's own threads: they look up names for calls, and a provider that is silent would hold them. A
            # daemon, since nobody waits for an answer at the end.
            arguments = (snapshot, trusted, tuple(same), tell)
            threading.Thread(target=_ask, args=arguments, name="valetkey probe", daemon=True).start()
        return ids

    def _snapshot(self) -> Snapshot:
        if not self.runtime.ready:
            raise exceptions.CommandError("the gateway is not ready yet")
        return self.runtime.snapshot

    def _chosen(self, snapshot: Snapshot, key: str) -> Sequence[str]:
        known = snapshot.states
        if key and key not in known:
            raise exceptions.CommandError(f"there is no key {key}; keys are {', '.join(known) or 'none'}")
        ids = [key] if key else list(known)
        if waiting := [id for id in ids if id in self._asked]:
            raise exceptions.CommandError(f"asked already, the answer is still to come: {', '.join(waiting)}")
        return ids

    def _teller(self, loop: asyncio.AbstractEventLoop) -> Tell:
        """Hands what a thread found to the event loop, where everything of ours lives; after its end nobody listens."""

        def tell(found: Trial) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._told, found)

        return tell

    def _told(self, found: Trial) -> None:
        self._asked.discard(found.id)
        logger.log(logging.INFO if found.well else logging.WARNING, "valetkey: %s", found)


def _trusted(options: Options) -> Callable[[], ssl.SSLContext]:
    """Makes what verifies upstreams: the certificates that mitmproxy trusts for calls. Reading them is left to the thread."""
    file, folder = options.ssl_verify_upstream_trusted_ca, options.ssl_verify_upstream_trusted_confdir
    if not (file or folder):
        file = certifi.where()
    return lambda: ssl.create_default_context(cafile=file, capath=folder)


def _ask(snapshot: Snapshot, trusted: Callable[[], ssl.SSLContext], ids: Iterable[str], tell: Tell) -> None:
    """Ask about the keys, and tell of each as soon as it is known. Straight, as calls go: not by the proxy of the shell."""
    try:
        context = trusted()
    except OSError as error:
        for id in ids:
            tell(Trial(id, None, message=f"the trusted certificates cannot be read: {error}"))
        return
    with closing(direct_client(context)) as client:
        for id in ids:
            tell(probe_id(client, id, snapshot.rules.providers, snapshot))
