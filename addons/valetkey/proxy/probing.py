"""`valetkey.keys.test` for mitmweb and the console: asks the providers whether they take the keys, and logs what they say."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import certifi
from mitmproxy import command, ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.options import Options

from ..rules import Snapshot
from .runtime import Runtime

if TYPE_CHECKING:
    from ..secrets.probe import Trial

logger = logging.getLogger(__name__)


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
        work = _Work(snapshot, *_trusted(ctx.options), asyncio.get_running_loop(), self._told)
        self._asked.update(ids)
        for _, same in groupby(sorted(ids), key=lambda id: id.partition("/")[0]):
            # Not on the loop's own threads: they look up names for calls, and a provider that is silent would hold them. A
            # daemon, since nobody waits for an answer at the end.
            threading.Thread(target=work.ask, args=(tuple(same),), name="valetkey probe", daemon=True).start()
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

    def _told(self, id: str, found: Trial | None) -> None:
        self._asked.discard(id)
        if found is not None:
            logger.log(logging.INFO if found.well else logging.WARNING, "valetkey: %s", found)


@dataclass(frozen=True, slots=True)
class _Work:
    """What a thread needs to ask. It tells the event loop, where everything of ours lives, of each key as soon as it is known."""

    snapshot: Snapshot
    file: str | None
    folder: str | None
    loop: asyncio.AbstractEventLoop
    told: Callable[[str, Trial | None], None]

    def ask(self, ids: Sequence[str]) -> None:
        """Ask about the keys, straight, as calls go: not by the proxy of the shell that the gateway was started in."""
        try:
            for found in self._found(ids):
                self._tell(found.id, found)
        finally:
            # Whatever went wrong, the keys may be asked about again.
            for id in ids:
                self._tell(id, None)

    def _found(self, ids: Sequence[str]) -> Iterator[Trial]:
        from ..secrets import probe  # it brings an HTTP client of 3 MB, which calls do not need

        try:
            context = ssl.create_default_context(cafile=self.file, capath=self.folder)
        except OSError as error:
            yield from (probe.Trial(id, "unusable", message=f"the trusted certificates cannot be read: {error}") for id in ids)
            return
        with closing(probe.direct_client(context)) as client:
            for id in ids:
                yield probe.probe_id(client, id, self.snapshot.rules.providers, self.snapshot)

    def _tell(self, id: str, found: Trial | None) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody listens any more
            self.loop.call_soon_threadsafe(self.told, id, found)


def _trusted(options: Options) -> tuple[str | None, str | None]:
    """File and folder of the certificates that mitmproxy trusts when it calls an upstream."""
    file, folder = options.ssl_verify_upstream_trusted_ca, options.ssl_verify_upstream_trusted_confdir
    return (file or (None if folder else certifi.where())), folder or None
