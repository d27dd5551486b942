"""Sockets of this process in a host of the lab: a namespace belongs to a thread, a socket keeps the one it was made in.

with sockets_in(lab.server):
    sock = socket.socket(...)
sock.recv(...)      # anywhere
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

from mlvpn.lab.host import Host

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def sockets_in(host: Host) -> Iterator[None]:
    """Make this thread's new sockets belong to ``host``."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{host.namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
        yield
    finally:
        _enter(home)
        os.close(home)
        os.close(there)
