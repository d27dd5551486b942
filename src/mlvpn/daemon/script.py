"""The status script's calls: which, in which order, with which arguments, exactly as MLVPN makes them.

    SCRIPT INTERFACE rtun_up LINK      a link is up;     then, when it is the first:  SCRIPT INTERFACE tuntap_up
    SCRIPT INTERFACE rtun_down LINK    a link is down;   then, when it was the last:  SCRIPT INTERFACE tuntap_down

Owns the order and the queue of calls; [priv] runs them one at a time, and the tunnel's traffic never waits for one.
When the daemon stops, the links that are still up are called down too, so that a script can undo all it did.
"""

from __future__ import annotations

import asyncio

from mlvpn.config.model import General
from mlvpn.daemon import log
from mlvpn.daemon.tasks import spawn
from mlvpn.errors import Error
from mlvpn.system.privsep import RunScript, WorkerEnd

PENDING_CALLS = 1000
"""Calls that wait behind a slow script before further ones are refused."""

_log = log.logger()


class StatusScript:
    """Follows the links and calls the script."""

    def __init__(self, end: WorkerEnd, general: General, interface: str) -> None:
        self.general = general
        """Where the environment's values come from; a reload may replace it."""
        self._end = end
        self._interface = interface
        self._up: dict[str, None] = {}
        """Links called up, in that order."""
        self._calls: asyncio.Queue[list[str]] = asyncio.Queue(PENDING_CALLS)
        self._caller = spawn(self._call_all()) if general.statuscommand else None

    def link_up(self, link: str) -> None:
        """A link came up."""
        if link in self._up:
            return
        self._up[link] = None
        self._queue("rtun_up", link)
        if len(self._up) == 1:
            self._queue("tuntap_up")

    def link_down(self, link: str) -> None:
        """A link went down."""
        if link not in self._up:
            return
        del self._up[link]
        self._queue("rtun_down", link)
        if not self._up:
            self._queue("tuntap_down")

    def all_down(self) -> None:
        """Every link went down: the tunnel ends, or begins anew."""
        for link in list(self._up):
            self.link_down(link)

    async def finish(self) -> None:
        """Call down what is up, and wait until every call has been made."""
        self.all_down()
        if self._caller is not None:
            await self._calls.join()
            self._caller.cancel()

    def _queue(self, *words: str) -> None:
        if self._caller is None:
            return
        try:
            self._calls.put_nowait([self._interface, *words])
        except asyncio.QueueFull:
            _log.error("the status script is %d calls behind: %s is not called", PENDING_CALLS, " ".join(words))

    async def _call_all(self) -> None:
        while True:
            args = await self._calls.get()
            try:
                status = await self._end.ask(RunScript(args, environment(self.general, self._interface)))
                if status != 0:
                    _log.warning("the status script ended with status %d for: %s", status, " ".join(args))
            except Error as error:
                _log.error("status script: %s (for: %s)", error, " ".join(args))
            finally:
                self._calls.task_done()


def environment(general: General, interface: str) -> dict[str, str]:
    """Return what the script finds in its environment; what is not configured is empty."""
    return {
        "IP4": general.ip4 or "",
        "IP6": general.ip6 or "",
        "IP4_GATEWAY": general.ip4_gateway or "",
        "IP6_GATEWAY": general.ip6_gateway or "",
        "IP4_ROUTES": general.ip4_routes or "",
        "IP6_ROUTES": general.ip6_routes or "",
        "DEVICE": interface,
        "MTU": str(general.mtu),
    }
