"""The root process, [priv]: starts the worker, serves its requests, passes signals on, and ends when it ends.

    [priv]   root, this file and system/privileged.py: all that runs as root
      |      socketpair (system/privsep.py)
    worker   unprivileged, chrooted (daemon/worker.py): everything else
      |      only with control_bind_port: socketpair (daemon/keeper.py)
    monitor  unprivileged, chrooted (daemon/monitor.py): HTTP

If either of the first two dies, the other ends: [priv] sees the worker's exit, the worker sees the end of the channel.
The fork comes after every import (the worker's root directory is empty) and before any thread or event loop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from setproctitle import setproctitle

from mlvpn.config import load
from mlvpn.daemon import log, worker
from mlvpn.daemon.keeper import Keeper
from mlvpn.daemon.options import Options
from mlvpn.daemon.tasks import spawn
from mlvpn.daemon.title import privileged_title
from mlvpn.errors import Error, PermissionDeniedError
from mlvpn.system import filters, privileges
from mlvpn.system.notify import Notifier
from mlvpn.system.privileged import Privileged
from mlvpn.system.privsep import PASSED_ON, PrivilegedEnd, Violation

LINGER_S = 2.0
"""A worker that closed the channel must have exited after so long, or is killed."""


def run(options: Options) -> int:
    """Run a tunnel in the foreground until it ends; return the exit code."""
    if os.geteuid() != 0:
        raise PermissionDeniedError(
            "only root can open a tunnel device: run this as root (the worker drops root at once)"
        )
    identity = worker_identity(options)
    config = load(options.config_path)
    if config.filters:
        filters.load()  # the worker will find no library in its empty root
    root = privileges.make_empty_root()
    keeper = Keeper(options, config.general, identity, root) if config.general.control_bind_port else None
    notifier = Notifier()
    log.start(options.verbosity, f"mlvpn/{options.name}")
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until each process has its handlers
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.freeze()  # what both processes share stays shared: no collection touches it
    pid = os.fork()
    if pid == 0:
        ours.close()
        jail = worker.Jail(identity, root) if identity else None
        monitor = keeper.in_worker() if keeper else None
        _end_child(lambda: worker.run(options, worker.Channels(theirs, monitor), jail, notifier))
    theirs.close()
    if not options.natural_title:
        setproctitle(privileged_title(options.name))
    return asyncio.run(_supervise(options, ours, pid, keeper))


def worker_identity(options: Options) -> privileges.Identity | None:
    """Decide who the worker runs as; None only when that is asked for."""
    if options.run_as_root and options.user is None:
        return None
    return privileges.identity(options.user)


def _end_child(body: Callable[[], int]) -> NoReturn:
    """Run the worker and leave the process without unwinding into what the parent was doing."""
    code = 1
    try:
        code = body()
    except Error as error:
        code = error.exit_code
        log.fatal(str(error))
    except BaseException as error:
        log.fatal("a defect of mlvpn ends it; please report it with the log", error)
    finally:
        os._exit(code)


async def _supervise(options: Options, channel: socket.socket, pid: int, keeper: Keeper | None = None) -> int:
    """Serve the worker until it has exited."""
    loop = asyncio.get_running_loop()
    exited: asyncio.Future[int] = loop.create_future()
    privileged = Privileged(options.name, options.config_path)

    def violated(violation: Violation) -> None:
        log.fatal(f"{violation}; ending it")
        os.kill(pid, signal.SIGKILL)

    def closed() -> None:
        loop.call_later(LINGER_S, os.kill, pid, signal.SIGKILL)

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        exited.set_result(os.waitpid(pid, 0)[1])

    pidfd = os.pidfd_open(pid)
    loop.add_reader(pidfd, reap)
    for number in PASSED_ON:
        loop.add_signal_handler(number, os.kill, pid, number)
    end = PrivilegedEnd(channel, privileged.answer, violated, closed)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    keeping = spawn(keeper.keep()) if keeper else None
    try:
        status = await exited
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait([keeping])
        end.stop()
        privileged.close()
    return _exit_code(status)


def _exit_code(status: int) -> int:
    """Return our exit code for the worker's wait status; a worker that did not end by itself is an error of its own."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    text = f"the worker process was killed by {signal.Signals(-code).name}: the tunnel is gone, ending"
    log.fatal(text)
    return 1
