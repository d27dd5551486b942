"""The monitor process: ``python -P -m mlvpn.daemon.monitor``, started by [priv] (daemon/keeper.py) when HTTP is wanted.

A program of its own, not a fork of [priv]: it holds no secret, and nobody else pays for the HTTP server's memory. It
inherits a listening socket and the channel to the worker, drops root as the worker does, and ends with the worker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from setproctitle import setproctitle

from mlvpn.daemon import log
from mlvpn.daemon.keeper import Order
from mlvpn.daemon.title import monitor_title
from mlvpn.errors import Error
from mlvpn.monitor import server
from mlvpn.monitor.snapshots import Snapshots
from mlvpn.system import privileges

NICENESS = 10
"""Packets come first, whatever HTTP clients do."""


async def run(order: Order) -> None:
    """Serve until the worker is gone."""
    channel, listener = socket.socket(fileno=order.channel), socket.socket(fileno=order.listener)
    snapshots = Snapshots(channel)
    runner = await server.serve(listener, snapshots.latest)
    await snapshots.ended
    await runner.cleanup()


def main() -> int:
    """Be the monitor; return the exit code."""
    order = Order.unpack(sys.argv[1])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the worker, which may have a last thing to tell
    if not order.natural_title:
        setproctitle(monitor_title(order.name))
    log.start(order.verbosity, f"mlvpn/{order.name}")
    os.nice(NICENESS)
    try:
        if order.identity is not None:
            privileges.drop(order.identity, Path(order.root))
        asyncio.run(run(order))
    except Error as error:
        log.logger("control").error("monitor: %s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
