"""The unprivileged process: drops root, starts the tunnel, obeys signals, ends well.

Owns the order of start and end, reload, what each event of the core causes, and the once-a-second housekeeping. Does
not own packets (bridge.py), sockets (links.py), the script (script.py) or the protocol (core).

    drop root -> read config -> script, device, control socket -> keys -> core, bridge, links -> Running TERM, INT,
    QUIT or `stop`: tell the peer -> script called down -> exit 0        HUP or `reload`: apply the difference

After the drop the root directory is empty: whatever Python imports late is missing. So everything is imported before,
and ``late_imports`` says what was not.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 (this and the next two: loaded late by the standard library)
import encodings.idna
import encodings.utf_8_sig  # noqa: F401
import gc
import itertools
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from setproctitle import setproctitle

from mlvpn import compiled
from mlvpn.config.difference import Difference, diff, keep_start_only
from mlvpn.config.file import decode
from mlvpn.config.load import parse
from mlvpn.config.model import Config
from mlvpn.core.events import Event, LinkDown, LinkUp, Log, SocketWanted
from mlvpn.core.interface import Core, LinkSnapshot
from mlvpn.daemon import log, protocols
from mlvpn.daemon.bridge import Bridge
from mlvpn.daemon.control import SCHEMA, ControlServer
from mlvpn.daemon.feed import Feed
from mlvpn.daemon.interfaces import Interfaces
from mlvpn.daemon.life import Life
from mlvpn.daemon.links import Links
from mlvpn.daemon.loop import PacketSelector
from mlvpn.daemon.options import Options
from mlvpn.daemon.script import StatusScript
from mlvpn.daemon.tasks import spawn
from mlvpn.daemon.title import worker_title
from mlvpn.errors import Error
from mlvpn.monitor import legacy
from mlvpn.system import privileges
from mlvpn.system.memory import give_back_freed_memory, keep_freed_memory
from mlvpn.system.netlink import Netlink
from mlvpn.system.notify import Notifier
from mlvpn.system.privsep import (
    FIRST_UNPRIVILEGED_PORT,
    PASSED_ON,
    ChannelClosed,
    ListenControl,
    OpenTun,
    Quit,
    ReadConfig,
    Running,
    SetScript,
    WorkerEnd,
)
from mlvpn.system.tun import Tun, TunInfo

HOUSEKEEPING_S = 1.0
QUIET_FRAMES = 500
"""Between two housekeepings; fewer need no memory kept for them; more would pay for its pages again."""
COLLECT_EVERY = 60
"""Housekeepings between two garbage collections: cycles come only from errors and clients, never from packets."""

_log = log.logger()
_imported: frozenset[str] = frozenset()


class Jail(NamedTuple):
    """Who and where the worker becomes."""

    identity: privileges.Identity
    root: Path


class Channels(NamedTuple):
    """What the worker can reach of the other processes."""

    privileged: socket.socket
    monitor: socket.socket | None
    """None: no HTTP is wanted."""


def run(options: Options, channels: Channels, jail: Jail | None, notifier: Notifier) -> int:
    """Be the worker; return the exit code."""
    global _imported
    os.setsid()  # signals of the terminal come by way of [priv], once
    _imported = frozenset(sys.modules)
    keep_freed_memory()
    if jail is None:
        _log.warning("running as root, as asked: who breaks in here owns the machine")
    else:
        privileges.drop(jail.identity, jail.root)
    selector = PacketSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(Worker(options, notifier, selector).run(channels))


def late_imports() -> list[str]:
    """Return the modules imported after the drop: built-in ones, and a warning that the next may need a file."""
    return sorted(sys.modules.keys() - _imported)


class Worker:
    """One tunnel, from start to end."""

    _end: WorkerEnd
    _ended: asyncio.Future[int]
    _config: Config
    _tun: Tun
    _script: StatusScript
    _core: Core
    _bridge: Bridge
    _links: Links

    def __init__(self, options: Options, notifier: Notifier, selector: PacketSelector) -> None:
        self._options = options
        self._notifier = notifier
        self._selector = selector
        self._title = ""
        self._life = Life(options)
        self._control = ControlServer(
            {"status": self._status, "reload": self._reload_asked, "stop": self._stop_asked},
            {"status": self._status_of_mlvpn, "metrics": self._metrics_of_mlvpn},
        )
        self._reload_turn = asyncio.Lock()
        self._netlink = Netlink()
        self._interfaces = Interfaces()

    async def run(self, channels: Channels) -> int:
        """Start, carry traffic until told to end, end."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_defect)
        self._ended = loop.create_future()
        self._end = WorkerEnd(channels.privileged, self._orphaned)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        await self._start()
        feed = Feed(channels.monitor, self._document) if channels.monitor else None
        housekeeping = spawn(self._keep_house())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)  # a signal that came meanwhile is served now
        code = await self._ended
        housekeeping.cancel()
        if feed is not None:
            feed.close()
        await self._shut_down()
        return code

    # Start, in this order.

    async def _start(self) -> None:
        self._config = config = await self._read_config()
        general = config.general
        if general.statuscommand:
            await self._end.ask(SetScript(general.statuscommand))
        info, fd = await self._end.ask_descriptor(OpenTun(general.interface_name, general.tuntap, general.mtu))
        self._tun = Tun(fd, TunInfo(**info))
        path, fd = await self._end.ask_descriptor(ListenControl(general.control_unix_path or ""))
        listener = socket.socket(fileno=fd)
        self._script = StatusScript(self._end, general, self._tun.info.name)
        for event in self._netlink.read_events():  # the present state of all interfaces
            self._interfaces.apply(event)
        core = await protocols.make_core(config)
        await protocols.use_filters(core, config, self._end)
        self._start_core(core, config)
        await self._control.start(listener)
        asyncio.get_running_loop().add_reader(self._netlink.fileno(), self._network_changed)
        await self._end.ask(Running(_privileged_ports(config)))
        gc.collect()
        gc.freeze()
        gc.disable()  # no pauses among packets; _keep_house collects
        self._notifier.ready()
        _log.info("%s runs as %s on %s, control socket %s", self._options.name, general.mode, self._tun.info.name, path)
        if compiled.INTERPRETED_BECAUSE:
            _log.info("its modules run interpreted: %s; that takes more CPU", compiled.INTERPRETED_BECAUSE)
        if self._tun.info.plain_because:
            logger = log.logger("tuntap")
            logger.warning(
                "%s has no offloads: %s; bulk traffic is slower", self._tun.info.name, self._tun.info.plain_because
            )

    async def _read_config(self) -> Config:
        filename, fd = await self._end.ask_descriptor(ReadConfig())
        with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor, not a path)
            config = parse(decode(file.read(), filename), filename)
        for warning in config.warnings:
            log.logger("config").warning("%s", warning)
        return config

    def _start_core(self, core: Core, config: Config) -> None:
        self._core = core
        self._bridge = Bridge(
            core, self._tun, self._selector, self._happened, lambda problem: self._links.lost(problem)
        )
        self._links = Links(core, self._bridge, self._end, self._interfaces, config.general)
        for link in config.links:
            self._links.open(link)

    # While it runs.

    def _happened(self, event: Event) -> None:
        match event:
            case Log(level, token, text):
                log.emit(level, token, text)
            case LinkUp(link):
                _log.info("link %s is up", link)
                self._script.link_up(link)
                self._show_title()
            case LinkDown(link, reason):
                _log.log(logging.INFO if self._ended.done() else logging.WARNING, "link %s is down: %s", link, reason)
                self._links.told(link, reason)
                self._script.link_down(link)
                self._show_title()
            case SocketWanted(link):
                self._links.reopen(link)

    async def _keep_house(self) -> None:
        reported: set[str] = set()
        seen = 0
        for turn in itertools.count(1):
            self._show_title()
            self._notifier.watchdog()
            if turn % COLLECT_EVERY == 0:
                gc.collect()
            passed = self._tun.counters.read_frames + self._tun.counters.written_frames
            if passed - seen < QUIET_FRAMES:
                give_back_freed_memory()
            seen = passed
            for name in late_imports():
                if name not in reported:
                    log.logger("privsep").warning("module %s was imported after the chroot: import it before", name)
            reported.update(late_imports())
            await asyncio.sleep(HOUSEKEEPING_S)

    def _show_title(self) -> None:
        title = worker_title(self._options.name, self._core.snapshot(time.monotonic_ns())["links"])
        if title != self._title:
            self._title = title
            self._notifier.status(title)
            if not self._options.natural_title:
                setproctitle(title)

    def _network_changed(self) -> None:
        self._links.network_changed(self._netlink.read_events())
        self._bridge.flush()

    # Reload.

    def _hang_up(self) -> None:
        self._reload_task = spawn(self._reload_asked())

    async def _reload(self) -> list[str]:
        """Apply what changed in the file and say what that was; when it is bad, keep the old one and raise."""
        async with self._reload_turn:
            self._notifier.reloading()
            try:
                lines = await self._apply(await self._read_config())
            except Error as error:
                for line in str(error).splitlines():
                    log.logger("config").error("%s", line)
                log.logger("config").error("reload: the configuration stays as it was")
                raise
            finally:
                self._notifier.ready()
            for line in lines:
                log.logger("config").info("reload: %s", line)
            self._life.reloaded()
            return lines

    async def _apply(self, new: Config) -> list[str]:
        old, difference = self._config, diff(self._config, new)
        new = keep_start_only(old, new)
        if protocols.may_go_on(old, new):
            await protocols.use_filters(self._core, new, self._end)
            self._core.reconfigure(new, time.monotonic_ns())
            self._bridge.flush()  # a link that goes says goodbye while it has its socket
            self._follow(difference, new)
        else:
            await self._replace_core(new)
        self._config = new
        self._script.general = new.general
        self._bridge.flush()
        return difference.lines() or ["nothing changed"]

    def _follow(self, difference: Difference, new: Config) -> None:
        """Open and close links as the new configuration says."""
        for name in difference.removed:
            self._script.link_down(name)
            self._links.close(name)
        for link in new.links:
            if link.name in difference.added or link.name in difference.restarted:
                self._links.open(link)

    async def _replace_core(self, new: Config) -> None:
        """Begin anew with other keys: nothing of the old session can be kept."""
        core = await protocols.make_core(new)
        await protocols.use_filters(core, new, self._end)
        self._stop_core()
        self._script.all_down()
        self._start_core(core, new)

    # What the control socket asks.

    async def _status(self) -> dict[str, Any]:
        core = self._core.snapshot(time.monotonic_ns())
        links = [{**link, **self._describe(link)} for link in core["links"]]
        return {**self._life.describe(self._config, self._tun), **core, "links": links}

    def _describe(self, link: LinkSnapshot) -> dict[str, Any]:
        """Return what the core does not know of a link: its socket, its configuration."""
        config = self._config.link(link["name"]) or self._config.link(link["name"].rpartition("/")[0])
        settings = legacy.link_settings(config) if config else {}
        disconnects = {"disconnects": link["went_down"]} if "went_down" in link else {}
        return {**self._bridge.describe(link["name"]), **settings, **disconnects}

    async def _document(self) -> dict[str, Any]:
        """Return what the monitor shows."""
        return {"schema": SCHEMA, **await self._status()}

    async def _status_of_mlvpn(self) -> str:
        return legacy.status(await self._status(), time.time())

    async def _metrics_of_mlvpn(self) -> str:
        return legacy.metrics(await self._status(), time.time())

    async def _reload_asked(self) -> dict[str, Any]:
        try:
            return {"changes": await self._reload()}
        except Error as error:
            return {"error": str(error), "exit_code": error.exit_code}

    async def _stop_asked(self) -> dict[str, Any]:
        self._stop()
        return {"stopping": True}

    # The end.

    def _stop(self) -> None:
        """End well; asked a second time (the script may be slow), end now."""
        if self._ended.done():
            os._exit(0)
        self._ended.set_result(0)

    def _orphaned(self) -> None:
        _log.critical("the privileged process is gone: ending")
        if not self._ended.done():
            self._ended.set_result(1)

    async def _shut_down(self) -> None:
        """Tell the peer, then have the script undo what it did."""
        self._notifier.stopping()
        self._stop_core()
        try:
            await self._end.ask(Quit())
            await self._script.finish()
        except ChannelClosed:
            pass  # nobody is left to run a script
        self._control.close()
        self._notifier.close()
        _log.info("%s has ended", self._options.name)

    def _stop_core(self) -> None:
        self._core.close(time.monotonic_ns())
        self._bridge.flush()
        self._links.close_all()
        self._bridge.close()


def _privileged_ports(config: Config) -> list[int]:
    return [link.bindport for link in config.links if link.bindport and link.bindport < FIRST_UNPRIVILEGED_PORT]


def _defect(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """End at once on an error nobody caught: a restart is better than a tunnel in an unknown state."""
    error = context.get("exception")
    if isinstance(error, Error):
        log.fatal(str(error))
        os._exit(error.exit_code)
    log.fatal(f"a defect of mlvpn ends it ({context['message']}); please report it with the log", error)
    os._exit(1)
