"""From the first hook to the last: options, start, readiness, reload, end.

The gateway is ready only after its rules are loaded, its ledger writes, the canary has shown that the key reaches the wire
and nothing else, and its doors are open. Until then every connection is closed; if it cannot get there, the process ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.addons.upstream_auth import parse_upstream_auth

from ..errors import ConfigurationError, LedgerError, StartError
from ..ledger import Archive, AuditedStore, AuditLog, LedgerWriter, open_store, state_path
from ..ledger import Place as AuditPlace
from ..rules import Snapshot, Watcher, load_snapshot, renewed
from ..secrets import Environment, Fetcher
from ..settings import Settings, resolve_ledger
from . import canary, doors, driving, filepages, greeting, hooks, http1, largepages, privacy, relay, shortcuts, stream
from .memory import Memory
from .runtime import Runtime
from .traffic import Traffic
from .views import FlowKeeper

logger = logging.getLogger(__name__)
POLL = 0.5
"""Seconds between two looks at rules.yaml, `.env` and key files."""
SWITCH = 0.0005
"""Seconds until a thread gives Python's lock to another one that wants it."""
OFTEN = (1000, 5, 2)
"""Thresholds of the garbage collector (objects, then collections): with Python's own, 12 MB of garbage lie around."""


class ValetLifecycle:
    """Starts and ends the gateway."""

    def __init__(self, runtime: Runtime, traffic: Traffic, flows: FlowKeeper, checkout: Path) -> None:
        self.runtime = runtime
        self.traffic = traffic
        self.flows = flows
        self.checkout = checkout
        self.probed: Sequence[object] = ()
        """The addons that the canary drives; set by the assembly, which knows them all."""
        self._task: asyncio.Task[None] | None = None
        self._job: asyncio.Task[None] | None = None
        """A reload, or keys that are read anew: one at a time, while state goes on to be kept."""

    def load(self, loader: Loader) -> None:
        """Declare our options."""
        text = "The routing table (default: rules.yaml in the working directory, else the one beside addons/)."
        loader.add_option("rules", str, "", text)
        loader.add_option("valetkey_fast_hooks", bool, True, "Ask only the addons that listen to a hook (read at the start).")

    def configure(self, updated: set[str]) -> None:
        """Refuse options that would leak keys, also when they are switched on later."""
        if updated & ({*doors.FORBIDDEN} | {"validate_inbound_headers"}) and (problem := doors.check_options(ctx.options)):
            self.runtime.problem = problem
            raise exceptions.OptionsError(problem)
        self.runtime.tls_verified = not ctx.options.ssl_insecure
        if "upstream_auth" in updated:
            auth = ctx.options.upstream_auth
            self.runtime.upstream_auth = parse_upstream_auth(auth) if auth else None
        if "mode" in updated and self.runtime.ready and not self._expected_modes():
            raise exceptions.OptionsError("the doors of a running gateway cannot be changed; restart it")

    def running(self) -> None:
        """Start, in a task of its own: mitmproxy's script watcher dies of an asynchronous `running`."""
        self._task = asyncio.get_running_loop().create_task(self._start(), name="valetkey start")
        self._task.add_done_callback(_tell)

    def done(self) -> None:
        """End: nothing is accepted any more, and the ledger is written out."""
        self.runtime.ready = False
        for task in (self._task, self._job):
            if task is not None:
                task.cancel()
        if self.runtime.fetcher is not None:
            self.runtime.fetcher.stop()
        stream.uninstall()
        relay.uninstall()
        http1.uninstall()
        shortcuts.uninstall()
        driving.uninstall()
        hooks.uninstall(ctx.master.addons)
        if self.runtime.memory is not None:
            self.runtime.memory.close()
        if self.runtime.writer is not None:
            self.runtime.writer.close(timeout=10.0)
        if self.runtime.archive is not None:
            self.runtime.archive.close()

    async def _start(self) -> None:
        try:
            await self._prepare()
        except (StartError, LedgerError) as error:
            _give_up(str(error), 1)
        except ConfigurationError as error:
            _give_up(str(error), 2)
        else:
            await self._watch()

    async def _prepare(self) -> None:
        problem = self.runtime.problem or doors.check_options(ctx.options)
        if problem:
            raise StartError(problem)
        privacy.check_authority(ctx.options.confdir)
        privacy.keep_private(ctx.options)
        ctx.options.update(**doors.REQUIRED)
        _keep_upstream_auth_out_of_flows()
        self.runtime.ending = ctx.master.should_exit.is_set
        await self._load_rules()
        self._open_ledger()
        await self._remember()
        self._look_into_streams()
        stream.install(self.traffic)
        relay.install(lambda: self.runtime.snapshot.rules.gateway.max_body)
        http1.install(self.runtime.alarms)
        if ctx.options.valetkey_fast_hooks:
            shortcuts.install()
            if hooks.install(ctx.master.addons):
                driving.install()
        await canary.prove(self.runtime, self.probed)
        self._doors = doors.plan(ctx.options, self.runtime.snapshot.rules.gateway)
        doors.check_targets(self._doors, self.runtime.is_provider)
        self.runtime.own_ports = _ports(self._doors)
        await doors.open_doors(ctx.options, ctx.master.addons.get("proxyserver").servers, self._doors)
        _keep_what_is_loaded()
        self.runtime.ready = True
        for line in greeting.lines(self.runtime.snapshot, self._doors):
            logger.info("%s", line)

    async def _load_rules(self) -> None:
        self.runtime.settings = settings = Settings.find(ctx.options.rules or None, Path.cwd(), self.checkout)
        self.runtime.environment = Environment.from_process(settings.folder)
        environment = self.runtime.environment
        self.runtime.fetcher = fetcher = Fetcher(settings.folder, lambda text: logger.info("valetkey: %s", text))
        snapshot = await asyncio.to_thread(load_snapshot, settings.rules_path, self.runtime.catalog, environment, 1, fetcher)
        self.runtime.adopt(snapshot)
        for notice in snapshot.notices:
            logger.warning("valetkey: %s", notice)

    def _open_ledger(self) -> None:
        settings, gateway = self.runtime.settings, self.runtime.snapshot.rules.gateway
        assert settings is not None
        uri = resolve_ledger(gateway.ledger, settings.folder)
        log, unaudited = AuditLog(AuditPlace.beside(uri, settings.folder)), set[str]()
        # The log is written where and when the receipts are: in the writer's thread, several at once.
        writer = LedgerWriter(
            lambda: AuditedStore(open_store(uri), log, unaudited), lambda problem: logger.error("valetkey: %s", problem)
        )
        writer.set_retention(gateway.retention)
        try:
            writer.start()
            log.check()
        except LedgerError as error:
            if gateway.ledger_failure == "closed":
                raise
            logger.error("valetkey: %s; calls go on all the same (gateway.ledger_failure: open)", error)
        self.runtime.writer = writer
        if gateway.archive:
            folder = settings.folder / gateway.archive
            self.runtime.archive = Archive(folder, logger.error, redact=self._redact, retention=gateway.retention)

    async def _remember(self) -> None:
        """Take up what was known of the keys before the last end."""
        settings = self.runtime.settings
        assert settings is not None
        uri = resolve_ledger(self.runtime.snapshot.rules.gateway.ledger, settings.folder)
        path = state_path(uri, settings.folder)
        memory = Memory(self.runtime, path, lambda problem: logger.error("valetkey: %s", problem))
        await asyncio.to_thread(memory.open)
        self.runtime.memory = memory

    def _redact(self, text: str) -> str:
        """A provider may send a key back; the archive does not keep it."""
        return self.runtime.snapshot.vault.redact(text)

    def _look_into_streams(self) -> None:
        """Where people read flows, keep the bodies of streams and bound the flows."""
        self.flows.view = getattr(ctx.master, "view", None)
        if self.flows.view is not None or ctx.options.save_stream_file or getattr(ctx.options, "hardump", ""):
            ctx.options.update(store_streamed_bodies=True)

    async def _watch(self) -> None:
        """Load changed rules, and read keys anew; a bad file keeps the old rules in force."""
        self._watcher = Watcher(self.runtime.snapshot.files, self.runtime.snapshot.seen)
        while True:
            await asyncio.sleep(POLL)
            if self.runtime.memory is not None:
                await self.runtime.memory.sync()
            if self._job is not None and self._job.done():
                self._job.result()
                self._job = None
            if self._job is None and (work := self._due()) is not None:
                self._job = asyncio.get_running_loop().create_task(work, name="valetkey reload")

    def _due(self) -> Coroutine[Any, Any, None] | None:
        if self._watcher.changed():
            return self._look_again()
        fetcher = self.runtime.fetcher
        return self._refresh(fetcher) if fetcher is not None and fetcher.is_due else None

    async def _look_again(self) -> None:
        # What was read counts, not what the files are by now; after a failure, whatever they are now is known to be bad.
        seen = self.runtime.snapshot.seen if await self._reload() else None
        self._watcher = Watcher(self.runtime.snapshot.files, seen)

    async def _refresh(self, fetcher: Fetcher) -> None:
        """Read slow keys anew; a changed one is used from the next call on."""
        old, settings, environment = self.runtime.snapshot, self.runtime.settings, self.runtime.environment
        assert settings is not None and environment is not None
        new = await asyncio.to_thread(renewed, old, settings.rules_path, environment, fetcher)
        if new is None:
            return
        self._take(new)
        for notice in new.notices:
            if notice not in old.notices:
                logger.warning("valetkey: %s", notice)
        logger.info("valetkey: keys were read anew")

    def _take(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force; what is known of keys with another value is forgotten."""
        self.runtime.adopt(snapshot)
        if self.runtime.memory is not None:
            self.runtime.memory.check_values()

    async def _reload(self) -> bool:
        old, settings, environment = self.runtime.snapshot, self.runtime.settings, self.runtime.environment
        assert settings is not None and environment is not None
        catalog, revision = self.runtime.catalog, old.revision + 1
        try:
            # Ten thousand rules take a second, and so does a large `.env`, in which calls go on.
            await asyncio.to_thread(environment.refresh)
            new = await asyncio.to_thread(
                load_snapshot, settings.rules_path, catalog, environment, revision, self.runtime.fetcher
            )
        except ConfigurationError as error:
            logger.error("valetkey: the rules stay as they were; the changed file cannot be used:\n%s", error)
            return False
        self._take(new)
        if self.runtime.writer is not None:
            self.runtime.writer.set_retention(new.rules.gateway.retention)
        for notice in new.notices:
            logger.warning("valetkey: %s", notice)
        if (old.rules.gateway.proxy, old.rules.gateway.api) != (new.rules.gateway.proxy, new.rules.gateway.api):
            logger.warning("valetkey: changed doors take effect at the next start")
        logger.info("valetkey: rules reloaded (revision %d)", new.revision)
        return True

    def _expected_modes(self) -> bool:
        return tuple(ctx.options.mode) == self._doors.modes


def _keep_what_is_loaded() -> None:
    """Take what the start has made, and nobody will ever free, out of the garbage collector's sight.

    It looks at all of it again and again otherwise: a tenth of a second each time, in which no call goes on. What is left is
    little; so it may look more often, and what calls leave behind is gone sooner.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*OFTEN)
    largepages.use()
    filepages.let_go()
    # Calls wait for this long while receipts are written, and the writer is in Python; it is 5 ms otherwise.
    sys.setswitchinterval(SWITCH)


def _keep_upstream_auth_out_of_flows() -> None:
    """mitmproxy's addon writes the password into flows, where it is shown and saved, also into those of the base-URL door."""
    theirs = ctx.master.addons.get("upstreamauth")
    if theirs is not None:
        ctx.master.addons.remove(theirs)


def _tell(task: asyncio.Task[None]) -> None:
    """A defect in the background would end reloads without a word."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.error("valetkey: defect: rules are no longer reloaded and state is no longer kept", exc_info=error)


def _ports(opened: doors.Doors) -> frozenset[int]:
    """Our own ports, which no call may be sent to; mitmweb's too."""
    web_port = getattr(ctx.options, "web_port", None)
    return opened.ports | ({web_port} if web_port else set())


def _give_up(reason: str, status: int) -> None:
    """End the process with the reason, before anything was served."""
    sys.stderr.write(f"valetkey cannot start: {reason}\n")
    sys.stderr.flush()
    # Not from within the task, which would log itself as failed.
    asyncio.get_running_loop().call_soon(sys.exit, status)
