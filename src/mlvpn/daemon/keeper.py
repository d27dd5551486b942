"""[priv]'s part in HTTP: opens the listening socket and the channel, starts the monitor process, and again if it dies.

Owns when the monitor runs. The tunnel never waits for it and never ends because of it. The sockets are opened before
the worker is forked, so that no request of the worker's can ever open a port.

    [priv] ---- starts ----> monitor (daemon/monitor.py): HTTP
                                | channel (monitor/snapshots.py to daemon/feed.py)
                             worker

Both ends of the channel outlive a monitor, so the next one goes on where it left off.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mlvpn.config import General
from mlvpn.daemon import log
from mlvpn.daemon.options import Options
from mlvpn.errors import SystemFailure
from mlvpn.system.privileges import Identity

MONITOR = "mlvpn.daemon.monitor"
"""A module this process must not import: it needs aiohttp."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
HEALTHY_S = 60.0
"""A monitor that ran for so long begins with the first pause again."""
ANSWER_BYTES = 1 << 20
"""Room for one whole snapshot; the usual limit of a socket is too little for many links."""
BACKLOG = 16
SO_SNDBUFFORCE = 32
"""asm-generic/socket.h; Python has no name for it."""

_log = log.logger("control")


@dataclass(frozen=True, slots=True)
class Order:
    """What the monitor is told, on its command line: nothing of it is a secret."""

    name: str
    listener: int
    """Descriptor of the listening socket."""
    channel: int
    """Descriptor of the monitor's end of the channel to the worker."""
    verbosity: log.Verbosity
    natural_title: bool
    identity: Identity | None
    """Who the monitor becomes; None: it stays root, as was asked."""
    root: str
    """The empty directory that becomes its root."""

    def pack(self) -> str:
        """Return the order as text."""
        return json.dumps(asdict(self))

    @staticmethod
    def unpack(text: str) -> Order:
        """Read what ``pack`` wrote."""
        content = json.loads(text)
        identity, verbosity = content.pop("identity"), content.pop("verbosity")
        verbosity["tokens"] = tuple(verbosity["tokens"])
        return Order(identity=identity and Identity(**identity), verbosity=log.Verbosity(**verbosity), **content)


class Keeper:
    """Made in [priv] before the fork, then used by both processes: ``in_worker`` in one, ``keep`` in the other."""

    def __init__(self, options: Options, general: General, identity: Identity | None, root: Path) -> None:
        """Open the sockets; SystemFailure when the port cannot be had."""
        assert general.control_bind_port is not None
        self._listener = listen_tcp(general.control_bind_host, general.control_bind_port)
        self._monitor_end, self._worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._worker_end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, ANSWER_BYTES)
        channel, listener = self._monitor_end.fileno(), self._listener.fileno()
        self._order = Order(
            options.name, listener, channel, options.verbosity, options.natural_title, identity, str(root)
        )

    def in_worker(self) -> socket.socket:
        """Return the worker's end of the channel and close what the worker must not have."""
        self._listener.close()
        self._monitor_end.close()
        return self._worker_end

    async def keep(self) -> None:
        """Run a monitor, and another when it dies, until the worker is gone or this is cancelled."""
        self._worker_end.close()
        pause_s = FIRST_PAUSE_S
        while True:
            started_s = time.monotonic()
            code = await self._run_monitor()
            if code == 0:
                return
            if time.monotonic() - started_s >= HEALTHY_S:
                pause_s = FIRST_PAUSE_S
            _log.warning("the monitor process ended with %d: no HTTP for %.0f s, the tunnel goes on", code, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _run_monitor(self) -> int:
        """Start one and wait for its end; return its exit code (minus the signal's number when one killed it)."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", MONITOR, self._order.pack()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(self._order.listener, self._order.channel),
                start_new_session=True,  # the terminal's Ctrl-C is for the daemon
            )
        except OSError as error:
            _log.error("cannot start the monitor process: %s", error)
            return 1
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen for HTTP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise SystemFailure(
            f"cannot serve HTTP on {shown}: {os.strerror(error.errno) if error.errno else error}; "
            "set control_bind_host to an address of this machine and control_bind_port to a free port"
        ) from error
