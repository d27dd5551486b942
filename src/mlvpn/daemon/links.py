"""The life of the links' sockets: opened at start, opened anew when the core wants it, tried again while it cannot be.

Owns one task per link that is without a socket: resolve the peer's name, have [priv] open a socket, hand it to the
bridge and tell the core. After a failure it waits 1 s, doubling to 60 s, or until netlink says that something
changed.

A name is resolved anew each time. When that fails, the addresses it had last are used: with all links down, the name
server may well be on the other side of the tunnel. Where a name has several addresses, each new socket tries the next
one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterable
from typing import NamedTuple

from mlvpn.config.model import General, LinkConfig
from mlvpn.core.events import Address, describe_address
from mlvpn.core.interface import Core
from mlvpn.daemon import log
from mlvpn.daemon.bridge import Bridge
from mlvpn.daemon.interfaces import Interfaces
from mlvpn.daemon.tasks import spawn
from mlvpn.errors import LinkError
from mlvpn.system.netlink import AddressGone, NetlinkEvent
from mlvpn.system.privsep import OpenLinkSocket, Resolve, WorkerEnd
from mlvpn.system.udp import LinkSocket, SendFailed

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

_log = log.logger("net")


class Endpoint(NamedTuple):
    """One resolved address of a peer."""

    family: int
    address: Address | None


ANYWHERE = Endpoint(socket.AF_UNSPEC, None)
"""The peer comes to us."""


class Link:
    """A configured link, as far as its socket goes."""

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        self.task: asyncio.Task[None] | None = None
        """Opens a socket; None when there is nothing to open."""
        self.changed = asyncio.Event()
        """Set when trying again at once makes sense."""
        self.endpoints: list[Endpoint] = []
        """What the peer's name last resolved to."""
        self.attempts = 0
        self.opened_s = -FIRST_RETRY_S
        """When it last had a new socket, on the loop's clock."""
        self.own_address: str | None = None
        """Where its socket sends from; None while it has none."""
        self.trouble = ""
        """Why it cannot be opened, as last logged."""


class Links:
    """The sockets of all links."""

    def __init__(self, core: Core, bridge: Bridge, end: WorkerEnd, interfaces: Interfaces, general: General) -> None:
        self._core = core
        self._bridge = bridge
        self._end = end
        self._is_client = general.mode == "client"
        self._may_fragment = general.protocol == "mlvpn1"  # which has no way to find out what a path carries
        self._interfaces = interfaces
        self._links: dict[str, Link] = {}

    def open(self, config: LinkConfig) -> None:
        """Open a link that is new, or whose addresses changed."""
        self.close(config.name)
        self._links[config.name] = Link(config)
        self.reopen(config.name)

    def reopen(self, name: str) -> None:
        """Give a link a new socket, and so a new source port; a link that is being opened goes on with that."""
        link = self._links.get(name)
        if link is not None and link.task is None:
            self._bridge.detach(name)
            link.task = spawn(self._open(link))

    def lost(self, problem: SendFailed) -> None:
        """A link cannot send any more: say so, and see whether a new socket can."""
        self._core.link_lost(problem.link, problem.reason, time.monotonic_ns())
        self.reopen(problem.link)

    def told(self, name: str, reason: str) -> None:
        """The log says why a link is down: once is enough."""
        if name in self._links:
            self._links[name].trouble = reason

    def network_changed(self, events: Iterable[NetlinkEvent]) -> None:
        """Netlink has news: links whose interface or address is gone are lost, the others may try again at once."""
        gone = set()
        for event in events:
            self._interfaces.apply(event)
            if isinstance(event, AddressGone):
                gone.add(event.address)
        for link in self._links.values():
            if link.task is not None:
                link.changed.set()
                continue
            reason = self._interfaces.trouble(link.config.interface, link.own_address)
            if reason is None and link.own_address in gone:
                reason = f"address {link.own_address} is gone"
            if reason is not None:
                self.lost(SendFailed(link.config.name, reason))

    def close(self, name: str) -> None:
        """Close a link that is no longer configured, or is configured anew."""
        link = self._links.pop(name, None)
        if link is not None and link.task is not None:
            link.task.cancel()
        self._bridge.detach(name)

    def close_all(self) -> None:
        """Close every link."""
        for name in list(self._links):
            self.close(name)

    async def _open(self, link: Link) -> None:
        """Try until there is a socket."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(link.opened_s + FIRST_RETRY_S - loop.time())  # a socket that fails at once must not spin
        pause_s = FIRST_RETRY_S
        while True:
            link.changed.clear()
            try:
                link_socket, remote = await self._try(link)
                break
            except LinkError as error:
                self._failed(link, str(error))
            await _set_or_timeout(link.changed, pause_s)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        link.task, link.opened_s, link.trouble = None, loop.time(), ""
        link.own_address = link_socket.local[0]
        self._bridge.attach(link.config.name, link_socket)
        self._core.socket_opened(link.config.name, link_socket.local, remote, time.monotonic_ns())
        self._bridge.flush()

    def _failed(self, link: Link, trouble: str) -> None:
        self._core.socket_failed(link.config.name, trouble, time.monotonic_ns())
        self._bridge.flush()
        if trouble != link.trouble:
            _log.warning("link %s: %s", link.config.name, trouble)
            link.trouble = trouble

    async def _try(self, link: Link) -> tuple[LinkSocket, Address | None]:
        config = link.config
        self._check(config.interface, config.bindhost)
        family, remote = await self._endpoint(link)
        request = OpenLinkSocket(config.bindhost or "", config.bindport or 0, config.interface or "", family)
        _, fd = await self._end.ask_descriptor(request)
        sock = socket.socket(fileno=fd)
        try:
            # Only a client's socket is connected: a server's peer may come from elsewhere than configured.
            link_socket = LinkSocket(sock, config.name, remote if self._is_client else None, self._may_fragment)
            self._check(config.interface, link_socket.local[0])
        except LinkError:
            sock.close()
            raise
        level = logging.INFO if link.opened_s < 0 else logging.DEBUG  # in an outage new ones come every few seconds
        _log.log(level, "link %s: socket %s", config.name, describe_address(link_socket.local))
        return link_socket, remote

    def _check(self, interface: str | None, address: str | None) -> None:
        trouble = self._interfaces.trouble(interface, address)
        if trouble is not None:
            raise LinkError(trouble)

    async def _endpoint(self, link: Link) -> Endpoint:
        """Return the peer's address to use next."""
        config = link.config
        if config.remotehost is None or config.remoteport is None:
            return ANYWHERE
        try:
            found = await self._end.ask(Resolve(config.remotehost, config.remoteport))
            link.endpoints = [Endpoint(family, tuple(address)) for family, address in found]
        except LinkError as error:
            if not link.endpoints:
                raise
            log.logger("dns").warning("link %s: %s; using the address it had before", config.name, error)
        usable = [endpoint for endpoint in link.endpoints if _fits(endpoint.family, config.bindhost)]
        if not usable:
            raise LinkError(f"{config.remotehost} has no address of the family of bindhost {config.bindhost}")
        link.attempts += 1
        return usable[(link.attempts - 1) % len(usable)]


def _fits(family: int, bindhost: str | None) -> bool:
    if not bindhost:
        return True
    return family == (socket.AF_INET6 if ":" in bindhost else socket.AF_INET)


async def _set_or_timeout(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
