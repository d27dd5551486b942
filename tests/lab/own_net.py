"""A network namespace for a test, without a name: it is gone when the test is, however that ends.

A namespace belongs to a thread and to descriptors; sockets and devices stay in the one they were made in, so one test
can hold both ends of a wire.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from types import TracebackType

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "network namespace")


def _here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class OwnNet:
    """``with OwnNet() as net:`` makes a namespace and enters it; enter it again with another ``with net:``."""

    def __init__(self) -> None:
        home = _here()
        _check(_libc.unshare(CLONE_NEWNET))
        self.fd = _here()
        self._homes: list[int] = []
        _check(_libc.setns(home, CLONE_NEWNET))
        os.close(home)
        with self:
            self.ip("link set lo up")

    def __enter__(self) -> OwnNet:
        self._homes.append(_here())
        _check(_libc.setns(self.fd, CLONE_NEWNET))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        home = self._homes.pop()
        _check(_libc.setns(home, CLONE_NEWNET))
        os.close(home)

    def close(self) -> None:
        os.close(self.fd)

    def ip(self, arguments: str) -> str:
        """Run ``ip``; only inside ``with``."""
        return subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, text=True).stdout

    def counter(self, table: str, name: str) -> int:
        """Return a kernel counter of /proc/net/snmp (or netstat); only inside ``with``."""
        for file in ("snmp", "netstat"):
            with open(f"/proc/thread-self/net/{file}") as lines:  # noqa: PTH123
                rows = [line.split() for line in lines if line.startswith(f"{table}:")]
            if rows and name in rows[0]:
                return int(rows[1][rows[0].index(name)])
        raise KeyError(name)


def join(one: OwnNet, other: OwnNet, wire: str = "wire0") -> None:
    """Join two namespaces with a veth pair; both ends are called ``wire`` and are up."""
    with one:
        one.ip(f"link add {wire} type veth peer name {wire}x")
        one.ip(f"link set {wire}x netns /proc/{os.getpid()}/fd/{other.fd}")
        one.ip(f"link set {wire} up")
    with other:
        other.ip(f"link set {wire}x name {wire}")
        other.ip(f"link set {wire} up")
